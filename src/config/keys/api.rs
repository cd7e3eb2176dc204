//! Keys of `[api]` and `[[api.keys]]`.

use serde::{Deserialize, Serialize};

/// `[api]`: the HTTP API.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Says that an API without keys on a public address is meant. Defaults to false.
    pub allow_keyless: bool,
    /// How long `?wait=ack` waits when the request does not say. Defaults to 5,000.
    pub ack_timeout_ms: u64,
    /// Longest `ack_timeout_ms` a request may ask for. Defaults to 60,000.
    pub max_ack_timeout_ms: u64,
    /// How long a call with an idempotency key is remembered. Defaults to 600,000 (ten minutes).
    pub idempotency_window_ms: u64,
    /// Broadcasts that one call of `POST /broadcast/batch` may hold. Defaults to 1,000.
    pub max_batch_items: usize,
    /// Events that one key may publish in a second, those of batches counted one by one; 0 is no bound. Defaults to 0.
    pub publishes_per_second_per_key: u32,
    /// Events that may be published to one organization in a second, by all keys together; 0 is no bound. Defaults to
    /// 0.
    pub publishes_per_second_per_org: u32,
    /// Calls that one key may make in a second which publish nothing, such as listings; 0 is no bound. Defaults to 500.
    pub reads_per_second_per_key: u32,
    /// Calls without a valid key that one address may make in a minute; 0 is no bound. Defaults to 60.
    pub refusals_per_minute_per_address: u32,
    /// `[[api.keys]]`: who may call.
    pub keys: Vec<ApiKey>,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            allow_keyless: false,
            ack_timeout_ms: 5_000,
            max_ack_timeout_ms: 60_000,
            idempotency_window_ms: 600_000,
            max_batch_items: 1_000,
            publishes_per_second_per_key: 0,
            publishes_per_second_per_org: 0,
            reads_per_second_per_key: 500,
            refusals_per_minute_per_address: 60,
            keys: Vec::new(),
        }
    }
}

/// `[[api.keys]]`: one key of the HTTP API; `tiercast key new` makes one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Name in log lines.
    pub name: String,
    /// `sha256:` and the SHA-256 of the key in hexadecimal; the key itself is never stored.
    pub hash: String,
    /// What the key may do.
    pub rights: Vec<Right>,
    /// Organizations it may touch; an absent list means all.
    #[serde(default)]
    pub organizations: Option<Vec<String>>,
    /// Events that it may publish in a second, in place of `api.publishes_per_second_per_key`.
    #[serde(default)]
    pub publishes_per_second: Option<u32>,
    /// Calls that it may make in a second which publish nothing, in place of `api.reads_per_second_per_key`.
    #[serde(default)]
    pub reads_per_second: Option<u32>,
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Publish events.
    Publish,
    /// Read stats, connections, rooms and receipts.
    Read,
    /// Disconnect sockets and publish to everyone.
    Admin,
}
