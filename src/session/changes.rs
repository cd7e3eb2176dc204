//! Sessions whose records in Redis are to be written anew.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::records::Key;
use crate::wire::PublicId;

/// Sessions that are written before others get their turn.
const AT_ONCE: usize = 4_096;

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

impl Portion {
    fn is_empty(&self) -> bool {
        self.sockets.is_empty() && self.keys.is_empty()
    }
}

/// Takes out as many as may be written at once.
fn some_of<T: Clone + Eq + Hash>(all: &mut HashSet<T>) -> HashSet<T> {
    if all.len() <= AT_ONCE {
        return std::mem::take(all);
    }
    let some: HashSet<T> = all.iter().take(AT_ONCE).cloned().collect();
    all.retain(|one| !some.contains(one));
    some
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

    /// Takes what may be written at once, which counts as being written until [`done`](Self::done).
    pub(super) fn take(&self) -> Portion {
        let mut book = self.lock();
        let portion = Portion { sockets: some_of(&mut book.waiting.sockets), keys: some_of(&mut book.waiting.keys) };
        book.under_way.extend(&portion.keys);
        if !book.waiting.is_empty() {
            self.noted.notify_one();
        }
        portion
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
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
        assert!(!changes.is_pending(&key) && changes.is_empty());
    }

    #[test]
    fn many_are_written_in_portions() {
        let changes = Changes::default();
        (0..=AT_ONCE).for_each(|_| changes.of_socket(&PublicId::fresh()));
        assert_eq!(changes.take().sockets.len(), AT_ONCE);
        assert_eq!(changes.take().sockets.len(), 1);
        assert!(changes.is_empty());
    }
}
