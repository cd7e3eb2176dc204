//! Recovery: a client that lost its connection takes its session up again.
//!
//! The protocol is that of stock clients: `pid` in the CONNECT reply, `pid` and
//! `offset` in the handshake of the next connection:
//! <https://socket.io/docs/v4/connection-state-recovery>.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::event;
use super::queue::{Incoming, Pushed};
use super::records::{Found, Record};
use super::saved;
use super::session::{First, Session};
use super::sessions::Sessions;
use crate::auth::{Credentials, Identity};
use crate::connection::{Connection, Read};
use crate::delivery::Interest;
use crate::hub::{Missed, Owed};
use crate::log::Named;
use crate::rooms::Id;
use crate::wire::{Form, Pid, WireError};

/// A session that its client takes up again.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) pid: Pid,
    pub(super) record: Box<Record>,
    /// What the client has read.
    pub(super) read: Read,
    pub(super) first: First,
    /// Who its client has proven to be anew.
    pub(super) proven: Option<Identity>,
}

impl Sessions {
    /// The session that a client takes up again, if nothing of it is lost: a session that cannot be told everything
    /// it missed begins anew.
    pub(super) fn recover(
        &self,
        connection: &Connection,
        credentials: &Credentials,
        said: &Result<Option<Identity>, WireError>,
        namespace: &str,
    ) -> Option<Recovered> {
        let (pid, offset) = credentials.resumed().filter(|_| self.config().recovery.enabled)?;
        let pid = Pid::of(pid);
        let last = match offset {
            Some(offset) => Some(Named::parse(offset)?),
            None => None,
        };
        let record = match self.records.find(&pid)? {
            Found::Gone(record) => record,
            Found::Live(id) => {
                // One that has left since has a record by now.
                if let Some(session) = self.get(id.as_str()) {
                    let recipient = &session.recipient;
                    // A client's own earlier attempt may come after the one that succeeded.
                    if recipient.namespace() != namespace || recipient.connection.key() >= connection.key() {
                        return None;
                    }
                    self.take_over(&session);
                }
                match self.records.find(&pid)? {
                    Found::Gone(record) => record,
                    Found::Live(_) => return None,
                }
            }
        };
        let same = said.as_ref().is_ok_and(|said| is_same(said.as_ref(), record.identity.as_ref()));
        if *record.namespace != *namespace || !same || !self.has_room_for(&record.interest) {
            self.records.put_back(&pid, record);
            return None;
        }
        let proven = said.as_ref().ok().cloned().flatten().filter(|said| said.proof.is_some());
        // Without a new token the old one has to hold still.
        let holds = |identity: &Identity| self.services.authenticator.check(identity).is_ok();
        if !proven.as_ref().or(record.identity.as_ref()).is_none_or(holds) {
            return None;
        }
        let hub = &self.services.hub;
        let organization = record.identity.as_ref().map(|identity| &identity.organization);
        let interest = &record.interest;
        let read = match &last {
            Some(last) => record.journal.read_up_to(last.position.offset)?,
            // It has read nothing since it is somebody.
            None => {
                let up_to = if interest.owed.is_empty() { organization.map(|_| interest.since)? } else { 0 };
                Read { up_to, beyond: Vec::new() }
            }
        };
        let head = || organization.map(|organization| hub.head(organization));
        let position = last.as_ref().map(|last| last.position.clone()).or_else(|| Some(head()?.at(read.up_to)))?;
        // Beside what waited for its user nothing was for it from before its time.
        let floor = if interest.owed.is_empty() { 0 } else { interest.since };
        let from = position.at(position.offset.max(floor));
        let form = last.as_ref().and_then(|last| last.form).filter(|_| position.offset >= floor);
        let behind = Read { up_to: read.up_to.max(floor), beyond: read.beyond.clone() };
        let missed = hub.missed(organization, &Named { position: from, form }, behind)?;
        let half = last.filter(|last| last.form == Some(Form::Named)).map(|last| last.position.offset);
        let first = match Owed::again(interest, &read, half) {
            Some(offsets) => First::Owed(Owed::and(offsets, half, missed)),
            None => First::Missed(missed),
        };
        Some(Recovered { pid, record, read, first, proven })
    }

