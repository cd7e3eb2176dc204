//! Ack ids on the wire: each is given out once, over restarts and over nodes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::now_ms;

/// Ack ids that socketioxide never uses: it counts up from 1.
const FIRST: u64 = 1 << 40;

/// Ack ids of a millisecond: those of an earlier process, whose entries may be replayed, are not used again.
const PER_MS: u64 = 1_000;

/// The same for each node of a cluster.
const PER_MS_OF_NODE: u64 = 4;

/// Nodes of a cluster that live at a time, at most.
const NODES: u64 = 1_024;

/// 2020-01-01, in milliseconds since the epoch: ids stay below 2^53, which is as far as JavaScript counts.
const BEGINNING_MS: i64 = 1_577_836_800_000;

/// The ack ids of one node.
#[derive(Debug)]
pub(super) struct AckIds {
    next: AtomicU64,
    step: u64,
}

impl AckIds {
    /// The ids of a server that is alone, or of the node with this number.
    pub(super) fn new(node: Option<u16>) -> Self {
        Self::at(now_ms(), node)
    }

    fn at(now_ms: i64, node: Option<u16>) -> Self {
        let (first, step) = match node {
            None => (now_ms.unsigned_abs() * PER_MS, 1),
            Some(node) => {
                let since = now_ms.saturating_sub(BEGINNING_MS).unsigned_abs();
                (since * PER_MS_OF_NODE * NODES + u64::from(node) % NODES, NODES)
            }
        };
        Self { next: AtomicU64::new(FIRST + first), step }
    }

    /// An id that was not given out before.
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(self.step, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_nodes_give_out_the_same_id_and_javascript_can_count_them() {
        let year_2060 = 2_840_140_800_000;
        let ids = |node| {
            let ids = AckIds::at(year_2060, node);
            (0..1_000).map(|_| ids.next()).collect::<Vec<_>>()
        };
        let (alone, first, last) = (ids(None), ids(Some(0)), ids(Some(1_023)));
        assert!(first.iter().all(|id| !last.contains(id)));
        assert!([alone, first, last].concat().iter().all(|id| (FIRST..1 << 53).contains(id)));
    }
}
