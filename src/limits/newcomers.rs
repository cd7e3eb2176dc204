//! Newcomers: who has come and has not said yet who it is or what it wants.
//!
//! Their number is bounded. When it is reached, whoever has taken longest makes
//! room, of the network that has most: a flood displaces itself, and others
//! hardly ever meet it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::network::Network;

type Displace = Box<dyn FnOnce() + Send>;

/// The newcomers of one kind.
#[derive(Debug)]
pub struct Newcomers {
    most: usize,
    /// Most of one network.
    most_each: usize,
    /// How long a newcomer is safe from others of its own network.
    grace: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    count: usize,
    /// Those of each network, the oldest first; a network without any is forgotten.
    by_network: HashMap<Network, BTreeMap<u64, Entry>>,
}

struct Entry {
    since: Instant,
    displace: Option<Displace>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("since", &self.since).finish_non_exhaustive()
    }
}

/// The place of a newcomer; it is none any more when this is dropped.
#[derive(Debug)]
pub struct Newcomer {
    newcomers: Arc<Newcomers>,
    network: Network,
    number: u64,
}

impl Newcomers {
    /// At most so many, and so many of each network; none is displaced by others of its own network before `grace`.
    pub fn new(most: usize, most_each: usize, grace: Duration) -> Arc<Self> {
        Arc::new(Self { most, most_each, grace, inner: Mutex::default() })
    }

    /// A place for who comes from this address; none if nobody makes room.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Newcomer> {
        let network = Network::from(address);
        let (number, displaced) = {
            let mut inner = self.lock();
            let crowded = match inner.of(network) {
                own if own >= self.most_each => Some(network),
                _ if inner.count >= self.most => inner.largest(),
                _ => None,
            };
            let displaced = match crowded {
                Some(largest) => Some(inner.take_oldest(largest, network, self.grace)?),
                None => None,
            };
            (inner.insert(network), displaced)
        };
        displaced.into_iter().for_each(run);
        Some(Newcomer { newcomers: self.clone(), network, number })
    }

    /// Displaces somebody for who comes from this address; false if nobody makes room.
    pub fn make_room(&self, address: IpAddr) -> bool {
        let displaced = {
            let mut inner = self.lock();
            let largest = inner.largest();
            largest.and_then(|largest| inner.take_oldest(largest, address.into(), self.grace))
        };
        displaced.map(run).is_some()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(displaced: Entry) {
    if let Some(displace) = displaced.displace {
        displace();
    }
}

impl Inner {
    fn of(&self, network: Network) -> usize {
        self.by_network.get(&network).map_or(0, BTreeMap::len)
    }

    /// The network with most newcomers.
    fn largest(&self) -> Option<Network> {
        self.by_network.iter().max_by_key(|(_, entries)| entries.len()).map(|(network, _)| *network)
    }

    fn insert(&mut self, network: Network) -> u64 {
        let number = self.next;
        self.next += 1;
        self.count += 1;
        self.by_network.entry(network).or_default().insert(number, Entry { since: Instant::now(), displace: None });
        number
    }

    /// Takes the oldest newcomer of `largest` out in favour of one of `network`, unless it is still safe: nobody is
    /// from a network that has fewer.
    fn take_oldest(&mut self, largest: Network, network: Network, grace: Duration) -> Option<Entry> {
        let has_fewer = self.of(network) + 1 < self.of(largest);
        let (number, oldest) = self.by_network.get(&largest)?.first_key_value()?;
        let number = (has_fewer || oldest.since.elapsed() >= grace).then_some(*number)?;
        self.remove(largest, number)
    }

    fn remove(&mut self, network: Network, number: u64) -> Option<Entry> {
        let entries = self.by_network.get_mut(&network)?;
        let entry = entries.remove(&number)?;
        self.count -= 1;
        if entries.is_empty() {
            self.by_network.remove(&network);
        }
        Some(entry)
    }
}

impl Newcomer {
    /// Says what happens when it is displaced; at once if it is already.
    pub fn when_displaced(&self, displace: impl FnOnce() + Send + 'static) {
        {
            let mut inner = self.newcomers.lock();
            let entries = inner.by_network.get_mut(&self.network);
            if let Some(entry) = entries.and_then(|entries| entries.get_mut(&self.number)) {
                entry.displace = Some(Box::new(displace));
                return;
            }
        }
        displace();
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let left = self.newcomers.lock().remove(self.network, self.number);
        // What it keeps may be the last of something that takes this lock.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const SAFE: Duration = Duration::from_secs(3_600);

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn flood(newcomers: &Arc<Newcomers>, from: u8, count: usize) -> (Vec<Newcomer>, Arc<AtomicUsize>) {
        let displaced = Arc::new(AtomicUsize::new(0));
        let come = |_| {
            let newcomer = newcomers.enter(address(from)).expect("a place");
            let displaced = displaced.clone();
            newcomer.when_displaced(move || {
                displaced.fetch_add(1, Ordering::Relaxed);
            });
            newcomer
        };
        ((0..count).map(come).collect(), displaced)
    }

    #[test]
    fn a_flood_makes_room_for_others_and_not_for_itself() {
        let newcomers = Newcomers::new(10, usize::MAX, SAFE);
        let (_flood, displaced) = flood(&newcomers, 1, 10);
        assert!(newcomers.enter(address(1)).is_none(), "all of its own are still safe");
        let others: Vec<_> = (0..9).map(|last| newcomers.enter(address(2 + last))).collect();
        assert!(others.iter().all(Option::is_some));
        assert_eq!((displaced.load(Ordering::Relaxed), newcomers.count()), (9, 10));
        assert!(newcomers.enter(address(20)).is_none(), "nobody has more than one");
    }

    #[test]
    fn the_oldest_goes_first_when_its_time_is_over() {
        let newcomers = Newcomers::new(2, usize::MAX, Duration::ZERO);
        let (_two, displaced) = flood(&newcomers, 1, 2);
        let (late, safe) = flood(&newcomers, 1, 1);
        assert_eq!((displaced.load(Ordering::Relaxed), safe.load(Ordering::Relaxed)), (1, 0));
        drop(late);
        assert_eq!(newcomers.count(), 1);
        assert!(newcomers.make_room(address(9)));
        assert_eq!((displaced.load(Ordering::Relaxed), newcomers.count()), (2, 0));
        assert!(!newcomers.make_room(address(9)));
    }

    #[test]
    fn one_network_has_a_bound_of_its_own_and_is_forgotten() {
        let newcomers = Newcomers::new(10, 2, SAFE);
        let (two, _) = flood(&newcomers, 1, 2);
        assert!(newcomers.enter(address(1)).is_none());
        assert!(newcomers.enter(address(2)).is_some());
        drop(two);
        assert!(newcomers.lock().by_network.is_empty());
    }

    #[test]
    fn who_is_displaced_early_hears_of_it_late() {
        let newcomers = Newcomers::new(1, usize::MAX, Duration::ZERO);
        let early = newcomers.enter(address(1)).expect("a place");
        let _late = newcomers.enter(address(1)).expect("a place");
        let told = Arc::new(AtomicUsize::new(0));
        let count = told.clone();
        early.when_displaced(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
