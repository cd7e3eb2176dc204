//! One session: what the server knows of a socket.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::queue::Queue;
use super::records::Record;
use super::sessions::Sessions;
use crate::auth::Identity;
use crate::config::Implicit;
use crate::delivery::Recipient;
use crate::events::ChannelMask;
use crate::hub::Missed;
use crate::limits::Bucket;
use crate::rooms::Scope;
use crate::wire::packet::Admission;
use crate::wire::{Pid, WireError, now_ms};

/// The session of a socket in a namespace.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) sessions: Weak<Sessions>,
    pub(super) recipient: Arc<Recipient>,
    /// The scope that its namespace stands for; none in the main namespace.
    pub(super) scope: Option<Scope>,
    pub(super) opened_at_ms: i64,
    /// The secret by which its client can take it up again.
    pid: Option<Pid>,
    /// What its client missed before it came back, until it is let in.
    missed: Mutex<Option<Missed>>,
    /// Whether its client has taken it up again on another connection.
    pub(super) taken_over: AtomicBool,
    pub(super) queue: Queue,
    /// Messages the socket may send.
    pub(super) messages: Bucket,
    /// Acknowledgements it may send.
    pub(super) acks: Bucket,
    /// Refusals before it is cut.
    pub(super) patience: Bucket,
    active_at_ms: AtomicI64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    identity: Option<Identity>,
    /// Whether the socket is gone: nothing may be joined or taken for it any more.
    exited: bool,
}

impl Session {
    pub(super) fn new(
        sessions: &Arc<Sessions>,
        recipient: Arc<Recipient>,
        scope: Option<Scope>,
        pid: Option<Pid>,
        missed: Option<Missed>,
    ) -> Arc<Self> {
        if let Some(pid) = &pid {
            sessions.records.begin(pid, &recipient.id);
        }
        let limits = &sessions.config().limits;
        Arc::new(Self {
            sessions: Arc::downgrade(sessions),
            recipient,
            scope,
            opened_at_ms: now_ms(),
            pid,
            missed: Mutex::new(missed),
            taken_over: AtomicBool::new(false),
            queue: Queue::new(limits.max_queued_events),
            messages: Bucket::default(),
            acks: Bucket::default(),
            patience: Bucket::default(),
            active_at_ms: AtomicI64::new(now_ms()),
            state: Mutex::default(),
        })
    }

    pub(super) fn sessions(&self) -> Option<Arc<Sessions>> {
        self.sessions.upgrade()
    }

    /// What its CONNECT reply says.
    pub(super) fn admission(&self) -> Admission {
        Admission { id: self.recipient.id.clone(), pid: self.pid.clone() }
    }

    /// What its client missed, once.
    pub(super) fn take_missed(&self) -> Option<Missed> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Who the socket is, once that is established.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.lock().identity.clone()
    }

    /// The socket has said something.
    pub(super) fn touch(&self) {
        self.active_at_ms.store(now_ms(), Ordering::Relaxed);
    }

    pub(super) fn active_at_ms(&self) -> i64 {
        self.active_at_ms.load(Ordering::Relaxed)
    }

    pub(super) fn idle_for(&self) -> Duration {
        Duration::from_millis(u64::try_from(now_ms() - self.active_at_ms()).unwrap_or_default())
    }

    /// Whether the socket is gone.
    pub(super) fn has_exited(&self) -> bool {
        self.lock().exited
    }

    /// Lets the socket receive, unless it is gone already.
    pub(super) fn enter(&self) -> bool {
        let state = self.lock();
        if let (false, Some(sessions)) = (state.exited, self.sessions()) {
            sessions.services.directory.insert(self.recipient.clone());
            return true;
        }
        false
    }

    /// Makes the socket somebody: takes a seat, joins rooms, begins to receive.
    ///
    /// # Errors
    /// If it already is somebody else, or the organization is full.
    pub(super) fn identify(&self, identity: Identity) -> Result<(), WireError> {
        let sessions = self.sessions().ok_or(WireError::Stopping)?;
        let mut state = self.lock();
        if state.exited {
            return Err(WireError::Stopping);
        }
        if let Some(present) = &state.identity {
            let same = present.user == identity.user && present.organization == identity.organization;
            return if same { Ok(()) } else { Err(WireError::IdentityMismatch) };
        }
        let seats = &sessions.services.seats;
        if !seats.take(&identity.organization, self.recipient.connection.key()) {
            return Err(WireError::OrganizationFull(seats.limit()));
        }
        let since = sessions.services.hub.delivered_to(&identity.organization);
        let implicit = match (self.scope.is_some(), sessions.config().subscriptions.implicit) {
            (true, _) | (_, Implicit::None) => ChannelMask::NONE,
            _ => sessions.services.hub.catalogue.implicit(),
        };
        self.recipient.change(|interest| {
            interest.identity = Some((identity.organization.clone(), identity.user.clone()));
            interest.claims = match &self.scope {
                Some(scope) => identity.claims.within(scope),
                None => identity.claims.clone(),
            };
            interest.implicit = implicit;
            interest.since = since;
        });
        state.identity = Some(identity);
        Ok(())
    }

    /// Runs `change` for an authenticated socket that is not gone.
    ///
    /// # Errors
    /// If the socket is not authenticated, or gone; what `change` returns.
    pub(super) fn as_identified<T>(
        &self,
        what: &str,
        change: impl FnOnce(&Identity) -> Result<T, WireError>,
    ) -> Result<T, WireError> {
        let state = self.lock();
        if state.exited {
            return Err(WireError::Stopping);
        }
        let identity = state.identity.as_ref().ok_or_else(|| WireError::NotAuthenticated(what.to_owned()))?;
        change(identity)
    }

    /// Ends the session for good.
    pub(super) fn exit(&self, reason: &str) {
        self.leave(reason, false);
    }

    /// Ends the session, which its client can take up again, unless the server has ended it for good.
    pub(super) fn exit_kept(&self, reason: &str) {
        let taken_over = self.taken_over.load(Ordering::SeqCst);
        self.leave(reason, taken_over || !self.recipient.connection.is_dismissed());
    }

    /// The only exit: whatever ended the socket, its seat, rooms and names are free again.
    fn leave(&self, reason: &str, kept: bool) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.exited, true) {
            return;
        }
        let journal = self.recipient.connection.leave(&self.recipient.id);
        self.queue.close();
        let Some(sessions) = self.sessions() else { return };
        sessions.services.directory.remove(&self.recipient);
        if let Some(identity) = &state.identity {
            sessions.services.seats.release(&identity.organization, self.recipient.connection.key());
        }
        sessions.remove(&self.recipient.id);
        if let Some(pid) = &self.pid {
            let record = kept.then(|| Record {
                id: self.recipient.id.clone(),
                namespace: self.recipient.namespace().into(),
                identity: state.identity.clone(),
                interest: self.recipient.interest().clone(),
                journal,
            });
            sessions.records.end(pid, &self.recipient.id, record);
        }
        if self.scope.is_some() {
            sessions.namespaces.leave(self.recipient.namespace());
        }
        if sessions.config().logging.log_connection_events {
            tracing::info!(socket_id = %self.recipient.id, reason, "socket left");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
