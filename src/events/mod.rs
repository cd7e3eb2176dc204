//! Events: the catalogue, priorities, and what is read of a payload.
//!
//! Pure functions; nothing here awaits. A payload is never rewritten: only the
//! fields needed for routing, filters and priority are looked at.

mod catalogue;
mod facts;
mod filter;
mod priority;

pub use catalogue::{Catalogue, ChannelMask, Declared, EventSpec};
pub use facts::Facts;
pub use filter::{Filters, Severity};
pub use priority::Priority;
