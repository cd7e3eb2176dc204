//! The HTTP API under `/api/ws`, for backend services and operators.

pub(super) mod attempts;
pub(super) mod batch;
pub(super) mod body;
pub(super) mod broadcast;
mod caller;
pub(super) mod connections;
pub(super) mod drain;
mod error;
mod explanation;
pub(super) mod health;
pub(super) mod history;
pub(super) mod idempotency;
pub(super) mod messages;
pub(super) mod nodes;
mod others;
mod path;
pub(super) mod presence;
pub(super) mod rates;
mod reader;
pub(super) mod refusals;
pub(super) mod revocations;
pub(super) mod rooms;
mod shared_calls;
pub(super) mod stats;
mod targets;
pub(super) mod tokens;
mod totals;

pub(super) use caller::Caller;
pub(super) use error::{ApiError, nothing_here, wrong_method};
pub use others::answer_others;
pub(super) use path::Path;
