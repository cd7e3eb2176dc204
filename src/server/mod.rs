//! The server: the parts put together, started and stopped.

mod accept;
mod start;
mod stop;

pub use start::{Census, Server};
