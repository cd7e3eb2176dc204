//! The hub: the one way to publish.
//!
//! A publication becomes an entry of the log; the sequencer of its shard
//! delivers it in offset order; receipts gather who acknowledged. The hub knows
//! what an event is and where it goes, and never decides who may publish it.

mod history;
mod publication;
mod publish;
mod receipts;
mod replay;
mod sequencer;
mod since;

pub use history::History;
pub use publication::{Publication, Target};
pub use publish::{Hub, Published};
pub use receipts::{Acknowledged, Progress, Receipts};
pub use replay::Missed;
pub use since::{CatchUp, Replayed, Since};
