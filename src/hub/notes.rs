//! Notes: who got what and who acknowledged it, written down so that the next process knows.
//!
//! They are written by a task of their own, in the order in which things
//! happened; a publisher waits until those of its message are. What is noted
//! while the server stops is written at its end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::log::Log;
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
    /// It was not acknowledged in time, and the publishing of that is done with.
    Escalated { ack_id: u64 },
    /// The same for the calling of a service.
    Called { ack_id: u64 },
    /// Everything up to here has been delivered in each shard.
    Delivered { positions: Vec<String> },
}

#[derive(Debug)]
enum Note {
    Fact(Fact),
    /// Everything before this is written.
    Mark(oneshot::Sender<()>),
}

/// Takes notes; nothing is noted where the log is in memory too.
#[derive(Debug)]
pub(super) struct Notes(Option<Queue>);

#[derive(Debug)]
struct Queue {
    notes: UnboundedSender<Note>,
    /// What is still to be written; held by the task that writes, as long as it does.
    waiting: Arc<Mutex<UnboundedReceiver<Note>>>,
    stopping: CancellationToken,
}

impl Notes {
    /// Notes that are written until `stopping` is cancelled.
    pub(super) fn start(log: &Arc<Log>, tasks: &TaskTracker, stopping: &CancellationToken) -> Self {
        if !log.outlives_the_process() {
            return Self(None);
        }
        let (notes, waiting) = unbounded_channel();
        let waiting = Arc::new(Mutex::new(waiting));
        tasks.spawn(write(log.clone(), waiting.clone(), stopping.clone()));
        Self(Some(Queue { notes, waiting, stopping: stopping.clone() }))
    }

    /// Notes a fact.
    pub(super) fn add(&self, fact: impl FnOnce() -> Fact) {
        if let Some(queue) = &self.0 {
            queue.notes.send(Note::Fact(fact())).ok();
        }
    }

    /// Waits until everything noted so far is written, or is about to be since the server stops.
    pub(super) async fn written(&self) {
        let Some(queue) = &self.0 else { return };
        let (reached, wait) = oneshot::channel();
        if queue.notes.send(Note::Mark(reached)).is_ok() {
            tokio::select! {
                _ = wait => {}
                () = queue.stopping.cancelled() => {}
            }
        }
    }

    /// Writes what was noted since the task has ended.
    pub(super) fn finish(&self, log: &Log) {
        let Some(queue) = &self.0 else { return };
        let Ok(mut waiting) = queue.waiting.try_lock() else { return };
        while let Ok(note) = waiting.try_recv() {
            write_one(log, note);
        }
    }
}

/// What was noted by earlier processes, in order.
pub(super) fn read(log: &Log) -> Vec<Fact> {
    let read = |record: bytes::Bytes| serde_json::from_slice(&record).ok();
    log.notes().into_iter().filter_map(read).collect()
}

async fn write(log: Arc<Log>, waiting: Arc<Mutex<UnboundedReceiver<Note>>>, stopping: CancellationToken) {
    let mut waiting = waiting.lock().await;
    loop {
        let note = tokio::select! {
            Some(note) = waiting.recv() => note,
            () = stopping.cancelled() => return,
        };
        if matches!(note, Note::Mark(_)) {
            log.notes_durable().await;
        }
        write_one(&log, note);
    }
}

fn write_one(log: &Log, note: Note) {
    match note {
        Note::Fact(fact) => {
            let record = serde_json::to_vec(&fact).expect("a fact is always JSON");
            if let Err(error) = log.note(now_ms(), &record) {
                tracing::error!(%error, "who got a message and who acknowledged it is not written down");
            }
        }
        Note::Mark(reached) => {
            reached.send(()).ok();
        }
    }
}
