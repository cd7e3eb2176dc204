//! What all doors share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::draining::Draining;
use super::elsewhere::{Neighbours, Tunnels};
use super::http::attempts::Attempts;
use super::http::idempotency::Calls;
use super::http::rates::Rates;
use super::origin::Origins;
use super::plain::{Clients, PlainDoor};
use super::socketio::Engine;
use crate::auth::ApiKeys;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::connection::{Connection, Plane};
use crate::delivery::Directory;
use crate::hub::Hub;
use crate::limits::{Newcomers, OrganizationSeats, Pace, Seats};
use crate::session::Sessions;
use crate::stats::Counters;

/// How long a connection may take to authenticate before others of its address displace it, if there are too many.
const GRACE: Duration = Duration::from_secs(2);

/// Who a request is from, put into each of them.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Address of the client, as far as trusted proxies tell it.
    pub client: SocketAddr,
    /// Who has brought the request.
    pub hop: Hop,
}

/// The last hop of a request.
#[derive(Debug, Clone, Copy)]
pub struct Hop {
    /// Address of the other end of the TCP connection.
    pub address: SocketAddr,
    /// What the client speaks: here or, if that can be trusted, with a proxy.
    pub scheme: Scheme,
}

/// The scheme of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// Everything a door may use.
#[derive(Debug)]
pub struct Doors {
    /// The configuration.
    pub config: Arc<Config>,
    /// Address the server is bound to.
    pub bound: SocketAddr,
    /// The other nodes.
    pub cluster: Arc<Cluster>,
    /// The sockets.
    pub sessions: Arc<Sessions>,
    /// The one way to publish.
    pub hub: Arc<Hub>,
    /// Rooms and who is in them.
    pub directory: Arc<Directory>,
    /// Connections of the server.
    pub seats: Arc<Seats>,
    /// Connections of each organization.
    pub organization_seats: Arc<OrganizationSeats>,
    /// What operators read.
    pub counters: Arc<Counters>,
    /// Who may call the HTTP API.
    pub keys: ApiKeys,
    /// How often its callers may call.
    pub(super) rates: Rates,
    /// Who has called without a valid key.
    pub(super) attempts: Attempts,
    /// Which origins may connect.
    pub origins: Arc<Origins>,
    /// What all connections share.
    pub plane: Arc<Plane>,
    /// socketioxide.
    pub engine: Engine,
    pub(super) polling: PollingSessions,
    /// The plain doors, by the numbers of their dialects.
    pub(super) plain: Vec<PlainDoor>,
    /// Clients that have named themselves.
    pub(super) clients: Clients,
    /// Who comes when many come at once.
    pub(super) pace: Pace,
    /// Calls of the HTTP API that may be repeated.
    pub(super) calls: Calls,
    /// The other nodes, if this one tells them how it is reached.
    pub(super) neighbours: Option<Neighbours>,
    /// WebSockets whose sessions live on them.
    pub(super) tunnels: Tunnels,
    pub(super) draining: Draining,
    stopping: CancellationToken,
}

impl Doors {
    /// Doors over everything below them.
    #[expect(clippy::too_many_arguments, reason = "this is where the parts of a server meet")]
    pub fn new(
        config: Arc<Config>,
        bound: SocketAddr,
        cluster: Arc<Cluster>,
        sessions: Arc<Sessions>,
        hub: Arc<Hub>,
        directory: Arc<Directory>,
        organization_seats: Arc<OrganizationSeats>,
        counters: Arc<Counters>,
        plane: Arc<Plane>,
        engine: Engine,
        plain: Vec<PlainDoor>,
        neighbours: Option<Neighbours>,
    ) -> Arc<Self> {
        let doors = Arc::new(Self {
            keys: ApiKeys::new(&config.api),
            rates: Rates::new(&config.api, cluster.redis()),
            attempts: Attempts::new(config.api.refusals_per_minute_per_address),
            origins: Arc::new(Origins::new(&config.server.cors_origins)),
            seats: seats(&config),
            polling: PollingSessions::default(),
            plain,
            clients: Clients::default(),
            pace: Pace::new(config.limits.max_connects_per_second, config.limits.max_connections_total),
            calls: Calls::new(Duration::from_millis(config.api.idempotency_window_ms), &cluster),
            neighbours,
            tunnels: Tunnels::default(),
            draining: Draining::default(),
            stopping: CancellationToken::new(),
            config,
            bound,
            cluster,
            sessions,
            hub,
            directory,
            organization_seats,
            counters,
            plane,
            engine,
        });
        let reading = doors.clone();
        doors.plane.spawn(async move {
            let calls = reading.clone();
            if tokio::task::spawn_blocking(move || calls.calls.load(&calls.hub)).await.is_err() {
                tracing::error!("calls that an earlier process has answered may be done again");
            }
            reading.calls.set_loaded();
        });
        doors
    }

