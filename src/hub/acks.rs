//! Acknowledgements: asked for by a publication, given by sockets, told to publishers and to the next process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::notes::{self, Fact};
use super::publish::Hub;
use super::receipts::{Progress, Receipt, Settled};
use super::waiting::Wait;
use crate::delivery::Recipient;
use crate::log::{Audience, Draft, Entry};
use crate::rooms::{Id, RoomName};
use crate::wire::{PublicId, now_ms};

impl Hub {
    /// A socket acknowledges by the ack id on the wire.
    pub fn acknowledge(&self, ack_id: u64, socket: &PublicId) {
        self.settle(self.receipts.of_ack(ack_id).and_then(|receipt| receipt.acknowledge(socket, now_ms())));
    }

    /// A socket acknowledges by the message's id; one that is not known, or no longer, changes nothing.
    pub fn acknowledge_message(&self, message_id: &str, socket: &PublicId) {
        self.settle(self.receipts.of_message(message_id).and_then(|receipt| receipt.acknowledge(socket, now_ms())));
    }

    /// How far a message has been acknowledged, and its organization; none if its receipts are not kept.
    pub fn progress(&self, message_id: &str) -> Option<(Option<Id>, Progress)> {
        let receipt = self.receipts.of_message(message_id)?;
        Some((receipt.organization.clone(), self.progress_of(&receipt)))
    }

    /// How far a message has been acknowledged when all its recipients have done so, the time is up, or `enough` ends.
    pub async fn acknowledged(
        &self,
        message_id: &str,
        timeout: Duration,
        enough: impl Future<Output = ()>,
    ) -> Option<Progress> {
        let receipt = self.receipts.of_message(message_id)?;
        receipt.wait(timeout, enough).await;
        Some(self.progress_of(&receipt))
    }

    pub(super) fn progress_of(&self, receipt: &Receipt) -> Progress {
        receipt.progress(|socket, offset| {
            self.directory.recipient(socket.as_str()).is_some_and(|recipient| recipient.has_been_written(offset))
        })
    }

    fn settle(&self, settled: Option<Settled>) {
        let Some(Settled { ack_id, socket, waits, at_ms }) = settled else { return };
        if let Some((organization, user, offset)) = waits {
            self.offline.waiting.remove(&organization, &user, offset);
        }
        self.notes.add(|| Fact::Acknowledged { ack_id, socket, at_ms });
    }

    /// An entry was sent to these sockets, and waits for users who had none, whose number it tells; only the sequencer of
    /// its shard says so.
    pub(super) fn sent(&self, entry: &Entry, mut sockets: Vec<(PublicId, Option<Id>)>) -> usize {
        let draft = &entry.draft;
        let absent = self.absent_from(entry, &sockets);
        if draft.ack.is_none() {
            // Nobody asks who has got it.
            sockets.clear();
        }
        let offset = entry.position.offset;
        let ack_id = draft.ack.map(|(ack_id, _)| ack_id);
        let receipt = ack_id.and_then(|ack_id| self.receipts.of_ack(ack_id));
        if let Some(receipt) = &receipt {
            receipt.sent(offset, &sockets, &absent);
        }
        let until_ms = draft.published_at_ms.saturating_add(self.offline.ttl_ms);
        if let (Some(scope), true) = (draft.audience.scope(), self.offline.keeps(entry)) {
            let reached = sockets.iter().filter_map(|(_, user)| user.as_ref());
            for user in reached.chain(&absent) {
                // An acknowledgement can be faster than this.
                if !receipt.as_ref().is_some_and(|receipt| receipt.is_settled(user)) {
                    self.offline.waiting.add(&scope.organization, user, Wait { offset, until_ms, ack_id });
                }
            }
        }
        let offline = absent.len();
        if ack_id.is_none() && offline == 0 {
            return 0;
        }
        self.notes.add(|| Fact::Sent {
            message_id: draft.message_id.clone(),
            position: entry.position.to_string(),
            organization: draft.audience.scope().map(|scope| scope.organization.clone()),
            ack_id,
            due_at_ms: due_at(draft),
            until_ms,
            sockets,
            absent,
            escalates: self.escalation.concerns(draft),
        });
        offline
    }

    /// What the sequencer of a shard has left behind waits for its users; only when it has ended.
    pub(super) fn note_undelivered(&self, shard: usize) {
        let after = self.delivered(shard);
        for entry in self.log.since(shard, after, usize::MAX).entries {
            if entry.is_ready() && !entry.is_void() && concerns_users(&entry.draft) {
                self.sent(&entry, Vec::new());
            }
        }
    }

    /// Sends a socket an entry that its user missed: a receipt knows of the socket before it can acknowledge.
    pub(super) fn hand(&self, entry: &Entry, recipient: &Recipient, send: impl FnOnce()) {
        if let Some((ack_id, _)) = entry.draft.ack
            && let Some(receipt) = self.receipts.of_ack(ack_id)
            && let Some((_, user)) = &recipient.interest().identity
        {
            receipt.handed(user, &recipient.id, entry.position.offset, |socket| self.is_gone(socket));
        }
        send();
    }

