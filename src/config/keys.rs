//! Every section and key, with its unit and default.
//!
//! Durations end in `_ms` and sizes in `_bytes`, both as integers. Large
//! sections have files of their own.

mod api;
mod auth;
mod client_events;
mod cluster;
mod doors;
mod limits;
mod server;

use serde::{Deserialize, Serialize};

pub use self::api::{Api, ApiKey, Right};
pub use self::auth::{Auth, AuthMode, Jwt, JwtAlgorithm, JwtClaims, Secret};
pub use self::client_events::{ClientAction, ClientEvent, RelayTo};
pub use self::cluster::{Cluster, OnRedisLoss, RedisTopology};
pub use self::doors::{
    ApierDoor, DemoDoor, DexterDoor, DoorIdentity, Doors, GenericDoor, GymDoor, IntradayDoor, MAX_BATCH_MS,
    UnknownMembers, WorkMatrixDoor,
};
pub use self::limits::Limits;
pub(super) use self::server::network;
pub use self::server::{Server, Tls, TlsVersion};
use crate::events::{Catalogue, Declared, Priority};
use crate::wire::Forms;

/// `[heartbeat]`: Engine.IO pings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// Time between two pings. Defaults to 25,000.
    pub ping_interval_ms: u64,
    /// How long a pong may take before the connection counts as lost. Defaults to 60,000.
    pub ping_timeout_ms: u64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { ping_interval_ms: 25_000, ping_timeout_ms: 60_000 }
    }
}

/// `[client]`: hints sent to every client in `connected`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    /// Whether clients should reconnect by themselves. Defaults to true.
    pub reconnection_enabled: bool,
    /// How often they should try. Defaults to 5.
    pub reconnection_attempts: u32,
    /// How long they should wait before the first try. Defaults to 1,000.
    pub reconnection_delay_ms: u64,
}

impl Default for Client {
    fn default() -> Self {
        Self { reconnection_enabled: true, reconnection_attempts: 5, reconnection_delay_ms: 1_000 }
    }
}

/// `[subscriptions]`: what a client receives without asking.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subscriptions {
    /// When the implicit subscription to one's whole organization ends. Defaults to `per_channel`.
    pub implicit: Implicit,
}

/// When the implicit subscription of an authenticated socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Implicit {
    /// For each channel, at the first `subscribe` to that channel.
    #[default]
    PerChannel,
    /// For all channels, at the first `subscribe`.
    UntilFirst,
    /// There is none.
    None,
}

/// `[events]`: the catalogue and its forms.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Forms of an event that a socket gets if it does not choose. Defaults to `both`.
    pub forms: Forms,
    /// `[[events.custom]]`: further events.
    pub custom: Vec<CustomEvent>,
    /// `[[events.freshness]]`: channels whose silence is announced.
    pub freshness: Vec<Freshness>,
}

impl Events {
    /// The built-in catalogue and the events beside it.
    pub fn catalogue(&self) -> Catalogue {
        let declared = self.custom.iter().map(|event| Declared {
            name: event.name.clone(),
            channel: event.channel.clone(),
            priority: event.priority,
            entity: event.entity.clone(),
            conflated: event.conflated,
            history: event.history,
        });
        Catalogue::new(&declared.collect::<Vec<_>>())
    }
}

/// `[[events.custom]]`: one event beside the built-in catalogue.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomEvent {
    /// Name of the event, such as `order:shipped`.
    pub name: String,
    /// Channel that subscribers name; a new one is created by using it.
    pub channel: String,
    /// Priority when the publisher names none. Defaults to `medium`.
    #[serde(default)]
    pub priority: Priority,
    /// Field of the payload that identifies what the event is about. Defaults to the scope.
    #[serde(default)]
    pub entity: Option<String>,
    /// Whether a newer event may replace an older one that waits. Defaults to false.
    #[serde(default)]
    pub conflated: bool,
    /// Whether the event is kept for later readers. Defaults to true.
    #[serde(default = "yes")]
    pub history: bool,
}

/// `[[events.freshness]]`: how often something new is expected on a channel.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freshness {
    /// The channel.
    pub channel: String,
    /// How long a scope may be silent on it before its subscribers are told.
    pub expected_interval_ms: u64,
}

fn yes() -> bool {
    true
}

/// `[compression]`: compression of what is sent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compression {
    /// Whether anything is compressed. Defaults to true.
    pub compression_enabled: bool,
    /// Smaller messages and responses are sent as they are. Defaults to 1,024.
    pub compression_threshold_bytes: u16,
}

impl Default for Compression {
    fn default() -> Self {
        Self { compression_enabled: true, compression_threshold_bytes: 1_024 }
    }
}

/// `[outbox]`: what may wait for one connection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbox {
    /// Bytes that may wait; beyond, events of low priority are dropped and newer values replace older ones. Defaults
    /// to 1,048,576 (1 MiB).
    pub soft_limit_bytes: usize,
    /// Bytes that may wait; beyond, the connection is cut and the client comes back. Defaults to 8,388,608 (8 MiB).
    pub hard_limit_bytes: usize,
    /// How long a reader may take nothing before it is cut. Defaults to 15,000.
    pub write_stall_timeout_ms: u64,
    /// Bytes that the kernel may take for one connection before anything waits in its outbox; Linux doubles it for
    /// its own accounting. What it has taken cannot be overtaken. Defaults to 131,072 (128 KiB).
    pub socket_buffer_bytes: usize,
    /// Packets that may wait for a client on polling. Defaults to 1,024.
    pub polling_queue_packets: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            soft_limit_bytes: 1_048_576,
            hard_limit_bytes: 8_388_608,
            write_stall_timeout_ms: 15_000,
            socket_buffer_bytes: 131_072,
            polling_queue_packets: 1_024,
        }
    }
}

