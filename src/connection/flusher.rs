//! Flushers: a few tasks that write what waits for all connections.
//!
//! A connection that would block leaves its flusher, and comes back when the
//! kernel can take more; one that stays blocked too long is cut.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::plane::Plane;

/// Connections that are handed over, and written to, together.
const CHUNK: usize = 32;

/// How long connections are written to before other tasks get their turn, which may take as long while many have
/// something to do.
const SPELL: Duration = Duration::from_millis(2);

/// The connections that one task has to write to.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    list: Mutex<Vec<Arc<Connection>>>,
    added: Notify,
    /// Connections handed to it since the start, and those of them written to.
    handed: AtomicU64,
    written: AtomicU64,
    progress: Notify,
}

impl Flusher {
    /// Has a connection written to; whoever calls holds its right to be scheduled.
    pub(super) fn add(&self, connection: Arc<Connection>) {
        self.handed.fetch_add(1, Ordering::Relaxed);
        let first = {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            list.push(connection);
            list.len() == 1
        };
        if first {
            self.added.notify_one();
        }
    }

    /// The same for many, in one go.
    fn add_all(&self, connections: &mut Vec<Arc<Connection>>) {
        self.handed.fetch_add(connections.len() as u64, Ordering::Relaxed);
        let first = {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            let first = list.is_empty() && !connections.is_empty();
            list.append(connections);
            first
        };
        if first {
            self.added.notify_one();
        }
    }

    /// Waits until every connection handed over before has been written to, as far as its client takes it.
    pub(super) async fn catch_up(&self) {
        let handed = self.handed.load(Ordering::Relaxed);
        loop {
            let progress = self.progress.notified();
            if self.written.load(Ordering::Relaxed) >= handed {
                return;
            }
            progress.await;
        }
    }

    fn has_more(&self) -> bool {
        !self.list.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn take(&self, into: &mut Vec<Arc<Connection>>) {
        std::mem::swap(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}

/// Connections that are to be written to, handed to the flushers some at a time: early enough for the first writes
/// to begin while the last events are queued, and seldom enough to cost little.
#[derive(Debug, Default)]
pub struct Handover {
    connections: Vec<Arc<Connection>>,
    chunks: u64,
    /// Older values whose place was taken.
    pub conflated: usize,
    /// Events that were dropped.
    pub dropped: usize,
}

impl Handover {
    pub(super) fn add(&mut self, connection: &Arc<Connection>) {
        self.connections.push(connection.clone());
        if self.connections.len() == CHUNK {
            self.pass();
        }
    }

    fn pass(&mut self) {
        if let Some(first) = self.connections.first() {
            // Whoever holds the right to write to a connection may use any flusher, so a chunk stays together.
            let flusher = first.plane.flusher(self.chunks).clone();
            self.chunks += 1;
            flusher.add_all(&mut self.connections);
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.pass();
    }
}

/// Writes until `stopping` is cancelled.
pub(super) async fn run(flusher: Arc<Flusher>, stopping: CancellationToken) {
    let mut connections = Vec::new();
    loop {
        tokio::select! {
            () = flusher.added.notified() => {}
            () = stopping.cancelled() => return,
        }
        flusher.take(&mut connections);
        let mut began = Instant::now();
        for (index, connection) in connections.drain(..).enumerate() {
            connection.flush();
            flusher.written.fetch_add(1, Ordering::Relaxed);
            if index % CHUNK == CHUNK - 1 {
                flusher.progress.notify_waiters();
                // While more comes, whoever publishes gets a turn, so that more goes out in one write.
                if flusher.has_more() || began.elapsed() >= SPELL {
                    tokio::task::yield_now().await;
                    began = Instant::now();
                }
            }
        }
        flusher.progress.notify_waiters();
    }
}

/// Cuts readers that take nothing for too long, until `stopping` is cancelled.
pub(super) async fn watch(plane: Arc<Plane>, stopping: CancellationToken) {
    let timeout = plane.settings.write_stall_timeout;
    let mut tick = tokio::time::interval((timeout / 8).clamp(Duration::from_millis(10), Duration::from_secs(1)));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stopping.cancelled() => return plane.lock_blocked().clear(),
        }
        let blocked: Vec<_> = plane.lock_blocked().values().cloned().collect();
        for connection in blocked {
            if connection.is_closed() {
                // It was closed while it was put among them.
                plane.forget_blocked(connection.key());
            } else if connection.stalled_for(timeout) {
                plane.counters.stalled();
                connection.cut();
            }
        }
    }
}
