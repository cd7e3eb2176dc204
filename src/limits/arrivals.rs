//! TCP connections by the addresses they come from, for as long as they are open.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::network::Network;

/// How many TCP connections are open, in total and of each network.
#[derive(Debug)]
pub struct Arrivals {
    /// Most of one network; 0 is no bound.
    most_each: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    total: usize,
    /// Kept only where there is a bound; a network without any is forgotten.
    by_network: HashMap<Network, usize>,
}

/// An open TCP connection; it counts until this is dropped.
#[derive(Debug)]
pub struct Arrival {
    arrivals: Arc<Arrivals>,
    /// None until it is known.
    network: OnceLock<Network>,
}

impl Arrivals {
    /// At most so many of each network; 0 is no bound.
    pub fn new(most_each: usize) -> Arc<Self> {
        Arc::new(Self { most_each, inner: Mutex::default() })
    }

    /// Counts a connection from this address, if that is known; none if there are as many as there may be.
    pub fn arrive(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Arc<Arrival>> {
        self.lock().total += 1;
        let arrival = Arc::new(Arrival { arrivals: self.clone(), network: OnceLock::new() });
        address.is_none_or(|address| arrival.turns_out(address)).then_some(arrival)
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    /// Counts for an address, once; false if there are as many of it as there may be.
    pub fn turns_out(&self, address: IpAddr) -> bool {
        let network = Network::from(address);
        let mut inner = self.arrivals.lock();
        if self.arrivals.most_each > 0 && self.network.get().is_none() {
            let count = inner.by_network.entry(network).or_default();
            if *count >= self.arrivals.most_each {
                return false;
            }
            *count += 1;
            self.network.set(network).ok();
        }
        true
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut inner = self.arrivals.lock();
        inner.total -= 1;
        let Some(network) = self.network.get() else { return };
        if let Some(count) = inner.by_network.get_mut(network) {
            *count -= 1;
            if *count == 0 {
                inner.by_network.remove(network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_share_and_is_forgotten() {
        let arrivals = Arrivals::new(2);
        let come = |last: u8| arrivals.arrive(Some([192, 0, 2, last].into()));
        let (first, second) = (come(1), come(1));
        assert!(first.is_some() && second.is_some() && come(1).is_none() && come(2).is_some());
        assert_eq!(arrivals.count(), 2);
        drop(first);
        assert!(come(1).is_some());
        drop(second);
        assert!(arrivals.lock().by_network.is_empty());
    }

    #[test]
    fn without_a_bound_nothing_is_kept_of_an_address() {
        let arrivals = Arrivals::new(0);
        let _open: Vec<_> = (0..100).map(|_| arrivals.arrive(Some([192, 0, 2, 1].into())).expect("a place")).collect();
        assert_eq!(arrivals.count(), 100);
        assert!(arrivals.lock().by_network.is_empty());
    }
}
