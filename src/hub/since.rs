//! `since`: what a new subscription missed, before anything newer.
//!
//! From the moment a socket subscribes nothing live reaches it, until the
//! sequencer of its shard, between two entries, has sent what it missed.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::publish::Hub;
use super::replay::bytes_about;
use crate::connection::Handover;
use crate::delivery::{Interest, Recipient, Subscription, value_of};
use crate::log::{Entry, Position};
use crate::rooms::Id;
use crate::wire::Form;

/// Most entries that are sent for one subscription; fewer on polling, whose queue counts packets.
const MOST: usize = 1_000;
const MOST_ON_POLLING: usize = 200;

/// From where on a subscription is told what it missed.
#[derive(Debug, Clone)]
pub enum Since {
    /// From behind a position.
    Position(Position),
    /// The newest value of each thing that there is one of.
    Last,
}

/// What a subscription was told.
#[derive(Debug, Clone, Copy)]
pub struct Replayed {
    /// Entries that were sent.
    pub count: usize,
    /// Whether nothing is missing among them.
    pub complete: bool,
}

/// A socket whose subscription is told what it missed.
#[derive(Debug, Clone)]
pub struct CatchUp {
    recipient: Arc<Recipient>,
    shard: usize,
    /// What the socket wanted before.
    before: Interest,
    /// Everything up to here has reached it, if it wanted it.
    reached: u64,
}

impl Hub {
    /// Keeps what is new from a socket of an organization, which is about to subscribe, until it is told what it
    /// missed. None while the socket is already told something else that it missed.
    pub fn catch_up(&self, recipient: &Arc<Recipient>, organization: &Id) -> Option<CatchUp> {
        let shard = self.log.shard_of(Some(organization));
        if !recipient.begin_catch_up() {
            return None;
        }
        let reached = self.delivered(shard);
        let before = recipient.interest().clone();
        Some(CatchUp { recipient: recipient.clone(), shard, before, reached })
    }

    /// Sends what a subscription missed and has its socket go live; `told` hears what comes of it first. Without a
    /// subscription the socket only goes live.
    pub async fn tell(
        self: Arc<Self>,
        catch_up: CatchUp,
        since: Option<Since>,
        told: impl FnOnce(Replayed) + Send + 'static,
    ) {
        let looked_at = self.delivered(catch_up.shard);
        let reading = {
            let (hub, catch_up) = (self.clone(), catch_up.clone());
            // What is old may have to come from the disk.
            tokio::task::spawn_blocking(move || catch_up.old(&hub, since.as_ref(), looked_at))
        };
        let (mut old, complete, after) = reading.await.unwrap_or_default();
        let (hub, recipient) = (self.clone(), catch_up.recipient.clone());
        let (done, ended) = oneshot::channel();
        self.between_entries(catch_up.shard, move |delivered| {
            let kept = catch_up.reached.max(catch_up.recipient.reached());
            old.retain(|entry| entry.position.offset <= kept);
            let whole = catch_up.shorten(&mut old, &hub);
            let oldest = old.first().map(|entry| entry.position.offset.saturating_sub(1));
            if let Some(after) = if whole { after } else { oldest } {
                catch_up.recipient.set_told(&catch_up.before.subscriptions, after);
            }
            told(Replayed { count: old.len(), complete: complete && whole });
            catch_up.send(&old, &hub);
            catch_up.send(&hub.log.between(catch_up.shard, kept, delivered), &hub);
            catch_up.recipient.go_live(delivered);
            done.send(()).ok();
        });
        if ended.await.is_err() {
            recipient.connection.cut();
        }
    }
}

impl CatchUp {
    /// What the new subscription missed up to an offset, whether that is all of it, and the offset after which it is.
    fn old(&self, hub: &Hub, since: Option<&Since>, looked_at: u64) -> (Vec<Arc<Entry>>, bool, Option<u64>) {
        let (after, complete) = match since {
            None => return (Vec::new(), false, None),
            Some(Since::Last) => (0, true),
            Some(Since::Position(position)) => {
                // Of another life of the log nothing is known.
                let known = hub.log.head(self.shard).epoch == position.epoch;
                let after = if known { position.offset } else { looked_at };
                (after, hub.log.is_whole_behind(self.shard, position))
            }
        };
        let mut entries = hub.log.between(self.shard, after, looked_at);
        let new = self.newly_wanted();
        entries.retain(|entry| self.wants_anew(entry, &new));
        if matches!(since, Some(Since::Last)) {
            return (newest_values(&entries, &self.recipient), complete, None);
        }
        (entries, complete, Some(after))
    }

    /// Whether an entry is for the new subscription, and the socket has not been told of it for another reason.
    fn wants_anew(&self, entry: &Entry, new: &Interest) -> bool {
        entry.is_kept() && self.recipient.wanted(entry, new) && !self.recipient.was_told(entry, &self.before)
    }

    /// What the socket wants because of the new subscription alone.
    fn newly_wanted(&self) -> Interest {
        let interest = self.recipient.interest();
        let is_new = |one: &&Subscription| self.before.subscriptions.iter().all(|other| other.id != one.id);
        interest.only(interest.subscriptions.iter().filter(is_new).cloned().collect())
    }

    /// Leaves out the oldest of too many; false if there were.
    fn shorten(&self, entries: &mut Vec<Arc<Entry>>, hub: &Hub) -> bool {
        let most = if self.recipient.connection.is_direct() { MOST } else { MOST_ON_POLLING };
        let mut bytes = 0;
        let fit = entries.iter().rev().take(most).take_while(|entry| {
            bytes += bytes_about(entry);
            bytes <= hub.plane.unpressed_bytes()
        });
        let surplus = entries.len() - fit.count();
        entries.drain(..surplus);
        surplus == 0
    }

    fn send(&self, entries: &[Arc<Entry>], hub: &Hub) {
        let mut handover = Handover::default();
        let recipient = &self.recipient;
        for entry in entries.iter().filter(|entry| !entry.is_void() && recipient.wants(entry)) {
            let unread = &[Form::Named, Form::Envelope];
            hub.hand(entry, recipient, true, || recipient.send_unread(entry, unread, &mut handover));
        }
    }
}

/// The newest of each thing that has values, in order.
fn newest_values(entries: &[Arc<Entry>], recipient: &Recipient) -> Vec<Arc<Entry>> {
    let mut newest = HashMap::new();
    for entry in entries {
        if let Some(value) = value_of(entry, recipient) {
            newest.insert(value, entry.position.offset);
        }
    }
    let is_newest = |entry: &&Arc<Entry>| {
        value_of(entry, recipient).and_then(|value| newest.get(&value)) == Some(&entry.position.offset)
    };
    entries.iter().filter(is_newest).cloned().collect()
}
