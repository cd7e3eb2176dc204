//! The plain doors: WebSockets that do not speak Socket.IO, each at a path or a listener of its own.

mod clients;
mod list;
mod open;

pub use list::{PlainDoor, plain_doors};

pub(super) use clients::Clients;
pub(super) use open::{Entrance, first, only};
