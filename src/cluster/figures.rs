//! Figures of a cluster, for operators.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::node::NodeId;

/// What operators read of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// This node.
    pub node: NodeId,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Nodes that live, this one included.
    pub nodes_living: usize,
    /// Questions that this node has asked another.
    pub questions_asked: u64,
    /// Those that were not answered in time.
    pub questions_unanswered: u64,
    /// The Redis servers.
    pub redis: Vec<RedisFigure>,
}

/// One Redis server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RedisFigure {
    /// Address and database, or the name of the master.
    pub server: String,
    /// Whether it has answered the last time it was asked.
    pub answers: bool,
}

/// How many questions this node has asked.
#[derive(Debug, Default)]
pub(super) struct Asked {
    asked: AtomicU64,
    unanswered: AtomicU64,
}

impl Asked {
    pub(super) fn count(&self, asked: usize, unanswered: usize) {
        self.asked.fetch_add(asked as u64, Ordering::Relaxed);
        self.unanswered.fetch_add(unanswered as u64, Ordering::Relaxed);
    }

    /// Asked, and not answered.
    pub(super) fn read(&self) -> (u64, u64) {
        (self.asked.load(Ordering::Relaxed), self.unanswered.load(Ordering::Relaxed))
    }
}