    /// Whether the rooms of an earlier session's subscriptions have a place left.
    pub(super) fn has_room_for(&self, interest: &Interest) -> bool {
        let limit = self.config().limits.room_max_size;
        let catalogue = &self.services.hub.catalogue;
        let mut rooms = interest.subscriptions.iter().flat_map(|subscription| subscription.rooms(catalogue));
        rooms.all(|room| self.services.directory.count(&room) < limit)
    }

    /// Writes down the sessions whose clients are gone, for the next process.
    pub fn save(&self, path: &Path) {
        let records = self.records.take_all();
        let ended = self.services.hub.ended_sessions();
        if let Err(error) = saved::write(path, &records, &ended, &self.services.hub.catalogue) {
            tracing::error!(%error, path = %path.display(), "the sessions are not saved, so their clients begin anew");
        }
    }

    /// Takes over the sessions that an earlier process has written down.
    pub(super) fn load(&self, path: &Path) {
        match saved::take(path, &self.services.hub.catalogue) {
            Ok((records, ended)) => {
                self.records.bring_back(records);
                self.services.hub.bring_back_sessions(ended);
            }
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the saved sessions cannot be read, so their clients begin anew");
            }
        }
    }

    /// Ends a session whose client is on another connection by now; if its own connection lives after all, whoever
    /// is there is told to stay away.
    pub(super) fn take_over(&self, session: &Session) {
        let connection = &session.recipient.connection;
        let sessions = self.of(connection);
        for session in &sessions {
            session.taken_over.store(true, Ordering::SeqCst);
        }
        let first = connection.begin_dismissal();
        for session in &sessions {
            session.exit_kept("taken over");
        }
        if first {
            connection.dismiss();
        }
        // One that is leaving by itself is not among them any more, and there is no record before it has left.
        session.exit_kept("taken over");
    }
}

impl Session {
    /// Gives a socket back what its session had, as far as who it has `proven` to be may have it.
    pub(super) fn restore(&self, record: &Record, proven: Option<Identity>) -> Result<(), WireError> {
        if let Some(identity) = proven.as_ref().or(record.identity.as_ref()) {
            self.identify(identity, None, None)?;
            self.set_status(record.status)?;
        }
        self.recipient.change(|interest| *interest = record.interest.clone());
        if let Some(proven) = proven {
            self.identify(&proven, None, None)?;
        }
        self.recipient.set_batch(record.interest.batch_ms);
        Ok(())
    }

    /// Tells a socket what waited for its user, before anything newer, and then handles what it has sent.
    pub(super) fn hand_over(self: &Arc<Self>, owed: Owed) {
        let Some(sessions) = self.sessions() else { return };
        let telling = sessions.services.hub.clone().hand_over(self.recipient.clone(), owed);
        let session = self.clone();
        sessions.services.tasks.spawn(async move {
            telling.await;
            session.go_on();
        });
    }

    /// Handles an event anew as soon as this node knows what is there for an organization, and then what is behind it.
    pub(super) fn wait_for(self: &Arc<Self>, organization: Id, incoming: Incoming) {
        let Some(sessions) = self.sessions() else { return };
        self.queue.put_back(incoming);
        let (session, hub) = (self.clone(), sessions.services.hub.clone());
        sessions.services.tasks.spawn(async move {
            let _follower = hub.up_to_date(Some(&organization)).await;
            session.go_on();
        });
    }

    /// Handles what the socket has sent and is waiting.
    pub(super) fn go_on(self: &Arc<Self>) {
        if let (Pushed::StartWorker, Some(sessions)) = (self.queue.release(), self.sessions()) {
            sessions.services.tasks.spawn(event::work(self.clone()));
        }
    }

    /// Tells a socket that is let in what it missed, before anything newer, and then handles what it has sent.
    pub(super) fn replay(self: &Arc<Self>, sessions: &Sessions, missed: Missed) {
        let telling = sessions.services.hub.clone().replay(self.recipient.clone(), missed);
        let session = self.clone();
        sessions.services.tasks.spawn(async move {
            telling.await;
            session.go_on();
        });
    }
}

/// Whether a client that says who it is says what it said before.
fn is_same(said: Option<&Identity>, before: Option<&Identity>) -> bool {
    said.is_none_or(|said| {
        before.is_some_and(|before| (&before.user, &before.organization) == (&said.user, &said.organization))
    })
}
