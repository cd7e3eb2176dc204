//! Times as clients see them: ISO 8601 in UTC, with milliseconds and `Z`.

use jiff::Timestamp;

/// Milliseconds since the epoch.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// A time in milliseconds since the epoch, as `2026-01-31T12:00:00.000Z`.
pub fn iso(ms: i64) -> String {
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}

/// The present time, as `2026-01-31T12:00:00.000Z`.
pub fn now_iso() -> String {
    iso(now_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_carry_milliseconds_and_a_z() {
        assert_eq!(iso(1_705_314_600_000), "2024-01-15T10:30:00.000Z");
        assert_eq!(iso(i64::MAX), "1970-01-01T00:00:00.000Z");
    }
}
