//! Presence: who is there, by organization and user.
//!
//! A session attends with each socket that is let in and identified; a user
//! has the strongest status of its sockets. The book decides what is announced
//! and when, and one task publishes it through the hub. In a cluster every node
//! has the users of all nodes in its book, and the one that leads publishes.

mod announce;
mod book;
mod gone;
mod listing;
mod peers;
mod presence;
mod sharing;
mod snapshot;
mod status;

pub use listing::{Filter, Listing, UserView};
pub use presence::{Attendance, Presence};
pub use status::Status;
