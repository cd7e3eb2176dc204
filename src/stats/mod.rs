//! Counters that operators read.

mod counters;
mod refusals;

pub use counters::{Counters, Lost, Totals};
pub use refusals::Refusal;
