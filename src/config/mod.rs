//! Configuration: one struct per section, each key beside its default.
//!
//! `load` turns a file, the environment and flags into one immutable
//! [`Config`], or into every [`Problem`] it has. Nothing here does I/O and
//! nothing is silently ignored; `config.toml` at the root of the project shows
//! every key at its default.

mod keys;
mod load;
mod origin;
mod problem;
mod validate;

pub use keys::{
    Api, ApiKey, ApierDoor, Auth, AuthMode, Client, ClientAction, ClientEvent, Cluster, Compression, CustomEvent,
    DemoDoor, DexterDoor, DoorIdentity, Doors, Durability, Escalation, Events, Freshness, GenericDoor, GymDoor,
    Heartbeat, Implicit, IntradayDoor, Jwt, JwtAlgorithm, JwtClaims, Limits, Log, LogStore, Logging, LoggingFormat,
    MAX_BATCH_MS, Offline, OnRedisLoss, Outbox, Presence, Recovery, RedisTopology, RelayTo, Right, Secret, Server,
    Subscriptions, Tls, TlsVersion, UnknownMembers, WorkMatrixDoor,
};
pub use load::{Source, load, load_with};
pub use origin::{HostPattern, OriginPattern, PortPattern};
pub use problem::Problem;

use serde::Deserialize;

/// Everything a server is told before it starts.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen and how to stop.
    pub server: Server,
    /// Engine.IO pings.
    pub heartbeat: Heartbeat,
    /// Reconnection hints for clients.
    pub client: Client,
    /// Who a client is.
    pub auth: Auth,
    /// What a client may use.
    pub limits: Limits,
    /// What a client receives without asking.
    pub subscriptions: Subscriptions,
    /// The catalogue and its forms.
    pub events: Events,
    /// Compression of what is sent.
    pub compression: Compression,
    /// What may wait for one connection.
    pub outbox: Outbox,
    /// What becomes of a client that loses its connection.
    pub recovery: Recovery,
    /// What waits for users who are not there.
    pub offline: Offline,
    /// Who is there.
    pub presence: Presence,
    /// What happens when nobody acknowledges an urgent event.
    pub escalation: Escalation,
    /// The log of what was published.
    pub log: Log,
    /// Several servers that share the log.
    pub cluster: Cluster,
    /// The doors beside Socket.IO.
    pub doors: Doors,
    /// What happens with events that clients send.
    pub client_events: Vec<ClientEvent>,
    /// The HTTP API.
    pub api: Api,
    /// Log lines.
    pub logging: Logging,
}
