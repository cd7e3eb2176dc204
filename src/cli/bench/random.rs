//! A small generator (splitmix64) of chances: the same run has the same ones.

use std::time::Duration;

use anyhow::{Result, anyhow};

/// A number that no other run has.
///
/// # Errors
/// If the system has no randomness.
pub(super) fn fresh() -> Result<u64> {
    getrandom::u64().map_err(|error| anyhow!("the system has no randomness: {error}"))
}

/// The chances of one client.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The generator of client `index`.
    pub(super) fn of_client(index: usize) -> Self {
        Self(index as u64)
    }

    /// A number from 0 up to 1, which is left out.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A time between two, each as likely as any other.
    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.unit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_spread_evenly() {
        let mut tenths = [0_u32; 10];
        for index in 0..1_000 {
            let mut random = Random::of_client(index);
            for _ in 0..10 {
                let unit = random.unit();
                assert!((0.0..1.0).contains(&unit));
                tenths[(unit * 10.0) as usize] += 1;
            }
        }
        assert!(tenths.iter().all(|count| (850..1_150).contains(count)), "{tenths:?}");
    }
}
