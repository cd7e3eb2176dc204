//! One session: what the server knows of a socket.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::expiries::Expiry;
use super::queue::Queue;
use super::records::{Key, Record, key};
use super::sessions::{Services, Sessions};
use super::shared;
use crate::auth::{Door, Identity};
use crate::config::Implicit;
use crate::connection::Journal;
use crate::delivery::{Interest, Recipient};
use crate::hub::{Follower, Missed, Owed, Seen};
use crate::limits::Bucket;
use crate::presence::{Attendance, Status};
use crate::rooms::{Scope, user_room};
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
    /// What its client is told when it is let in.
    first: Mutex<Option<Box<First>>>,
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

/// What a client is told before anything newer.
#[derive(Debug)]
pub(super) enum First {
    /// What waited for its user and was not read, and then what its session missed.
    Owed(Owed),
    /// What its session missed.
    Missed(Missed),
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) identity: Option<Identity>,
    /// Has this node follow what may come for the socket.
    pub(super) follower: Option<Follower>,
    /// When it is looked at whether the identity still holds.
    pub(super) expiry: Option<Expiry>,
    /// The status that the client gives its user.
    status: Status,
    /// Counts for its user, once the socket is let in and somebody.
    attendance: Option<Attendance>,
    /// Whether the socket is let in.
    pub(super) entered: bool,
    /// Whether the socket is gone: nothing may be joined or taken for it any more.
    pub(super) exited: bool,
}

impl State {
    /// The socket counts for its user, if it is let in and somebody.
    pub(super) fn attend(&mut self, sessions: &Sessions) {
        let identity = self.identity.as_ref().filter(|_| self.entered);
        self.attendance = identity.and_then(|identity| sessions.services.presence.attend(identity, self.status));
    }
}

