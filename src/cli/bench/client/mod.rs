//! One client: how it connects, what it says, and what it counts.

mod conversation;
mod either;
mod heard;
mod polling;
mod websocket;

pub(super) use either::Client;
pub(super) use polling::{request as poll_request, sid};
