//! Sequencers: one a shard, delivering its entries in offset order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::acks::concerns_users;
use super::publish::Hub;
use crate::delivery::deliver;
use crate::log::{Audience, Entry, Explanation, Report};

/// Entries taken from the log at a time.
const PAGE: usize = 256;

/// Entries that are delivered before the writers have to catch up: enough for them to gather frames.
const ENTRIES_AHEAD: usize = 2_048;

/// Bytes of payload, likewise.
const BYTES_AHEAD: usize = 256 * 1024;

/// Something to do between two entries; it is told the offset of the last one delivered.
pub(super) type Command = Box<dyn FnOnce(u64) + Send>;

/// Delivers what is appended to a shard until `stopping` is cancelled.
pub(super) async fn run(
    hub: Arc<Hub>,
    shard: usize,
    mut commands: UnboundedReceiver<Command>,
    stopping: CancellationToken,
) {
    let mut offset = hub.log.head(shard).offset;
    let mut ahead = Ahead::default();
    loop {
        tokio::select! {
            () = hub.log.appended(shard, offset) => {}
            Some(command) = commands.recv() => {
                run_between(command, offset);
                continue;
            }
            () = stopping.cancelled() => return,
        }
        let (entries, up_to) = hub.log.undelivered(shard, offset, PAGE);
        if entries.is_empty() {
            // There is nothing to deliver up to there: a record of an unknown event, or offsets that were not given out.
            offset = up_to;
            hub.delivered[shard].store(offset, Ordering::SeqCst);
            hub.log.delivered(shard, offset);
        }
        for entry in entries {
            tokio::select! {
                () = entry.ready() => {}
                () = stopping.cancelled() => return,
            }
            offset = entry.position.offset;
            let report = (!entry.is_void()).then(|| deliver_one(&hub, shard, &entry));
            hub.delivered[shard].store(offset, Ordering::SeqCst);
            hub.log.delivered(shard, offset);
            // Whoever is told may subscribe, and finds the entry behind it.
            if let Some(report) = report.and_then(|report| entry.report(report)) {
                hub.explain(&entry, report);
            }
            while let Ok(command) = commands.try_recv() {
                run_between(command, offset);
            }
            if ahead.is_too_far(&entry) {
                tokio::select! {
                    () = hub.plane.catch_up() => {}
                    () = stopping.cancelled() => return,
                }
            }
            // A publication is a large fan-out: other tasks of this thread get their turn after each.
            tokio::task::yield_now().await;
        }
    }
}

/// A fault in one command must not end the deliveries of a shard.
fn run_between(command: Command, offset: u64) {
    if catch_unwind(AssertUnwindSafe(|| command(offset))).is_err() {
        tracing::error!(offset, "a socket could not be told what it missed");
    }
}

/// How far a sequencer is ahead of the writers. A publisher that does not pause would else fill the outboxes faster
/// than any client can read, until they are cut; so it waits for its answer instead.
#[derive(Debug, Default)]
struct Ahead {
    entries: usize,
    bytes: usize,
}

impl Ahead {
    /// Counts an entry; true when the writers have to catch up before the next one.
    fn is_too_far(&mut self, entry: &Entry) -> bool {
        self.entries += 1;
        self.bytes += entry.draft.payload.get().len();
        let too_far = self.entries >= ENTRIES_AHEAD || self.bytes >= BYTES_AHEAD;
        if too_far {
            *self = Self::default();
        }
        too_far
    }
}

fn deliver_one(hub: &Hub, shard: usize, entry: &Entry) -> Report {
    let mine = |organization: Option<&crate::rooms::Id>| hub.log.shard_of(organization) == shard;
    let draft = &entry.draft;
    let for_users = concerns_users(draft);
    let gate = for_users.then(|| hub.offline.gate(shard));
    let mut delivered = deliver(&hub.directory, entry, hub.next_delivery(), for_users, mine);
    let (recipients, explanation) = (delivered.recipients, delivered.explanation.take());
    let absent = if for_users { hub.sent(entry, delivered) } else { Vec::new() };
    drop(gate);
    hub.counters.delivered(recipients);
    // An entry for everyone is in every shard, and a shared one on every node; it is one message all the same.
    let is_one_of_many = shard != 0 && draft.audience == Audience::Everyone;
    if !is_one_of_many && (entry.is_own() || !hub.log.is_shared()) {
        hub.counters.published(&draft.event.name, draft.started.elapsed());
    }
    if hub.logging.log_broadcast_events {
        tracing::info!(
            event = %draft.event.name,
            message_id = %draft.message_id,
            position = %entry.position,
            recipients,
            "broadcast"
        );
    }
    let offline = || absent.iter().map(ToString::to_string).collect();
    let explanation = explanation.map(|explanation| Explanation { offline: offline(), ..explanation });
    Report { recipients, explanation }
}
