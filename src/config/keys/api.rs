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
