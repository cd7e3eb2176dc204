//! Lets clients connect no faster than asked, and only so many at once.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Interval},
};

/// Clients of a thread that may be connecting at once.
const CONNECTING: usize = 64;

/// Shortest and longest time between two turns, in seconds.
const SHORTEST: f64 = 1e-6;
const LONGEST: f64 = 86_400.0;

/// The turns of the clients of one thread.
pub(super) struct Pace {
    places: Arc<Semaphore>,
    turn: Interval,
}

/// A place among those that are connecting, given back when it is dropped.
pub(super) type Place = OwnedSemaphorePermit;

impl Pace {
    /// So many turns a second.
    pub(super) fn new(per_second: f64) -> Self {
        let turn = time::interval(Duration::from_secs_f64((1.0 / per_second).clamp(SHORTEST, LONGEST)));
        Self { places: Arc::new(Semaphore::new(CONNECTING)), turn }
    }

    /// Waits for the next turn and for a place.
    pub(super) async fn next(&mut self) -> Place {
        self.turn.tick().await;
        Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed")
    }
}
