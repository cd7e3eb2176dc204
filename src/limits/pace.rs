//! A pace: turns that come no faster than a rate, each waited for in the order asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Gives turns; after a quiet time some are had at once.
#[derive(Debug)]
pub struct Pace {
    /// Time between two turns; none if nobody waits.
    interval: Option<Duration>,
    /// How much of the time before counts as quiet.
    credit: Duration,
    /// Most that may wait.
    most: usize,
    waiting: AtomicUsize,
    /// When the next turn is due; whoever is first in the queue for it waits for that. One who gives up leaves the
    /// queue, and takes nobody's turn.
    next: Mutex<Instant>,
}

impl Pace {
    /// So many turns a second, a quarter of them at once, while no more than `most` wait; without a bound for 0.
    pub fn new(per_second: u32, most: usize) -> Self {
        Self {
            interval: (per_second > 0).then(|| Duration::from_secs(1) / per_second),
            credit: Duration::from_millis(250),
            most,
            waiting: AtomicUsize::new(0),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits for one's turn; false at once if too many wait already.
    pub async fn turn(&self) -> bool {
        let Some(interval) = self.interval else { return true };
        let waiting = Waiting::enter(&self.waiting);
        if waiting.before >= self.most {
            return false;
        }
        let mut next = self.next.lock().await;
        let now = Instant::now();
        let due = (*next).max(now.checked_sub(self.credit).unwrap_or(now));
        if due > now {
            sleep_until(due).await;
        }
        *next = due + interval;
        true
    }
}

/// Somebody who waits.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    /// How many waited before.
    before: usize,
}

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn after_a_quiet_time_some_go_at_once_and_the_others_in_turn() {
        let pace = Arc::new(Pace::new(100, 1_000));
        *pace.next.lock().await = Instant::now() - Duration::from_secs(60);
        let begun = Instant::now();
        for _ in 0..26 {
            assert!(pace.turn().await);
        }
        assert!(begun.elapsed() < Duration::from_millis(100), "a quarter of a second's and one at once");
        for _ in 0..20 {
            assert!(pace.turn().await);
        }
        assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn who_gives_up_takes_nobodys_turn_and_too_many_are_refused() {
        let pace = Arc::new(Pace::new(20, 50));
        *pace.next.lock().await = Instant::now() + Duration::from_millis(100);
        let mut waiting = JoinSet::new();
        for _ in 0..50 {
            let pace = pace.clone();
            waiting.spawn(async move { pace.turn().await });
        }
        while pace.waiting.load(Ordering::Relaxed) < 50 {
            tokio::task::yield_now().await;
        }
        assert!(!pace.turn().await, "fifty wait already");
        waiting.shutdown().await;
        let begun = Instant::now();
        assert!(pace.turn().await);
        assert!(begun.elapsed() < Duration::from_secs(1), "fifty turns would have taken 2.5 s");
    }

    #[tokio::test]
    async fn without_a_rate_nobody_waits() {
        let pace = Pace::new(0, 0);
        for _ in 0..1_000 {
            assert!(pace.turn().await);
        }
    }
}
