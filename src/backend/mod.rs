//! Calls to the services behind the dashboards.

mod breaker;
mod service;
mod signed;

pub use service::{AskError, Service, ServiceSettings};
pub use signed::{Answer, Backend, CallError};
