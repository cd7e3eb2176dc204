//! Delivery: from an entry of the log to the sockets that receive it.
//!
//! A namespace's adapter knows its rooms, and a recipient what it wants and the
//! connection it is on. Delivery does no I/O: it hands
//! shared frames to outboxes, or packets to socketioxide for sockets
//! on polling.

mod adapter;
mod answers;
mod batcher;
mod deliver;
mod directory;
mod interest;
mod recipient;
mod rendered;
mod rooms;

pub use adapter::RoomAdapter;
pub use answers::AnswerTo;
pub use deliver::{Delivered, deliver, rooms_of};
pub use directory::Directory;
pub use interest::{Interest, Subscription, reaches};
pub use recipient::Recipient;
pub use rendered::{entity_of, envelope, is_large, prepare, value_of};
