//! What became here of entries that other nodes have published and ask about.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::publish::Hub;
use crate::log::{Audience, Entry, Explanation, Report};

/// Entries that are remembered; the oldest go first.
const KEPT: usize = 256;

/// The explanations of one node.
#[derive(Debug, Default)]
pub(super) struct Explanations {
    newest: Mutex<VecDeque<Told>>,
    changed: Notify,
}

#[derive(Debug)]
struct Told {
    message_id: String,
    report: Report,
    /// Shards that have still to deliver it.
    left: usize,
}

impl Explanations {
    /// A shard has delivered an entry that so many shards deliver.
    fn add(&self, message_id: &str, shards: usize, report: Report) {
        {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(told) = newest.iter_mut().find(|told| told.message_id == message_id) {
                told.report.add(report);
                told.left = told.left.saturating_sub(1);
            } else {
                newest.push_back(Told { message_id: message_id.to_owned(), report, left: shards - 1 });
            }
            if newest.len() > KEPT {
                newest.pop_front();
            }
        }
        self.changed.notify_waiters();
    }

    /// Takes the whole of what became of an entry, as soon as it is known.
    async fn take(&self, message_id: &str) -> Report {
        loop {
            // Registered before the look, so that what comes between the two is not missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
                let is_it = |told: &Told| told.message_id == message_id && told.left == 0;
                if let Some(told) = newest.iter().position(is_it).and_then(|place| newest.remove(place)) {
                    return told.report;
                }
            }
            changed.await;
        }
    }
}

impl Hub {
    /// What became here of an entry that another node has published and that asks for it: waits for its delivery.
    pub async fn explained(&self, message_id: &str) -> (usize, Explanation) {
        let report = self.explanations.take(message_id).await;
        (report.recipients, report.explanation.unwrap_or_default())
    }

    /// An entry of another node was delivered here.
    pub(super) fn explain(&self, entry: &Entry, report: Report) {
        if report.explanation.is_some() {
            let draft = &entry.draft;
            let shards = if draft.audience == Audience::Everyone { self.log.shards() } else { 1 };
            self.explanations.add(&draft.message_id, shards, report);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(recipients: usize) -> Report {
        Report { recipients, explanation: Some(Explanation { dropped: 1, ..Explanation::default() }) }
    }

    #[tokio::test]
    async fn what_all_shards_have_to_deliver_is_told_when_all_have() {
        let explanations = Explanations::default();
        explanations.add("m", 2, report(1));
        let early = tokio::time::timeout(Duration::from_millis(5), explanations.take("m")).await;
        assert!(early.is_err(), "one shard has not");
        let (whole, ()) = tokio::join!(explanations.take("m"), async { explanations.add("m", 2, report(2)) });
        assert_eq!((whole.recipients, whole.explanation.map(|explanation| explanation.dropped)), (3, Some(2)));
        (0..=KEPT).for_each(|number| explanations.add(&number.to_string(), 1, report(0)));
        assert_eq!(explanations.newest.lock().expect("a lock").len(), KEPT, "the oldest is forgotten");
    }
}
