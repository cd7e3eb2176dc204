//! Why something is not in Redis.

/// Why a record is not in Redis, or cannot be read from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// Redis does not answer; what was sent meanwhile may be there all the same.
    #[error("Redis at {0} does not answer; check that it runs and can be reached")]
    Away(String),
    /// Too many records wait for Redis.
    #[error("{0} records wait for Redis, the most allowed; see cluster.buffer_entries")]
    Full(usize),
    /// Redis answers that it does not do it.
    #[error("Redis at {server} refuses: {reason}")]
    Refused {
        /// Which server.
        server: String,
        /// What it says.
        reason: String,
    },
    /// This server stops.
    #[error("the server is stopping")]
    Stopping,
}