    /// An entry that its user missed has been written to a socket.
    pub(super) fn handed(&self, entry: &Entry, recipient: &Recipient) {
        if !concerns_users(&entry.draft) {
            return;
        }
        let Some((organization, user)) = recipient.interest().identity.clone() else { return };
        let ack_id = entry.draft.ack.map(|(ack_id, _)| ack_id);
        // What has a receipt waits until it is acknowledged.
        if ack_id.and_then(|ack_id| self.receipts.of_ack(ack_id)).is_none() {
            self.offline.waiting.remove(&organization, &user, entry.position.offset);
        }
        self.notes.add(|| {
            let (position, socket) = (entry.position.to_string(), recipient.id.clone());
            Fact::Handed { ack_id, position, organization, user, socket }
        });
    }

    fn is_gone(&self, socket: &PublicId) -> bool {
        self.directory.recipient(socket.as_str()).is_none()
    }

    /// Takes over what earlier processes have noted.
    pub(super) fn bring_back(self: &Arc<Self>) {
        let now = now_ms();
        let mut watched = HashMap::new();
        for fact in notes::read(&self.log) {
            match &fact {
                Fact::Sent { ack_id: Some(ack_id), organization, position, escalates: true, .. } => {
                    let shard = self.log.shard_of(organization.as_ref());
                    if let Some(offset) = Fact::offset(position, &self.log.head(shard)) {
                        watched.insert(*ack_id, (shard, offset));
                    }
                }
                Fact::Escalated { ack_id } => {
                    watched.remove(ack_id);
                }
                _ => {}
            }
            self.bring_back_one(fact, now);
        }
        for (ack_id, (shard, offset)) in watched {
            if let Some(receipt) = self.receipts.of_ack(ack_id) {
                self.watch(receipt, shard, offset);
            }
        }
    }

    fn bring_back_one(&self, fact: Fact, now: i64) {
        match fact {
            Fact::Sent { message_id, position, organization, ack_id, due_at_ms, until_ms, sockets, absent, .. } => {
                let shard = self.log.shard_of(organization.as_ref());
                let Some(offset) = Fact::offset(&position, &self.log.head(shard)) else { return };
                if let Some(ack_id) = ack_id {
                    let open = || self.receipts.open(ack_id, &message_id, organization.clone(), due_at_ms);
                    self.receipts.of_ack(ack_id).unwrap_or_else(open).sent(offset, &sockets, &absent);
                }
                if let (Some(organization), true) = (&organization, self.offline.enabled && until_ms > now) {
                    let reached = sockets.iter().filter_map(|(_, user)| user.as_ref());
                    for user in reached.chain(&absent) {
                        self.offline.waiting.add(organization, user, Wait { offset, until_ms, ack_id });
                    }
                }
            }
            Fact::Handed { ack_id, position, organization, user, socket } => {
                let shard = self.log.shard_of(Some(&organization));
                let Some(offset) = Fact::offset(&position, &self.log.head(shard)) else { return };
                match ack_id.and_then(|ack_id| self.receipts.of_ack(ack_id)) {
                    Some(receipt) => receipt.handed(&user, &socket, offset, |_| true),
                    None => self.offline.waiting.remove(&organization, &user, offset),
                }
            }
            Fact::Acknowledged { ack_id, socket, at_ms } => {
                let settled = self.receipts.of_ack(ack_id).and_then(|receipt| receipt.acknowledge(&socket, at_ms));
                if let Some((organization, user, offset)) = settled.and_then(|settled| settled.waits) {
                    self.offline.waiting.remove(&organization, &user, offset);
                }
            }
            Fact::Escalated { .. } => {}
        }
    }

    /// A receipt for a draft that asks for acknowledgement.
    pub(super) fn open_receipt(&self, draft: &Draft) -> Option<Arc<Receipt>> {
        let (ack_id, _) = draft.ack?;
        let organization = draft.audience.scope().map(|scope| scope.organization.clone());
        Some(self.receipts.open(ack_id, &draft.message_id, organization, due_at(draft)))
    }
}

/// When a message should have been acknowledged, in milliseconds since the epoch.
fn due_at(draft: &Draft) -> i64 {
    let timeout = draft.ack.map_or(0, |(_, timeout)| timeout);
    draft.published_at_ms.saturating_add_unsigned(timeout)
}

/// Whether an entry is for users, whether or not they are there: it names them, or they have to acknowledge it.
pub(super) fn concerns_users(draft: &Draft) -> bool {
    draft.ack.is_some() || named_users(draft).next().is_some()
}

/// The users that an entry names.
pub(super) fn named_users(draft: &Draft) -> impl Iterator<Item = Id> {
    let targets = match &draft.audience {
        Audience::Scope { targets, .. } => targets.as_ref(),
        Audience::Everyone => None,
    };
    let rooms =
        targets.into_iter().flat_map(|targets| &targets.rooms).filter_map(|room| match RoomName::parse(room)? {
            RoomName::User(_, user) => Some(user),
            _ => None,
        });
    targets.into_iter().flat_map(|targets| targets.users.iter().cloned()).chain(rooms)
}
