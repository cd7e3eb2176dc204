//! Redis, as the place that the nodes of a cluster share: which server a key lives on, and connections to it.
//!
//! It knows nothing of what is kept there; `log` and `cluster` do.

mod connection;
mod dial;
mod keys;
mod redis;
mod server;

pub use self::connection::Connection;
pub use self::keys::Keys;
pub use self::redis::Redis;
pub use self::server::Server;
