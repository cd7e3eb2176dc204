//! What all connections of a server share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use socketioxide::socket::Sid;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connecting::Reminders;
use super::connection::Connection;
use super::flusher::{self, Flusher};
use super::peer::EngineIo;
use crate::dialects::Request;
use crate::limits::Rate;
use crate::stats::{Counters, Refusal};
use crate::wire::packet::{self, Kind};
use crate::wire::{PublicId, WireError, random_letters};

/// A client may be refused for this many seconds' worth of packets before it is cut.
const PATIENCE_SECONDS: u32 = 10;

/// Bounds that hold for every connection.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes that may wait for one connection before things are lost on purpose.
    pub soft_limit_bytes: usize,
    /// Bytes that may wait for one connection at all.
    pub hard_limit_bytes: usize,
    /// How long a reader may take nothing.
    pub write_stall_timeout: Duration,
    /// Largest message a client is told it may send.
    pub max_message_bytes: usize,
    /// Largest message that is read at all.
    pub max_frame_bytes: usize,
    /// Largest message that is held of a client that nobody knows.
    pub unauthenticated_bytes: usize,
    /// How long the attachments of an event may take to follow it.
    pub body_timeout: Duration,
    /// Attachments of one event.
    pub max_attachments: u16,
    /// Bytes of messages that a connection may send in a second; 0 is no bound.
    pub bytes_per_second: u32,
    /// Smallest message that is compressed; none if nothing is.
    pub compress_from_bytes: Option<usize>,
    /// Heartbeats, acks and CONNECTs a connection may send in a second.
    pub packets_per_second: u32,
}

/// What is told of a client's packets before socketioxide sees them.
pub trait Intake: Send + Sync {
    /// Whether a CONNECT may reach socketioxide, which makes a namespace before it asks.
    ///
    /// # Errors
    /// What the client is told instead.
    fn admissible(&self, connection: &Connection, namespace: &str, auth: &str) -> Result<(), WireError>;
    /// Tells a client on polling that a CONNECT is refused; false if it is in no namespace through which it
    /// could be told.
    fn refuse(&self, connection: &Connection, namespace: &str, refusal: &WireError) -> bool;
    /// A CONNECT for a namespace that the connection is in: the client has left it and comes again, which
    /// socketioxide would ignore without an answer.
    fn readmit(self: Arc<Self>, connection: &Arc<Connection>, namespace: &str, auth: &str);
    /// A client acknowledged an entry, by the ack id that all its recipients share.
    fn acknowledged(&self, connection: &Connection, namespace: &str, ack_id: u64);
    /// The events of a socket began to be written in another order than that of the log, or its client has proven
    /// that it has read them.
    fn reordered(&self, id: &PublicId);
    /// A client that does not speak Socket.IO asks for something, or says what is refused for this reason.
    fn heard(&self, connection: &Connection, frame: Result<Request, WireError>);
    /// A client is to stay away.
    fn dismiss(&self, connection: &Arc<Connection>);
}

/// What only the Engine.IO server can do.
pub trait EngineControl: Send + Sync {
    /// Sends a Socket.IO DISCONNECT on these namespaces of a session.
    fn disconnect(&self, sid: Sid, namespaces: Vec<String>);
    /// Ends a session on polling.
    fn close(&self, sid: Sid, protocol: EngineIo);
    /// Sends an event of this name through socketioxide's queue; false if there is no room for it.
    fn mark(&self, sid: Sid, namespace: &str, mark: &str) -> bool;
}

/// The shared part of all connections of a server.
pub struct Plane {
    pub(super) settings: Settings,
    pub(super) counters: Arc<Counters>,
    pub(super) blocked: Mutex<HashMap<u64, Arc<Connection>>>,
    pub(super) tasks: TaskTracker,
    /// Name of an event that only we send, through socketioxide to ourselves.
    pub(super) mark: String,
    pub(super) stopping: CancellationToken,
    pub(super) reminders: Reminders,
    /// Heartbeats and acks that each client may send.
    packets: Rate,
    /// Bytes of messages that each may send; none is no bound.
    bytes: Option<Rate>,
    /// Refusals of each before it is cut.
    patience: Rate,
    pub(super) started: Instant,
    /// CONNECTs that each may send: a page that mounts and unmounts sends many at once.
    connects: Rate,
    flushers: Vec<Arc<Flusher>>,
    intake: OnceLock<Arc<dyn Intake>>,
    engine: OnceLock<Arc<dyn EngineControl>>,
    next_key: AtomicU64,
}

