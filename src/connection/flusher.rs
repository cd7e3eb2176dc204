//! Flushers: a few tasks that write what waits for all connections.
//!
//! Organizations take turns, so that who is one of few does not wait for
//! the thousands of another. A connection that would block leaves its flusher,
//! and comes back when the kernel can take more; one that stays blocked too
//! long is cut.

use std::array;
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

/// What a flusher writes to.
pub(super) trait Sink {
    /// Writes what waits; only for who holds the right to.
    fn flush(self: &Arc<Self>);

    /// The queue in which it waits for its turn.
    fn turn(&self) -> Number;
}

impl Sink for Connection {
    fn flush(self: &Arc<Self>) {
        Self::flush(self);
    }

    fn turn(&self) -> Number {
        Number::from_byte(self.turn.load(Ordering::Relaxed))
    }
}

/// The connections that one task has to write to.
#[derive(Debug)]
pub(super) struct Flusher<S = Connection> {
    waiting: Mutex<Waiting<Arc<S>>>,
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

impl<S: Sink> Flusher<S> {
    /// Has a connection written to; whoever calls holds its right to be scheduled.
    pub(super) fn add(&self, connection: Arc<S>) {
        self.put(connection.turn(), std::iter::once(connection));
    }

    fn put(&self, queue: Number, connections: impl ExactSizeIterator<Item = Arc<S>>) {
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

    fn lock(&self) -> MutexGuard<'_, Waiting<Arc<S>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Default for Flusher<S> {
    fn default() -> Self {
        let (waiting, counts) = (Mutex::default(), Default::default());
        Self { waiting, added: Notify::new(), counts, progress: Notify::new() }
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
            // Whoever holds the right to write to a connection may use any flusher, so a chunk stays together; what is
            // for everyone goes to the queues of who happens to be first. In a burst most entries have less than a
            // chunk, and with one flusher for these more goes out in one write.
            let (flusher, queue) = (first.plane.flusher(self.chunks).clone(), first.turn());
            self.chunks += 1;
            flusher.put(queue, self.connections.drain(..));
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.pass();
    }
}

/// Writes until `stopping` is cancelled.
pub(super) async fn run<S: Sink>(flusher: Arc<Flusher<S>>, stopping: CancellationToken) {
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
            let count = chunk.len();
            for connection in chunk {
                connection.flush();
            }
            flusher.counts[queue.index()].written.fetch_add(count as u64, Ordering::Relaxed);
            flusher.progress.notify_waiters();
            // While more comes for the same clients, whoever publishes gets a turn, so that more goes out in one write.
            if began.elapsed() >= SPELL || count == CHUNK && flusher.lock().has_more(queue) {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A client that was written to, and how many turns another task had had by then.
    #[derive(Debug)]
    struct Written {
        organization: u64,
        number: usize,
        turns: usize,
    }

    struct Client {
        organization: u64,
        number: usize,
        /// How long it takes to write to it.
        takes: Duration,
        written: Arc<Mutex<Vec<Written>>>,
        turns: Arc<AtomicUsize>,
    }

    impl Sink for Client {
        fn flush(self: &Arc<Self>) {
            let began = Instant::now();
            while began.elapsed() < self.takes {
                std::hint::spin_loop();
            }
            let Self { organization, number, .. } = **self;
            let turns = self.turns.load(Ordering::Relaxed);
            self.written.lock().unwrap().push(Written { organization, number, turns });
        }

        fn turn(&self) -> Number {
            Number::of(self.organization)
        }
    }

    /// Has clients written to on one thread, beside a task that counts its turns; what was written, in order.
    async fn write(clients: impl Iterator<Item = (u64, usize)>, takes: Duration) -> Vec<Written> {
        let (written, turns) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicUsize>::default());
        let (flusher, stopping) = (Arc::new(Flusher::default()), CancellationToken::new());
        for (organization, number) in clients {
            let (written, turns) = (written.clone(), turns.clone());
            flusher.add(Arc::new(Client { organization, number, takes, written, turns }));
        }
        let writing = tokio::spawn(run(flusher.clone(), stopping.clone()));
        let counting = tokio::spawn(async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        flusher.catch_up().await;
        counting.abort();
        stopping.cancel();
        writing.await.unwrap();
        std::mem::take(&mut *written.lock().unwrap())
    }

    #[tokio::test]
    async fn a_few_of_one_organization_do_not_wait_for_the_many_of_another() {
        const LARGE: u64 = 1;
        const SMALL: u64 = 2;
        let clients = (0..1_000).map(|number| (LARGE, number)).chain((0..3).map(|number| (SMALL, number)));
        let written = write(clients, Duration::ZERO).await;
        assert_eq!(written.len(), 1_003, "all of them were waited for");
        let before = written.iter().position(|client| client.organization == SMALL).unwrap();
        assert!(before <= CHUNK, "{before} were first");
        for organization in [LARGE, SMALL] {
            let numbers =
                written.iter().filter(|client| client.organization == organization).map(|client| client.number);
            assert!(numbers.is_sorted(), "{organization} in order");
        }
    }

    #[tokio::test]
    async fn others_get_a_turn_however_few_clients_each_organization_has() {
        let clients = (0..12).flat_map(|organization| (0..2).map(move |number| (organization, number)));
        let written = write(clients, SPELL / 4).await;
        let turns: std::collections::HashSet<_> = written.iter().map(|client| client.turns).collect();
        assert!(turns.len() >= 4, "{written:?}");
    }
}
