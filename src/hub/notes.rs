//! Notes: who got what and who acknowledged it, written down so that the next process knows.
//!
//! They are written by a task of their own, in the order in which things
//! happened; a publisher waits until those of its message are. What is noted
//! while the server stops is written at its end. Where nodes share the log they
//! share the notes, and each takes over what the others have noted.

use std::collections::VecDeque;
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

/// Notes of a shard that wait for Redis.
const MOST: usize = 100_000;

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

/// Takes notes, where nodes share them in a line for each shard, since the Redis of one may be away; nothing is noted
/// where the log is in memory too.
#[derive(Debug)]
pub(super) struct Notes(Vec<Queue>);

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
        let lines = match (log.outlives_the_process(), log.is_shared()) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => log.shards(),
        };
        let line = |_| {
            let (notes, waiting) = unbounded_channel();
            let waiting = Arc::new(Mutex::new(waiting));
            tasks.spawn(write(log.clone(), waiting.clone(), stopping.clone()));
            Queue { notes, waiting, stopping: stopping.clone() }
        };
        Self((0..lines).map(line).collect())
    }

    fn line(&self, shard: usize) -> Option<&Queue> {
        self.0.get(shard % self.0.len().max(1))
    }

    /// Notes a fact about a message of an organization in a shard.
    pub(super) fn add(&self, shard: usize, fact: impl FnOnce() -> Fact) {
        if let Some(queue) = self.line(shard) {
            queue.notes.send(Note::Fact(shard, fact())).ok();
        }
    }

    /// Waits until everything noted so far of a shard is written, or is about to be since the server stops.
    pub(super) async fn written(&self, shard: usize) {
        let Some(queue) = self.line(shard) else { return };
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
        let mut shared = Vec::new();
        for queue in &self.0 {
            let Ok(mut waiting) = queue.waiting.try_lock() else { continue };
            while let Ok(note) = waiting.try_recv() {
                match note {
                    Note::Fact(shard, fact) if log.is_shared() => shared.push((shard, shared_record(log, &fact))),
                    note => write_one(log, note),
                }
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
            write_shared(&log, &mut notes, &mut waiting, &stopping).await;
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
async fn write_shared(
    log: &Log,
    notes: &mut Vec<Note>,
    waiting: &mut UnboundedReceiver<Note>,
    stopping: &CancellationToken,
) {
    let (mut facts, mut marks) = (VecDeque::new(), Vec::new());
    sort(log, notes, &mut facts, &mut marks);
    while let Err(error) = log.note_shared(facts.make_contiguous()).await {
        if !marks.is_empty() {
            not_written(&error);
        }
        marks.clear();
        let mut pause = std::pin::pin!(tokio::time::sleep(AGAIN));
        loop {
            tokio::select! {
                () = &mut pause => break,
                _ = waiting.recv_many(notes, AT_ONCE) => {
                    sort(log, notes, &mut facts, &mut Vec::new());
                    // What nobody can write down for so long is forgotten from the front.
                    facts.drain(..facts.len().saturating_sub(MOST));
                }
                () = stopping.cancelled() => {
                    log.note_shared(facts.make_contiguous()).await.ok();
                    return;
                }
            }
        }
    }
    for reached in marks {
        reached.send(()).ok();
    }
}

/// Takes notes apart: what is to be written, and who waits for that.
fn sort(
    log: &Log,
    notes: &mut Vec<Note>,
    facts: &mut VecDeque<(usize, Vec<u8>)>,
    marks: &mut Vec<oneshot::Sender<()>>,
) {
    for note in notes.drain(..) {
        match note {
            Note::Fact(shard, fact) => facts.push_back((shard, shared_record(log, &fact))),
            Note::Mark(reached) => marks.push(reached),
        }
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
