//! Counters that operators read.

mod counters;

pub use counters::{Counters, Lost, Totals};
