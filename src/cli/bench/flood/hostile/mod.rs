//! What attackers do, and how the server takes it.
//!
//! An attack is a function that runs on one connection until that ends; its
//! attacker then begins again. Nothing here is faster than its pace: the
//! attackers share the machine with the server that they attack.

mod attacker;
mod connects;
mod crowd;
mod drips;
mod frames;
mod idlers;
mod kind;
mod members;
mod polls;
mod strangers;
mod tally;
mod wire;

pub(super) use crowd::Crowd;
pub(super) use kind::Kind;
pub(super) use tally::{Tallies, Tally};
