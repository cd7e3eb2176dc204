//! Turns to publish: so many entries of an organization are under way at once, so that the others of its shard
//! never wait for more than these.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::rooms::Id;

/// Entries of one organization: enough for its shard to have work, and for many to share one sync of the disk.
const EACH: usize = 64;

/// The organizations that publish at this moment.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// One that does not is forgotten.
    publishing: Mutex<HashMap<Id, Arc<Semaphore>>>,
}

/// A turn, had until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    organization: Id,
    places: Option<Arc<Semaphore>>,
    place: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Waits for a turn of an organization; they are had in the order asked for.
    pub(super) async fn turn(&self, organization: &Id) -> Turn<'_> {
        let places = {
            let mut publishing = self.lock();
            publishing.entry(organization.clone()).or_insert_with(|| Arc::new(Semaphore::new(EACH))).clone()
        };
        let organization = organization.clone();
        let mut turn = Turn { turns: self, organization, places: Some(places.clone()), place: None };
        turn.place = places.acquire_owned().await.ok();
        turn
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Arc<Semaphore>>> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.place.take());
        let mut publishing = self.turns.lock();
        drop(self.places.take());
        // Whoever waits or has a turn holds another one than the map.
        if publishing.get(&self.organization).is_some_and(|places| Arc::strong_count(places) == 1) {
            publishing.remove(&self.organization);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::poll_immediate;

    use super::*;

    #[tokio::test]
    async fn one_organization_has_so_many_turns_and_others_do_not_wait() {
        let turns = Turns::default();
        let (flood, other) = (Id::parse("flood").expect("an id"), Id::parse("other").expect("an id"));
        let mut had = Vec::new();
        for _ in 0..EACH {
            had.push(turns.turn(&flood).await);
        }
        let mut waiting = Box::pin(turns.turn(&flood));
        assert!(poll_immediate(&mut waiting).await.is_none());
        assert!(poll_immediate(turns.turn(&other)).await.is_some());
        assert_eq!(turns.lock().len(), 1, "who has published is forgotten");
        had.pop();
        assert!(poll_immediate(&mut waiting).await.is_some());
        drop((had, waiting));
        assert!(turns.lock().is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing() {
        let turns = Turns::default();
        let flood = Id::parse("flood").expect("an id");
        let mut had = Vec::new();
        for _ in 0..EACH {
            had.push(turns.turn(&flood).await);
        }
        let mut waiting = Box::pin(turns.turn(&flood));
        assert!(poll_immediate(&mut waiting).await.is_none());
        drop(had);
        drop(waiting);
        assert!(turns.lock().is_empty());
    }
}
