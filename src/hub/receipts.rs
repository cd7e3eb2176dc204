//! Receipts: who has acknowledged a message that requires it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use super::escalation::Done;
use crate::rooms::Id;
use crate::wire::{PublicId, iso, now_ms};

/// Messages of one organization whose receipts are kept; the oldest go first.
const KEPT: usize = 10_000;

/// Acknowledgements of one message that are kept until its recipients are known.
const EARLY: usize = 10_000;

/// The receipts of one server.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    by_ack_id: HashMap<u64, Arc<Receipt>>,
    by_message_id: HashMap<Arc<str>, Arc<Receipt>>,
    /// Ack id and message id, by organization.
    orders: HashMap<Option<Id>, VecDeque<(u64, Arc<str>)>>,
}

/// The receipt of one message.
#[derive(Debug)]
pub(super) struct Receipt {
    pub(super) ack_id: u64,
    pub(super) organization: Option<Id>,
    /// When it should have been acknowledged, in milliseconds since the epoch.
    due_at_ms: i64,
    state: Mutex<State>,
    /// What has happened since nobody acknowledged.
    done: Mutex<Done>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the message has been sent, so that the recipients are known.
    sent: bool,
    recipients: Vec<Addressee>,
    /// Where each socket is among them.
    places: HashMap<PublicId, usize>,
    /// When those acknowledged that were faster than the list of recipients, and may be none.
    early: HashMap<PublicId, i64>,
}

/// Who a message went to, or waits for.
#[derive(Debug)]
struct Addressee {
    user: Option<Id>,
    /// None as long as the user has no socket.
    socket: Option<PublicId>,
    /// Offset of the message in the shard of this one.
    offset: u64,
    /// When it acknowledged, in milliseconds since the epoch.
    acknowledged_at: Option<i64>,
}

impl State {
    /// Nodes tell of their own sockets each, in any order and perhaps twice: a socket has one place, and takes that of
    /// its user if another node did not see it.
    fn send(&mut self, sockets: &[(PublicId, Option<Id>)], absent: &[Id], offset: u64) {
        let mut vacant: HashMap<Id, usize> = HashMap::new();
        for (place, recipient) in self.recipients.iter().enumerate() {
            if let (Some(user), None, None) = (&recipient.user, &recipient.socket, recipient.acknowledged_at) {
                vacant.insert(user.clone(), place);
            }
        }
        for (socket, user) in sockets {
            if self.places.contains_key(socket) {
                continue;
            }
            match user.as_ref().and_then(|user| vacant.remove(user)) {
                Some(place) => {
                    self.recipients[place].socket = Some(socket.clone());
                    self.places.insert(socket.clone(), place);
                }
                None => self.add(user.clone(), Some(socket.clone()), offset),
            }
        }
        if !absent.is_empty() {
            let known: HashSet<Id> = self.recipients.iter().filter_map(|recipient| recipient.user.clone()).collect();
            for user in absent.iter().filter(|user| !known.contains(user)) {
                self.add(Some(user.clone()), None, offset);
            }
        }
    }

    fn add(&mut self, user: Option<Id>, socket: Option<PublicId>, offset: u64) {
        if let Some(socket) = &socket {
            self.places.insert(socket.clone(), self.recipients.len());
        }
        self.recipients.push(Addressee { user, socket, offset, acknowledged_at: None });
    }

    /// Whether all recipients have acknowledged.
    fn is_complete(&self) -> bool {
        self.sent && self.recipients.iter().all(|recipient| recipient.acknowledged_at.is_some())
    }
}

/// How far a message has come with one of its recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It waits, for the user or in the outbox of the socket.
    Queued,
    /// It was written to the socket.
    Written,
    /// It was acknowledged.
    Acknowledged,
    /// It was not acknowledged in time, and still may be.
    TimedOut,
}

/// One recipient of a message that requires acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acknowledgement {
    /// The user, if the socket is authenticated.
    pub user_id: Option<Id>,
    /// The socket; none while the user has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_id: Option<PublicId>,
    /// How far it has come.
    pub state: Delivery,
    /// When it was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// How far a message has been acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Those who did.
    pub acknowledged: Vec<Acknowledgement>,
    /// Those who did not yet.
    pub pending: Vec<Acknowledgement>,
}

