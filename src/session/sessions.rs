//! All sessions of a server, and what they share.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use socketioxide::SocketIo;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admit::Reception;
use super::client_events::ClientEvents;
use super::deadlines::Deadlines;
use super::event;
use super::expiries::{self, Expiries};
use super::namespaces::Namespaces;
use super::queue::{Incoming, Said};
use super::records::Records;
use super::session::Session;
use super::shared::Shared;
use super::sharing;
use crate::auth::{Authenticator, Revocations};
use crate::cluster::Cluster;
use crate::config::{Config, LogStore};
use crate::connection::{Connection, Intake};
use crate::delivery::{AnswerTo, Directory, RoomAdapter};
use crate::dialects::Request;
use crate::hub::Hub;
use crate::limits::{OrganizationSeats, Rate, UserSeats};
use crate::presence::Presence;
use crate::register::Register;
use crate::rooms::NAMESPACE_PATTERNS;
use crate::stats::Counters;
use crate::wire::{PublicId, WireError};

/// A client may be refused for this many seconds' worth of messages before it is cut.
const PATIENCE_SECONDS: u32 = 10;

/// What sessions are built on.
#[derive(Debug, Clone)]
pub struct Services {
    /// The configuration.
    pub config: Arc<Config>,
    /// Where events are published and acknowledged.
    pub hub: Arc<Hub>,
    /// Who receives.
    pub directory: Arc<Directory>,
    /// Who is there.
    pub presence: Arc<Presence>,
    /// How many connections each organization holds.
    pub seats: Arc<OrganizationSeats>,
    /// How many each user holds.
    pub users: Arc<UserSeats>,
    /// What operators read.
    pub counters: Arc<Counters>,
    /// What happens with events of clients.
    pub client_events: Arc<ClientEvents>,
    /// AV-Gym's register.
    pub register: Arc<Register>,
    /// Who clients are.
    pub authenticator: Authenticator,
    /// Tokens that hold no more.
    pub revocations: Arc<Revocations>,
    /// The other nodes.
    pub cluster: Arc<Cluster>,
    /// Every task of the server.
    pub tasks: TaskTracker,
}

/// The sessions of one server.
#[derive(Debug)]
pub struct Sessions {
    pub(super) services: Services,
    pub(super) namespaces: Namespaces,
    pub(super) deadlines: Deadlines,
    pub(super) expiries: Expiries,
    pub(super) records: Records,
    /// Where the nodes of a cluster share them, if this is one.
    pub(super) shared: Option<Shared>,
    pub(super) rates: Rates,
    live: RwLock<HashMap<PublicId, Arc<Session>>>,
    emptied: Notify,
    /// Whether nobody is let in any more.
    stopping: AtomicBool,
    io: OnceLock<SocketIo<RoomAdapter>>,
}

/// What every socket may send.
#[derive(Debug)]
pub(super) struct Rates {
    pub(super) messages: Rate,
    pub(super) acks: Rate,
    /// Refusals, before it is cut.
    pub(super) patience: Rate,
}

impl Rates {
    fn new(rate: u32) -> Self {
        let four = rate.saturating_mul(4);
        Self {
            messages: Rate::new(rate, rate),
            acks: Rate::new(four, four),
            patience: Rate::new(rate, rate.saturating_mul(PATIENCE_SECONDS)),
        }
    }
}

