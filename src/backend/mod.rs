//! Calls to the services behind the dashboards.

mod signed;

pub use signed::{Backend, CallError};
