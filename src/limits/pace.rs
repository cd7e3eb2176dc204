//! A pace: turns that come no faster than a rate, given in turn to the networks that wait.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::network::Network;

/// Gives turns; after a quiet time some are had at once.
#[derive(Debug)]
pub struct Pace {
    /// Time between two turns; none if nobody waits.
    interval: Option<Duration>,
    /// How much of the time before counts as quiet.
    credit: Duration,
    /// Most that may wait.
    most: usize,
    line: Mutex<Line>,
    /// Held by the one of those who wait that sees to the turns of all.
    clock: tokio::sync::Mutex<()>,
}

/// Those who wait.
#[derive(Debug)]
struct Line {
    /// When the next turn is due.
    due: Instant,
    waiting: usize,
    next: u64,
    /// Networks in the order in which they come: the one that had a turn goes to the end.
    order: BTreeMap<u64, Network>,
    /// A network of which nobody waits is forgotten.
    by_network: HashMap<Network, Waiting>,
}

/// Those of one network.
#[derive(Debug)]
struct Waiting {
    /// Its place in the order.
    place: u64,
    /// The oldest first.
    tickets: BTreeMap<u64, oneshot::Sender<()>>,
}

/// Somebody who waits; whoever gives up leaves the line, and takes nobody's turn.
struct Ticket<'a> {
    pace: &'a Pace,
    network: Network,
    number: u64,
    turn: oneshot::Receiver<()>,
}

impl Pace {
    /// So many turns a second, a quarter of them at once, while no more than `most` wait; without a bound for 0.
    pub fn new(per_second: u32, most: usize) -> Self {
        let line =
            Line { due: Instant::now(), waiting: 0, next: 0, order: BTreeMap::new(), by_network: HashMap::new() };
        Self {
            interval: (per_second > 0).then(|| Duration::from_secs(1) / per_second),
            credit: Duration::from_millis(250),
            most,
            line: Mutex::new(line),
            clock: tokio::sync::Mutex::default(),
        }
    }

