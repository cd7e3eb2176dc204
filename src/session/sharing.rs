//! Writes sessions to Redis, so that clients can take them up again on any node.
//!
//! One task of a node writes what has changed, many sessions in one step, and
//! never in the way of the sockets' own events. What cannot be written waits.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::codec::SavedRecord;
use super::records::{Key, Record};
use super::sessions::Sessions;
use super::shared::{Deed, Outcome, Shared, State};

/// Delay before what could not be written is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// A renewal goes through the sessions in so many steps.
const STEPS: u8 = 16;

/// Writes sessions down until `stopping` is cancelled.
pub(super) async fn run(sessions: Arc<Sessions>, stopping: CancellationToken) {
    let Some(shared) = &sessions.shared else { return };
    let mut renewals = tokio::time::interval((shared.renewed_every() / STEPS.into()).max(Duration::from_millis(1)));
    renewals.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut step = 0;
    let mut lives = sessions.services.hub.lives();
    loop {
        tokio::select! {
            Ok(()) = lives.changed() => {
                // What is lost of the log is lost of the sessions too.
                sessions.records.live(|_| true).iter().for_each(|key| sessions.write_again(shared, key));
            }
            () = shared.changes.noted() => {
                if !sessions.write_down(shared).await {
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = stopping.cancelled() => return,
                    }
                }
            }
            _ = renewals.tick() => {
                step = (step + 1) % STEPS;
                sessions.renew(shared, step).await;
            }
            () = stopping.cancelled() => return,
        }
    }
}

impl Sessions {
    /// Writes down what has changed; false if some of it could not be written.
    pub(super) async fn write_down(&self, shared: &Shared) -> bool {
        let portion = shared.changes.take();
        let of_sockets = portion.sockets.iter().filter_map(|id| {
            let session = self.get(id.as_str())?;
            let (key, state, record) = session.snapshot()?;
            Some((key, Deed::Write(state, self.encode(&record))))
        });
        // A session that has a socket is written as that one's.
        let of_keys = portion.keys.iter().filter_map(|key| {
            // One that is being fetched is not to be had by others meanwhile.
            let state = if shared.fetches_of(key) > 0 { State::Live } else { State::Gone };
            let deed = self.records.look(key, |record| match record {
                Some(record) => Deed::Write(state, self.encode(record)),
                None => Deed::Forget,
            });
            Some((*key, deed?))
        });
        let deeds: Vec<(Key, Deed)> = of_sockets.chain(of_keys).collect();
        let outcomes = shared.keep(&deeds).await;
        let mut is_written = true;
        for ((key, _), done) in deeds.iter().zip(&outcomes) {
            match done {
                Outcome::Lost => self.lose(key),
                Outcome::Unknown => {
                    is_written = false;
                    self.write_again(shared, key);
                }
                Outcome::Done | Outcome::Absent => {}
            }
        }
        shared.changes.done();
        is_written
    }

    /// Renews the records of some of the sessions that have a client.
    async fn renew(&self, shared: &Shared, step: u8) {
        let keys = self.records.live(|key| key[0] % STEPS == step);
        let deeds: Vec<(Key, Deed)> = keys.into_iter().map(|key| (key, Deed::Renew)).collect();
        let outcomes = shared.keep(&deeds).await;
        for ((key, _), done) in deeds.iter().zip(&outcomes) {
            match done {
                Outcome::Lost => self.lose(key),
                Outcome::Absent => self.write_again(shared, key),
                Outcome::Done | Outcome::Unknown => {}
            }
        }
    }

    /// Writes down everything that is left, when the server stops.
    pub async fn share_all(&self) {
        let Some(shared) = &self.shared else { return };
        let writing = async {
            while !shared.changes.is_empty() {
                if !self.write_down(shared).await {
                    return false;
                }
            }
            true
        };
        let patience = Duration::from_millis(self.config().cluster.redis_timeout_ms);
        if !matches!(tokio::time::timeout(patience, writing).await, Ok(true)) {
            tracing::warn!("some sessions are not in Redis, so their clients begin anew");
        }
    }

    fn encode(&self, record: &Record) -> Vec<u8> {
        serde_json::to_vec(&SavedRecord::of(record, &self.services.hub.catalogue)).unwrap_or_default()
    }

    fn write_again(&self, shared: &Shared, key: &Key) {
        match self.records.holder(key) {
            Some(id) => shared.changes.of_socket(&id),
            None => shared.changes.of_key(*key),
        }
    }

    /// Another node has a session by now: whoever is on it here is told to stay away, and nothing of it is kept.
    pub(super) fn lose(&self, key: &Key) {
        if let Some(session) = self.records.holder(key).and_then(|id| self.get(id.as_str())) {
            tracing::debug!(socket_id = %session.recipient.id, "another node has its session by now");
            self.take_over(&session);
        }
        self.records.drop_gone(key);
    }
}
