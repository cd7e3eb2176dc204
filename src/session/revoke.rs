//! Revocations reach those who are there, and those who could come back.

use std::io;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::sessions::Sessions;
use crate::auth::{Identity, Revocation, SharedRevocations};

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
        let ended = self.end_revoked(revocation);
        added.map(|()| ended)
    }

    /// Tells the other nodes of a revocation, those too that are away.
    ///
    /// # Errors
    /// If Redis does not say that it has it: it may hold for this process only.
    pub async fn share_revocation(&self, revocation: &Revocation) -> io::Result<()> {
        match self.shared_revocations() {
            Some(shared) => shared.send(revocation).await.map_err(io::Error::other),
            None => Ok(()),
        }
    }

    /// Takes over all that the nodes of a cluster have revoked, and from now on what they revoke.
    ///
    /// # Errors
    /// If Redis does not tell: whoever is revoked would come in again.
    pub async fn follow_revocations(self: &Arc<Self>, stopping: &CancellationToken) -> io::Result<()> {
        let Some(shared) = self.shared_revocations() else { return Ok(()) };
        let (reading, made) = shared.read().await.map_err(io::Error::other)?;
        for revocation in &made {
            self.services.revocations.learn(revocation);
        }
        let (learning, knowing) = (self.clone(), self.services.revocations.clone());
        let learn = move |revocation: &Revocation| {
            // Whoever has come since has a newer token.
            if learning.services.revocations.learn(revocation) {
                learning.end_revoked(revocation);
            }
        };
        self.services.tasks.spawn(reading.follow(stopping.clone(), learn, move || knowing.all()));
        Ok(())
    }

    fn shared_revocations(&self) -> Option<Arc<SharedRevocations>> {
        let redis = self.services.cluster.redis()?;
        Some(SharedRevocations::new(redis, self.config().auth.revocation_ttl_ms))
    }

    /// Ends for good whom a revocation is about; how many sockets that were.
    fn end_revoked(&self, revocation: &Revocation) -> usize {
        let is_about = |identity: Option<&Identity>| identity.is_some_and(|identity| revocation.is_about(identity));
        let mut ended = self.all();
        ended.retain(|session| is_about(session.identity().as_ref()) && !session.has_exited());
        for session in &ended {
            self.dismiss_session(session);
        }
        self.records.forget(|record| is_about(record.identity.as_ref()));
        ended.len()
    }
}
