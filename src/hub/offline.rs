//! Users without a socket: what waits for them, and how they are told when they come back.
//!
//! What waits are places in the log. A user's next session is told them in
//! order before anything newer; one that is taken up again finds them in its
//! replay.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::acks::named_users;
use super::ended::{Ended, Seen};
use super::publish::Hub;
use super::replay::{Missed, Unfinished, bytes_about, page_of};
use super::waiting::{Wait, Waiting};
use crate::config;
use crate::connection::{Handover, Read};
use crate::delivery::{Delivered, Interest, Recipient};
use crate::log::Entry;
use crate::rooms::{Id, user_room};
use crate::wire::{Form, PublicId, now_ms};

/// Users of one server who are not there.
#[derive(Debug)]
pub(super) struct Offline {
    pub(super) enabled: bool,
    pub(super) ttl_ms: i64,
    pub(super) waiting: Waiting,
    pub(super) ended: Ended,
    /// One for each shard: whether a user is there does not change while an entry is delivered that waits for those
    /// who are not.
    gates: Vec<Mutex<()>>,
}

/// What a socket is told when its user comes back.
#[derive(Debug)]
pub struct Owed {
    shard: usize,
    offsets: Vec<u64>,
    /// The one of which the first form has been read.
    half: Option<u64>,
    /// What comes behind them.
    missed: Missed,
}

impl Owed {
    /// What a session that is taken up again was about to be told and has not read; none if there is nothing. `half` is
    /// the last entry it has read, if that may be only the first form of it.
    pub fn again(interest: &Interest, read: &Read, half: Option<u64>) -> Option<Vec<u64>> {
        let unread = |offset: &u64| Some(*offset) == half || (*offset > read.up_to && !read.beyond.contains(offset));
        let offsets: Vec<u64> = interest.owed.iter().copied().filter(unread).collect();
        (!offsets.is_empty()).then_some(offsets)
    }

    /// These, and then what the session missed.
    pub fn and(offsets: Vec<u64>, half: Option<u64>, missed: Missed) -> Self {
        let half = half.filter(|half| offsets.contains(half));
        Self { shard: missed.shard(), offsets, half, missed }
    }
}

impl Offline {
    pub(super) fn new(config: &config::Offline, shards: usize) -> Self {
        let ttl_ms = i64::try_from(config.ttl_ms).unwrap_or(i64::MAX);
        Self {
            enabled: config.enabled,
            ttl_ms,
            waiting: Waiting::new(config.max_events_per_user),
            ended: Ended::new(ttl_ms, config.max_sessions),
            gates: (0..shards).map(|_| Mutex::new(())).collect(),
        }
    }

    /// Whether an entry waits for who is not there.
    pub(super) fn keeps(&self, entry: &Entry) -> bool {
        self.enabled && entry.is_kept()
    }

