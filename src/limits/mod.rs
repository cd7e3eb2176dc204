//! Limits: seats of the server and of organizations, and message rates.
//!
//! Services that answer yes or no and count exactly; what a refusal means is
//! decided by who asked. A seat frees itself when it is dropped.

mod book;
mod bucket;
mod pace;
mod seats;

pub use book::Book;
pub use bucket::{Bucket, Rate};
pub use pace::Pace;
pub use seats::{OrganizationSeats, Seat, Seats};
