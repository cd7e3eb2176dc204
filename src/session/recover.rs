//! Recovery: a client that lost its connection takes its session up again.
//!
//! The protocol is that of stock clients: `pid` in the CONNECT reply, `pid` and
//! `offset` in the handshake of the next connection:
//! <https://socket.io/docs/v4/connection-state-recovery>.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::records::{Found, Record};
use super::saved;
use super::session::Session;
use super::sessions::Sessions;
use crate::auth::{Credentials, Identity};
use crate::connection::{Connection, Read};
use crate::hub::Missed;
use crate::log::Named;
use crate::wire::{Pid, WireError};

/// A session that its client takes up again.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) pid: Pid,
    pub(super) record: Box<Record>,
    /// What the client has read.
    pub(super) read: Read,
    pub(super) missed: Missed,
}

impl Sessions {
    /// The session that a client takes up again, if nothing of it is lost: a session that cannot be told everything
    /// it missed begins anew.
    pub(super) fn recover(
        &self,
        connection: &Connection,
        credentials: &Credentials,
        namespace: &str,
    ) -> Option<Recovered> {
        let (pid, offset) = credentials.resumed().filter(|_| self.config().recovery.enabled)?;
        let pid = Pid::of(pid);
        let last = Named::parse(offset)?;
        let record = match self.records.find(&pid)? {
            Found::Gone(record) => record,
            Found::Live(id) => {
                let session = self.get(id.as_str())?;
                // A client's own earlier attempt may come after the one that succeeded.
                if session.recipient.namespace() != namespace || session.recipient.connection.key() >= connection.key()
                {
                    return None;
                }
                self.take_over(&session);
                match self.records.find(&pid)? {
                    Found::Gone(record) => record,
                    Found::Live(_) => return None,
                }
            }
        };
        if *record.namespace != *namespace || !says_the_same(credentials, record.identity.as_ref()) {
            self.records.put_back(&pid, record);
            return None;
        }
        let organization = record.identity.as_ref().map(|identity| &identity.organization);
        let read = record.journal.read_up_to(last.position.offset)?;
        let missed = self.services.hub.missed(organization, &last, read.clone())?;
        Some(Recovered { pid, record, read, missed })
    }

    /// Writes down the sessions whose clients are gone, for the next process.
    pub fn save(&self, path: &Path) {
        let records = self.records.take_all();
        if let Err(error) = saved::write(path, &records, &self.services.hub.catalogue) {
            tracing::error!(%error, path = %path.display(), "the sessions are not saved, so their clients begin anew");
        }
    }

    /// Takes over the sessions that an earlier process has written down.
    pub(super) fn load(&self, path: &Path) {
        match saved::take(path, &self.services.hub.catalogue) {
            Ok(records) => self.records.bring_back(records),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the saved sessions cannot be read, so their clients begin anew");
            }
        }
    }

    /// Ends a session whose client is on another connection by now; if its own connection lives after all, whoever
    /// is there is told to stay away.
    fn take_over(&self, session: &Session) {
        let connection = &session.recipient.connection;
        let sessions: Vec<_> = connection.public_ids().iter().filter_map(|id| self.get(id.as_str())).collect();
        for session in &sessions {
            session.taken_over.store(true, Ordering::SeqCst);
        }
        // While the namespaces are still known, so that each is told.
        connection.dismiss();
        for session in &sessions {
            session.exit_kept("taken over");
        }
    }
}

impl Session {
    /// Gives a socket back what its session had.
    pub(super) fn restore(&self, record: &Record) -> Result<(), WireError> {
        if let Some(identity) = &record.identity {
            self.identify(identity.clone())?;
        }
        self.recipient.change(|interest| *interest = record.interest.clone());
        Ok(())
    }

    /// Tells a socket that is let in what it missed, before anything newer.
    pub(super) fn replay(self: &Arc<Self>, sessions: &Sessions, missed: Missed) {
        let (hub, recipient) = (sessions.services.hub.clone(), self.recipient.clone());
        sessions.services.tasks.spawn(hub.replay(recipient, missed));
    }
}

/// Whether a client that says who it is says what it said before.
fn says_the_same(credentials: &Credentials, before: Option<&Identity>) -> bool {
    credentials.is_empty()
        || credentials.trusted().is_ok_and(|now| {
            before.is_some_and(|before| (&before.user, &before.organization) == (&now.user, &now.organization))
        })
}
