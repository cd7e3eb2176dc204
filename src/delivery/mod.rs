//! Delivery: from an entry of the log to the sockets that receive it.
//!
//! Rooms stay in socketioxide's local adapter; ours knows in addition what each
//! socket wants and the connection it is on. Delivery does no I/O: it hands
//! shared frames to outboxes, or packets to socketioxide for sockets that
//! on polling.

mod adapter;
mod deliver;
mod directory;
mod interest;
mod recipient;
mod rendered;

pub use adapter::RoomAdapter;
pub use deliver::{Delivered, deliver};
pub use directory::Directory;
pub use interest::{Interest, Subscription};
pub use recipient::Recipient;
