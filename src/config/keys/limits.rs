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
    /// Connections one user may hold; 0 is no bound. Defaults to 0.
    pub max_connections_per_user: usize,
    /// TCP connections one address may hold, an IPv6 address standing for its /64; 0 is no bound. Defaults to 0.
    pub max_connections_per_address: usize,
    /// TCP connections that have not asked for anything yet; beyond that the oldest makes room. Defaults to 1,024.
    pub max_half_open_connections: usize,
    /// Share of `max_connections_total` for connections that are not authenticated, in per cent. Defaults to 75.
    pub max_unauthenticated_percent: u8,
    /// Connections of one address that are not authenticated; 0 is no bound but that share. Defaults to 0.
    pub max_unauthenticated_per_address: usize,
    /// Largest message, or body on polling, of a connection that is not authenticated. Defaults to 65,536 (64 KiB).
    pub max_unauthenticated_message_bytes: usize,
    /// Largest head of a request. Defaults to 16,384 (16 KiB).
    pub max_request_head_bytes: usize,
    /// Longest query of a request. Defaults to 8,192 (8 KiB).
    pub max_query_bytes: usize,
    /// Largest message, on both transports. Defaults to 1,048,576 (1 MiB).
    pub max_message_size_bytes: usize,
    /// Messages one socket may send in a second. Defaults to 100.
    pub rate_limit_messages_per_second: u32,
    /// Bytes of messages one connection may send in a second, and at once; 0 is no bound. Defaults to 4,194,304 (4 MiB).
    pub rate_limit_bytes_per_second: u32,
    /// Attachments one event may have. Defaults to 64.
    pub max_attachments_per_event: u16,
    /// Sockets one subscription room may hold. Defaults to 1,000.
    pub room_max_size: usize,
    /// Time between two clean-ups of empty namespaces. Defaults to 300,000.
    pub room_cleanup_interval_ms: u64,
    /// Events of one socket that may wait for their turn. Defaults to 1,000.
    pub max_queued_events: usize,
    /// Bytes of one socket's events that may wait for their turn. Defaults to 4,194,304 (4 MiB).
    pub max_queued_bytes: usize,
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

impl Limits {
    /// Connections that may be unauthenticated at once.
    pub fn max_unauthenticated(&self) -> usize {
        let percent = usize::from(self.max_unauthenticated_percent);
        self.max_connections_total.saturating_mul(percent).div_ceil(100)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections_total: 1_000,
            max_connections_per_org: 100,
            max_connections_per_user: 0,
            max_connections_per_address: 0,
            max_half_open_connections: 1_024,
            max_unauthenticated_percent: 75,
            max_unauthenticated_per_address: 0,
            max_unauthenticated_message_bytes: 65_536,
            max_request_head_bytes: 16_384,
            max_query_bytes: 8_192,
            max_message_size_bytes: 1_048_576,
            rate_limit_messages_per_second: 100,
            rate_limit_bytes_per_second: 4_194_304,
            max_attachments_per_event: 64,
            room_max_size: 1_000,
            room_cleanup_interval_ms: 300_000,
            max_queued_events: 1_000,
            max_queued_bytes: 4_194_304,
            max_subscriptions_per_socket: 100,
            max_namespaces_per_connection: 16,
            max_connects_per_second: 2_000,
            connect_timeout_ms: 10_000,
            idle_timeout_ms: 0,
        }
    }
}