/// `[recovery]`: what becomes of a client that loses its connection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recovery {
    /// Whether clients are given a `pid`, and events a position, with which they can take their session up again.
    /// Defaults to true.
    pub enabled: bool,
    /// How long a session waits for its client. Defaults to 120,000.
    pub max_disconnection_ms: u64,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { enabled: true, max_disconnection_ms: 120_000 }
    }
}

/// `[offline]`: what waits for users who are not there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Offline {
    /// Whether events that name a user, and those that have to be acknowledged, wait for users without a socket, and
    /// sessions are remembered under the client's own `session_id`. Defaults to true.
    pub enabled: bool,
    /// How long they wait, and are remembered. Defaults to 86,400,000.
    pub ttl_ms: u64,
    /// Events that wait for one user; the oldest go first. Defaults to 100.
    pub max_events_per_user: usize,
    /// Sessions that are remembered; the first to end are forgotten first. Defaults to 10,000.
    pub max_sessions: usize,
}

impl Default for Offline {
    fn default() -> Self {
        Self { enabled: true, ttl_ms: 86_400_000, max_events_per_user: 100, max_sessions: 10_000 }
    }
}

/// `[presence]`: who is there, and with which status.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// Whether it is known who is there, and announced. Defaults to true.
    pub enabled: bool,
    /// How long a user may be without a socket before others are told so. Defaults to 5,000.
    pub grace_ms: u64,
}

impl Default for Presence {
    fn default() -> Self {
        Self { enabled: true, grace_ms: 5_000 }
    }
}

/// `[escalation]`: what happens when nobody acknowledges an urgent event in time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Escalation {
    /// Whether `alert:escalated` is published to the scope of the event. Defaults to false.
    pub publish: bool,
    /// URL that is sent a POST; none if it is empty, as it is by default.
    pub url: String,
    /// Secret that such a POST is signed with; none if it is empty, as it is by default.
    pub secret: Secret,
    /// How long such a POST may take. Defaults to 5,000.
    pub timeout_ms: u64,
}

impl Escalation {
    /// Whether anything happens at all.
    pub fn is_on(&self) -> bool {
        self.publish || !self.url.is_empty()
    }
}

impl Default for Escalation {
    fn default() -> Self {
        Self { publish: false, url: String::new(), secret: Secret::default(), timeout_ms: 5_000 }
    }
}

/// `[log]`: the log of what was published.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Where entries are kept. Defaults to `disk`.
    pub store: LogStore,
    /// Folder of the disk store; one that is not absolute is beside the configuration file. Defaults to `data`.
    pub path: String,
    /// When a publication counts as kept. Defaults to `batch`.
    pub durability: Durability,
    /// Number of shards; an organization lives in one. Defaults to 8.
    pub shards: u16,
    /// Entries kept per shard. Defaults to 10,000.
    pub max_entries: usize,
    /// Bytes kept per shard. Defaults to 33,554,432 (32 MiB).
    pub max_bytes: usize,
    /// Age at which an entry on the disk goes. Defaults to 86,400,000 (a day).
    pub max_age_ms: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            store: LogStore::Disk,
            path: "data".into(),
            durability: Durability::Batch,
            shards: 8,
            max_entries: 10_000,
            max_bytes: 33_554_432,
            max_age_ms: 86_400_000,
        }
    }
}

/// Where entries of the log are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStore {
    /// In this process; gone when it stops.
    Memory,
    /// In files.
    Disk,
    /// In Redis, which the nodes of a cluster share.
    Redis,
}

/// When a publication counts as kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// At once; a process that is killed may lose the last moments.
    None,
    /// When the system has it: a process that is killed loses nothing, a power cut the last 5 ms.
    Batch,
    /// When it is on the disk.
    Always,
}

/// `[logging]`: log lines.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// Whether anything is logged. Defaults to true.
    pub enable_logging: bool,
    /// A line for each message (name, size and scope; never the payload). Defaults to false.
    pub log_all_messages: bool,
    /// A line for each connection that comes or goes. Defaults to true.
    pub log_connection_events: bool,
    /// A line for each subscription. Defaults to true.
    pub log_subscription_events: bool,
    /// A line for each broadcast. Defaults to false.
    pub log_broadcast_events: bool,
    /// A line for everything that is published, disconnected, revoked or minted, and for what of it is refused: who and
    /// what, never the payload. Defaults to true.
    pub audit: bool,
    /// Shape of the lines. Defaults to `text`.
    pub format: LoggingFormat,
    /// Least important level that is written, or a filter such as `tiercast=debug`. Defaults to `info`.
    pub level: String,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            enable_logging: true,
            log_all_messages: false,
            log_connection_events: true,
            log_subscription_events: true,
            log_broadcast_events: false,
            audit: true,
            format: LoggingFormat::Text,
            level: "info".into(),
        }
    }
}

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoggingFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
