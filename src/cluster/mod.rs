//! The nodes of a cluster: who lives, who leads, and questions from one to the others.
//!
//! A server alone is a cluster of one and has none of the tasks. Between nodes there is nothing but Redis, whose clock
//! is the only one that counts: see `beat.lua`. What is asked is for the layers above; they register who answers.

mod beat;
mod cluster;
mod copying;
mod figures;
mod handlers;
mod inbox;
mod me;
mod member;
mod moving;
mod node;
mod questions;
mod secret;
mod standing;

pub use self::cluster::Cluster;
pub use self::figures::{Figures, RedisFigure};
pub use self::moving::{Move, Moved, Outcome};
pub use self::node::{Node, NodeId};
pub use self::questions::{Answer, Answers};
pub use self::secret::SharedSecret;
