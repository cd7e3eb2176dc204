//! A token bucket on one atomic: the generic cell rate algorithm.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What many buckets have in common: so many tokens a second on average, and a burst.
#[derive(Debug, Clone)]
pub struct Rate {
    start: Instant,
    /// Nanoseconds that a token takes to come back.
    interval: u64,
    /// Nanoseconds that an empty bucket takes to be full.
    burst: u64,
}

/// What is left of a rate for one sender; full at first.
#[derive(Debug, Default)]
pub struct Bucket {
    /// Nanoseconds after the rate's start at which the bucket is full again.
    full_at: AtomicU64,
}

impl Rate {
    /// Buckets of `burst` tokens that gain `rate` tokens a second.
    pub fn new(rate: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1).as_nanos() as u64 / u64::from(rate.max(1));
        Self { start: Instant::now(), interval, burst: interval * u64::from(burst.max(1)) }
    }

    /// Buckets of `tokens` that come back within a minute.
    pub fn per_minute(tokens: u32) -> Self {
        let tokens = u64::from(tokens.max(1));
        let interval = Duration::from_secs(60).as_nanos() as u64 / tokens;
        Self { start: Instant::now(), interval, burst: interval * tokens }
    }

    /// Takes a token out of a bucket if there is one.
    pub fn take(&self, bucket: &Bucket) -> bool {
        self.take_at(bucket, 1, Instant::now())
    }

    /// Whether there is a token in a bucket.
    pub fn has(&self, bucket: &Bucket) -> bool {
        self.missing(bucket) + self.interval <= self.burst
    }

    /// Whether a bucket is as full as a new one.
    pub fn is_full(&self, bucket: &Bucket) -> bool {
        self.missing(bucket) == 0
    }

    /// Nanoseconds until a bucket is full.
    fn missing(&self, bucket: &Bucket) -> u64 {
        bucket.full_at.load(Ordering::Relaxed).saturating_sub(self.start.elapsed().as_nanos() as u64)
    }

    /// Takes so many tokens out of a bucket if there are as many.
    pub fn take_many(&self, bucket: &Bucket, tokens: usize) -> bool {
        self.take_at(bucket, tokens as u64, Instant::now())
    }

    fn take_at(&self, bucket: &Bucket, tokens: u64, now: Instant) -> bool {
        let now = now.duration_since(self.start).as_nanos() as u64;
        bucket
            .full_at
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                let next = full_at.max(now).saturating_add(self.interval.saturating_mul(tokens));
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
        let (rate, bucket) = (Rate::new(10, 3), Bucket::default());
        let takes = |millis| rate.take_at(&bucket, 1, rate.start + Duration::from_millis(millis));
        assert_eq!((0..5).filter(|_| takes(0)).count(), 3);
        assert!(!takes(99));
        assert!(takes(100));
        assert!(!takes(100));
        assert_eq!((0..5).filter(|_| takes(9_000)).count(), 3);
    }

    #[test]
    fn many_tokens_are_taken_at_once_or_not_at_all() {
        let (rate, bucket) = (Rate::new(1_000, 2_000), Bucket::default());
        let takes = |tokens, millis| rate.take_at(&bucket, tokens, rate.start + Duration::from_millis(millis));
        assert!(takes(1_500, 0) && !takes(501, 0) && takes(500, 0));
        assert!(!takes(2_001, 9_000) && !takes(u64::MAX, 9_000) && takes(2_000, 9_000));
    }
}
