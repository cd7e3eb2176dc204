//! Client events: what becomes of an event that is none of the server's own.
//!
//! A rule of the configuration decides, and else a built-in one of the door
//! that the socket came in by. An event may be published, passed to a service
//! that answers it, or change the register; what takes its time holds the
//! socket's queue meanwhile, so that its events stay in order.

mod attachments;
mod dispatch;
mod forward;
mod gym;
mod relay;
mod reply;
mod rules;
mod workmatrix;

pub(super) use dispatch::{Handled, Sent, handle, takes_attachments};
pub(super) use reply::Reply;
pub use rules::ClientEvents;