    /// The server is not ready any more, and is going to send its clients away.
    pub fn drain(&self) {
        if self.draining.begin() {
            self.cluster.drain();
        }
    }

    /// Whether the server drains.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.has_begun()
    }

    /// Waits until the server begins to drain.
    pub async fn draining(&self) {
        self.draining.begun().await;
    }

    /// From now on handshakes are refused.
    pub fn refuse(&self) {
        self.draining.refuse();
    }

    /// How many sockets are there, and WebSockets whose sessions live on other nodes.
    pub fn left(&self) -> usize {
        self.sessions.count() + self.tunnels.count()
    }

    /// From now on nobody new is let in.
    pub fn stop(&self) {
        self.cluster.drain();
        self.stopping.cancel();
    }

    /// Whether the server is stopping.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Waits until the server stops.
    pub async fn stopped(&self) {
        self.stopping.cancelled().await;
    }

    /// Whether sessions whose ids begin like this live here.
    pub(super) fn is_here(&self, node: &str) -> bool {
        self.neighbours.as_ref().is_some_and(|neighbours| neighbours.is_here(node))
    }

    /// WebSockets that are open here, and whose sessions live on other nodes.
    pub fn tunnels(&self) -> usize {
        self.tunnels.count()
    }

    /// Closes the oldest of these WebSockets, if there is one; its client comes back by itself.
    pub fn close_tunnel(&self) {
        self.tunnels.close_oldest();
    }

    /// Closes all of them.
    pub fn close_tunnels(&self) {
        self.tunnels.close();
    }

    /// Handshakes that wait for their turn.
    pub fn handshakes(&self) -> usize {
        self.pace.waiting()
    }

    /// Connections that are on polling, those without a socket included.
    pub fn polling_connections(&self) -> Vec<Arc<Connection>> {
        self.polling.all()
    }
}

/// The seats of the server; connections that are not authenticated have a share of them.
fn seats(config: &Config) -> Arc<Seats> {
    let limits = &config.limits;
    let each = match limits.max_unauthenticated_per_address {
        0 => usize::MAX,
        each => each,
    };
    let newcomers = || Newcomers::new(limits.max_unauthenticated(), each, GRACE);
    Seats::new(limits.max_connections_total, config.auth.auth_required.then(newcomers))
}

/// Connections that began on polling, by Engine.IO session id; they live as long as Engine.IO keeps them.
#[derive(Default)]
pub(super) struct PollingSessions {
    by_sid: Mutex<HashMap<String, Weak<Connection>>>,
}

impl PollingSessions {
    pub(super) fn insert(&self, sid: &str, connection: &Arc<Connection>) {
        let mut by_sid = self.by_sid.lock().unwrap_or_else(PoisonError::into_inner);
        if by_sid.len() == by_sid.capacity() {
            by_sid.retain(|_, connection| connection.strong_count() > 0);
        }
        by_sid.insert(sid.to_owned(), Arc::downgrade(connection));
    }

    pub(super) fn get(&self, sid: &str) -> Option<Arc<Connection>> {
        self.by_sid.lock().unwrap_or_else(PoisonError::into_inner).get(sid)?.upgrade()
    }

    fn all(&self) -> Vec<Arc<Connection>> {
        self.by_sid.lock().unwrap_or_else(PoisonError::into_inner).values().filter_map(Weak::upgrade).collect()
    }
}

impl std::fmt::Debug for PollingSessions {
    /// Session ids are credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PollingSessions").finish_non_exhaustive()
    }
}
