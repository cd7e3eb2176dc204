//! Replay: what a socket missed, from the log, before anything newer.
//!
//! Pages are sent outside the sequencer, no faster than the client takes them.
//! Only the last one is sent by the sequencer of the shard, between two
//! entries, so that replay and live delivery meet without a gap or a double.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::acks::concerns_users;
use super::publish::Hub;
use crate::connection::{Connection, Handover, Read};
use crate::delivery::{Recipient, entity_of};
use crate::log::{Batch, Entry, Named, Position};
use crate::rooms::Id;
use crate::wire::Form;

/// Entries sent before the client has to catch up; fewer on polling, whose queue counts packets.
const PAGE: usize = 256;
const POLLING_PAGE: usize = 64;

/// Bytes that the forms and the envelope of an entry add to its payload, at most about.
const AROUND: usize = 1_024;

/// What a socket has read, and so what it missed.
#[derive(Debug)]
pub struct Missed {
    shard: usize,
    /// Everything up to this offset was read,
    up_to: u64,
    /// and these beyond it.
    beyond: HashSet<u64>,
    /// Everything up to here was delivered before its client came back; what follows would have come live.
    back_at: u64,
    /// The last entry it has read, if it may have read only the first form of it.
    half: Option<u64>,
    /// Bytes sent before the client has to catch up: so few that nothing is lost on purpose.
    page_bytes: usize,
    /// The newest it has read of each entity, where it has read ahead of others.
    newest: HashMap<u64, u64>,
}

/// Entries sent to a socket before it has to catch up.
pub(super) fn page_of(recipient: &Recipient) -> usize {
    if recipient.connection.is_direct() { PAGE } else { POLLING_PAGE }
}

/// Bytes that an entry takes in both forms, at most about.
pub(super) fn bytes_about(entry: &Entry) -> usize {
    2 * entry.draft.payload.get().len() + AROUND
}

impl Missed {
    /// The forms of an entry that are missing; none if it was read, or lost on purpose: within an entity nothing
    /// overtakes, so what is older than something read of the same was not kept back.
    fn unread(&self, entry: &Entry, recipient: &Recipient) -> &'static [Form] {
        let offset = entry.position.offset;
        if entry.is_void() || (offset <= self.back_at && !entry.is_kept()) {
            return &[];
        }
        if self.half == Some(offset) {
            return &[Form::Envelope];
        }
        if offset <= self.up_to || self.beyond.contains(&offset) {
            return &[];
        }
        let newest = || self.newest.get(&entity_of(entry, recipient));
        if !self.newest.is_empty() && newest().is_some_and(|newest| *newest > offset) {
            return &[];
        }
        if recipient.wanted_then(entry) { &[Form::Named, Form::Envelope] } else { &[] }
    }

    /// The first entries that fit into a page, one at least.
    fn page<'a>(&self, entries: &'a [Arc<Entry>]) -> &'a [Arc<Entry>] {
        let mut bytes = 0;
        let fit = entries.iter().take_while(|entry| {
            bytes += bytes_about(entry);
            bytes <= self.page_bytes
        });
        &entries[..fit.count().max(1).min(entries.len())]
    }

    /// What was missed by a socket that has read everything up to an offset, in pages of so many bytes.
    pub(super) fn behind(shard: usize, up_to: u64, page_bytes: usize) -> Self {
        Self { shard, up_to, beyond: HashSet::new(), back_at: up_to, half: None, page_bytes, newest: HashMap::new() }
    }

    pub(super) fn shard(&self) -> usize {
        self.shard
    }

    /// Sends what is missing of these; tells which were for its user, whether or not a socket was there.
    fn send(&self, entries: &[Arc<Entry>], recipient: &Recipient, hub: &Hub) -> Vec<Arc<Entry>> {
        let mut handover = Handover::default();
        let mut for_user = Vec::new();
        for entry in entries {
            let unread = self.unread(entry, recipient);
            if !unread.is_empty() && recipient.wants(entry) {
                hub.hand(entry, recipient, false, || recipient.send_unread(entry, unread, &mut handover));
                if concerns_users(&entry.draft) {
                    for_user.push(entry.clone());
                }
            }
        }
        for_user
    }
}

impl Hub {
    /// What a socket of an organization missed that has read this; none if something of it is gone.
    pub fn missed(&self, organization: Option<&Id>, last: &Named, read: Read) -> Option<Missed> {
        let shard = self.log.shard_of(organization);
        let half = (last.form == Some(Form::Named)).then_some(last.position.offset).filter(|offset| *offset > 0);
        let whole = self.log.is_whole_behind(shard, &last.position)
            && self.log.is_whole_behind(shard, &last.position.at(read.up_to));
        let page_bytes = self.plane.unpressed_bytes();
        let Read { up_to, beyond } = read;
        let beyond = beyond.into_iter().collect();
        let back_at = self.delivered(shard);
        whole.then(|| Missed { beyond, half, back_at, ..Missed::behind(shard, up_to, page_bytes) })
    }

    /// Whether a position is of this life of an organization's shard.
    pub fn is_of_this_life(&self, organization: Option<&Id>, position: &Position) -> bool {
        self.log.head(self.log.shard_of(organization)).epoch == position.epoch
    }

