//! A token bucket on one atomic: the generic cell rate algorithm.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Allows `rate` a second on average, and a burst of the bucket's size.
#[derive(Debug)]
pub struct Bucket {
    start: Instant,
    /// Nanoseconds after `start` at which the bucket is full again.
    full_at: AtomicU64,
    interval: u64,
    burst: u64,
}

impl Bucket {
    /// A full bucket of `burst` tokens that gains `rate` tokens a second.
    pub fn new(rate: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1).as_nanos() as u64 / u64::from(rate.max(1));
        Self { start: Instant::now(), full_at: AtomicU64::new(0), interval, burst: interval * u64::from(burst.max(1)) }
    }

    /// Takes a token if there is one.
    pub fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        let now = now.duration_since(self.start).as_nanos() as u64;
        self.full_at
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let next = full_at.max(now) + self.interval;
                (next - now <= self.burst).then_some(next)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let bucket = Bucket::new(10, 3);
        let now = bucket.start;
        assert_eq!((0..5).filter(|_| bucket.take_at(now)).count(), 3);
        assert!(!bucket.take_at(now + Duration::from_millis(99)));
        assert!(bucket.take_at(now + Duration::from_millis(100)));
        assert!(!bucket.take_at(now + Duration::from_millis(100)));
        assert_eq!((0..5).filter(|_| bucket.take_at(now + Duration::from_secs(9))).count(), 3);
    }
}
