//! `?explain=true`: why an event reached the sockets that it reached, on every node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::NodeId;
use crate::doors::state::Doors;
use crate::log::Explanation;

/// The question to other nodes.
const KIND: &str = "explanation";

/// What one node tells: sockets are on one node each, rooms on several, and a user has to be away from all.
#[derive(Serialize, Deserialize)]
struct Told {
    sockets: usize,
    /// Namespace, room and members.
    rooms: Vec<(String, String, usize)>,
    filtered: usize,
    excepted: usize,
    conflated: usize,
    dropped: usize,
    offline: BTreeSet<String>,
}

pub(super) fn answer_others(doors: &Arc<Doors>) {
    let hub = doors.hub.clone();
    doors.cluster.answer(KIND, move |message_id: String| {
        let hub = hub.clone();
        async move {
            let _followers = hub.all_up_to_date().await;
            let (sockets, explanation) = hub.explained(&message_id).await;
            Told::of(sockets, explanation)
        }
    });
}

/// `{rooms[{namespace, room, sockets}], nodes[{node, sockets}], filtered, excepted, conflated, dropped, offline}`, and
/// the nodes that do not tell.
pub(super) async fn everywhere(
    doors: &Doors,
    message_id: &str,
    sockets: usize,
    explanation: Explanation,
) -> (Value, Vec<NodeId>) {
    let asked = doors.cluster.ask::<Told>(KIND, &message_id).await;
    let here = (doors.cluster.id().clone(), Told::of(sockets, explanation));
    let others = asked.answers.into_iter().map(|answer| (answer.node, answer.answer));
    let mut nodes: Vec<(NodeId, Told)> = others.chain([here]).collect();
    nodes.sort_by(|(a, _), (b, _)| a.cmp(b));
    (together(&nodes), asked.unanswered)
}

fn together(nodes: &[(NodeId, Told)]) -> Value {
    let mut rooms: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (namespace, room, sockets) in nodes.iter().flat_map(|(_, told)| &told.rooms) {
        *rooms.entry((namespace, room)).or_default() += sockets;
    }
    let room = |((namespace, room), sockets): (&(&str, &str), &usize)| json!({ "namespace": namespace, "room": room, "sockets": sockets });
    let sum = |of: fn(&Told) -> usize| nodes.iter().map(|(_, told)| of(told)).sum::<usize>();
    let mut away = nodes.iter().map(|(_, told)| told.offline.clone());
    let offline = away.next().map(|first| away.fold(first, |all, more| &all & &more)).unwrap_or_default();
    json!({
        "rooms": rooms.iter().map(room).collect::<Vec<_>>(),
        "nodes": nodes.iter().map(|(node, told)| json!({ "node": node, "sockets": told.sockets })).collect::<Vec<_>>(),
        "filtered": sum(|told| told.filtered),
        "excepted": sum(|told| told.excepted),
        "conflated": sum(|told| told.conflated),
        "dropped": sum(|told| told.dropped),
        "offline": offline.len(),
    })
}

impl Told {
    fn of(sockets: usize, explanation: Explanation) -> Self {
        let Explanation { rooms, filtered, excepted, conflated, dropped, offline } = explanation;
        Self {
            sockets,
            rooms: rooms.into_iter().map(|((namespace, room), members)| (namespace, room, members)).collect(),
            filtered: filtered.len(),
            excepted: excepted.len(),
            conflated,
            dropped,
            offline,
        }
    }
}
