//! Receipts: who has acknowledged a message that requires it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use crate::rooms::Id;
use crate::wire::{PublicId, iso, now_ms};

/// Messages whose receipts are kept; the oldest go first.
const KEPT: usize = 10_000;

/// The receipts of one server.
#[derive(Debug, Default)]
pub struct Receipts {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    by_ack_id: HashMap<u64, Arc<Receipt>>,
    by_message_id: HashMap<String, Arc<Receipt>>,
    order: VecDeque<(u64, String)>,
}

#[derive(Debug)]
struct Receipt {
    organization: Option<Id>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the message has been sent, so that the recipients are known.
    sent: bool,
    recipients: Vec<(PublicId, Option<Id>)>,
    /// Kept apart from the recipients, since an acknowledgement can be faster than the list of them.
    acknowledged: HashMap<PublicId, i64>,
}

/// One recipient of a message that requires acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
    /// The user, if the socket is authenticated.
    pub user_id: Option<Id>,
    /// The socket.
    pub socket_id: PublicId,
    /// When it acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// How far a message has been acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Those who did.
    pub acknowledged: Vec<Acknowledged>,
    /// Those who did not yet.
    pub pending: Vec<Acknowledged>,
}

impl Receipts {
    /// A message that requires acknowledgement is about to be sent.
    pub(super) fn open(&self, ack_id: u64, message_id: &str, organization: Option<Id>) {
        let receipt = Arc::new(Receipt { organization, state: Mutex::default(), changed: Notify::new() });
        let mut book = self.lock();
        book.by_ack_id.insert(ack_id, receipt.clone());
        book.by_message_id.insert(message_id.to_owned(), receipt);
        book.order.push_back((ack_id, message_id.to_owned()));
        if book.order.len() > KEPT
            && let Some((ack_id, message_id)) = book.order.pop_front()
        {
            book.by_ack_id.remove(&ack_id);
            book.by_message_id.remove(&message_id);
        }
    }

    /// The message was sent to these; a message for everyone is sent in several parts.
    pub(super) fn sent(&self, ack_id: u64, recipients: Vec<(PublicId, Option<Id>)>) {
        let Some(receipt) = self.lock().by_ack_id.get(&ack_id).cloned() else { return };
        {
            let mut state = receipt.lock();
            state.sent = true;
            state.recipients.extend(recipients);
        }
        receipt.changed.notify_waiters();
    }

    /// A socket acknowledges by the ack id on the wire.
    pub fn acknowledge(&self, ack_id: u64, socket: PublicId) {
        let receipt = self.lock().by_ack_id.get(&ack_id).cloned();
        if let Some(receipt) = receipt {
            receipt.acknowledge(socket);
        }
    }

    /// A socket acknowledges by the message's id; false if there is no such message.
    pub fn acknowledge_message(&self, message_id: &str, socket: PublicId) -> bool {
        let receipt = self.lock().by_message_id.get(message_id).cloned();
        receipt.map(|receipt| receipt.acknowledge(socket)).is_some()
    }

    /// How far a message has been acknowledged, and its organization; none if its receipts are not kept.
    pub fn progress(&self, message_id: &str) -> Option<(Option<Id>, Progress)> {
        let receipt = self.lock().by_message_id.get(message_id).cloned()?;
        Some((receipt.organization.clone(), receipt.progress()))
    }

    /// Waits until all recipients of a message have acknowledged, the time is up, or `enough` ends.
    pub async fn wait(
        &self,
        message_id: &str,
        timeout: Duration,
        enough: impl Future<Output = ()>,
    ) -> Option<Progress> {
        let receipt = self.lock().by_message_id.get(message_id).cloned()?;
        let complete = async {
            loop {
                // Registered before the look, so that an acknowledgement between the two is not missed.
                let mut changed = std::pin::pin!(receipt.changed.notified());
                changed.as_mut().enable();
                if receipt.is_complete() {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(timeout, complete) => {}
            () = enough => {}
        }
        Some(receipt.progress())
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receipt {
    fn acknowledge(&self, socket: PublicId) {
        self.lock().acknowledged.entry(socket).or_insert_with(now_ms);
        self.changed.notify_waiters();
    }

    fn is_complete(&self) -> bool {
        let state = self.lock();
        state.sent && state.recipients.iter().all(|(socket, _)| state.acknowledged.contains_key(socket))
    }

    fn progress(&self) -> Progress {
        let state = self.lock();
        let mut progress = Progress { acknowledged: Vec::new(), pending: Vec::new() };
        for (socket, user) in &state.recipients {
            let at = state.acknowledged.get(socket).copied();
            let list = if at.is_some() { &mut progress.acknowledged } else { &mut progress.pending };
            list.push(Acknowledged { user_id: user.clone(), socket_id: socket.clone(), at: at.map(iso) });
        }
        progress
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn an_acknowledgement_faster_than_the_list_of_recipients_counts() {
        let receipts = Receipts::default();
        let (quick, slow) = (PublicId::fresh(), PublicId::fresh());
        receipts.open(7, "m", None);
        receipts.acknowledge(7, quick.clone());
        receipts.sent(7, vec![(quick.clone(), None), (slow.clone(), None)]);
        let progress = receipts.wait("m", Duration::from_millis(1), pending()).await.expect("a receipt");
        assert_eq!((progress.acknowledged.len(), progress.pending.len()), (1, 1));
        assert!(receipts.acknowledge_message("m", slow));
        let progress = receipts.wait("m", Duration::from_secs(60), pending()).await.expect("a receipt");
        assert_eq!((progress.acknowledged.len(), progress.pending.len()), (2, 0));
        assert!(!receipts.acknowledge_message("another", quick));
    }

    #[test]
    fn old_receipts_go() {
        let receipts = Receipts::default();
        for id in 0..=KEPT as u64 {
            receipts.open(id, &id.to_string(), None);
        }
        assert!(receipts.progress("0").is_none() && receipts.progress("1").is_some());
    }
}
