//! The range of every number.

use super::Finding;
use crate::config::{Config, MAX_BATCH_MS};

/// What belongs at a key that holds a number, such as "an integer of at least 1".
pub(in crate::config) fn range(key: &str) -> Option<String> {
    RANGES.iter().find(|range| range.key == key).map(Range::expected)
}

/// Every number outside its range.
pub(super) fn problems(config: &Config) -> Vec<Finding> {
    let outside = RANGES.iter().filter_map(|range| {
        let number = (range.of)(config);
        (!(range.least..=range.most).contains(&number)).then(|| Finding {
            keys: vec![range.key.to_owned()],
            message: format!("expected {}, found {number}", range.expected()),
        })
    });
    outside.collect()
}

struct Range {
    key: &'static str,
    of: fn(&Config) -> u64,
    least: u64,
    most: u64,
}

const fn at_least(least: u64, key: &'static str, of: fn(&Config) -> u64) -> Range {
    Range { key, of, least, most: u64::MAX }
}

const fn between(least: u64, most: u64, key: &'static str, of: fn(&Config) -> u64) -> Range {
    Range { key, of, least, most }
}

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const MIB: u64 = 1_048_576;
const MILLION: u64 = 1_000_000;
const U16: u64 = u16::MAX as u64;
const U32: u64 = u32::MAX as u64;

