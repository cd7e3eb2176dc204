//! How long a stock client waits before it tries again.
//!
//! socket.io-client's own arithmetic, with its defaults:
//! <https://github.com/socketio/socket.io/blob/main/packages/socket.io-client/lib/contrib/backo2.ts>.

use std::time::Duration;

use crate::cli::bench::random::Random;

const LEAST_MS: f64 = 1_000.0;
const MOST_MS: f64 = 5_000.0;
const RANDOMIZATION: f64 = 0.5;
/// From here on the delay is the longest whatever is added or taken away.
const ENOUGH: i32 = 8;

/// The attempts of one client since it was last connected.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: i32,
}

impl Backoff {
    /// The wait before the next attempt.
    pub(super) fn delay(&mut self, random: &mut Random) -> Duration {
        let delay = LEAST_MS * 2_f64.powi(self.attempts.min(ENOUGH));
        self.attempts = self.attempts.saturating_add(1);
        let chance = random.unit();
        let deviation = (chance * RANDOMIZATION * delay).floor();
        // Whether it is added or taken away hangs on a digit of the same chance.
        let delay = if (chance * 10.0) as u32 & 1 == 0 { delay - deviation } else { delay + deviation };
        Duration::from_millis(delay.min(MOST_MS) as u64)
    }

    /// The client is connected.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_begin_anew() {
        for index in 0..1_000 {
            let (mut backoff, mut random) = (Backoff::default(), Random::of_client(index));
            for bounds in [500..=1_500, 1_000..=3_000, 2_000..=5_000, 4_000..=5_000, 5_000..=5_000] {
                let delay = backoff.delay(&mut random).as_millis();
                assert!(bounds.contains(&delay), "{delay} is not within {bounds:?}");
            }
            backoff.reset();
            assert!((500..=1_500).contains(&backoff.delay(&mut random).as_millis()));
        }
    }

    #[test]
    fn delays_differ_from_client_to_client() {
        let delays = |index| Backoff::default().delay(&mut Random::of_client(index));
        let early = (0..1_000).filter(|index| delays(*index) < Duration::from_secs(1)).count();
        assert!((400..=600).contains(&early), "{early} of 1,000");
    }

    #[test]
    fn endless_attempts_are_no_fault() {
        let (mut backoff, mut random) = (Backoff { attempts: i32::MAX }, Random::of_client(1));
        assert_eq!(backoff.delay(&mut random), Duration::from_secs(5));
    }
}
