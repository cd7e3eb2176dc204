//! Keys of `[limits]`.

use serde::Deserialize;

/// `[limits]`: what a client may use.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections this process accepts. Defaults to 1,000.
    pub max_connections_total: usize,
    /// Connections one organization may hold. Defaults to 100.
    pub max_connections_per_org: usize,
    /// Largest message, on both transports. Defaults to 1,048,576 (1 MiB).
    pub max_message_size_bytes: usize,
    /// Messages one socket may send in a second. Defaults to 100.
    pub rate_limit_messages_per_second: u32,
    /// Sockets one subscription room may hold. Defaults to 1,000.
    pub room_max_size: usize,
    /// Time between two clean-ups of empty namespaces. Defaults to 300,000.
    pub room_cleanup_interval_ms: u64,
    /// Events of one socket that may wait for their turn. Defaults to 1,000.
    pub max_queued_events: usize,
    /// Subscriptions one socket may hold. Defaults to 100.
    pub max_subscriptions_per_socket: usize,
    /// Namespaces one connection may be in at once. Defaults to 16.
    pub max_namespaces_per_connection: usize,
    /// New connections in a second; more wait for their turn, a quarter of them comes at once. 0 is no bound. Defaults
    /// to 2,000.
    pub max_connects_per_second: u32,
    /// How long a connection may take to enter its first namespace. Defaults to 10,000.
    pub connect_timeout_ms: u64,
    /// How long a socket may say nothing but heartbeats before it is cut; 0 is for ever. Defaults to 0.
    pub idle_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections_total: 1_000,
            max_connections_per_org: 100,
            max_message_size_bytes: 1_048_576,
            rate_limit_messages_per_second: 100,
            room_max_size: 1_000,
            room_cleanup_interval_ms: 300_000,
            max_queued_events: 1_000,
            max_subscriptions_per_socket: 100,
            max_namespaces_per_connection: 16,
            max_connects_per_second: 2_000,
            connect_timeout_ms: 10_000,
            idle_timeout_ms: 0,
        }
    }
}