    /// While this is held nobody of a shard comes or goes.
    pub(super) fn gate(&self, shard: usize) -> MutexGuard<'_, ()> {
        self.gates[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// The users an entry is for whom it did not reach: those that it names, those who would have received it had they
    /// been here, and those whose sockets could not take it.
    pub(super) fn absent_from(&self, entry: &Entry, delivered: &Delivered) -> Vec<Id> {
        let draft = &entry.draft;
        let Some(scope) = draft.audience.scope().filter(|_| self.offline.keeps(entry)) else { return Vec::new() };
        let organization = &scope.organization;
        let mut users: Vec<Id> = named_users(draft).chain(delivered.refused.iter().cloned()).collect();
        if draft.ack.is_some() {
            let is_away = |user: &Id| self.directory.count(&user_room(organization, user)) == 0;
            users.extend(
                self.offline.ended.reached_by(organization, draft, &self.catalogue).into_iter().filter(is_away),
            );
        }
        users.sort_unstable();
        users.dedup();
        // Whoever has a socket that the publisher left out is not away.
        let left_out: Vec<Id> = draft
            .except
            .iter()
            .filter_map(|socket| self.directory.recipient(socket)?.interest().identity.clone())
            .filter_map(|(own, user)| (own == *organization).then_some(user))
            .collect();
        let reached = delivered.reached.iter().filter_map(|(_, user)| user.as_ref());
        let not_away: HashSet<&Id> = reached.chain(&left_out).collect();
        users.retain(|user| !not_away.contains(user));
        users
    }

    /// Forgets what has waited, or been remembered, for too long.
    pub(super) fn trim_users(&self, now_ms: i64) {
        let firsts: Vec<u64> = (0..self.log.shards()).map(|shard| self.log.first(shard)).collect();
        let is_kept = |organization: &Id, offset: u64| offset >= firsts[self.log.shard_of(Some(organization))];
        self.offline.waiting.trim(now_ms, is_kept);
        self.offline.ended.trim(now_ms);
        self.receipts.trim(now_ms.saturating_sub_unsigned(self.log.max_age_ms()));
    }

    /// A socket becomes one of a user's: `join` puts it into its rooms, and is told what waits for the user and the
    /// offset after which the socket is somebody. If something waits for the user, nothing new
    /// reaches the socket until [`hand_over`](Self::hand_over) has told it.
    pub fn arrive(
        &self,
        recipient: &Arc<Recipient>,
        organization: &Id,
        user: &Id,
        join: impl FnOnce(Vec<u64>, u64),
    ) -> Option<Owed> {
        let shard = self.log.shard_of(Some(organization));
        let _gate = self.offline.gate(shard);
        let waits = self.offline.waiting.of(organization, user, now_ms());
        let offsets: Vec<u64> = waits.iter().map(|wait| wait.offset).collect();
        let owed = !offsets.is_empty() && recipient.begin_catch_up();
        // The last of them may be in delivery.
        let reached = offsets.last().map_or(0, |last| *last).max(self.delivered(shard));
        join(if owed { offsets.clone() } else { Vec::new() }, reached);
        let missed = Missed::behind(shard, reached, self.plane.unpressed_bytes());
        owed.then_some(Owed { shard, offsets, half: None, missed })
    }

    /// An entry of an organization was sent to these sockets, and waits for these users as long as that is to be; if it
    /// requires acknowledgement, for those of the sockets too.
    pub(super) fn wait_for_sent(
        &self,
        organization: Option<&Id>,
        requires_ack: bool,
        sockets: &[(PublicId, Option<Id>)],
        absent: &[Id],
        wait: Wait,
    ) {
        let Some(organization) = organization.filter(|_| self.offline.enabled && wait.until_ms > now_ms()) else {
            return;
        };
        for user in sockets.iter().filter_map(|(_, user)| user.as_ref()) {
            if requires_ack {
                self.offline.waiting.add(organization, user, wait);
            } else {
                self.offline.waiting.has_reached(organization, user, wait.offset);
            }
        }
        for user in absent {
            self.offline.waiting.add(organization, user, wait);
        }
    }

    /// A socket of a user ends: `leave` takes it out of its rooms. What its session wanted is remembered, unless it
    /// was ended for good.
    pub fn depart(&self, organization: &Id, user: &Id, seen: Option<Seen>, leave: impl FnOnce()) {
        if !self.offline.enabled {
            return leave();
        }
        let _gate = self.offline.gate(self.log.shard_of(Some(organization)));
        leave();
        if let Some(seen) = seen {
            self.offline.ended.add(organization, user, seen);
        }
    }

    /// What a session of a user wanted when it ended.
    pub fn last_interest(&self, organization: &Id, user: &Id, session_id: &str, namespace: &str) -> Option<Interest> {
        self.offline.ended.session(organization, user, session_id, namespace)
    }

    /// Forgets a session that was ended for good.
    pub fn forget_session(&self, organization: &Id, user: &Id, session_id: Option<&str>) {
        self.offline.ended.forget(organization, user, session_id);
    }

    /// The sessions that have ended, with organization and user, in that order.
    pub fn ended_sessions(&self) -> Vec<((Id, Id), Seen)> {
        self.offline.ended.all()
    }

    /// Takes over the ended sessions of an earlier process.
    pub fn bring_back_sessions(&self, sessions: Vec<((Id, Id), Seen)>) {
        for ((organization, user), seen) in sessions {
            self.offline.ended.add(&organization, &user, seen);
        }
    }

    /// Tells a socket what waited for its user, no faster than it takes it, and has it go live.
    pub async fn hand_over(self: Arc<Self>, recipient: Arc<Recipient>, owed: Owed) {
        let mut unfinished = Unfinished::of(&recipient);
        let Owed { shard, offsets, half, missed } = owed;
        let mut rest = &offsets[..];
        while !rest.is_empty() {
            if !recipient.connection.caught_up().await {
                return;
            }
            let mut page: Vec<Arc<Entry>> = Vec::new();
            let mut bytes = 0;
            while let Some((offset, after)) = rest.split_first()
                && (page.is_empty() || bytes < self.plane.unpressed_bytes() && page.len() < page_of(&recipient))
            {
                rest = after;
                // What the log does not keep any more is passed over.
                if let Some(entry) = self.entry(shard, *offset).await {
                    bytes += bytes_about(&entry);
                    page.push(entry);
                }
            }
            let mut handover = Handover::default();
            page.retain(|entry| recipient.belongs_to(entry));
            for entry in &page {
                let unread: &[Form] = if half == Some(entry.position.offset) {
                    &[Form::Envelope]
                } else {
                    &[Form::Named, Form::Envelope]
                };
                self.hand(entry, &recipient, false, || recipient.send_unread(entry, unread, &mut handover));
            }
            drop(handover);
            if !recipient.connection.written_out().await {
                return;
            }
            page.iter().for_each(|entry| self.handed(entry, &recipient));
        }
        unfinished.finish();
        self.replay(recipient, missed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Forms;

    #[test]
    fn what_was_overtaken_is_owed_still() {
        let interest = Interest { owed: vec![3, 5, 7, 9], since: 20, ..Interest::none(Forms::Both) };
        let again =
            |up_to, beyond: &[u64], half| Owed::again(&interest, &Read { up_to, beyond: beyond.to_vec() }, half);
        assert_eq!(again(0, &[], None), Some(vec![3, 5, 7, 9]));
        assert_eq!(again(3, &[9], None), Some(vec![5, 7]));
        assert_eq!(again(5, &[], Some(5)), Some(vec![5, 7, 9]));
        assert_eq!(again(3, &[9], Some(9)), Some(vec![5, 7, 9]));
        assert_eq!(again(20, &[], None), None);
    }
}
