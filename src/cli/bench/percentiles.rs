//! Distributions of times: recorded in nanoseconds, told in milliseconds.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time that is told apart from longer ones: ten minutes, in nanoseconds.
const LONGEST: u64 = 600_000_000_000;

/// A distribution of times, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    /// Half are shorter.
    pub p50: f64,
    /// Nine in ten are shorter.
    pub p90: f64,
    /// 99 in 100 are shorter.
    pub p99: f64,
    /// 999 in 1,000 are shorter.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// An empty histogram of times in nanoseconds.
pub(super) fn histogram() -> Histogram<u64> {
    // The bounds are constants that the library accepts.
    Histogram::new_with_bounds(1_000, LONGEST, 3).expect("valid bounds")
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}
