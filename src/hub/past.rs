//! What earlier processes have left: who got what, what still waits, and what was never delivered.

use std::collections::HashMap;
use std::sync::Arc;

use super::acks::concerns_users;
use super::escalation::Done;
use super::notes::Fact;
use super::publish::Hub;
use super::waiting::Wait;
use crate::delivery::Delivered;

impl Hub {
    /// Takes over what earlier processes have noted. What they have left undelivered waits for its users, if `is_first`:
    /// else other nodes have delivered it.
    pub(super) fn bring_back(self: &Arc<Self>, facts: Vec<Fact>, is_first: bool) {
        let mut reached: Vec<Option<u64>> = vec![None; self.log.shards()];
        let mut watched: HashMap<u64, (usize, u64, Done)> = HashMap::new();
        for fact in facts {
            match &fact {
                Fact::Delivered { positions } => {
                    for (shard, offset) in positions.iter().filter_map(|position| self.log.place(position)) {
                        reached[shard] = reached[shard].max(Some(offset));
                    }
                }
                Fact::Sent { position, ack_id, escalates, .. } => {
                    if let Some((shard, offset)) = self.log.place(position) {
                        reached[shard] = reached[shard].max(Some(offset));
                        if let (Some(ack_id), true) = (ack_id, *escalates) {
                            watched.entry(*ack_id).or_insert((shard, offset, Done::default()));
                        }
                    }
                }
                Fact::Escalated { ack_id } => {
                    watched.entry(*ack_id).and_modify(|(_, _, done)| done.published = true);
                }
                Fact::Called { ack_id } => {
                    watched.entry(*ack_id).and_modify(|(_, _, done)| done.called = true);
                }
                Fact::Handed { .. } | Fact::Acknowledged { .. } => {}
            }
            self.bring_back_one(fact);
        }
        for (shard, reached) in reached.into_iter().enumerate().filter(|_| is_first) {
            self.leave_undelivered(shard, reached);
        }
        for (ack_id, (shard, offset, done)) in watched {
            let entry = self.log.entry(shard, offset);
            if let (Some(receipt), Some(entry)) = (self.receipts.of_ack(ack_id), entry) {
                self.watch(receipt, entry, done);
            }
        }
        self.note_reached();
    }

    /// What an earlier process has stored and not delivered waits for its users; none if nothing is known of that.
    fn leave_undelivered(self: &Arc<Self>, shard: usize, reached: Option<u64>) {
        let Some(reached) = reached else { return };
        for entry in self.log.between(shard, reached, self.log.head(shard).offset) {
            if !concerns_users(&entry.draft) {
                continue;
            }
            let receipt = self.open_receipt(&entry.draft);
            self.sent(&entry, Delivered::default());
            if let Some(receipt) = receipt.filter(|_| self.escalation.concerns(&entry.draft)) {
                self.watch(receipt, entry, Done::default());
            }
        }
    }

    /// Notes up to where everything has been delivered.
    pub(super) fn note_reached(&self) {
        let position = |shard| self.log.head(shard).at(self.delivered(shard)).to_string();
        self.notes.add(0, || Fact::Delivered { positions: (0..self.log.shards()).map(position).collect() });
    }

    pub(super) fn bring_back_one(&self, fact: Fact) {
        match fact {
            Fact::Sent { message_id, position, organization, ack_id, due_at_ms, until_ms, sockets, absent, .. } => {
                let Some((_, offset)) = self.log.place(&position) else { return };
                if let Some(ack_id) = ack_id {
                    let open = || self.receipts.open(ack_id, &message_id, organization.clone(), due_at_ms);
                    self.receipts.of_ack(ack_id).unwrap_or_else(open).sent(offset, &sockets, &absent);
                }
                let wait = Wait { offset, until_ms };
                self.wait_for_sent(organization.as_ref(), ack_id.is_some(), &sockets, &absent, wait);
            }
            Fact::Handed { ack_id, position, organization, user, socket } => {
                let Some((_, offset)) = self.log.place(&position) else { return };
                match ack_id.and_then(|ack_id| self.receipts.of_ack(ack_id)) {
                    Some(receipt) => {
                        receipt.handed(&user, &socket, offset, true, |_| true);
                    }
                    None => {
                        self.offline.waiting.remove(&organization, &user, offset);
                    }
                }
            }
            Fact::Acknowledged { ack_id, socket, at_ms } => {
                let settled = self.receipts.of_ack(ack_id).and_then(|receipt| receipt.acknowledge(&socket, at_ms));
                if let Some((organization, user, offset)) = settled.and_then(|settled| settled.waits) {
                    self.offline.waiting.remove(&organization, &user, offset);
                }
            }
            Fact::Escalated { ack_id } => self.receipts.escalated(ack_id, |done| done.published = true),
            Fact::Called { ack_id } => self.receipts.escalated(ack_id, |done| done.called = true),
            Fact::Delivered { .. } => {}
        }
    }

    /// What the sequencer of a shard has left behind waits for its users; only when it has ended.
    pub(super) fn note_undelivered(&self, shard: usize) {
        let after = self.delivered(shard);
        for entry in self.log.since(shard, after, usize::MAX).entries {
            if entry.is_ready() && !entry.is_void() && concerns_users(&entry.draft) {
                self.sent(&entry, Delivered::default());
            }
        }
    }
}
