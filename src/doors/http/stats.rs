//! `GET /stats`: the counters, in both vocabularies that clients know.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use super::others;
use super::rooms::room_type;
use super::totals::{self, Counted};
use crate::auth::Reach;
use crate::cluster::NodeId;
use crate::config::Right;
use crate::doors::state::Doors;
use crate::events::Catalogue;
use crate::rooms::{RoomName, Scope};
use crate::stats::{Lost, Refusal};
use crate::wire::{iso, now_ms};

/// The question to other nodes.
const KIND: &str = "stats";

pub(super) fn answer_others(doors: &Arc<Doors>) {
    others::answer(doors, KIND, |doors, reach: Reach| here(doors, &reach));
}

pub(in crate::doors) async fn read(State(doors): State<Arc<Doors>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let reach = caller.reach();
    let Some(figures) = doors.cluster.figures() else {
        return Ok(Json(json!({ "success": true, "stats": here(&doors, reach).stats })));
    };
    let asked = doors.cluster.ask::<Counted>(KIND, reach).await;
    let others = asked.answers.into_iter().map(|answer| (answer.node, answer.answer));
    let mut nodes: Vec<(NodeId, Counted)> = others.chain([(doors.cluster.id().clone(), here(&doors, reach))]).collect();
    nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut stats = totals::of(&nodes);
    // Addresses are for those who run the cluster.
    stats["cluster"] = json!(reach.contains(None).then_some(figures));
    let mut answer = json!({ "success": true, "stats": stats });
    others::name(&asked.unanswered, &mut answer);
    Ok(Json(answer))
}

/// The counters of this node, as far as they are within reach.
fn here(doors: &Doors, reach: &Reach) -> Counted {
    let totals = doors.counters.totals();
    let rooms = rooms(doors, reach);
    let by_organization: BTreeMap<String, usize> = doors
        .organization_seats
        .by_owner()
        .into_iter()
        .filter(|(organization, _)| reach.contains(Some(organization)))
        .map(|(organization, count)| (organization.to_string(), count))
        .collect();
    let average = totals.latency_average.as_secs_f64() * 1_000.0;
    let longest = totals.latency_max.as_secs_f64() * 1_000.0;
    let started = now_ms() - i64::try_from(totals.uptime.as_millis()).unwrap_or_default();
    let stats = json!({
        "active_connections": doors.sessions.count(),
        "total_connections": doors.seats.taken(),
        "connections_by_org": by_organization,
        "active_rooms": rooms.len(),
        "total_rooms": rooms.len(),
        "rooms_by_type": by_type(&rooms),
        "total_messages": totals.published,
        "messages_sent_total": totals.delivered,
        "messages_received_total": totals.received,
        "messages_per_second": totals.published_per_second,
        "messages_sent_per_second": totals.delivered_per_second,
        "messages_by_event": totals.by_event,
        "average_latency_ms": average,
        "avg_latency_ms": average,
        "max_latency_ms": longest,
        "error_count": totals.errors,
        // It may quote what another organization sent.
        "last_error": totals.last_error.filter(|_| reach.contains(None)),
        "messages_lost": lost(&doors.hub.catalogue, &totals.lost),
        "connections_cut": { "overflow": totals.cut_overflow, "stalled": totals.cut_stalled },
        "refused": refused(doors),
        "uptime_seconds": totals.uptime.as_secs(),
        "server_start_time": iso(started),
    });
    Counted { stats, rooms: rooms.iter().map(ToString::to_string).collect() }
}

/// How often something was over a bound, by kind.
fn refused(doors: &Doors) -> BTreeMap<&'static str, u64> {
    Refusal::ALL.iter().map(|refusal| (refusal.name(), doors.counters.refusals(*refusal))).collect()
}

/// What slow readers did not get, by event.
fn lost(catalogue: &Catalogue, lost: &BTreeMap<u16, Lost>) -> BTreeMap<String, Value> {
    let of = |(number, lost): (&u16, &Lost)| {
        let name = catalogue.name_of(*number)?.to_owned();
        Some((name, json!({ "conflated": lost.conflated, "dropped": lost.dropped })))
    };
    lost.iter().filter_map(of).collect()
}

fn rooms(doors: &Doors, reach: &Reach) -> Vec<RoomName> {
    let names = doors.directory.rooms().into_keys().filter_map(|room| RoomName::parse(&room));
    names.filter(|name| reach.contains(Some(name.organization()))).collect()
}

/// `org`, `dept` and `queue` count every room by its scope; the others by the kind of room.
pub(super) fn by_type(rooms: &[RoomName]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::from([
        ("org", 0),
        ("dept", 0),
        ("queue", 0),
        ("organization", 0),
        ("department", 0),
        ("custom", 0),
        ("user", 0),
    ]);
    for name in rooms {
        let kind = room_type(name);
        if kind != "queue" {
            *counts.entry(kind).or_default() += 1;
        }
        if let RoomName::Channel(_, scope) | RoomName::Scope(scope) = name {
            *counts.entry(level(scope)).or_default() += 1;
        }
    }
    counts
}

fn level(scope: &Scope) -> &'static str {
    match scope {
        Scope { queue: Some(_), .. } => "queue",
        Scope { department: Some(_), .. } => "dept",
        Scope { .. } => "org",
    }
}
