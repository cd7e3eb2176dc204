//! What the nodes of a cluster have noticed: one of them announces it, and the next one to lead what that one left.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::book::{Change, Pair};

/// Pairs whose announced silence is remembered.
const ROOM: usize = 10_000;

/// What the log has announced, and what this node has noticed beyond that.
#[derive(Debug, Default)]
pub(super) struct Unsaid {
    /// Those whose silence was announced, and nothing else after that.
    silent: HashSet<Pair>,
    waiting: HashMap<Arc<Pair>, Change>,
}

impl Unsaid {
    /// Knows of pairs whose silence was announced.
    pub(super) fn knowing(silent: impl Iterator<Item = Pair>) -> Self {
        Self { silent: silent.take(ROOM).collect(), waiting: HashMap::new() }
    }

    /// What is to be announced of changes that were noticed: by a node that leads what nobody has said, and by others
    /// nothing, as long as one may.
    pub(super) fn of(&mut self, changes: Vec<Change>, leads: bool) -> Vec<Change> {
        for change in changes {
            self.waiting.remove(&change.pair);
            if self.silent.contains(&*change.pair) != change.stale {
                self.waiting.insert(change.pair.clone(), change);
            }
        }
        if leads { self.waiting.drain().map(|(_, change)| change).collect() } else { Vec::new() }
    }

    /// The log says that a pair has fallen silent, or is live again.
    pub(super) fn said(&mut self, pair: Pair, stale: bool) {
        if self.waiting.get(&pair).is_some_and(|change| change.stale == stale) {
            self.waiting.remove(&pair);
        }
        if !stale {
            self.silent.remove(&pair);
        } else if self.silent.len() < ROOM {
            self.silent.insert(pair);
        }
    }

    /// Whether something waits for this node to lead.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::{Id, Scope};

    fn pair(organization: &str) -> Pair {
        let organization = Id::parse(organization).expect("an id");
        Pair { channel: 0, scope: Scope { organization, department: None, queue: None } }
    }

    fn change(organization: &str, stale: bool) -> Change {
        Change { pair: Arc::new(pair(organization)), stale, age_ms: 1 }
    }

    #[test]
    fn what_nobody_has_said_is_said_by_the_next_to_lead() {
        let mut unsaid = Unsaid::knowing([pair("known")].into_iter());
        assert!(unsaid.of(vec![change("a", true), change("b", true), change("known", true)], false).is_empty());
        unsaid.said(pair("b"), true);
        assert!(unsaid.waits());
        assert_eq!(unsaid.of(Vec::new(), true), [change("a", true)]);
        assert!(!unsaid.waits());
        // The one that led has said it a moment before.
        assert!(unsaid.of(vec![change("b", true)], true).is_empty());
        assert_eq!(unsaid.of(vec![change("b", false)], true), [change("b", false)]);
    }

    #[test]
    fn what_is_over_before_anybody_said_it_is_not_said() {
        let mut unsaid = Unsaid::default();
        unsaid.of(vec![change("a", true)], false);
        unsaid.of(vec![change("a", false)], false);
        assert!(unsaid.of(Vec::new(), true).is_empty());
    }
}
