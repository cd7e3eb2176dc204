//! When the tokens of sockets that are there expire.
//!
//! A socket whose token is over is told so; one that has not sent a new token
//! when the grace is over too is cut for good.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::session::Session;
use super::sessions::Sessions;
use crate::wire::{PublicId, WireError, now_ms};

/// Longest time between two looks at the clock, which may be set anew.
const LOOK: Duration = Duration::from_secs(30);

/// When to look at a socket, in milliseconds since the epoch.
pub(super) type Expiry = (i64, PublicId);

/// Sockets in the order in which their tokens expire.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    due: Mutex<BTreeSet<Expiry>>,
    sooner: Notify,
}

impl Expiries {
    /// A socket is to be looked at then.
    pub(super) fn add(&self, at_ms: i64, id: &PublicId) -> Expiry {
        let expiry = (at_ms, id.clone());
        let mut due = self.lock();
        if due.first().is_none_or(|first| expiry < *first) {
            self.sooner.notify_one();
        }
        due.insert(expiry.clone());
        expiry
    }

    /// It is not, after all.
    pub(super) fn forget(&self, expiry: &Expiry) {
        self.lock().remove(expiry);
    }

    /// How long until somebody is due.
    fn next(&self) -> Duration {
        let left = self.lock().first().map(|(at_ms, _)| u64::try_from(at_ms - now_ms()).unwrap_or_default());
        left.map_or(LOOK, |left| Duration::from_millis(left).min(LOOK))
    }

    fn take_due(&self, now_ms: i64) -> Vec<PublicId> {
        let mut due = self.lock();
        let mut taken = Vec::new();
        while due.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            taken.extend(due.pop_first().map(|(_, id)| id));
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Expiry>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells sockets that their tokens are over, and cuts them in the end, until `stopping` is cancelled.
pub(super) async fn run(sessions: Arc<Sessions>, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(sessions.expiries.next()) => {}
            () = sessions.expiries.sooner.notified() => {}
            () = stopping.cancelled() => return,
        }
        for session in sessions.expiries.take_due(now_ms()).iter().filter_map(|id| sessions.get(id.as_str())) {
            session.expire(&sessions);
        }
    }
}

impl Session {
    /// Its token may be over.
    fn expire(&self, sessions: &Sessions) {
        let grace = Duration::from_millis(sessions.config().auth.refresh_grace_ms);
        let is_warned = {
            let mut state = self.lock();
            // A new token has an expiry of its own.
            let Some(proof) = state.identity.as_ref().and_then(|identity| identity.proof.as_ref()) else { return };
            let (now, over_at) = (now_ms(), proof.expires_at_ms);
            if state.exited || now < over_at {
                return;
            }
            let cut_at = over_at.saturating_add(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX));
            let is_over = now >= cut_at;
            state.expiry = (!is_over).then(|| sessions.expiries.add(cut_at, &self.recipient.id));
            !is_over
        };
        let error = WireError::TokenExpired(grace);
        sessions.services.counters.error(&error.to_string());
        if is_warned || grace.is_zero() {
            self.recipient.emit("error", &error.event());
        }
        if !is_warned {
            sessions.dismiss_connection(&self.recipient.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_due_is_taken_in_order_and_the_others_stay() {
        let expiries = Expiries::default();
        let ids: Vec<PublicId> = (0..3).map(|_| PublicId::fresh()).collect();
        expiries.add(30, &ids[0]);
        expiries.add(10, &ids[1]);
        let gone = expiries.add(20, &ids[2]);
        expiries.forget(&gone);
        assert!(expiries.take_due(9).is_empty());
        assert_eq!(expiries.take_due(10), [ids[1].clone()]);
        assert_eq!(expiries.take_due(40), [ids[0].clone()]);
        assert_eq!(expiries.next(), LOOK);
        expiries.add(i64::MAX, &ids[0]);
        assert_eq!(expiries.next(), LOOK);
    }
}