impl Session {
    pub(super) fn new(
        sessions: &Arc<Sessions>,
        recipient: Arc<Recipient>,
        scope: Option<Scope>,
        pid: Option<Pid>,
        first: Option<Box<First>>,
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
            first: Mutex::new(first),
            taken_over: AtomicBool::new(false),
            queue: Queue::new(limits.max_queued_events, limits.max_queued_bytes),
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

    /// What its client is told before anything newer, once.
    pub(super) fn take_first(&self) -> Option<First> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take().map(|first| *first)
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

    /// Lets the socket receive; none if it is gone already, and else what waited for its user. A session that is
    /// taken up again finds that in what it missed.
    pub(super) fn enter(&self, is_fresh: bool) -> Option<Option<Owed>> {
        let mut state = self.lock();
        let sessions = self.sessions().filter(|_| !state.exited)?;
        state.entered = true;
        state.attend(&sessions);
        let enter = || sessions.services.directory.insert(self.recipient.clone());
        let Some(identity) = state.identity.as_ref().filter(|_| is_fresh) else {
            enter();
            return Some(None);
        };
        Some(sessions.services.hub.arrive(&self.recipient, &identity.organization, &identity.user, |owed, since| {
            self.recipient.change(|interest| (interest.owed, interest.since) = (owed, since));
            enter();
        }))
    }

    /// What the last session wanted that its user had under the same id of the client's own.
    pub(super) fn last_interest(&self, identity: &Identity) -> Option<Interest> {
        let sessions = self.sessions()?;
        let session_id = identity.session_id.as_deref().filter(|_| self.scope.is_none())?;
        let Identity { user, organization, .. } = identity;
        // The server may not have noticed yet that the earlier connection is dead.
        let is_same = |other: &Arc<Self>| {
            let present = other.identity();
            other.recipient.id != self.recipient.id
                && other.scope.is_none()
                && present.is_some_and(|present| {
                    (&present.user, &present.organization) == (user, organization)
                        && present.session_id.as_deref() == Some(session_id)
                })
        };
        let room = user_room(organization, user);
        let alive = sessions
            .services
            .directory
            .members(&room)
            .iter()
            .filter_map(|other| sessions.get(other.id.as_str()))
            .find(is_same);
        let namespace = self.recipient.namespace();
        let earlier = match alive {
            Some(other) => Some(other.recipient.interest().clone()),
            None => sessions.services.hub.last_interest(organization, user, session_id, namespace),
        };
        earlier.filter(|earlier| sessions.has_room_for(earlier))
    }

    /// Whether nobody knows yet who the socket is.
    pub(super) fn is_unknown(&self) -> bool {
        self.lock().identity.as_ref().is_none_or(|identity| identity.anonymous)
    }

    /// The plain door that the socket came in by, if that decides what it receives.
    pub(super) fn door(&self) -> Option<&Door> {
        let plain = self.recipient.connection.plain()?;
        Some(&*plain.door).filter(|door| door.organization.is_some())
    }

    /// When the implicit subscription of the socket ends.
    pub(super) fn implicit_until(&self, sessions: &Sessions) -> Implicit {
        match self.door() {
            Some(door) if door.until_first => Implicit::UntilFirst,
            Some(_) => Implicit::PerChannel,
            None => sessions.config().subscriptions.implicit,
        }
    }

    /// Gives the socket's user a status.
    ///
    /// # Errors
    /// If the socket is not authenticated, or gone.
    pub(super) fn set_status(&self, status: Status) -> Result<(), WireError> {
        let mut state = self.lock();
        if state.exited {
            return Err(WireError::Stopping);
        }
        if state.identity.is_none() {
            return Err(WireError::NotAuthenticated("presence".into()));
        }
        state.status = status;
        if let Some(attendance) = &mut state.attendance {
            attendance.set(status);
        }
        drop(state);
        self.changed();
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

    /// What its client would take up again has changed: the other nodes are to know.
    pub(super) fn changed(&self) {
        if self.pid.is_some()
            && let Some(sessions) = self.sessions()
            && let Some(shared) = &sessions.shared
        {
            shared.changes.of_socket(&self.recipient.id);
        }
    }

    /// The session as its client could take it up again, if it broke now; none if it has no client.
    pub(super) fn snapshot(&self) -> Option<(Key, shared::State, Record)> {
        let state = self.lock();
        let key = self.pid.as_ref().filter(|_| !state.exited).map(key)?;
        let journal = self.recipient.connection.journal_of(&self.recipient.id)?;
        let order = if journal.is_open() { shared::State::Overtaking } else { shared::State::Live };
        Some((key, order, self.record(&state, journal)))
    }

    fn record(&self, state: &State, journal: Journal) -> Record {
        Record {
            id: self.recipient.id.clone(),
            namespace: self.recipient.namespace().into(),
            identity: state.identity.clone(),
            status: state.status,
            interest: self.recipient.interest().clone(),
            journal,
        }
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
        let Recipient { connection, id, .. } = &*self.recipient;
        let is_dismissed = connection.is_dismissed();
        // A client that is dismissed is told through its sockets' places in the connection, which ends with them.
        let journal = match is_dismissed {
            true => connection.journal_of(id).unwrap_or_default(),
            false => connection.leave(id),
        };
        self.queue.close();
        let Some(sessions) = self.sessions() else { return };
        if let Some(expiry) = state.expiry.take() {
            sessions.expiries.forget(&expiry);
        }
        let leave = || sessions.services.directory.remove(&self.recipient);
        if let Some(identity) = &state.identity {
            let Identity { user, organization, .. } = identity;
            let hub = &sessions.services.hub;
            if identity.anonymous {
                hub.depart(organization, user, None, leave);
            } else if is_dismissed && !kept {
                hub.forget_session(organization, user, identity.session_id.as_deref());
                hub.depart(organization, user, None, leave);
            } else {
                hub.depart(organization, user, Some(self.seen(identity)), leave);
            }
            let Services { seats, users, .. } = &sessions.services;
            seats.release(organization, self.recipient.connection.key());
            if !identity.anonymous {
                users.release(&(organization.clone(), user.clone()), self.recipient.connection.key());
            }
        } else {
            leave();
        }
        (state.attendance, state.follower) = (None, None);
        if let Some(pid) = &self.pid {
            let record = kept.then(|| self.record(&state, journal));
            sessions.records.end(pid, &self.recipient.id, record);
        }
        // Only now, so that whoever waits for the last session to leave finds its record.
        sessions.remove(self);
        if self.scope.is_some() {
            sessions.namespaces.leave(self.recipient.namespace());
        }
        if sessions.config().logging.log_connection_events {
            tracing::info!(socket_id = %self.recipient.id, reason, "socket left");
        }
    }

    fn seen(&self, identity: &Identity) -> Seen {
        Seen {
            session_id: identity.session_id.clone(),
            socket: self.recipient.id.clone(),
            namespace: self.recipient.namespace().into(),
            interest: self.recipient.interest().clone(),
            at_ms: now_ms(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
