//! What the HTTP API asks the other nodes, and answers them.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{connections, explanation, messages, presence, revocations, rooms, stats, targets};
use crate::cluster::NodeId;
use crate::doors::state::Doors;

/// From now on other nodes are answered.
pub fn answer_others(doors: &Arc<Doors>) {
    connections::answer_others(doors);
    rooms::answer_others(doors);
    stats::answer_others(doors);
    presence::answer_others(doors);
    messages::answer_others(doors);
    explanation::answer_others(doors);
    targets::answer_others(doors);
    revocations::answer_others(doors);
    doors.cluster.listen();
}

/// Answers one kind of questions.
pub(super) fn answer<Q, A>(doors: &Arc<Doors>, kind: &'static str, answer: fn(&Doors, Q) -> A)
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
{
    let asked = doors.clone();
    doors.cluster.answer(kind, move |question| {
        let doors = asked.clone();
        async move { answer(&doors, question) }
    });
}

/// Names in an answer the nodes that it lacks.
pub(super) fn name(unanswered: &[NodeId], answer: &mut Value) {
    if !unanswered.is_empty() {
        answer["unanswered_nodes"] = json!(unanswered);
    }
}
