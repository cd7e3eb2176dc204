//! Keys of `[server]`.

use serde::Deserialize;

/// `[server]`: where to listen and how to stop.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address to listen on. Defaults to `127.0.0.1`.
    pub host: String,
    /// Port to listen on; 0 picks a free one. Defaults to 5000.
    pub port: u16,
    /// Path of the Socket.IO door. Defaults to `/ws`.
    pub path: String,
    /// Further paths of the Socket.IO door, for tools with a fixed path. Defaults to `["/socket.io"]`.
    pub path_aliases: Vec<String>,
    /// Browser origins that may connect; the server's own origin always may, and `*` means any.
    /// Defaults to `http://localhost:3000` and `http://localhost:5173`.
    pub cors_origins: Vec<String>,
    /// How long a stopping server waits for what is under way. Defaults to 5,000.
    pub shutdown_grace_ms: u64,
    /// How long a client may take to send the head of a request. Defaults to 10,000.
    pub header_timeout_ms: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 5000,
            path: "/ws".into(),
            path_aliases: vec!["/socket.io".into()],
            cors_origins: vec!["http://localhost:3000".into(), "http://localhost:5173".into()],
            shutdown_grace_ms: 5_000,
            header_timeout_ms: 10_000,
        }
    }
}
