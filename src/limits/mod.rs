//! Limits: open connections, newcomers, seats, the pace of handshakes, and rates.
//!
//! Services that answer yes or no and count exactly; what a refusal means is
//! decided by who asked. What they give frees itself when it is dropped, and an
//! address is forgotten with the last that came from it.

mod arrivals;
mod book;
mod bucket;
mod network;
mod newcomers;
mod pace;
mod seats;
mod shared_bucket;
mod shared_seats;

pub use arrivals::{Arrival, Arrivals};
pub use book::Book;
pub use bucket::{Bucket, Rate};
pub use network::Network;
pub use newcomers::{Newcomer, Newcomers};
pub use pace::Pace;
pub use seats::{Seat, Seats};
pub use shared_bucket::SharedBucket;
pub use shared_seats::{OrganizationSeats, SharedSeats, UserSeats};
