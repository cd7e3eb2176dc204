//! Sessions on polling that live on another node: what comes for them to the wrong node is passed on to the right one.
//!
//! The session id that a client on polling is told begins with its node's, so nothing is looked up anywhere, and a
//! server alone has nothing of all this. Nodes reach each other at listeners of their own, where every request carries
//! a proof of the cluster's secret, and from where nothing is passed on a second time.

mod entrance;
mod neighbours;
mod pass_on;
mod tunnel;

pub(super) use self::entrance::{PATH, receive};
pub use self::neighbours::Neighbours;
pub(super) use self::pass_on::pass_on;
pub(super) use self::tunnel::Tunnels;
