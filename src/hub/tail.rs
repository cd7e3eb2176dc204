//! The shared log: what nodes publish and note, as it is read back.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::escalation::Done;
use super::notes;
use super::publish::Hub;
use crate::log::{Draft, Entry, News, StoreError, Tail};

/// Entries that may be read before they are delivered, and bytes of payload.
const AHEAD: u64 = 2_048;
const AHEAD_BYTES: usize = 16 * 1024 * 1024;

/// Somebody above who hears what the shared log brings, as it is read and before it is delivered.
pub trait Listener: Send + Sync {
    /// An entry is about to be delivered; false if nobody of this node needs it any more.
    fn hear(&self, draft: &Draft) -> bool;

    /// Some entries are missing that were to come.
    fn miss(&self);
}

/// Reads a shard until `stopping` is cancelled.
pub(super) async fn run(hub: Arc<Hub>, shard: usize, mut tail: Tail, stopping: CancellationToken) {
    loop {
        let (is_followed, is_current) = hub.following.look(shard);
        let news = tokio::select! {
            news = tail.next(is_current) => news,
            () = stopping.cancelled() => return,
        };
        let Some(news) = news else {
            if is_followed {
                hub.following.has_read(shard);
                continue;
            }
            tokio::select! {
                () = hub.following.step(shard) => continue,
                () = stopping.cancelled() => return,
            }
        };
        match news {
            News::Records(records) => {
                let last = records.last().map_or(0, |(offset, _)| *offset);
                let entries = hub.log.entries_of(shard, records);
                entries.iter().for_each(|entry| hub.heard(shard, entry));
                hub.log.take(shard, entries, last);
            }
            News::Notes(notes) => hub.learn(&notes),
            News::Life(offset) => {
                hub.log.jump(shard, offset, true);
                hub.lives.send_modify(|lives| *lives += 1);
            }
            News::Gap(offset) => {
                hub.log.jump(shard, offset, false);
                if let Some(listener) = hub.listener.get() {
                    listener.miss();
                }
                hub.cut_shard(shard);
            }
        }
        tokio::select! {
            () = hub.is_near(shard) => {}
            () = stopping.cancelled() => return,
        }
    }
}

impl Hub {
    /// Takes over what all nodes have noted, and reads on from there; `is_first` if no other node is there.
    pub(super) async fn take_part(self: &Arc<Self>, is_first: bool) -> Result<(), StoreError> {
        let (mut facts, mut tails) = (Vec::new(), Vec::new());
        for shard in 0..self.log.shards() {
            let (notes, last) = self.log.shared_notes(shard).await?;
            facts.extend(notes.iter().filter_map(|note| notes::of_others(note, "")));
            tails.extend(self.log.tail(shard, last));
        }
        self.bring_back(facts, is_first);
        for (shard, tail) in tails.into_iter().enumerate() {
            self.tasks.spawn(run(self.clone(), shard, tail, self.stopping.clone()));
        }
        Ok(())
    }

    /// An entry was read, which is about to be delivered.
    fn heard(self: &Arc<Self>, shard: usize, entry: &Arc<Entry>) {
        let draft = &entry.draft;
        self.freshness.came_by(draft);
        self.freshness.heard(draft);
        self.latest.hear(draft, entry.position.offset);
        let receipt = self.open_receipt(draft);
        let is_first = shard == self.log.shard_of(draft.audience.scope().map(|scope| &scope.organization));
        if let Some(receipt) = receipt.filter(|_| is_first && self.escalation.concerns(draft)) {
            self.watch(receipt, entry.clone(), Done::default());
        }
        let is_news = self.listener.get().is_none_or(|listener| listener.hear(draft)) && self.hear_escalation(draft);
        if is_news {
            self.prepare(entry.clone());
        } else {
            entry.abandon();
        }
    }

    /// Takes over what the other nodes have noted.
    fn learn(&self, notes: &[Bytes]) {
        let own = self.log.writer().unwrap_or_default();
        for fact in notes.iter().filter_map(|note| notes::of_others(note, own)) {
            self.bring_back_one(fact);
        }
    }

    /// Waits until what was read is delivered, but for so much.
    async fn is_near(&self, shard: usize) {
        while self.log.is_ahead(shard, AHEAD, AHEAD_BYTES) {
            let (passed, passing) = oneshot::channel();
            self.between_entries(shard, move |_| {
                passed.send(()).ok();
            });
            if passing.await.is_err() {
                return;
            }
        }
    }

    /// Cuts the sockets of a shard, since they missed something; their clients come back and begin anew.
    fn cut_shard(&self, shard: usize) {
        for recipient in self.directory.recipients() {
            let interest = recipient.interest();
            let organization = interest.identity.as_ref().map(|(organization, _)| organization);
            if self.log.shard_of(organization) == shard {
                recipient.connection.cut();
            }
        }
    }
}
