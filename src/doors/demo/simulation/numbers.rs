//! Numbers: rounded ones to show, and random ones that a seed repeats.

use serde_json::{Value, json};

/// A number with so many decimals.
pub(super) fn rounded(value: f64, decimals: i32) -> Value {
    let scale = 10_f64.powi(decimals);
    json!((value * scale).round() / scale)
}

/// A small xorshift generator: for a demo, never for secrets.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        // Xorshift never leaves zero, and seeds that are close together should not tell stories that are.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From 0 up to, and without, 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Between `-size` and `size`.
    pub(super) fn jitter(&mut self, size: f64) -> f64 {
        size * (2.0 * self.unit() - 1.0)
    }

    pub(super) fn chance(&mut self, likelihood: f64) -> bool {
        self.unit() < likelihood
    }

    /// From 0 up to, and without, `count`.
    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.unit() * count as f64) as usize
    }

    /// From `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below((high - low + 1) as usize) as u64
    }

    pub(super) fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}_{:012x}", self.next() >> 16)
    }
}
