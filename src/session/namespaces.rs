//! Namespaces of the tree: counted, so that empty ones can be swept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::sessions::Sessions;

/// Sockets in each namespace of the tree, those on their way in included.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    counts: Mutex<HashMap<String, usize>>,
    emptied: Notify,
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
        *self.lock().entry(path.to_owned()).or_default() += 1;
        Visit { namespaces: self, path: path.to_owned() }
    }

    /// A socket has left.
    pub(super) fn leave(&self, path: &str) {
        if let Some(count) = self.lock().get_mut(path) {
            *count = count.saturating_sub(1);
        }
        self.emptied.notify_one();
    }

    /// Takes the namespaces without sockets.
    fn take_empty(&self) -> Vec<String> {
        let mut counts = self.lock();
        let empty: Vec<String> =
            counts.iter().filter(|(_, count)| **count == 0).map(|(path, _)| path.clone()).collect();
        for path in &empty {
            counts.remove(path);
        }
        empty
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
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
    loop {
        tokio::select! {
            () = namespaces.emptied.notified() => {}
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
