//! API/er's figures, whose frontends have had two shapes: flat counts, and a summary with latency and throughput.

use serde_json::{Map, Value, json};

/// The counts, by their names in the flat shape and in the summary.
const COUNTS: [(&str, &str); 4] = [
    ("total_events", "total"),
    ("pending_events", "pending"),
    ("delivered_events", "delivered"),
    ("failed_events", "failed"),
];

/// Both shapes of what is given in either; what is not given is 0, since one frontend reads every figure.
pub(super) fn both_shapes(mut given: Map<String, Value>) -> Map<String, Value> {
    let mut summary = taken(&mut given, "summary");
    let count = |given: &Map<String, Value>, summary: &Map<String, Value>, (flat, short): (&str, &str)| {
        let is_number = |value: &&Value| value.is_number();
        given.get(flat).filter(is_number).or(summary.get(short).filter(is_number)).cloned().unwrap_or(json!(0))
    };
    for (flat, short) in COUNTS {
        let value = count(&given, &summary, (flat, short));
        summary.insert(short.into(), value.clone());
        given.insert(flat.into(), value);
    }
    let number = |name: &str| summary.get(name).and_then(Value::as_f64).unwrap_or_default();
    let (delivered, failed) = (number("delivered"), number("failed"));
    let completed = delivered + failed;
    let rate = if completed > 0.0 { (delivered / completed * 10_000.0).round() / 100.0 } else { 0.0 };
    summary.entry("success_rate").or_insert(json!(rate));
    let latency = filled(taken(&mut given, "latency"), json!({ "p50": 0, "p95": 0, "p99": 0, "sample_size": 0 }));
    let none = json!({ "events_per_minute": 0, "events_per_hour": 0, "total_events_24h": 0, "time_range": "24h" });
    let throughput = filled(taken(&mut given, "throughput"), none);
    given.insert("summary".into(), summary.into());
    given.insert("latency".into(), latency.into());
    given.insert("throughput".into(), throughput.into());
    given
}

/// A field that is an object, or an empty one.
fn taken(given: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match given.remove(name) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn filled(mut fields: Map<String, Value>, defaults: Value) -> Map<String, Value> {
    let Value::Object(defaults) = defaults else { return fields };
    for (name, value) in defaults {
        fields.entry(name).or_insert(value);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(given: &Value) -> Value {
        both_shapes(given.as_object().expect("an object").clone()).into()
    }

    #[test]
    fn flat_counts_become_a_summary_and_a_summary_becomes_counts() {
        let flat = both(&json!({ "total_events": 10, "delivered_events": 6, "failed_events": 2, "extra": true }));
        let expected = json!({ "total": 10, "pending": 0, "delivered": 6, "failed": 2, "success_rate": 75.0 });
        assert_eq!((&flat["summary"], &flat["extra"]), (&expected, &json!(true)));
        assert_eq!(flat["latency"], json!({ "p50": 0, "p95": 0, "p99": 0, "sample_size": 0 }));
        let nested =
            both(&json!({ "summary": { "total": 3, "pending": 3, "success_rate": 1 }, "latency": { "p50": 7 } }));
        assert_eq!((&nested["total_events"], &nested["pending_events"]), (&json!(3), &json!(3)));
        assert_eq!((&nested["summary"]["success_rate"], &nested["latency"]["p50"]), (&json!(1), &json!(7)));
        assert_eq!(nested["throughput"]["time_range"], "24h");
    }

    #[test]
    fn nothing_delivered_is_no_success() {
        assert_eq!(both(&json!({ "summary": 7 }))["summary"]["success_rate"], 0.0);
    }
}
