//! This node, and what the others are told of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::node::Node;

/// This node.
pub(super) struct Me {
    /// What does not change.
    pub(super) node: Node,
    draining: AtomicBool,
    sockets: OnceLock<Box<dyn Fn() -> usize + Send + Sync>>,
}

impl Me {
    pub(super) fn new(node: Node) -> Self {
        Self { node, draining: AtomicBool::new(false), sockets: OnceLock::new() }
    }

    /// This node as it is now.
    pub(super) fn described(&self) -> Node {
        let sockets = self.sockets.get().map_or(0, |count| count());
        Node { draining: self.draining.load(Ordering::Relaxed), sockets, ..self.node.clone() }
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn count_with(&self, count: impl Fn() -> usize + Send + Sync + 'static) {
        self.sockets.set(Box::new(count)).ok();
    }
}

impl std::fmt::Debug for Me {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Me").field(&self.node).finish()
    }
}
