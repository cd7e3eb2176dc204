//! Start-up, in the order things happen.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use socketioxide::SocketIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accept::{self, Service};
use super::arrival::Bounds;
use super::certificates::Certificates;
use super::drain;
use super::listeners;
use super::proxies::Proxies;
use super::reception::Reception;
use super::stop::LAST;
use crate::auth::{Authenticator, Revocations, Tokens};
use crate::cluster::Cluster;
use crate::config::{Config, GymDoor, LogStore, OnRedisLoss, UnknownMembers};
use crate::connection::{Intake, Plane, Settings};
use crate::delivery::{Directory, RoomAdapter};
use crate::doors::{self, Doors, Engine, Neighbours};
use crate::hub::Hub;
use crate::limits::{OrganizationSeats, UserSeats};
use crate::log::{Log, StreamSettings, Streams};
use crate::presence::Presence;
use crate::redis::Redis;
use crate::register::{self, Register};
use crate::session::{ClientEvents, Services, Sessions};
use crate::stats::Counters;

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub(super) doors: Arc<Doors>,
    pub(super) register: Arc<Register>,
    bounds: Arc<Bounds>,
    node_bounds: Arc<Bounds>,
    users: Arc<UserSeats>,
    pub(super) tasks: TaskTracker,
    /// Cancelled when nothing new is let in any more.
    pub(super) closing: CancellationToken,
    /// Cancelled when everything ends.
    pub(super) stopping: CancellationToken,
    /// Cancelled when a drain has sent everybody away.
    pub(super) drained: CancellationToken,
    plain_addresses: Vec<SocketAddr>,
}

/// How much a server holds; all of it is zero at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// TCP connections.
    pub tcp_connections: usize,
    /// Handshakes that wait for their turn.
    pub handshakes: usize,
    /// Seats of the server that are taken.
    pub connections: usize,
    /// Those of them whose connections are not authenticated.
    pub unauthenticated: usize,
    /// Sockets.
    pub sockets: usize,
    /// Sockets that are authenticated.
    pub sessions_authenticated: usize,
    /// Rooms with members.
    pub rooms: usize,
    /// Namespaces beside the main one.
    pub namespaces: usize,
    /// Seats of organizations that are taken.
    pub seats: usize,
    /// Seats of users that are taken, where they are bounded.
    pub user_seats: usize,
}

impl Server {
    /// Starts everything and serves on the listener.
    ///
    /// # Errors
    /// If the listener has no address, or a file that the config names cannot be used.
    pub async fn start(config: Config, listener: TcpListener) -> io::Result<Self> {
        let mount = |sessions: &Arc<Sessions>, io: &SocketIo<RoomAdapter>, _: &Arc<Directory>| -> Arc<dyn Intake> {
            sessions.mount(io);
            sessions.clone()
        };
        Self::start_with(config, listener, mount).await
    }

    /// Starts everything, with the namespaces that `mount` puts behind our doors in place of the sessions'.
    ///
    /// # Errors
    /// If the listener has no address, the log cannot be opened, or a file that the config names cannot be used.
    pub async fn start_with(
        config: Config,
        listener: TcpListener,
        mount: impl FnOnce(&Arc<Sessions>, &SocketIo<RoomAdapter>, &Arc<Directory>) -> Arc<dyn Intake>,
    ) -> io::Result<Self> {
        let tasks = TaskTracker::new();
        let (closing, stopping) = (CancellationToken::new(), CancellationToken::new());
        let ends = (tasks.clone(), closing.clone(), stopping.clone());
        let started = Self::start_tasks(config, listener, mount, ends).await;
        if started.is_err() {
            // It may be a node by now, and the others would wait for it until it counts as gone.
            closing.cancel();
            stopping.cancel();
            tasks.close();
            tokio::time::timeout(LAST, tasks.wait()).await.ok();
        }
        started
    }

