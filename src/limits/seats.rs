//! Seats: how many connections the server holds.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::newcomers::{Newcomer, Newcomers};

/// The seats of the whole server.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    limit: usize,
    /// Connections that nobody has said to be theirs yet; none where that is not asked for.
    newcomers: Option<Arc<Newcomers>>,
}

/// One seat, free again when released or dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    released: AtomicBool,
    known: AtomicBool,
    newcomer: Mutex<Option<Box<Newcomer>>>,
}

impl Seats {
    /// As many seats as the limit says, of which newcomers may have some.
    pub fn new(limit: usize, newcomers: Option<Arc<Newcomers>>) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), limit, newcomers })
    }

    /// A seat for a newcomer from this address, unless all are taken and no other newcomer makes room.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let makes_room = || self.newcomers.as_ref().is_some_and(|newcomers| newcomers.make_room(address));
        if !(self.count() || makes_room() && self.count()) {
            return None;
        }
        let seat = Seat {
            seats: self.clone(),
            released: AtomicBool::new(false),
            known: AtomicBool::new(self.newcomers.is_none()),
            newcomer: Mutex::default(),
        };
        if let Some(newcomers) = &self.newcomers {
            let newcomer = newcomers.enter(address)?;
            *seat.lock() = Some(Box::new(newcomer));
        }
        Some(seat)
    }

    /// Counts one more, if there is one.
    fn count(&self) -> bool {
        let more = |taken| (taken < self.limit).then_some(taken + 1);
        self.taken.try_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many are taken by newcomers.
    pub fn newcomers(&self) -> usize {
        self.newcomers.as_ref().map_or(0, |newcomers| newcomers.count())
    }

    /// How many there are.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl Seat {
    /// Says what happens when its holder is displaced, which can only be as long as it is a newcomer.
    pub fn when_displaced(&self, displace: impl FnOnce() + Send + 'static) {
        if let Some(newcomer) = &*self.lock() {
            newcomer.when_displaced(displace);
        }
    }

    /// Its holder is known from now on.
    pub fn settle(&self) {
        if !self.known.swap(true, Ordering::Relaxed) {
            let newcomer = self.lock().take();
            drop(newcomer);
        }
    }

    /// Whether its holder is known, or nobody asks.
    pub fn is_settled(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Frees the seat before it is dropped; a second time does nothing.
    pub fn release(&self) {
        if !self.released.swap(true, Ordering::Relaxed) {
            self.seats.taken.fetch_sub(1, Ordering::Relaxed);
            let newcomer = self.lock().take();
            drop(newcomer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Box<Newcomer>>> {
        self.newcomer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_seat_is_freed_once() {
        let seats = Seats::new(1, None);
        let seat = seats.take(address(1)).expect("a seat");
        assert!(seat.is_settled() && seats.take(address(1)).is_none());
        seat.release();
        drop(seat);
        assert_eq!(seats.taken(), 0);
    }

    /// A seat whose holder gives it up when it is displaced.
    fn take(seats: &Arc<Seats>, last: u8) -> Option<Arc<Seat>> {
        let seat = Arc::new(seats.take(address(last))?);
        let held = Arc::downgrade(&seat);
        seat.when_displaced(move || held.upgrade().into_iter().for_each(|seat| seat.release()));
        Some(seat)
    }

    #[test]
    fn newcomers_have_a_share() {
        let seats = Seats::new(3, Some(Newcomers::new(2, usize::MAX, Duration::from_secs(3_600))));
        let (first, _second) = (take(&seats, 1).expect("a seat"), take(&seats, 1).expect("a seat"));
        assert!(take(&seats, 1).is_none());
        assert_eq!((seats.taken(), seats.newcomers(), first.is_settled()), (2, 2, false));
        first.settle();
        assert_eq!((seats.taken(), seats.newcomers(), first.is_settled()), (2, 1, true));
        assert!(take(&seats, 1).is_some());
        drop((first, _second));
        assert_eq!((seats.taken(), seats.newcomers()), (0, 0));
    }

    #[test]
    fn a_newcomer_makes_room_when_the_server_is_full() {
        let seats = Seats::new(2, Some(Newcomers::new(2, usize::MAX, Duration::from_secs(3_600))));
        let (first, second) = (take(&seats, 1).expect("a seat"), take(&seats, 1).expect("a seat"));
        let other = take(&seats, 2).expect("the oldest of a network that has more makes room");
        assert!(first.released.load(Ordering::Relaxed) && !second.released.load(Ordering::Relaxed));
        other.settle();
        second.settle();
        assert!(take(&seats, 3).is_none(), "who is known keeps its seat");
    }
}
