//! Namespaces of the tree: counted, so that empty ones can be swept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::sessions::Sessions;

/// Namespaces that may become empty and wait for the next clean-up.
const MAX_EMPTY: usize = 1_000;

/// Sockets in each namespace of the tree, those on their way in included.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    counts: Mutex<HashMap<String, Count>>,
    /// Times that one has become empty since the last clean-up.
    emptied: AtomicUsize,
    crowded: Notify,
}

#[derive(Debug, Default)]
struct Count {
    sockets: usize,
    /// Whether it was empty at the last clean-up already.
    was_empty: bool,
}

/// A socket on its way in; it leaves again unless it stays.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    namespaces: &'a Namespaces,
    path: String,
}

impl Namespaces {
    /// A socket is on its way into a namespace.
    pub(super) fn enter(&self, path: &str) -> Visit<'_> {
        let mut counts = self.lock();
        let count = counts.entry(path.to_owned()).or_default();
        *count = Count { sockets: count.sockets + 1, was_empty: false };
        Visit { namespaces: self, path: path.to_owned() }
    }

    /// A socket has left.
    pub(super) fn leave(&self, path: &str) {
        let mut counts = self.lock();
        let Some(count) = counts.get_mut(path) else { return };
        count.sockets = count.sockets.saturating_sub(1);
        if count.sockets == 0 && self.emptied.fetch_add(1, Ordering::Relaxed) >= MAX_EMPTY {
            self.crowded.notify_one();
        }
    }

    /// Takes the namespaces that have been empty since the last clean-up: one that was left a moment ago
    /// is often entered again. When there are too many, takes all that are empty.
    fn take_empty(&self) -> Vec<String> {
        let mut counts = self.lock();
        let crowded = self.emptied.swap(0, Ordering::Relaxed) >= MAX_EMPTY;
        let mut empty = Vec::new();
        counts.retain(|path, count| {
            let gone = count.sockets == 0 && (count.was_empty || crowded);
            count.was_empty = count.sockets == 0;
            if gone {
                empty.push(path.clone());
            }
            !gone
        });
        empty
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit<'_> {
    /// The socket stays; its exit leaves.
    pub(super) fn stay(mut self) {
        self.path.clear();
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.path.is_empty() {
            self.namespaces.leave(&self.path);
        }
    }
}

/// Sweeps empty namespaces until `stopping` is cancelled.
///
/// In a task of its own: socketioxide holds its lock on the namespaces while a
/// socket ends, and sweeping from there would wait for itself.
pub(super) async fn run(sessions: Arc<Sessions>, stopping: CancellationToken) {
    let namespaces = &sessions.namespaces;
    let interval = Duration::from_millis(sessions.config().limits.room_cleanup_interval_ms.max(1));
    let mut tick = tokio::time::interval(interval);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = namespaces.crowded.notified() => {}
            () = stopping.cancelled() => return,
        }
        for path in namespaces.take_empty() {
            let directory = &sessions.services.directory;
            let adapter = directory.namespace(&path);
            sessions.io().delete_ns(&path);
            if let Some(adapter) = adapter {
                directory.unmount(&adapter);
            }
        }
    }
}