    async fn start_tasks(
        config: Config,
        listener: TcpListener,
        mount: impl FnOnce(&Arc<Sessions>, &SocketIo<RoomAdapter>, &Arc<Directory>) -> Arc<dyn Intake>,
        (tasks, closing, stopping): (TaskTracker, CancellationToken, CancellationToken),
    ) -> io::Result<Self> {
        let bound = listener.local_addr()?;
        // Connections inherit it.
        SockRef::from(&listener).set_send_buffer_size(config.outbox.socket_buffer_bytes)?;
        let certificates = config.server.tls.is_on().then(|| Certificates::open(&config.server.tls)).transpose()?;
        let config = Arc::new(config);

        // Before they are told of it.
        let for_nodes = listeners::for_nodes(&config).await?;
        let redis = redis(&config).map_err(io::Error::other)?;
        let cluster = match &redis {
            Some(redis) => Cluster::start(&config.cluster, redis.clone(), &tasks, &stopping).await,
            None => Ok(Cluster::alone()),
        };
        let cluster = cluster.map_err(io::Error::other)?;
        let counters = Arc::new(Counters::default());
        let catalogue = Arc::new(config.events.catalogue());
        let revocations = Revocations::open(revocations_at(&config).as_deref(), config.auth.revocation_ttl_ms)?;
        let tokens = Tokens::start(&config.auth.jwt, &tasks, &stopping).await.map_err(io::Error::other)?;
        let revocations = Arc::new(revocations);
        let authenticator = Authenticator::new(&config.auth, tokens, &revocations);
        let plain = doors::plain_doors(&config, &catalogue, &authenticator);
        let dialects = plain.iter().map(|door| door.dialect.clone()).collect();
        let directory = Arc::new(Directory::new(catalogue.clone(), compress_from(&config), dialects));
        let plane = Plane::start(settings(&config), counters.clone(), &tasks, stopping.clone());
        let log = match &redis {
            Some(redis) => {
                let streams = Streams::start(redis, streams(&config), &tasks, &stopping).await;
                Log::shared(streams.map_err(io::Error::other)?, &config.log, &catalogue)
            }
            None => Log::open(&config.log, &catalogue).map_err(io::Error::other)?,
        };
        let hub = Hub::start(
            catalogue.clone(),
            log,
            directory.clone(),
            plane.clone(),
            counters.clone(),
            &config,
            &tasks,
            &stopping,
            &cluster,
        )
        .await?;
        let seats = Arc::new(OrganizationSeats::new(config.limits.max_connections_per_org));
        let users = Arc::new(UserSeats::new(config.limits.max_connections_per_user));
        let bounds = Bounds::new(&config, &counters);
        let register = Arc::new(Register::open(register(&config)).map_err(io::Error::other)?);
        tasks.spawn(register.clone().keep(tasks.clone(), stopping.clone()));
        let services = Services {
            config: config.clone(),
            hub: hub.clone(),
            directory: directory.clone(),
            presence: Presence::start(&config, hub.clone(), directory.clone(), &tasks, &stopping, &cluster),
            seats: seats.clone(),
            users: users.clone(),
            counters: counters.clone(),
            client_events: ClientEvents::start(&config.client_events, &tasks, &stopping).map_err(io::Error::other)?,
            register: register.clone(),
            authenticator,
            revocations,
            cluster: cluster.clone(),
            tasks: tasks.clone(),
        };
        let sessions = Sessions::start(services, &stopping);
        sessions.follow_revocations(&stopping).await?;
        cluster.count_with({
            let sessions = Arc::downgrade(&sessions);
            move || sessions.upgrade().map_or(0, |sessions| sessions.count())
        });
        let engine = Engine::new(&config, &directory, &tasks);
        let intake = mount(&sessions, engine.io(), &directory);
        plane.attach(intake, Arc::new(engine.clone()));
        let own_listeners = listeners::for_plain_doors(&config, &plain).await?;
        let doors = Doors::new(
            config.clone(),
            bound,
            cluster.clone(),
            sessions,
            hub.clone(),
            directory.clone(),
            seats,
            counters,
            plane,
            engine,
            plain,
            Neighbours::start(&config, &cluster, &tasks, &stopping).await,
        );

        if config.doors.demo.enabled {
            tasks.spawn(doors::run_demo(hub, config.doors.demo.clone(), closing.clone()));
        }
        let tls = certificates.as_ref().map(Certificates::server_config).transpose().map_err(io::Error::other)?;
        if let Some(certificates) = certificates {
            tasks.spawn(certificates.watch(stopping.clone()));
        }
        let header_timeout = Duration::from_millis(config.server.header_timeout_ms);
        let reception = Arc::new(Reception { header_timeout, proxies: Proxies::new(&config.server), tls });
        let serve = |listener, router| {
            let (reception, bounds) = (reception.clone(), bounds.clone());
            let service = Service { router, reception, bounds, tasks: tasks.clone(), closing: closing.clone() };
            tasks.spawn(accept::run(listener, service))
        };
        let mut plain_addresses = Vec::new();
        for (number, listener) in own_listeners {
            let bound = listener.local_addr()?;
            plain_addresses.push(bound);
            let router = doors::plain_router(&doors, number, bound);
            serve(listener, router);
        }
        serve(listener, doors::router(&doors));
        let node_bounds = Bounds::of_nodes(&config, &doors.counters);
        if let Some(listener) = for_nodes {
            let reception = Arc::new(Reception { header_timeout, proxies: Proxies::none(), tls: None });
            let (router, bounds) = (doors::node_router(&doors), node_bounds.clone());
            let service = Service { router, reception, bounds, tasks: tasks.clone(), closing: closing.clone() };
            tasks.spawn(accept::run(listener, service));
        }
        doors::answer_others(&doors);
        doors::run_ingress(&doors);
        let drained = CancellationToken::new();
        tasks.spawn(drain::run(doors.clone(), drained.clone()));
        Ok(Self { doors, register, bounds, node_bounds, users, tasks, closing, stopping, drained, plain_addresses })
    }