impl Plane {
    /// Starts the flushers and the watch over stalled readers; they end when `stopping` is cancelled.
    pub fn start(
        settings: Settings,
        counters: Arc<Counters>,
        tasks: &TaskTracker,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        let workers = tokio::runtime::Handle::current().metrics().num_workers().clamp(1, 8);
        let rate = settings.packets_per_second;
        let plane = Arc::new(Self {
            packets: Rate::new(rate, rate),
            bytes: bytes(&settings),
            patience: Rate::new(rate, rate.saturating_mul(PATIENCE_SECONDS)),
            started: Instant::now(),
            connects: Rate::new(rate, rate.saturating_mul(5)),
            settings,
            counters,
            blocked: Mutex::default(),
            tasks: tasks.clone(),
            mark: random_letters(32),
            stopping: stopping.clone(),
            reminders: Reminders::default(),
            flushers: (0..workers).map(|_| Arc::default()).collect(),
            intake: OnceLock::new(),
            engine: OnceLock::new(),
            next_key: AtomicU64::new(1),
        });
        for flusher in &plane.flushers {
            tasks.spawn(flusher::run(flusher.clone(), stopping.clone()));
        }
        tasks.spawn({
            let (plane, stopping) = (plane.clone(), stopping.clone());
            async move { plane.reminders.run(stopping).await }
        });
        tasks.spawn(flusher::watch(plane.clone(), stopping));
        plane
    }

    /// Says who is told of acks and who ends polling sessions; once, before the first connection.
    pub fn attach(&self, intake: Arc<dyn Intake>, engine: Arc<dyn EngineControl>) {
        self.intake.set(intake).ok();
        self.engine.set(engine).ok();
    }

    /// Waits until what was sent before has been written, as far as the clients take it.
    pub async fn catch_up(&self) {
        for flusher in &self.flushers {
            flusher.catch_up().await;
        }
    }

    /// Bytes that a connection which has caught up can be sent without pressure.
    pub fn unpressed_bytes(&self) -> usize {
        self.settings.soft_limit_bytes / 2
    }

    /// Runs a task that shutdown waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Name of the event that marks a place in socketioxide's queue.
    pub(super) fn mark_name(&self, number: u32) -> String {
        format!("{}{number}", self.mark)
    }

    /// Number of the mark that an Engine.IO message is, if it is one.
    pub(super) fn mark_of(&self, text: &str) -> Option<u32> {
        let head = text.strip_prefix('4').and_then(packet::parse).filter(|head| head.kind == Kind::Event)?;
        head.body.strip_prefix("[\"")?.strip_prefix(&*self.mark)?.strip_suffix("\"]")?.parse().ok()
    }

    /// Whether a connection may send another packet that is no event.
    pub(super) fn takes_packet(&self, connection: &Arc<Connection>) -> bool {
        let takes = self.packets.take(&connection.packets);
        if !takes {
            self.refuse(connection, Refusal::Packets);
        }
        takes
    }

    /// Whether it may send another CONNECT.
    pub(super) fn takes_connect(&self, connection: &Arc<Connection>) -> bool {
        let takes = self.connects.take(&connection.connects);
        if !takes {
            self.refuse(connection, Refusal::Connects);
        }
        takes
    }

    pub(super) fn takes_bytes(&self, connection: &Connection, bytes: usize) -> bool {
        self.bytes.as_ref().is_none_or(|rate| rate.take_many(&connection.bytes, bytes))
    }

    /// Something of a connection is over its rate; one that keeps on is ended for good.
    fn refuse(&self, connection: &Arc<Connection>, refusal: Refusal) {
        self.counters.refused(refusal);
        if !self.patience.take(&connection.patience) && !connection.is_dismissed() {
            self.counters.refused(Refusal::Abuse);
            match self.intake() {
                Some(intake) => intake.dismiss(connection),
                None => connection.cut(),
            }
        }
    }

    pub(super) fn intake(&self) -> Option<&Arc<dyn Intake>> {
        self.intake.get()
    }

    pub(super) fn engine(&self) -> Option<&Arc<dyn EngineControl>> {
        self.engine.get()
    }

    pub(super) fn next_key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn flusher(&self, key: u64) -> &Arc<Flusher> {
        &self.flushers[(key % self.flushers.len() as u64) as usize]
    }

    pub(super) fn note_blocked(&self, connection: &Arc<Connection>) {
        self.lock_blocked().insert(connection.key(), connection.clone());
    }

    pub(super) fn forget_blocked(&self, key: u64) {
        self.lock_blocked().remove(&key);
    }

    pub(super) fn lock_blocked(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A second's worth at once, and in any case one message.
fn bytes(settings: &Settings) -> Option<Rate> {
    let rate = settings.bytes_per_second;
    let message = u32::try_from(settings.max_message_bytes).unwrap_or(u32::MAX);
    (rate > 0).then(|| Rate::new(rate, rate.max(message)))
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plane").field("settings", &self.settings).finish_non_exhaustive()
    }
}
