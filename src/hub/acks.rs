//! Acknowledgements: asked for by a publication, given by sockets, told to publishers and to the next process.

use std::sync::Arc;
use std::time::Duration;

use super::notes::Fact;
use super::publish::Hub;
use super::receipts::{Progress, Receipt, Settled};
use super::waiting::Wait;
use crate::delivery::{Delivered, Recipient};
use crate::log::{Audience, Draft, Entry};
use crate::rooms::{Id, RoomName};
use crate::wire::{PublicId, now_ms};

impl Hub {
    /// A socket of an organization acknowledges by the ack id on the wire.
    pub fn acknowledge(&self, ack_id: u64, socket: &PublicId, organization: Option<&Id>) {
        self.acknowledge_by(self.receipts.of_ack(ack_id), socket, organization);
    }

    /// A socket of an organization acknowledges by the message's id; one that is not known, or no longer, changes
    /// nothing.
    pub fn acknowledge_message(&self, message_id: &str, socket: &PublicId, organization: &Id) {
        self.acknowledge_by(self.receipts.of_message(message_id), socket, Some(organization));
    }

    fn acknowledge_by(&self, receipt: Option<Arc<Receipt>>, socket: &PublicId, organization: Option<&Id>) {
        let is_theirs =
            |receipt: &Arc<Receipt>| receipt.organization.as_ref().is_none_or(|own| Some(own) == organization);
        let Some(receipt) = receipt.filter(is_theirs) else { return };
        if let Some(settled) = receipt.acknowledge(socket, now_ms()) {
            self.settle(settled);
        }
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

    /// The sockets that a message was sent to, as far as this node knows, with their users.
    pub fn recipients_of(&self, message_id: &str) -> Vec<(PublicId, Option<Id>)> {
        self.receipts.of_message(message_id).map(|receipt| receipt.sockets()).unwrap_or_default()
    }

    /// Another node has sent a message to these sockets.
    pub fn was_sent(&self, message_id: &str, offset: u64, sockets: &[(PublicId, Option<Id>)]) {
        if let Some(receipt) = self.receipts.of_message(message_id) {
            receipt.sent(offset, sockets, &[]).into_iter().for_each(|settled| self.settle(settled));
        }
    }

    pub(super) fn progress_of(&self, receipt: &Receipt) -> Progress {
        receipt.progress(|socket, offset| {
            self.directory.recipient(socket.as_str()).is_some_and(|recipient| recipient.has_been_written(offset))
        })
    }

    fn settle(&self, settled: Settled) {
        let Settled { ack_id, organization, socket, waits, at_ms } = settled;
        if let Some((organization, user, offset)) = waits {
            self.offline.waiting.remove(&organization, &user, offset);
        }
        self.notes.add(self.log.shard_of(organization.as_ref()), || Fact::Acknowledged { ack_id, socket, at_ms });
    }

    /// An entry was delivered so far, and waits for users whom it did not reach, whom it tells.
    pub(super) fn sent(&self, entry: &Entry, mut delivered: Delivered) -> Vec<Id> {
        let draft = &entry.draft;
        let absent = self.absent_from(entry, &delivered);
        if draft.ack.is_none() {
            // Nobody asks who has got it, but the nodes where those who are named have not.
            let named: Vec<Id> = if self.log.is_shared() { named_users(draft).collect() } else { Vec::new() };
            delivered.reached.retain(|(_, user)| user.as_ref().is_some_and(|user| named.contains(user)));
        }
        let sockets = delivered.reached;
        let offset = entry.position.offset;
        let ack_id = draft.ack.map(|(ack_id, _)| ack_id);
        let keeps = self.offline.keeps(entry);
        let until_ms = if keeps { draft.published_at_ms.saturating_add(self.offline.ttl_ms) } else { 0 };
        let organization = draft.audience.scope().map(|scope| &scope.organization);
        // Every node knows who is not there, so it is enough that one notes it: the one that leads, and the one whose
        // publisher is told that it is noted.
        let leads = self.leads() || entry.is_own();
        // Before anybody can be known to have acknowledged, so that this is what is noted first.
        if leads || !sockets.is_empty() {
            self.notes.add(self.log.shard_of(organization), || Fact::Sent {
                message_id: draft.message_id.clone(),
                position: entry.position.to_string(),
                organization: organization.cloned(),
                ack_id,
                due_at_ms: due_at(draft),
                until_ms,
                sockets: sockets.clone(),
                absent: if leads { absent.clone() } else { Vec::new() },
                escalates: self.escalation.concerns(draft),
            });
        }
        self.wait_for_sent(organization, ack_id.is_some(), &sockets, &absent, Wait { offset, until_ms });
        if let Some(receipt) = ack_id.and_then(|ack_id| self.receipts.of_ack(ack_id)) {
            receipt.sent(offset, &sockets, &absent).into_iter().for_each(|settled| self.settle(settled));
        }
        absent
    }

    /// Sends a socket an entry that its user missed: a receipt knows of the socket before it can acknowledge. One that
    /// the socket only looks back at is not asked of it, unless it is of its user anyway.
    pub(super) fn hand(&self, entry: &Entry, recipient: &Recipient, looks_back: bool, send: impl FnOnce()) {
        let receipt = entry.draft.ack.and_then(|(ack_id, _)| self.receipts.of_ack(ack_id));
        let identity = || recipient.interest().identity.clone();
        if let Some(receipt) = receipt
            && let Some((organization, user)) = identity()
            && receipt.handed(&user, &recipient.id, entry.position.offset, !looks_back, |socket| self.is_gone(socket))
        {
            self.note_handed(entry, recipient, organization, user);
        }
        send();
    }

    /// An entry that its user missed has been written to a socket: it waits no more, unless for an acknowledgement.
    pub(super) fn handed(&self, entry: &Entry, recipient: &Recipient) {
        let receipt = entry.draft.ack.and_then(|(ack_id, _)| self.receipts.of_ack(ack_id));
        if receipt.is_some() || !concerns_users(&entry.draft) {
            return;
        }
        let Some((organization, user)) = recipient.interest().identity.clone() else { return };
        if self.offline.waiting.remove(&organization, &user, entry.position.offset) {
            self.note_handed(entry, recipient, organization, user);
        }
    }

    fn note_handed(&self, entry: &Entry, recipient: &Recipient, organization: Id, user: Id) {
        self.notes.add(self.log.shard_of(Some(&organization)), || Fact::Handed {
            ack_id: entry.draft.ack.map(|(ack_id, _)| ack_id),
            position: entry.position.to_string(),
            organization,
            user,
            socket: recipient.id.clone(),
        });
    }

    fn is_gone(&self, socket: &PublicId) -> bool {
        // One that is not here may be on another node.
        !self.log.is_shared() && self.directory.recipient(socket.as_str()).is_none()
    }

    /// The receipt for a draft that asks for acknowledgement.
    pub(super) fn open_receipt(&self, draft: &Draft) -> Option<Arc<Receipt>> {
        let (ack_id, _) = draft.ack?;
        if let Some(receipt) = self.receipts.of_ack(ack_id) {
            return Some(receipt);
        }
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
    let organization = draft.audience.scope().map(|scope| &scope.organization);
    let rooms = targets.into_iter().flat_map(|targets| &targets.rooms);
    let rooms = rooms.filter_map(move |room| match RoomName::parse(room)? {
        RoomName::User(own, user) if Some(&own) == organization => Some(user),
        _ => None,
    });
    targets.into_iter().flat_map(|targets| targets.users.iter().cloned()).chain(rooms)
}
