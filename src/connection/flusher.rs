//! Flushers: a few tasks that write what waits for all connections.
//!
//! Organizations take turns, so that who is one of few does not wait for
//! the thousands of another. A connection that would block leaves its flusher,
//! and comes back when the kernel can take more; one that stays blocked too
//! long is cut.

use std::array;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::plane::Plane;
use super::queues::{CHUNK, Number, QUEUES, Taken, Waiting};

/// How long connections are written to before other tasks get their turn, which may take as long while many have
/// something to do.
const SPELL: Duration = Duration::from_millis(2);

/// The connections that one task has to write to.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    waiting: Mutex<Waiting<Arc<Connection>>>,
    added: Notify,
    counts: [Counts; QUEUES],
    progress: Notify,
}

/// Connections handed to a queue since the start, and those of them written to.
#[derive(Debug, Default)]
struct Counts {
    handed: AtomicU64,
    written: AtomicU64,
}

impl Flusher {
    /// Has a connection written to; whoever calls holds its right to be scheduled.
    pub(super) fn add(&self, connection: Arc<Connection>) {
        let queue = Number::from_byte(connection.queue.load(Ordering::Relaxed));
        self.put(queue, std::iter::once(connection));
    }

    fn put(&self, queue: Number, connections: impl ExactSizeIterator<Item = Arc<Connection>>) {
        self.counts[queue.index()].handed.fetch_add(connections.len() as u64, Ordering::Relaxed);
        let first = self.lock().put(queue, connections);
        if first {
            self.added.notify_one();
        }
    }

    /// Waits until every connection handed over before has been written to, as far as its client takes it.
    pub(super) async fn catch_up(&self) {
        let handed: [u64; QUEUES] = array::from_fn(|queue| self.counts[queue].handed.load(Ordering::Relaxed));
        let is_behind = |(counts, handed): (&Counts, u64)| counts.written.load(Ordering::Relaxed) < handed;
        loop {
            let progress = self.progress.notified();
            if !self.counts.iter().zip(handed).any(is_behind) {
                return;
            }
            progress.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<Arc<Connection>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that are to be written to, handed to the flushers some at a time: early enough for the first writes
/// to begin while the last events are queued, and seldom enough to cost little.
#[derive(Debug)]
pub struct Handover {
    queue: Number,
    connections: Vec<Arc<Connection>>,
    chunks: u64,
    /// Older values whose place was taken.
    pub conflated: usize,
    /// Events that were dropped.
    pub dropped: usize,
}

impl Handover {
    /// To connections that take turns with those of other organizations.
    pub fn of(organization: &impl Hash) -> Self {
        Self::to(Number::of(organization))
    }

    /// To connections of any organizations.
    pub fn of_any() -> Self {
        Self::to(Number::COMMON)
    }

    fn to(queue: Number) -> Self {
        Self { queue, connections: Vec::new(), chunks: 0, conflated: 0, dropped: 0 }
    }

    pub(super) fn add(&mut self, connection: &Arc<Connection>) {
        if self.queue != Number::COMMON {
            connection.queue.store(self.queue.byte(), Ordering::Relaxed);
        }
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
            flusher.put(self.queue, self.connections.drain(..));
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
    let mut taken = Taken::default();
    loop {
        tokio::select! {
            () = flusher.added.notified() => {}
            () = stopping.cancelled() => return,
        }
        let mut began = Instant::now();
        loop {
            flusher.lock().take(&mut taken);
            let Some((queue, chunk)) = taken.next_chunk() else { break };
            let counts = &flusher.counts[queue.index()];
            let count = chunk.len();
            for connection in chunk {
                connection.flush();
                counts.written.fetch_add(1, Ordering::Relaxed);
            }
            flusher.progress.notify_waiters();
            // While more comes for the same clients, whoever publishes gets a turn, so that more goes out in one write.
            if count == CHUNK && (began.elapsed() >= SPELL || flusher.lock().has_more(queue)) {
                tokio::task::yield_now().await;
                began = Instant::now();
            }
        }
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
