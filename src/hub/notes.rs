//! Notes: who got what and who acknowledged it, written down so that the next process knows.
//!
//! They are written by a task of their own, in the order in which things
//! happened; a publisher waits until those of its message are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::log::{Log, Position};
use crate::rooms::Id;
use crate::wire::{PublicId, now_ms};

/// Something that happened to a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub(super) enum Fact {
    /// It was sent, or waits for users.
    Sent {
        message_id: String,
        /// The position of the entry.
        position: String,
        organization: Option<Id>,
        /// The ack id, if it requires acknowledgement.
        ack_id: Option<u64>,
        due_at_ms: i64,
        until_ms: i64,
        sockets: Vec<(PublicId, Option<Id>)>,
        absent: Vec<Id>,
        /// Whether something happens if nobody acknowledges it in time.
        escalates: bool,
    },
    /// It was sent to a user who had been away, or whom it was sent to before.
    Handed { ack_id: Option<u64>, position: String, organization: Id, user: Id, socket: PublicId },
    /// A socket has acknowledged it.
    Acknowledged { ack_id: u64, socket: PublicId, at_ms: i64 },
    /// It was not acknowledged in time, and what should happen then has.
    Escalated { ack_id: u64 },
}

impl Fact {
    /// The offset of a position, if it is of this life of the log.
    pub(super) fn offset(position: &str, head: &Position) -> Option<u64> {
        let (epoch, offset) = position.split_once('.')?;
        offset.parse().ok().filter(|_| *epoch == *head.epoch)
    }
}

#[derive(Debug)]
enum Note {
    Fact(Fact),
    /// Everything before this is written.
    Reached(oneshot::Sender<()>),
}

/// Takes notes; nothing is noted where the log is in memory too.
#[derive(Debug)]
pub(super) struct Notes(Option<UnboundedSender<Note>>);

impl Notes {
    /// Notes that are written until `stopping` is cancelled.
    pub(super) fn start(log: &Arc<Log>, tasks: &TaskTracker, stopping: &CancellationToken) -> Self {
        if !log.takes_notes() {
            return Self(None);
        }
        let (queue, notes) = unbounded_channel();
        tasks.spawn(write(log.clone(), notes, stopping.clone()));
        Self(Some(queue))
    }

    /// Notes a fact.
    pub(super) fn add(&self, fact: impl FnOnce() -> Fact) {
        if let Some(queue) = &self.0 {
            queue.send(Note::Fact(fact())).ok();
        }
    }

    /// Waits until everything noted so far is written.
    pub(super) async fn written(&self) {
        let Some(queue) = &self.0 else { return };
        let (reached, wait) = oneshot::channel();
        if queue.send(Note::Reached(reached)).is_ok() {
            wait.await.ok();
        }
    }
}

/// What was noted by earlier processes, in order.
pub(super) fn read(log: &Log) -> Vec<Fact> {
    let read = |record: bytes::Bytes| serde_json::from_slice(&record).ok();
    log.notes().into_iter().filter_map(read).collect()
}

async fn write(log: Arc<Log>, mut notes: UnboundedReceiver<Note>, stopping: CancellationToken) {
    loop {
        let note = tokio::select! {
            note = notes.recv() => note,
            () = stopping.cancelled() => {
                notes.close();
                notes.recv().await
            }
        };
        match note {
            None => return,
            Some(Note::Fact(fact)) => {
                let record = serde_json::to_vec(&fact).expect("a fact is always JSON");
                if let Err(error) = log.note(now_ms(), &record) {
                    tracing::error!(%error, "who got a message and who acknowledged it is not written down");
                }
            }
            Some(Note::Reached(reached)) => {
                reached.send(()).ok();
            }
        }
    }
}