/// The first acknowledgement of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) ack_id: u64,
    /// The organization of the message.
    pub(super) organization: Option<Id>,
    pub(super) socket: PublicId,
    /// Organization, user and offset, if the message waits for the user.
    pub(super) waits: Option<(Id, Id, u64)>,
    pub(super) at_ms: i64,
}

impl Receipts {
    /// A message that requires acknowledgement is about to be sent.
    pub(super) fn open(&self, ack_id: u64, message_id: &str, organization: Option<Id>, due_at_ms: i64) -> Arc<Receipt> {
        let message_id: Arc<str> = message_id.into();
        let (state, done, changed) = (Mutex::default(), Mutex::default(), Notify::new());
        let receipt = Arc::new(Receipt { ack_id, organization, due_at_ms, state, done, changed });
        let mut book = self.lock();
        book.by_ack_id.insert(ack_id, receipt.clone());
        book.by_message_id.insert(message_id.clone(), receipt.clone());
        let order = book.orders.entry(receipt.organization.clone()).or_default();
        order.push_back((ack_id, message_id));
        let surplus = if order.len() > KEPT { order.pop_front() } else { None };
        if let Some((ack_id, message_id)) = surplus {
            book.by_ack_id.remove(&ack_id);
            book.by_message_id.remove(&message_id);
        }
        receipt
    }

    /// Forgets the receipts of messages that were due before a time in milliseconds since the epoch.
    pub(super) fn trim(&self, due_before_ms: i64) {
        let mut book = self.lock();
        let Book { by_ack_id, by_message_id, orders } = &mut *book;
        orders.retain(|_, order| {
            while let Some((ack_id, message_id)) = order.front() {
                if by_ack_id.get(ack_id).is_some_and(|receipt| receipt.due_at_ms >= due_before_ms) {
                    break;
                }
                by_ack_id.remove(ack_id);
                by_message_id.remove(message_id);
                order.pop_front();
            }
            !order.is_empty()
        });
    }

    /// Something was done since nobody has acknowledged a message.
    pub(super) fn escalated(&self, ack_id: u64, what: impl FnOnce(&mut Done)) {
        if let Some(receipt) = self.of_ack(ack_id) {
            what(&mut receipt.done());
            receipt.changed.notify_waiters();
        }
    }

    /// The receipt of the message with this ack id, if it is kept.
    pub(super) fn of_ack(&self, ack_id: u64) -> Option<Arc<Receipt>> {
        self.lock().by_ack_id.get(&ack_id).cloned()
    }

