//! Sessions whose records in Redis are to be written anew.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::records::Key;
use crate::wire::PublicId;

/// What is yet to be written; however often a session changes meanwhile, it is written once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    book: Mutex<Book>,
    noted: Notify,
}

#[derive(Debug, Default)]
struct Book {
    waiting: Portion,
    /// Keys that are being written.
    under_way: HashSet<Key>,
}

/// Sessions to be written.
#[derive(Debug, Default)]
pub(super) struct Portion {
    /// Those of sockets, by their public ids.
    pub(super) sockets: HashSet<PublicId>,
    /// Those without a socket, and those that are over.
    pub(super) keys: HashSet<Key>,
}

impl Changes {
    /// The session of a socket has changed.
    pub(super) fn of_socket(&self, id: &PublicId) {
        let mut book = self.lock();
        if !book.waiting.sockets.contains(id) {
            book.waiting.sockets.insert(id.clone());
            drop(book);
            self.noted.notify_one();
        }
    }

    /// The session under a key has lost its socket, or is over.
    pub(super) fn of_key(&self, key: Key) {
        if self.lock().waiting.keys.insert(key) {
            self.noted.notify_one();
        }
    }

    /// Waits until there is something.
    pub(super) async fn noted(&self) {
        self.noted.notified().await;
    }

    /// Takes everything, which counts as being written until [`done`](Self::done).
    pub(super) fn take(&self) -> Portion {
        let mut book = self.lock();
        let portion = std::mem::take(&mut book.waiting);
        book.under_way.extend(&portion.keys);
        portion
    }

    /// Nothing is being written any more.
    pub(super) fn done(&self) {
        self.lock().under_way = HashSet::new();
    }

    /// Whether what has become of a key is not in Redis yet.
    pub(super) fn is_pending(&self, key: &Key) -> bool {
        let book = self.lock();
        book.waiting.keys.contains(key) || book.under_way.contains(key)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_again_and_again_is_written_once_and_pending_until_then() {
        let (changes, id, key) = (Changes::default(), PublicId::fresh(), [7; 32]);
        for _ in 0..3 {
            changes.of_socket(&id);
            changes.of_key(key);
        }
        assert!(changes.is_pending(&key));
        let portion = changes.take();
        assert_eq!((portion.sockets.len(), portion.keys.len()), (1, 1));
        assert!(changes.is_pending(&key), "it is under way");
        changes.done();
        assert!(!changes.is_pending(&key) && changes.take().sockets.is_empty());
    }
}