    /// Waits for the turn of somebody at this address; false if too many wait, and none of a network that has more
    /// waiting makes room.
    pub async fn turn(&self, address: IpAddr) -> bool {
        let Some(interval) = self.interval else { return true };
        let Some(mut ticket) = self.queue(address.into()) else { return false };
        let clock = tokio::select! {
            biased;
            turn = &mut ticket.turn => return turn.is_ok(),
            clock = self.clock.lock() => clock,
        };
        // Whoever has the clock gives turns until it has its own.
        let is_mine = loop {
            match ticket.turn.try_recv() {
                Ok(()) => break true,
                Err(oneshot::error::TryRecvError::Closed) => break false,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let due = self.lock().due;
            if due > Instant::now() {
                sleep_until(due).await;
            }
            self.lock().give(interval, self.credit);
        };
        drop(clock);
        is_mine
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    fn queue(&self, network: Network) -> Option<Ticket<'_>> {
        let mut line = self.lock();
        if line.waiting >= self.most && !line.turn_away_for(network) {
            return None;
        }
        let (number, turn) = line.push(network);
        Some(Ticket { pace: self, network, number, turn })
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn push(&mut self, network: Network) -> (u64, oneshot::Receiver<()>) {
        let number = self.next;
        self.next += 1;
        self.waiting += 1;
        let (ticket, turn) = oneshot::channel();
        let waiting = self.by_network.entry(network).or_insert_with(|| {
            self.order.insert(number, network);
            Waiting { place: number, tickets: BTreeMap::new() }
        });
        waiting.tickets.insert(number, ticket);
        (number, turn)
    }

    /// Gives the next turn to the network whose turn it is.
    fn give(&mut self, interval: Duration, credit: Duration) {
        let Some((_, network)) = self.order.first_key_value() else { return };
        let network = *network;
        let Some(number) = self.by_network.get(&network).and_then(|waiting| waiting.tickets.keys().next()) else {
            return;
        };
        let Some(ticket) = self.remove(network, *number) else { return };
        if let Some(waiting) = self.by_network.get_mut(&network) {
            self.order.remove(&waiting.place);
            waiting.place = self.next;
            self.order.insert(self.next, network);
            self.next += 1;
        }
        if ticket.send(()).is_ok() {
            let now = Instant::now();
            self.due = self.due.max(now.checked_sub(credit).unwrap_or(now)) + interval;
        }
    }

    /// Turns the last away of the network of which most wait, if that is more than wait of this one.
    fn turn_away_for(&mut self, network: Network) -> bool {
        let own = self.by_network.get(&network).map_or(0, |waiting| waiting.tickets.len());
        let largest = self.by_network.iter().max_by_key(|(_, waiting)| waiting.tickets.len());
        let Some((largest, waiting)) = largest.filter(|(_, waiting)| waiting.tickets.len() > own + 1) else {
            return false;
        };
        let (largest, last) = (*largest, waiting.tickets.keys().next_back().copied());
        last.and_then(|last| self.remove(largest, last)).is_some()
    }

    fn remove(&mut self, network: Network, number: u64) -> Option<oneshot::Sender<()>> {
        let waiting = self.by_network.get_mut(&network)?;
        let ticket = waiting.tickets.remove(&number)?;
        self.waiting -= 1;
        if waiting.tickets.is_empty() {
            self.order.remove(&waiting.place);
            self.by_network.remove(&network);
        }
        Some(ticket)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pace.lock().remove(self.network, self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// So many who wait at this address; each says when it has had its turn, or that it was turned away.
    async fn wait(pace: &Arc<Pace>, from: u8, count: usize, all: usize) -> JoinSet<(u8, bool, Instant)> {
        let mut waiting = JoinSet::new();
        for _ in 0..count {
            let pace = pace.clone();
            waiting.spawn(async move { (from, pace.turn(address(from)).await, Instant::now()) });
        }
        while pace.waiting() < all {
            tokio::task::yield_now().await;
        }
        waiting
    }

    #[tokio::test]
    async fn after_a_quiet_time_some_go_at_once_and_the_others_in_turn() {
        let pace = Arc::new(Pace::new(100, 1_000));
        pace.lock().due = Instant::now() - Duration::from_secs(60);
        let begun = Instant::now();
        for _ in 0..26 {
            assert!(pace.turn(address(1)).await);
        }
        assert!(begun.elapsed() < Duration::from_millis(200), "a quarter of a second's and one at once");
        for _ in 0..20 {
            assert!(pace.turn(address(1)).await);
        }
        assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn who_gives_up_takes_nobodys_turn_and_too_many_are_refused() {
        let pace = Arc::new(Pace::new(20, 50));
        pace.lock().due = Instant::now() + Duration::from_millis(500);
        let mut waiting = wait(&pace, 1, 50, 50).await;
        assert!(!pace.turn(address(1)).await, "fifty wait already");
        waiting.shutdown().await;
        assert!(pace.lock().by_network.is_empty() && pace.lock().order.is_empty());
        let begun = Instant::now();
        assert!(pace.turn(address(1)).await);
        assert!(begun.elapsed() < Duration::from_secs(2), "fifty turns would have taken 2.5 s");
    }

    #[tokio::test]
    async fn a_flood_delays_only_itself() {
        let pace = Arc::new(Pace::new(100, 1_000));
        let due = Instant::now() + Duration::from_millis(500);
        pace.lock().due = due;
        let mut flood = wait(&pace, 1, 100, 100).await;
        let mut others = wait(&pace, 2, 5, 105).await;
        while let Some(Ok((_, had_its_turn, _))) = others.join_next().await {
            assert!(had_its_turn);
        }
        assert!(due.elapsed() < Duration::from_millis(600), "{:?}; 105 turns take a second", due.elapsed());
        assert!(pace.waiting() >= 40, "the flood waits on: {}", pace.waiting());
        flood.shutdown().await;
        assert_eq!(pace.waiting(), 0);
    }

    #[tokio::test]
    async fn when_too_many_wait_those_of_a_flood_are_turned_away() {
        let pace = Arc::new(Pace::new(100, 20));
        pace.lock().due = Instant::now() + Duration::from_millis(500);
        let mut flood = wait(&pace, 1, 20, 20).await;
        assert!(!pace.turn(address(1)).await);
        assert!(pace.turn(address(2)).await, "one of the flood makes room");
        let mut refused = 0;
        while let Some(Ok((_, had_its_turn, _))) = flood.join_next().await {
            refused += usize::from(!had_its_turn);
        }
        assert_eq!(refused, 1);
    }

    #[tokio::test]
    async fn without_a_rate_nobody_waits() {
        let pace = Pace::new(0, 0);
        for _ in 0..1_000 {
            assert!(pace.turn(address(1)).await);
        }
    }
}
