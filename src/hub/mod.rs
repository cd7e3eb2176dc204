//! The hub: the one way to publish.
//!
//! A publication becomes an entry of the log; the sequencer of its shard
//! delivers it in offset order; receipts gather who acknowledged, and what
//! users missed waits for them. The hub knows what an event is and where it
//! goes, and never decides who may publish it.

mod ack_ids;
mod acks;
mod ended;
mod escalation;
mod explanations;
mod following;
mod freshness;
mod history;
mod latest;
mod messages;
mod notes;
mod offline;
mod past;
mod publication;
mod publish;
mod receipts;
mod replay;
mod sequencer;
mod since;
mod tail;
mod turns;
mod until;
mod waiting;

pub use ended::Seen;
pub use following::Follower;
pub use history::History;
pub use offline::Owed;
pub use publication::{MAX_TARGETS, Publication, Target};
pub use publish::{Hub, Published};
pub use receipts::{Acknowledgement, Delivery, Progress};
pub use replay::Missed;
pub use since::{CatchUp, Replayed, Since};
pub use tail::Listener;
pub use until::until;
