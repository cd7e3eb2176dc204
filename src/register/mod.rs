//! AV-Gym's register: who is in, since when, and the figures of the day.
//!
//! It stands in for the gym's own service where there is none. Nothing here
//! publishes or knows sockets: a call changes the register and returns what
//! clients are to be told of it. Open check-ins and the figures of the day are
//! written to a file, so that they outlive the process.

mod change;
mod member;
mod members;
mod record;
mod register;
mod saved;

pub use change::{Change, Direction};
pub use member::{Member, MemberId};
pub use members::{MembersError, read as read_members};
pub use record::Record;
pub use register::{Refusal, Register, Settings, Statistics};
