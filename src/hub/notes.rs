//! Notes: who got what and who acknowledged it, written down so that the next process knows.
//!
//! They are written by a task of their own, in the order in which things
//! happened; a publisher waits until those of its message are. What is noted
//! while the server stops is written at its end. Where nodes share the log they
//! share the notes, and each takes over what the others have noted.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::log::{Log, StoreError};
use crate::rooms::Id;
use crate::wire::{PublicId, now_ms};

/// Notes that are written at once, where they can be.
const AT_ONCE: usize = 256;

/// The pause after notes could not be written for all nodes.
const AGAIN: Duration = Duration::from_millis(500);

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
    /// About a message of an organization in this shard.
    Fact(usize, Fact),
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

    /// Notes a fact about a message of an organization in a shard.
    pub(super) fn add(&self, shard: usize, fact: impl FnOnce() -> Fact) {
        if let Some(queue) = &self.0 {
            queue.notes.send(Note::Fact(shard, fact())).ok();
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
        let mut shared = Vec::new();
        while let Ok(note) = waiting.try_recv() {
            match note {
                Note::Fact(shard, fact) if log.is_shared() => shared.push((shard, shared_record(log, &fact))),
                note => write_one(log, note),
            }
        }
        if !shared.is_empty()
            && let Err(error) = log.note_shared_now(shared)
        {
            not_written(&error);
        }
    }
}

/// What was noted by earlier processes, in order.
pub(super) fn read(log: &Log) -> Vec<Fact> {
    let read = |record: bytes::Bytes| serde_json::from_slice(&record).ok();
    log.notes().into_iter().filter_map(read).collect()
}

/// The fact of a note that nodes share, unless this one, `own`, has noted it.
pub(super) fn of_others(note: &[u8], own: &str) -> Option<Fact> {
    let at = note.iter().position(|byte| *byte == b' ')?;
    let (by, fact) = note.split_at(at);
    if by == own.as_bytes() {
        return None;
    }
    serde_json::from_slice(fact).ok()
}

async fn write(log: Arc<Log>, waiting: Arc<Mutex<UnboundedReceiver<Note>>>, stopping: CancellationToken) {
    let mut waiting = waiting.lock().await;
    let mut notes = Vec::new();
    loop {
        tokio::select! {
            _ = waiting.recv_many(&mut notes, AT_ONCE) => {}
            () = stopping.cancelled() => return,
        }
        if log.is_shared() {
            write_shared(&log, &mut notes, &stopping).await;
            continue;
        }
        for note in notes.drain(..) {
            if matches!(note, Note::Mark(_)) {
                log.notes_durable().await;
            }
            write_one(&log, note);
        }
    }
}

fn write_one(log: &Log, note: Note) {
    match note {
        Note::Fact(_, fact) => {
            if let Err(error) = log.note(now_ms(), &record(&fact)) {
                not_written(&error);
            }
        }
        Note::Mark(reached) => {
            reached.send(()).ok();
        }
    }
}

/// Writes notes for all nodes, however long Redis is away; nobody waits for them meanwhile.
async fn write_shared(log: &Log, notes: &mut Vec<Note>, stopping: &CancellationToken) {
    let (mut facts, mut marks) = (Vec::new(), Vec::new());
    for note in notes.drain(..) {
        match note {
            Note::Fact(shard, fact) => facts.push((shard, shared_record(log, &fact))),
            Note::Mark(reached) => marks.push(reached),
        }
    }
    while let Err(error) = log.note_shared(&facts).await {
        not_written(&error);
        marks.clear();
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = stopping.cancelled() => return,
        }
    }
    for reached in marks {
        reached.send(()).ok();
    }
}

fn record(fact: &Fact) -> Vec<u8> {
    serde_json::to_vec(fact).expect("a fact is always JSON")
}

fn shared_record(log: &Log, fact: &Fact) -> Vec<u8> {
    let mut note = log.writer().unwrap_or_default().as_bytes().to_vec();
    note.push(b' ');
    note.extend(record(fact));
    note
}

fn not_written(error: &StoreError) {
    tracing::error!(%error, "who got a message and who acknowledged it is not written down");
}
