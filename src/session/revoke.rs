//! Revocations reach those who are there, and those who could come back.

use std::io;

use super::sessions::Sessions;
use crate::auth::{Identity, Revocation};

impl Sessions {
    /// Makes a revocation, and ends for good whom it is about; how many sockets that were. It blocks while the
    /// revocation is written.
    ///
    /// # Errors
    /// If it is not on the disk: it holds for this process only, or not at all if there are too many.
    pub fn revoke(&self, revocation: &Revocation) -> io::Result<usize> {
        let added = self.services.revocations.add(revocation);
        if matches!(&added, Err(error) if error.kind() == io::ErrorKind::QuotaExceeded) {
            return added.map(|()| 0);
        }
        let is_about = |identity: Option<&Identity>| identity.is_some_and(|identity| revocation.is_about(identity));
        let mut ended = 0;
        for session in self.all() {
            if is_about(session.identity().as_ref()) && !session.has_exited() {
                ended += 1;
                self.dismiss_connection(&session.recipient.connection);
            }
        }
        self.records.forget(|record| is_about(record.identity.as_ref()));
        added.map(|()| ended)
    }
}