    /// Address the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.doors.bound
    }

    /// Addresses of the plain doors' own listeners.
    pub fn plain_addresses(&self) -> &[SocketAddr] {
        &self.plain_addresses
    }

    /// TCP connections that other nodes have to this one.
    pub fn node_connections(&self) -> usize {
        self.node_bounds.connections()
    }

    /// How much the server holds.
    pub fn census(&self) -> Census {
        let doors = &self.doors;
        Census {
            tcp_connections: self.bounds.connections(),
            handshakes: doors.handshakes(),
            connections: doors.seats.taken(),
            unauthenticated: doors.seats.newcomers(),
            sockets: doors.sessions.count(),
            sessions_authenticated: doors.sessions.authenticated(),
            rooms: doors.directory.rooms().len(),
            namespaces: doors.directory.dynamic_namespaces(),
            seats: doors.organization_seats.taken(),
            user_seats: self.users.taken(),
        }
    }
}

/// The Redis servers that the log is on, if it is on some.
fn redis(config: &Config) -> Result<Option<Arc<Redis>>, String> {
    let is_shared = config.log.store == LogStore::Redis;
    is_shared.then(|| Redis::open(&config.cluster, usize::from(config.log.shards))).transpose()
}

fn streams(config: &Config) -> StreamSettings {
    StreamSettings {
        max_entries: config.log.max_entries as u64,
        max_bytes: config.log.max_bytes as u64,
        max_age_ms: config.log.max_age_ms,
        buffer_entries: config.cluster.buffer_entries,
        buffers: config.cluster.on_redis_loss == OnRedisLoss::Buffer,
        timeout: Duration::from_millis(config.cluster.redis_timeout_ms),
    }
}

/// AV-Gym's register; it outlives the process where the log does.
fn register(config: &Config) -> register::Settings {
    let GymDoor { members_file, unknown_members, .. } = &config.doors.gym;
    register::Settings {
        members_file: (!members_file.is_empty()).then(|| members_file.into()),
        refuses_unknown: *unknown_members == UnknownMembers::Refuse,
        saved_at: (config.log.store == LogStore::Disk).then(|| Path::new(&config.log.path).join("check-ins.json")),
    }
}

/// Where revocations outlive the process, if they do.
fn revocations_at(config: &Config) -> Option<PathBuf> {
    (config.log.store == LogStore::Disk).then(|| Path::new(&config.log.path).join("revocations.jsonl"))
}

/// Smallest message that is compressed; none if nothing is.
fn compress_from(config: &Config) -> Option<usize> {
    let compression = &config.compression;
    compression.compression_enabled.then_some(usize::from(compression.compression_threshold_bytes))
}

fn settings(config: &Config) -> Settings {
    let limits = &config.limits;
    Settings {
        soft_limit_bytes: config.outbox.soft_limit_bytes,
        hard_limit_bytes: config.outbox.hard_limit_bytes,
        write_stall_timeout: Duration::from_millis(config.outbox.write_stall_timeout_ms),
        max_message_bytes: limits.max_message_size_bytes,
        max_frame_bytes: limits.max_message_size_bytes.saturating_mul(4),
        unauthenticated_bytes: limits.max_unauthenticated_message_bytes,
        compress_from_bytes: compress_from(config),
        body_timeout: Duration::from_millis(config.server.body_timeout_ms),
        max_attachments: limits.max_attachments_per_event,
        bytes_per_second: limits.rate_limit_bytes_per_second,
        packets_per_second: limits.rate_limit_messages_per_second.saturating_mul(4),
    }
}