    /// Waits until everything up to an offset of an organization's shard is delivered.
    pub async fn caught_up(&self, organization: Option<&Id>, offset: u64) {
        self.delivered_up_to(self.log.shard_of(organization), offset).await;
    }

    pub(super) async fn delivered_up_to(&self, shard: usize, offset: u64) {
        if let Some(before) = offset.checked_sub(1) {
            self.log.appended(shard, before).await;
        }
        while self.delivered(shard) < offset {
            let (tell, told) = oneshot::channel();
            self.between_entries(shard, |_| {
                tell.send(()).ok();
            });
            if told.await.is_err() {
                return;
            }
        }
    }

    /// Tells a socket what it missed and has it go live; a socket that cannot be told everything is cut, and its
    /// client begins anew.
    pub async fn replay(self: Arc<Self>, recipient: Arc<Recipient>, mut missed: Missed) {
        let mut unfinished = Unfinished::of(&recipient);
        for offset in missed.beyond.clone() {
            if let Some(entry) = self.page(missed.shard, offset - 1, 1).await.entries.pop() {
                let newest = missed.newest.entry(entity_of(&entry, &recipient)).or_default();
                *newest = offset.max(*newest);
            }
        }
        let mut after = missed.half.map_or(missed.up_to, |half| missed.up_to.min(half - 1));
        let missed = Arc::new(missed);
        let mut for_user = Vec::new();
        loop {
            if !recipient.connection.caught_up().await {
                return;
            }
            let page = page_of(&recipient);
            match self.join(&recipient, &missed, after, page).await {
                Some(Joined::Live(last)) => {
                    unfinished.finish();
                    for_user.extend(last);
                    if !for_user.is_empty() && recipient.connection.written_out().await {
                        for_user.iter().for_each(|entry| self.handed(entry, &recipient));
                    }
                    return;
                }
                Some(Joined::Gap) | None => return,
                Some(Joined::Behind) => {}
            }
            let looked_at = self.delivered(missed.shard);
            let batch = self.page(missed.shard, after, page).await;
            // What was not delivered by then comes from the sequencer, once the socket is live.
            let delivered = batch.entries.partition_point(|entry| entry.position.offset <= looked_at);
            let entries = missed.page(&batch.entries[..delivered]);
            if batch.gap {
                return;
            }
            for_user.extend(missed.send(entries, &recipient, &self));
            // Without entries there is nothing up to there, such as offsets that were never given out.
            after = entries.last().map_or(after.max(looked_at), |entry| entry.position.offset);
        }
    }

    /// The entry at an offset, if the log still has it.
    pub(super) async fn entry(self: &Arc<Self>, shard: usize, offset: u64) -> Option<Arc<Entry>> {
        let entry = self.page(shard, offset - 1, 1).await.entries.pop();
        entry.filter(|entry| entry.position.offset == offset && !entry.is_void())
    }

    /// Entries after an offset; what is not in memory is read by a thread that may wait.
    pub(super) async fn page(self: &Arc<Self>, shard: usize, after: u64, limit: usize) -> Batch {
        if self.log.is_recent(shard, after) {
            return self.log.since(shard, after, limit);
        }
        let hub = self.clone();
        let read = tokio::task::spawn_blocking(move || hub.log.since(shard, after, limit));
        read.await.unwrap_or(Batch { entries: Vec::new(), gap: true })
    }

    /// Has the sequencer send the last page, if what is left is one.
    async fn join(
        self: &Arc<Self>,
        recipient: &Arc<Recipient>,
        missed: &Arc<Missed>,
        after: u64,
        page: usize,
    ) -> Option<Joined> {
        let (hub, recipient, missed) = (self.clone(), recipient.clone(), missed.clone());
        let (answer, answered) = oneshot::channel();
        self.between_entries(missed.shard, move |delivered| {
            let left = usize::try_from(delivered.saturating_sub(after)).unwrap_or(usize::MAX);
            // It does no I/O.
            let joined = if left > page || !hub.log.is_recent(missed.shard, after) {
                Joined::Behind
            } else {
                let batch = hub.log.since(missed.shard, after, left);
                if batch.gap {
                    Joined::Gap
                } else if missed.page(&batch.entries).len() < batch.entries.len() {
                    Joined::Behind
                } else {
                    let for_user = missed.send(&batch.entries, &recipient, &hub);
                    recipient.go_live(delivered);
                    Joined::Live(for_user)
                }
            };
            answer.send(joined).ok();
        });
        answered.await.ok()
    }
}

/// A connection whose client is not told everything: it is cut, or it would wait for ever.
pub(super) struct Unfinished(Option<Arc<Connection>>);

impl Unfinished {
    pub(super) fn of(recipient: &Recipient) -> Self {
        Self(Some(recipient.connection.clone()))
    }

    /// It was told everything, or somebody else tells it the rest.
    pub(super) fn finish(&mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.cut();
        }
    }
}

/// What came of the last page.
enum Joined {
    /// It is sent, with these for the user, and what comes from here on is live.
    Live(Vec<Arc<Entry>>),
    /// It is not the last one.
    Behind,
    /// Something that was missed is gone.
    Gap,
}