impl Sessions {
    /// No sessions yet; their clocks end when `stopping` is cancelled.
    pub fn start(services: Services, stopping: &CancellationToken) -> Arc<Self> {
        let kept_for = Duration::from_millis(services.config.recovery.max_disconnection_ms);
        let cluster = &services.cluster;
        let redis = cluster.redis().filter(|_| services.config.recovery.enabled);
        let shared = redis.map(|redis| Shared::new(redis, &cluster.me().incarnation, kept_for));
        let sessions = Arc::new(Self {
            rates: Rates::new(services.config.limits.rate_limit_messages_per_second),
            records: Records::new(
                kept_for,
                services.config.limits.max_connections_total,
                shared.as_ref().map(|shared| shared.changes.clone()),
            ),
            shared,
            services,
            namespaces: Namespaces::default(),
            deadlines: Deadlines::default(),
            expiries: Expiries::default(),
            live: RwLock::default(),
            emptied: Notify::new(),
            stopping: AtomicBool::new(false),
            io: OnceLock::new(),
        });
        if let Some(path) = saved_at(sessions.config()) {
            sessions.load(&path);
        }
        sessions.answer_wishes();
        let tasks = &sessions.services.tasks;
        tasks.spawn(sharing::run(sessions.clone(), stopping.clone()));
        tasks.spawn(super::deadlines::run(sessions.clone(), stopping.clone()));
        tasks.spawn(expiries::run(sessions.clone(), stopping.clone()));
        tasks.spawn(super::namespaces::run(sessions.clone(), stopping.clone()));
        if sessions.services.config.limits.idle_timeout_ms > 0 {
            tasks.spawn(dismiss_idle(sessions.clone(), stopping.clone()));
        }
        sessions
    }

    /// Receives the sockets of the main namespace and of those that mirror the tree.
    pub fn mount(self: &Arc<Self>, io: &SocketIo<RoomAdapter>) {
        self.io.set(io.clone()).ok();
        io.ns("/", Reception::new(self));
        for pattern in NAMESPACE_PATTERNS {
            io.dyn_ns(pattern, Reception::new(self)).expect("the patterns do not overlap");
        }
    }

    pub(super) fn io(&self) -> &SocketIo<RoomAdapter> {
        self.io.get().expect("a socket comes only after the namespaces are mounted")
    }

    /// Who is there.
    pub fn presence(&self) -> &Presence {
        &self.services.presence
    }

    /// Who clients are.
    pub fn authenticator(&self) -> &Authenticator {
        &self.services.authenticator
    }

    pub(super) fn config(&self) -> &Config {
        &self.services.config
    }

