//! Sequencers: one a shard, delivering its entries in offset order.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::publish::Hub;
use crate::delivery::deliver;
use crate::log::{Audience, Entry};

/// Entries taken from the log at a time.
const PAGE: usize = 256;

/// Delivers what is appended to a shard until `stopping` is cancelled.
pub(super) async fn run(hub: Arc<Hub>, shard: usize, stopping: CancellationToken) {
    let mut offset = 0;
    loop {
        tokio::select! {
            () = hub.log.appended(shard, offset) => {}
            () = stopping.cancelled() => return,
        }
        for entry in hub.log.since(shard, offset, PAGE).entries {
            tokio::select! {
                () = entry.ready() => {}
                () = stopping.cancelled() => return,
            }
            offset = entry.position.offset;
            deliver_one(&hub, shard, &entry);
            hub.log.delivered(shard, offset);
            // A publication is a large fan-out: other tasks of this thread get their turn after each.
            tokio::task::yield_now().await;
        }
    }
}

fn deliver_one(hub: &Hub, shard: usize, entry: &Entry) {
    let mine = |organization: Option<&crate::rooms::Id>| hub.log.shard_of(organization) == shard;
    let delivered = deliver(&hub.directory, entry, hub.next_delivery(), mine);
    let draft = &entry.draft;
    if let Some((ack_id, _)) = draft.ack {
        hub.receipts.sent(ack_id, delivered.to_acknowledge);
    }
    hub.counters.delivered(delivered.recipients);
    // An entry for everyone is in every shard; it is one message all the same.
    if shard == 0 || draft.audience != Audience::Everyone {
        hub.counters.published(&draft.event.name, draft.started.elapsed());
    }
    if hub.logging.log_broadcast_events {
        tracing::info!(
            event = %draft.event.name,
            message_id = %draft.message_id,
            position = %entry.position,
            recipients = delivered.recipients,
            "broadcast"
        );
    }
    entry.report(delivered.recipients);
}
