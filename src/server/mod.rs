//! The server: the parts put together, started and stopped.

mod accept;
mod arrival;
mod certificates;
mod drain;
mod listeners;
mod proxies;
mod proxy_protocol;
mod reception;
mod start;
mod stop;

pub use certificates::{Unusable, check_certificates};
pub use start::{Census, Server};
