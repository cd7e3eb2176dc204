//! `Idempotency-Key`: a call that is repeated is answered as it was the first time, and done once:
//! <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, SetOnce};

use super::error::ApiError;
use super::shared_calls::SharedCalls;
use crate::cluster::Cluster;
use crate::hub::Hub;
use crate::log::{self, Call};
use crate::wire::{iso, now_ms};

/// Calls that are remembered; the oldest go first.
const MOST: usize = 100_000;

/// Longest key.
const MAX_KEY: usize = 255;

/// What tells calls apart: who calls, for which organization, and the caller's own key.
pub(super) type Id = [u8; 32];

/// The calls of one server that may be repeated.
#[derive(Debug)]
pub(in crate::doors) struct Calls {
    window: Duration,
    book: Mutex<Book>,
    /// Whether the calls of earlier processes are known.
    loaded: SetOnce<()>,
    /// Those of all nodes, in a cluster.
    shared: Option<SharedCalls>,
}

#[derive(Debug, Default)]
struct Book {
    calls: HashMap<Id, Known>,
    order: VecDeque<(Instant, Id)>,
}

#[derive(Debug)]
struct Known {
    since: Instant,
    /// Hash of what was asked for.
    body: Id,
    answer: Arc<OnceCell<Value>>,
}

/// Checks the key of a call.
///
/// # Errors
/// If it is empty, too long, or holds control characters.
pub(in crate::doors) fn check(key: &str) -> Result<(), ApiError> {
    if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
        return Err(ApiError::bad_request(format!(
            "an idempotency key is 1 to {MAX_KEY} bytes without control characters"
        )));
    }
    Ok(())
}

/// A hash over parts, each told apart from the next.
pub(in crate::doors) fn hash(parts: &[&[u8]]) -> Id {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// How a call was answered whose entry this is; how many sockets it reached nobody knows any more.
pub(super) fn answer_of(entry: &log::Entry) -> Option<Value> {
    let call = entry.draft.call.as_ref()?;
    Some(json!({
        "success": true,
        "message_id": entry.draft.message_id,
        "position": entry.position.to_string(),
        "sent_at": iso(entry.draft.published_at_ms),
        "message": call.message,
    }))
}

impl Calls {
    /// Calls that are remembered for so long.
    pub(in crate::doors) fn new(window: Duration, cluster: &Arc<Cluster>) -> Self {
        let shared = SharedCalls::of(cluster, window);
        Self { window, book: Mutex::default(), loaded: SetOnce::new(), shared }
    }

    /// Does a call, or answers as another node has; its answer.
    ///
    /// # Errors
    /// What doing it gives, or if its key stands for another call on another node.
    pub(super) async fn once(
        &self,
        hub: &Arc<Hub>,
        organization: &str,
        call: &Call,
        publishing: impl Future<Output = Result<Value, ApiError>>,
    ) -> Result<Value, ApiError> {
        match &self.shared {
            Some(shared) => shared.once(hub, organization, call.id, call.asked, publishing).await,
            None => publishing.await,
        }
    }

    /// Takes over the calls of earlier processes, as far as the log tells; for a thread that may wait.
    pub(in crate::doors) fn load(&self, hub: &Hub) {
        let since = now_ms() - i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX);
        let mut entries = hub.repeatable_since(since);
        // Of all shards, in the order in which they are to be forgotten.
        entries.sort_by_key(|entry| entry.draft.published_at_ms);
        for entry in entries {
            let Some(call) = &entry.draft.call else { continue };
            let age = Duration::from_millis((now_ms() - entry.draft.published_at_ms).try_into().unwrap_or_default());
            let Some(at) = Instant::now().checked_sub(age) else { continue };
            let answer = Arc::new(OnceCell::new_with(answer_of(&entry)));
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            // What is for everyone is in each shard, and was answered with its place in the first.
            if let Entry::Vacant(place) = book.calls.entry(call.id) {
                place.insert(Known { since: at, body: call.asked, answer });
                book.order.push_back((at, call.id));
            }
        }
    }

    /// Says that whatever can be known of earlier processes is known.
    pub(in crate::doors) fn set_loaded(&self) {
        self.loaded.set(()).ok();
    }

    /// Waits until the calls of earlier processes are known.
    pub(super) async fn loaded(&self) {
        self.loaded.wait().await;
    }

    /// Where the answer to a call is, or will be; a call that fails leaves it empty for the next one.
    ///
    /// # Errors
    /// If the same key was used for something else.
    pub(super) fn answer_to(&self, id: Id, body: Id) -> Result<Arc<OnceCell<Value>>, ApiError> {
        let now = Instant::now();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((since, id)) = book.order.front().copied()
            && (now - since >= self.window || book.order.len() >= MOST)
        {
            book.order.pop_front();
            if book.calls.get(&id).is_some_and(|call| call.since == since) {
                book.calls.remove(&id);
            }
        }
        if let Some(call) = book.calls.get(&id).filter(|call| now - call.since < self.window) {
            return if call.body == body { Ok(call.answer.clone()) } else { Err(ApiError::reused_key()) };
        }
        let answer = Arc::new(OnceCell::new());
        book.calls.insert(id, Known { since: now, body, answer: answer.clone() });
        book.order.push_back((now, id));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_one_body_within_its_window() {
        let calls = Calls::new(Duration::from_secs(60), &Cluster::alone());
        let [key, other, body] = [hash(&[b"key"]), hash(&[b"other"]), hash(&[b"body"])];
        let first = calls.answer_to(key, body).expect("a place");
        assert!(Arc::ptr_eq(&first, &calls.answer_to(key, body).expect("the same place")));
        assert!(calls.answer_to(key, other).is_err());
        assert!(!Arc::ptr_eq(&first, &calls.answer_to(other, body).expect("another place")));
        let short = Calls::new(Duration::ZERO, &Cluster::alone());
        let first = short.answer_to(key, body).expect("a place");
        assert!(!Arc::ptr_eq(&first, &short.answer_to(key, other).expect("a new place")));
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    }
}