    /// The receipt of the message with this id, if it is kept.
    pub(super) fn of_message(&self, message_id: &str) -> Option<Arc<Receipt>> {
        self.lock().by_message_id.get(message_id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receipt {
    /// The message was sent to these sockets, and waits for these users; one for everyone is sent in several parts.
    /// Tells who of them has acknowledged already.
    pub(super) fn sent(&self, offset: u64, sockets: &[(PublicId, Option<Id>)], absent: &[Id]) -> Vec<Settled> {
        let early = {
            let mut state = self.lock();
            state.sent = true;
            let known = sockets.iter().filter_map(|(socket, _)| Some((socket.clone(), state.early.remove(socket)?)));
            let known: Vec<(PublicId, i64)> = known.collect();
            state.send(sockets, absent, offset);
            known
        };
        self.changed.notify_waiters();
        early.iter().filter_map(|(socket, at_ms)| self.acknowledge(socket, *at_ms)).collect()
    }

    /// The sockets it was sent to.
    pub(super) fn sockets(&self) -> Vec<(PublicId, Option<Id>)> {
        let state = self.lock();
        let sent = |recipient: &Addressee| Some((recipient.socket.clone()?, recipient.user.clone()));
        state.recipients.iter().filter_map(sent).collect()
    }

    /// The message is about to be sent to another socket of a user, who has not acknowledged it: it takes the place of
    /// one that is gone, or a place of its own if `adds` says so. False if that changes nothing.
    pub(super) fn handed(
        &self,
        user: &Id,
        socket: &PublicId,
        offset: u64,
        adds: bool,
        is_gone: impl Fn(&PublicId) -> bool,
    ) -> bool {
        let mut state = self.lock();
        let theirs = |recipient: &Addressee| recipient.user.as_ref() == Some(user);
        let is_over = state.recipients.iter().any(|recipient| theirs(recipient) && recipient.acknowledged_at.is_some());
        if is_over || state.places.contains_key(socket) {
            return false;
        }
        let is_vacant = |recipient: &Addressee| theirs(recipient) && recipient.socket.as_ref().is_none_or(&is_gone);
        if let Some(place) = state.recipients.iter().position(is_vacant) {
            if let Some(gone) = state.recipients[place].socket.replace(socket.clone()) {
                state.places.remove(&gone);
            }
            state.places.insert(socket.clone(), place);
            return true;
        }
        if adds {
            state.add(Some(user.clone()), Some(socket.clone()), offset);
        }
        adds
    }

    /// A socket acknowledges; none if it has before, or need not, or nobody knows yet.
    pub(super) fn acknowledge(&self, socket: &PublicId, at_ms: i64) -> Option<Settled> {
        let settled = {
            let mut state = self.lock();
            let Some(place) = state.places.get(socket).copied() else {
                if !state.sent && state.early.len() < EARLY {
                    state.early.entry(socket.clone()).or_insert(at_ms);
                }
                return None;
            };
            let recipient = &mut state.recipients[place];
            if recipient.acknowledged_at.is_some() {
                return None;
            }
            recipient.acknowledged_at = Some(at_ms);
            let waits =
                recipient.user.clone().and_then(|user| Some((self.organization.clone()?, user, recipient.offset)));
            let organization = self.organization.clone();
            Settled { ack_id: self.ack_id, organization, socket: socket.clone(), waits, at_ms }
        };
        self.changed.notify_waiters();
        Some(settled)
    }

    /// Waits until somebody has acknowledged.
    pub(super) async fn first(&self) {
        self.until(|state| state.recipients.iter().any(|recipient| recipient.acknowledged_at.is_some())).await;
    }

    /// Waits until everything is done that is to happen since nobody has acknowledged.
    pub(super) async fn is_escalated(&self) {
        self.until(|_| {
            let done = *self.done();
            done.published && done.called
        })
        .await;
    }

    /// Waits until all recipients have acknowledged, the time is up, or `enough` ends.
    pub(super) async fn wait(&self, timeout: Duration, enough: impl Future<Output = ()>) {
        tokio::select! {
            _ = tokio::time::timeout(timeout, self.until(State::is_complete)) => {}
            () = enough => {}
        }
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            // Registered before the look, so that an acknowledgement between the two is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if holds(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// How far the message has been acknowledged; `written` says whether an offset was written to a socket.
    pub(super) fn progress(&self, written: impl Fn(&PublicId, u64) -> bool) -> Progress {
        let state = self.lock();
        let is_late = now_ms() >= self.due_at_ms;
        let mut progress = Progress { acknowledged: Vec::new(), pending: Vec::new() };
        for Addressee { user, socket, offset, acknowledged_at: at } in &state.recipients {
            let reached = || match socket {
                _ if is_late => Delivery::TimedOut,
                Some(socket) if written(socket, *offset) => Delivery::Written,
                _ => Delivery::Queued,
            };
            let (list, how) = match at {
                Some(_) => (&mut progress.acknowledged, Delivery::Acknowledged),
                None => (&mut progress.pending, reached()),
            };
            let (user_id, socket_id) = (user.clone(), socket.clone());
            list.push(Acknowledgement { user_id, socket_id, state: how, at: (*at).map(iso) });
        }
        progress
    }

    /// What has happened since nobody acknowledged.
    pub(super) fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long there still is to acknowledge.
    pub(super) fn time_left(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.due_at_ms - now_ms()).unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn id(text: &str) -> Id {
        Id::parse(text).expect("an id")
    }

    fn receipt() -> Arc<Receipt> {
        Receipts::default().open(7, "m", Some(id("o")), now_ms() + 60_000)
    }

    fn states(receipt: &Receipt) -> (usize, Vec<Delivery>) {
        let progress = receipt.progress(|_, _| true);
        (progress.acknowledged.len(), progress.pending.iter().map(|pending| pending.state).collect())
    }

    #[tokio::test]
    async fn an_acknowledgement_faster_than_the_list_of_recipients_counts() {
        let (receipt, quick, slow) = (receipt(), PublicId::fresh(), PublicId::fresh());
        assert_eq!(receipt.acknowledge(&quick, 5), None);
        let stranger = PublicId::fresh();
        assert_eq!(receipt.acknowledge(&stranger, 5), None);
        assert!(tokio::time::timeout(Duration::from_millis(5), receipt.first()).await.is_err(), "it may be nobody");
        let early = receipt.sent(3, &[(quick.clone(), Some(id("q"))), (slow.clone(), Some(id("u")))], &[]);
        let organization = Some(id("o"));
        let settled =
            Settled { ack_id: 7, organization, socket: quick.clone(), waits: Some((id("o"), id("q"), 3)), at_ms: 5 };
        assert_eq!(early, [settled]);
        receipt.first().await;
        receipt.wait(Duration::from_millis(1), pending()).await;
        assert_eq!(states(&receipt), (1, vec![Delivery::Written]));
        let settled = receipt.acknowledge(&slow, 6).expect("the first time");
        assert_eq!(settled.waits, Some((id("o"), id("u"), 3)));
        assert_eq!(receipt.acknowledge(&slow, 7), None);
        receipt.wait(Duration::from_secs(60), pending()).await;
        assert_eq!(states(&receipt), (2, Vec::new()));
        assert_eq!(receipt.acknowledge(&PublicId::fresh(), 8), None, "it was no recipient");
    }

    #[test]
    fn a_user_who_was_away_is_pending_until_one_of_its_sockets_acknowledges() {
        let receipt = receipt();
        receipt.sent(3, &[], &[id("u")]);
        assert_eq!(states(&receipt), (0, vec![Delivery::Queued]));
        let (lost, later) = (PublicId::fresh(), PublicId::fresh());
        assert!(receipt.handed(&id("u"), &lost, 3, true, |_| false));
        assert!(!receipt.handed(&id("u"), &lost, 3, true, |_| false));
        assert_eq!(states(&receipt), (0, vec![Delivery::Written]));
        assert!(!receipt.lock().is_complete());
        assert!(!receipt.handed(&id("u"), &later, 3, false, |_| false));
        assert!(receipt.handed(&id("u"), &later, 3, false, |socket| *socket == lost));
        assert_eq!(receipt.acknowledge(&lost, 5), None, "another socket has its place");
        assert!(receipt.acknowledge(&later, 5).is_some());
        assert!(receipt.lock().is_complete());
    }

    #[test]
    fn a_second_socket_of_a_user_is_a_recipient_of_its_own() {
        let (receipt, first, second) = (receipt(), PublicId::fresh(), PublicId::fresh());
        receipt.sent(3, &[(first, Some(id("u")))], &[]);
        assert!(receipt.handed(&id("u"), &second, 3, true, |_| false));
        assert!(receipt.acknowledge(&second, 5).is_some());
        let third = PublicId::fresh();
        assert!(!receipt.handed(&id("u"), &third, 3, true, |_| true), "the user has acknowledged");
        assert_eq!(states(&receipt), (1, vec![Delivery::Written]));
    }

    #[test]
    fn what_is_late_has_timed_out_until_it_is_acknowledged() {
        let (receipts, socket) = (Receipts::default(), PublicId::fresh());
        let receipt = receipts.open(7, "m", None, now_ms() - 1);
        receipt.sent(3, &[(socket.clone(), None)], &[]);
        assert_eq!(states(&receipt), (0, vec![Delivery::TimedOut]));
        receipt.acknowledge(&socket, 5);
        assert_eq!(states(&receipt), (1, Vec::new()));
    }

    #[test]
    fn old_receipts_go() {
        let receipts = Receipts::default();
        for id in 0..=KEPT as u64 {
            receipts.open(id, &id.to_string(), None, 0);
        }
        assert!(receipts.of_message("0").is_none() && receipts.of_message("1").is_some());
        assert!(receipts.of_ack(0).is_none() && receipts.of_ack(1).is_some());
        // Another organization's are not touched by that.
        let other = Some(id("o"));
        receipts.open(1 << 40, "other", other, 5);
        (0..10).for_each(|id| drop(receipts.open((1 << 41) + id, &format!("more {id}"), None, 9)));
        assert!(receipts.of_message("other").is_some());
        receipts.trim(6);
        assert!(receipts.of_message("other").is_none() && receipts.of_message("1").is_none());
        assert!(receipts.of_message("more 9").is_some());
    }
}
