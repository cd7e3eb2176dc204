//! The shared log: what nodes publish and note, as it is read back.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::escalation::Done;
use super::following::{LONGEST_STEP, STEP};
use super::notes;
use super::publish::Hub;
use crate::log::{Draft, Entry, News, Portion, StoreError, Tail};

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
pub(super) async fn run(hub: Arc<Hub>, shard: usize, tail: Tail, stopping: CancellationToken) {
    tokio::select! {
        () = read(&hub, shard, tail) => {}
        () = stopping.cancelled() => {}
    }
}

async fn read(hub: &Arc<Hub>, shard: usize, mut tail: Tail) {
    let mut pause = STEP;
    loop {
        let (is_followed, is_current) = hub.following.look(shard);
        let Some(Portion { news, is_end }) = tail.read(is_current).await else {
            hub.following.falls_behind(shard);
            continue;
        };
        let is_idle = news.is_empty();
        news.into_iter().for_each(|news| hub.take(shard, news));
        if hub.was_far_ahead(shard).await {
            // Nobody knows what has come meanwhile.
            hub.following.falls_behind(shard);
        } else if is_end && is_followed {
            hub.following.has_read(shard);
        } else if is_end {
            hub.following.step(shard, pause).await;
            pause = if is_idle { (2 * pause).min(LONGEST_STEP) } else { STEP };
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

    /// Takes over what was read of a shard.
    fn take(self: &Arc<Self>, shard: usize, news: News) {
        match news {
            News::Records(records) => {
                let last = records.last().map_or(0, |(offset, _)| *offset);
                let entries = self.log.entries_of(shard, records);
                entries.iter().for_each(|entry| self.heard(shard, entry));
                self.log.take(shard, entries, last);
            }
            News::Notes(notes) => self.learn(&notes),
            News::Life(offset) => {
                self.log.jump(shard, offset, true);
                self.lives.send_modify(|lives| *lives += 1);
            }
            News::Gap(offset) => {
                self.log.jump(shard, offset, false);
                if let Some(listener) = self.listener.get() {
                    listener.miss();
                }
                self.cut_shard(shard);
            }
        }
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

    /// Waits until what was read is delivered, but for so much; false if it was.
    async fn was_far_ahead(&self, shard: usize) -> bool {
        let mut was_far = false;
        while self.log.is_ahead(shard, AHEAD, AHEAD_BYTES) {
            let (passed, passing) = oneshot::channel();
            self.between_entries(shard, move |_| {
                passed.send(()).ok();
            });
            if passing.await.is_err() {
                break;
            }
            was_far = true;
        }
        was_far
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