    pub(super) fn insert(&self, session: Arc<Session>) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).insert(session.recipient.id.clone(), session);
    }

    /// A session is no longer live, unless its client has taken it up again by now.
    pub(super) fn remove(&self, session: &Session) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let id = &session.recipient.id;
        if live.get(id).is_some_and(|live| std::ptr::eq(Arc::as_ptr(live), session)) {
            live.remove(id);
        }
        if live.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until there are no sockets.
    pub async fn emptied(&self) {
        loop {
            // Registered before the look, so that the last exit between the two is not missed.
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How many sockets there are.
    pub fn count(&self) -> usize {
        self.live.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many of them are authenticated.
    pub fn authenticated(&self) -> usize {
        self.all().iter().filter(|session| session.identity().is_some()).count()
    }

    /// Ends a socket's connection for good; false if there is no such socket.
    pub fn dismiss(&self, id: &str) -> bool {
        self.get(id).map(|session| self.dismiss_session(&session)).is_some()
    }

    /// The same; the socket is gone afterwards, also if it was leaving already.
    pub(super) fn dismiss_session(&self, session: &Session) {
        self.dismiss_connection(&session.recipient.connection);
        session.exit("dismissed");
    }

    /// Ends a connection for good: its sockets are gone at once, and before their client is told, so that nothing
    /// that follows from knowing finds them.
    pub(super) fn dismiss_connection(&self, connection: &Arc<Connection>) {
        let first = connection.begin_dismissal();
        for session in self.of(connection) {
            session.exit("dismissed");
        }
        if first {
            connection.dismiss();
        }
    }

    /// The sessions on a connection.
    pub(super) fn of(&self, connection: &Connection) -> Vec<Arc<Session>> {
        connection.public_ids().iter().filter_map(|id| self.get(id.as_str())).collect()
    }

    /// Whether nobody is let in any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Ends the sessions of clients that did not go in time; they can take them up again.
    pub fn end_all(&self) {
        for session in self.all() {
            session.exit_kept("the server stops");
        }
    }

    /// Every connection with a socket, the oldest first.
    pub fn by_age(&self) -> Vec<Weak<Connection>> {
        let connections = self.all().into_iter().map(|session| {
            let connection = &session.recipient.connection;
            (connection.key(), Arc::downgrade(connection))
        });
        connections.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Closes a connection without a DISCONNECT, if it is still there, so that its client comes back.
    pub fn send_away(&self, connection: &Weak<Connection>) {
        let Some(connection) = connection.upgrade() else { return };
        for session in self.of(&connection) {
            session.recipient.flush();
        }
        connection.retire();
    }

    /// Closes every connection without a DISCONNECT, so that clients come back, and lets nobody in any more.
    pub fn retire_all(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.services.presence.stop();
        for session in self.all() {
            session.recipient.flush();
            session.recipient.connection.retire();
        }
    }
}

impl Intake for Sessions {
    fn admissible(&self, connection: &Connection, namespace: &str, auth: &str) -> Result<(), WireError> {
        let asked = self.read_connect(connection, namespace, Some(auth));
        let checked = asked.and_then(|asked| self.check_connect(connection, namespace, asked, false));
        checked.map(|_| ()).inspect_err(|error| {
            self.services.counters.error(&error.to_string());
        })
    }

    fn refuse(&self, connection: &Connection, namespace: &str, refusal: &WireError) -> bool {
        let session = connection.public_ids().first().and_then(|id| self.get(id.as_str()));
        session.map(|session| session.recipient.relay_refusal(namespace, &refusal.connect_error())).is_some()
    }

    fn readmit(self: Arc<Self>, connection: &Arc<Connection>, namespace: &str, auth: &str) {
        self.admit_again(connection, namespace, auth);
    }

    fn acknowledged(&self, connection: &Connection, namespace: &str, ack_id: u64) {
        let Some(session) = connection.public_id(namespace).and_then(|id| self.get(id.as_str())) else { return };
        let organization = session.identity().map(|identity| identity.organization);
        self.services.hub.acknowledge(ack_id, &session.recipient.id, organization.as_ref());
    }

    fn reordered(&self, id: &PublicId) {
        if let Some(shared) = &self.shared {
            shared.changes.of_socket(id);
        }
    }

    fn heard(&self, connection: &Connection, frame: Result<Request, WireError>) {
        let Some(session) = connection.public_id("/").and_then(|id| self.get(id.as_str())) else { return };
        let (said, answer_to) = match frame {
            Ok(Request { name, argument, asked }) => (Said::Frame(name, argument), Some(AnswerTo::Frame(asked))),
            Err(error) => (Said::Refused(error), None),
        };
        event::arrive(&session, Incoming::new(said, answer_to));
    }

    fn dismiss(&self, connection: &Arc<Connection>) {
        self.dismiss_connection(connection);
    }
}

/// Where sessions are written down from one process to the next, if they are.
pub fn saved_at(config: &Config) -> Option<PathBuf> {
    let lasting = config.log.store == LogStore::Disk && (config.recovery.enabled || config.offline.enabled);
    lasting.then(|| Path::new(&config.log.path).join("sessions.json"))
}

/// Cuts sockets that have said nothing for too long, until `stopping` is cancelled.
async fn dismiss_idle(sessions: Arc<Sessions>, stopping: CancellationToken) {
    let timeout = Duration::from_millis(sessions.config().limits.idle_timeout_ms);
    let mut tick = tokio::time::interval((timeout / 4).max(Duration::from_millis(10)));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stopping.cancelled() => return,
        }
        for session in sessions.all() {
            if session.idle_for() >= timeout {
                session.recipient.connection.cut();
            }
        }
    }
}