const RANGES: &[Range] = &[
    between(0, U16, "server.port", |c| c.server.port.into()),
    between(0, HOUR_MS, "server.shutdown_grace_ms", |c| c.server.shutdown_grace_ms),
    between(0, DAY_MS, "server.drain_ms", |c| c.server.drain_ms),
    between(0, HOUR_MS, "server.drain_notice_ms", |c| c.server.drain_notice_ms),
    between(1, HOUR_MS, "server.header_timeout_ms", |c| c.server.header_timeout_ms),
    between(1, HOUR_MS, "server.body_timeout_ms", |c| c.server.body_timeout_ms),
    between(100, DAY_MS, "server.tls.reload_interval_ms", |c| c.server.tls.reload_interval_ms),
    between(1, DAY_MS, "heartbeat.ping_interval_ms", |c| c.heartbeat.ping_interval_ms),
    between(1, DAY_MS, "heartbeat.ping_timeout_ms", |c| c.heartbeat.ping_timeout_ms),
    between(50, HOUR_MS, "cluster.redis_timeout_ms", |c| c.cluster.redis_timeout_ms),
    between(1, MILLION, "cluster.buffer_entries", |c| c.cluster.buffer_entries as u64),
    between(50, HOUR_MS, "cluster.heartbeat_ms", |c| c.cluster.heartbeat_ms),
    between(100, HOUR_MS, "cluster.node_timeout_ms", |c| c.cluster.node_timeout_ms),
    between(10, HOUR_MS, "cluster.request_timeout_ms", |c| c.cluster.request_timeout_ms),
    between(1, 10 * MILLION, "cluster.ingress_max_entries", |c| c.cluster.ingress_max_entries as u64),
    between(0, U32, "client.reconnection_attempts", |c| c.client.reconnection_attempts.into()),
    between(0, DAY_MS, "client.reconnection_delay_ms", |c| c.client.reconnection_delay_ms),
    between(1, DAY_MS, "auth.auth_timeout_ms", |c| c.auth.auth_timeout_ms),
    between(0, HOUR_MS, "auth.refresh_grace_ms", |c| c.auth.refresh_grace_ms),
    between(DAY_MS, 400 * DAY_MS, "auth.revocation_ttl_ms", |c| c.auth.revocation_ttl_ms),
    between(1_000, 400 * DAY_MS, "auth.jwt.token_ttl_ms", |c| c.auth.jwt.token_ttl_ms),
    between(0, 400 * DAY_MS, "auth.jwt.refresh_ttl_ms", |c| c.auth.jwt.refresh_ttl_ms),
    between(1_000, DAY_MS, "auth.jwt.jwks_refresh_ms", |c| c.auth.jwt.jwks_refresh_ms),
    between(100, HOUR_MS, "auth.jwt.jwks_min_refresh_ms", |c| c.auth.jwt.jwks_min_refresh_ms),
    between(1, 60_000, "auth.jwt.jwks_timeout_ms", |c| c.auth.jwt.jwks_timeout_ms),
    between(10, HOUR_MS, "auth.jwt.key_files_check_ms", |c| c.auth.jwt.key_files_check_ms),
    between(0, HOUR_MS, "auth.jwt.leeway_ms", |c| c.auth.jwt.leeway_ms),
    at_least(1, "limits.max_connections_total", |c| c.limits.max_connections_total as u64),
    at_least(1, "limits.max_connections_per_org", |c| c.limits.max_connections_per_org as u64),
    at_least(0, "limits.max_connections_per_user", |c| c.limits.max_connections_per_user as u64),
    at_least(0, "limits.max_connections_per_address", |c| c.limits.max_connections_per_address as u64),
    at_least(1, "limits.max_half_open_connections", |c| c.limits.max_half_open_connections as u64),
    between(1, 100, "limits.max_unauthenticated_percent", |c| c.limits.max_unauthenticated_percent.into()),
    at_least(0, "limits.max_unauthenticated_per_address", |c| c.limits.max_unauthenticated_per_address as u64),
    between(1_024, 64 * MIB, "limits.max_unauthenticated_message_bytes", |c| {
        c.limits.max_unauthenticated_message_bytes as u64
    }),
    between(1_024, MIB, "limits.max_request_head_bytes", |c| c.limits.max_request_head_bytes as u64),
    between(256, MIB, "limits.max_query_bytes", |c| c.limits.max_query_bytes as u64),
    between(1_024, 64 * MIB, "limits.max_message_size_bytes", |c| c.limits.max_message_size_bytes as u64),
    between(1, U32, "limits.rate_limit_messages_per_second", |c| c.limits.rate_limit_messages_per_second.into()),
    between(0, U32, "limits.rate_limit_bytes_per_second", |c| c.limits.rate_limit_bytes_per_second.into()),
    between(0, 10_000, "limits.max_attachments_per_event", |c| c.limits.max_attachments_per_event.into()),
    at_least(1, "limits.room_max_size", |c| c.limits.room_max_size as u64),
    between(1_000, DAY_MS, "limits.room_cleanup_interval_ms", |c| c.limits.room_cleanup_interval_ms),
    at_least(1, "limits.max_queued_events", |c| c.limits.max_queued_events as u64),
    at_least(1, "limits.max_queued_bytes", |c| c.limits.max_queued_bytes as u64),
    at_least(1, "limits.max_subscriptions_per_socket", |c| c.limits.max_subscriptions_per_socket as u64),
    between(0, MILLION, "limits.max_connects_per_second", |c| c.limits.max_connects_per_second.into()),
    at_least(1, "limits.max_namespaces_per_connection", |c| c.limits.max_namespaces_per_connection as u64),
    between(1, DAY_MS, "limits.connect_timeout_ms", |c| c.limits.connect_timeout_ms),
    between(0, 30 * DAY_MS, "limits.idle_timeout_ms", |c| c.limits.idle_timeout_ms),
    between(0, U16, "compression.compression_threshold_bytes", |c| c.compression.compression_threshold_bytes.into()),
    at_least(0, "outbox.soft_limit_bytes", |c| c.outbox.soft_limit_bytes as u64),
    at_least(1_024, "outbox.hard_limit_bytes", |c| c.outbox.hard_limit_bytes as u64),
    between(1, DAY_MS, "outbox.write_stall_timeout_ms", |c| c.outbox.write_stall_timeout_ms),
    between(4_096, 64 * 1_024 * 1_024, "outbox.socket_buffer_bytes", |c| c.outbox.socket_buffer_bytes as u64),
    at_least(1, "outbox.polling_queue_packets", |c| c.outbox.polling_queue_packets as u64),
    between(1, DAY_MS, "recovery.max_disconnection_ms", |c| c.recovery.max_disconnection_ms),
    between(1_000, 365 * DAY_MS, "offline.ttl_ms", |c| c.offline.ttl_ms),
    between(1, 10_000, "offline.max_events_per_user", |c| c.offline.max_events_per_user as u64),
    at_least(1, "offline.max_sessions", |c| c.offline.max_sessions as u64),
    between(0, HOUR_MS, "presence.grace_ms", |c| c.presence.grace_ms),
    between(1, HOUR_MS, "escalation.timeout_ms", |c| c.escalation.timeout_ms),
    between(1, 1_024, "log.shards", |c| c.log.shards.into()),
    at_least(1, "log.max_entries", |c| c.log.max_entries as u64),
    at_least(1, "log.max_bytes", |c| c.log.max_bytes as u64),
    between(1_000, 365 * DAY_MS, "log.max_age_ms", |c| c.log.max_age_ms),
    between(1, DAY_MS, "doors.demo.interval_ms", |c| c.doors.demo.interval_ms),
    between(0, MAX_BATCH_MS, "doors.gym.batch_ms", |c| c.doors.gym.batch_ms),
    between(1, 7 * DAY_MS, "api.idempotency_window_ms", |c| c.api.idempotency_window_ms),
    between(1, 10_000, "api.max_batch_items", |c| c.api.max_batch_items as u64),
    between(0, MILLION, "api.publishes_per_second_per_key", |c| c.api.publishes_per_second_per_key.into()),
    between(0, MILLION, "api.publishes_per_second_per_org", |c| c.api.publishes_per_second_per_org.into()),
    between(0, MILLION, "api.reads_per_second_per_key", |c| c.api.reads_per_second_per_key.into()),
    between(0, MILLION, "api.refusals_per_minute_per_address", |c| c.api.refusals_per_minute_per_address.into()),
    between(1, HOUR_MS, "api.ack_timeout_ms", |c| c.api.ack_timeout_ms),
    between(1, HOUR_MS, "api.max_ack_timeout_ms", |c| c.api.max_ack_timeout_ms),
];

impl Range {
    fn expected(&self) -> String {
        match self {
            Self { least, most: u64::MAX, .. } => format!("an integer of at least {least}"),
            Self { least, most, .. } => format!("an integer from {least} to {most}"),
        }
    }
}
