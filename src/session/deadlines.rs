//! Sockets that still have to authenticate.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::session::Session;
use super::sessions::Sessions;
use crate::stats::Refusal;
use crate::wire::WireError;

/// Sockets in the order in which their time is up: all have the same time.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    waiting: Mutex<VecDeque<(Instant, Weak<Session>)>>,
    added: Notify,
}

impl Deadlines {
    /// A socket has from now on to authenticate.
    pub(super) fn add(&self, session: &Arc<Session>) {
        let entry = (Instant::now(), Arc::downgrade(session));
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(entry);
        self.added.notify_one();
    }

    fn first(&self) -> Option<Instant> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // A gone or authenticated socket needs no clock.
        while let Some((_, session)) = waiting.front() {
            if session.upgrade().is_some_and(|session| session.identity().is_none()) {
                break;
            }
            waiting.pop_front();
        }
        waiting.front().map(|(since, _)| *since)
    }

    fn take_due(&self, before: Instant) -> Vec<Arc<Session>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let due = waiting.iter().take_while(|(since, _)| *since <= before).count();
        waiting.drain(..due).filter_map(|(_, session)| session.upgrade()).collect()
    }
}

/// Dismisses sockets whose time is up, until `stopping` is cancelled.
pub(super) async fn run(sessions: Arc<Sessions>, stopping: CancellationToken) {
    let timeout = Duration::from_millis(sessions.config().auth.auth_timeout_ms);
    loop {
        let first = sessions.deadlines.first();
        let due = async {
            match first {
                Some(since) => tokio::time::sleep_until(since + timeout).await,
                None => sessions.deadlines.added.notified().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = stopping.cancelled() => return,
        }
        let Some(before) = Instant::now().checked_sub(timeout) else { continue };
        for session in sessions.deadlines.take_due(before) {
            if session.identity().is_none() {
                let error = WireError::AuthenticationTimeout(timeout);
                sessions.services.counters.refused(Refusal::AuthenticationTimeouts);
                sessions.services.counters.error(&error.to_string());
                session.recipient.emit("error", &error.event());
                sessions.dismiss_connection(&session.recipient.connection);
            }
        }
    }
}
