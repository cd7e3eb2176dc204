//! The counters of several nodes as those of one server. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::stats::by_type;
use crate::cluster::NodeId;
use crate::rooms::RoomName;

/// What is told of each node beside the totals.
const OF_EACH: &[&str] = &[
    "active_connections",
    "total_connections",
    "messages_per_second",
    "messages_sent_per_second",
    "messages_received_total",
    "average_latency_ms",
    "max_latency_ms",
    "error_count",
    "connections_cut",
    "uptime_seconds",
    "server_start_time",
];

/// The counters of one node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Counted {
    /// As one server answers them.
    pub(super) stats: Value,
    /// Names of its rooms, since one may be on several nodes.
    pub(super) rooms: Vec<String>,
}

/// The totals of nodes, and some figures of each: numbers are summed, but for times and what can be on several nodes.
pub(super) fn of(nodes: &[(NodeId, Counted)]) -> Value {
    let mut totals = Value::Null;
    for (_, counted) in nodes {
        add(&mut totals, &counted.stats);
    }
    let all = |key: &'static str| nodes.iter().map(move |(_, counted)| &counted.stats[key]);
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let messages: f64 = all("total_messages").map(number).sum();
    let weighed = all("average_latency_ms").zip(all("total_messages")).map(|(a, b)| number(a) * number(b));
    let average = weighed.sum::<f64>() / messages.max(1.0);
    totals["average_latency_ms"] = json!(average);
    totals["avg_latency_ms"] = json!(average);
    totals["max_latency_ms"] = json!(all("max_latency_ms").map(number).fold(0.0, f64::max));
    totals["uptime_seconds"] = json!(all("uptime_seconds").filter_map(Value::as_u64).max());
    // The same form makes the earliest time the smallest text.
    totals["server_start_time"] = json!(all("server_start_time").filter_map(Value::as_str).min());
    let rooms: BTreeSet<&String> = nodes.iter().flat_map(|(_, counted)| &counted.rooms).collect();
    let rooms: Vec<RoomName> = rooms.into_iter().filter_map(|room| RoomName::parse(room)).collect();
    totals["active_rooms"] = json!(rooms.len());
    totals["total_rooms"] = json!(rooms.len());
    totals["rooms_by_type"] = json!(by_type(&rooms));
    totals["nodes"] = nodes.iter().map(|(node, counted)| figures(node, &counted.stats)).collect();
    totals
}

fn figures(node: &NodeId, stats: &Value) -> Value {
    let mut figures = json!({ "node": node });
    for key in OF_EACH {
        figures[key] = stats[key].clone();
    }
    figures
}

/// Adds numbers to numbers, by name; of texts the first stays.
fn add(total: &mut Value, more: &Value) {
    match (total, more) {
        (Value::Object(total), Value::Object(more)) => {
            for (key, more) in more {
                add(total.entry(key.clone()).or_insert(Value::Null), more);
            }
        }
        (total @ Value::Null, more) => *total = more.clone(),
        (total @ Value::Number(_), Value::Number(_)) => {
            *total = match (total.as_u64(), more.as_u64()) {
                (Some(a), Some(b)) => json!(a + b),
                _ => json!(total.as_f64().unwrap_or_default() + more.as_f64().unwrap_or_default()),
            };
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(messages: u64, latency: f64, started: &str, rooms: &[&str]) -> Counted {
        let stats = json!({
            "active_connections": 2,
            "total_messages": messages,
            "messages_by_event": { "kpi:update": messages },
            "messages_per_second": 0.5,
            "average_latency_ms": latency,
            "avg_latency_ms": latency,
            "max_latency_ms": latency,
            "last_error": null,
            "uptime_seconds": messages,
            "server_start_time": started,
        });
        Counted { stats, rooms: rooms.iter().map(|room| (*room).to_owned()).collect() }
    }

    #[test]
    fn numbers_are_summed_where_that_means_something() {
        let one = (NodeId::new("a"), counted(1, 4.0, "2026-01-02", &["kpi:org:o", "user:o:u"]));
        let mut other = (NodeId::new("b"), counted(3, 8.0, "2026-01-01", &["kpi:org:o"]));
        other.1.stats["messages_by_event"]["alert:triggered"] = json!(1);
        other.1.stats["last_error"] = json!("no");
        let totals = of(&[one, other]);
        assert_eq!((&totals["active_connections"], &totals["messages_per_second"]), (&json!(4), &json!(1.0)));
        assert_eq!(totals["messages_by_event"], json!({ "kpi:update": 4, "alert:triggered": 1 }));
        assert_eq!((&totals["average_latency_ms"], &totals["max_latency_ms"]), (&json!(7.0), &json!(8.0)));
        assert_eq!((&totals["uptime_seconds"], &totals["server_start_time"]), (&json!(3), &json!("2026-01-01")));
        assert_eq!((&totals["active_rooms"], &totals["rooms_by_type"]["custom"]), (&json!(2), &json!(1)));
        assert_eq!(totals["last_error"], "no");
        let each: Vec<_> = totals["nodes"].as_array().into_iter().flatten().map(|node| &node["node"]).collect();
        assert_eq!(each, ["a", "b"]);
    }
}
