//! A pace: turns that come no faster than a rate, each waited for in the order asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Gives turns; after a quiet time some are had at once.
#[derive(Debug)]
pub struct Pace {
    /// Time between two turns; none if nobody waits.
    interval: Option<Duration>,
    /// How much of the time before counts as quiet.
    credit: Duration,
    /// Most that one may have to wait.
    longest: Duration,
    /// When the next turn is due.
    next: Mutex<Instant>,
}

impl Pace {
    /// So many turns a second, a quarter of them at once, while no more than `most` wait; without a bound for 0.
    pub fn new(per_second: u32, most: usize) -> Self {
        let interval = (per_second > 0).then(|| Duration::from_secs(1) / per_second);
        Self {
            interval,
            credit: Duration::from_millis(250),
            longest: interval.unwrap_or_default().saturating_mul(u32::try_from(most).unwrap_or(u32::MAX)),
            next: Mutex::new(Instant::now()),
        }
    }

    /// When one's turn is; none if too many wait for theirs.
    fn due(&self, now: Instant) -> Option<Instant> {
        let Some(interval) = self.interval else { return Some(now) };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(self.credit).unwrap_or(now);
        let due = (*next).max(earliest);
        if due.saturating_duration_since(now) > self.longest {
            return None;
        }
        *next = due + interval;
        Some(due)
    }

    /// Waits for one's turn; false at once if too many wait already.
    pub async fn turn(&self) -> bool {
        let now = Instant::now();
        let Some(due) = self.due(now) else { return false };
        if due > now {
            tokio::time::sleep_until(due).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_quiet_time_some_go_at_once_and_the_others_in_turn() {
        let pace = Pace::new(100, 5);
        let now = Instant::now() + Duration::from_secs(60);
        let waits = |count: usize, now: Instant| -> Vec<Option<u128>> {
            (0..count).map(|_| pace.due(now).map(|due| due.saturating_duration_since(now).as_millis())).collect()
        };
        assert_eq!(waits(26, now), vec![Some(0); 26]);
        assert_eq!(
            waits(6, now),
            [10, 20, 30, 40, 50, 60].map(Some)[..5].iter().copied().chain([None]).collect::<Vec<_>>()
        );
        assert_eq!(waits(2, now + Duration::from_millis(20)), [Some(40), Some(50)]);
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let pace = Pace::new(0, 1);
        let now = Instant::now();
        assert!((0..1_000).all(|_| pace.due(now) == Some(now)));
    }
}
