//! A circuit breaker: a service that fails again and again is left alone for a while.
//!
//! After five failures in a row calls are refused at once; when the pause is
//! over one call is let through as a probe, and what comes of it decides.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open the circuit.
const FAILURES: u32 = 5;

/// The breaker of one service.
#[derive(Debug)]
pub(super) struct Breaker {
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// When it opened, or a probe last failed; none while it is closed.
    opened_at: Option<Instant>,
    /// Whether a probe is under way.
    probing: bool,
}

/// A call that was let through; one that is given up says nothing about the service.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    /// A closed one, which stays open for this long once it opens.
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, state: Mutex::default() }
    }

    /// Lets a call through, or none while it is open.
    pub(super) fn pass(&self, now: Instant) -> Option<Pass<'_>> {
        let mut state = self.lock();
        let Some(opened_at) = state.opened_at else { return Some(Pass { breaker: self, is_probe: false }) };
        if state.probing || now.saturating_duration_since(opened_at) < self.pause {
            return None;
        }
        state.probing = true;
        Some(Pass { breaker: self, is_probe: true })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The service has answered.
    pub(super) fn succeeded(&self) {
        let mut state = self.breaker.lock();
        (state.failures, state.opened_at) = (0, None);
    }

    /// The service has failed.
    pub(super) fn failed(&self, now: Instant) {
        let mut state = self.breaker.lock();
        state.failures += 1;
        // What was under way when it opened does not keep it open for longer.
        if self.is_probe || (state.opened_at.is_none() && state.failures >= FAILURES) {
            state.opened_at = Some(now);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn fail(breaker: &Breaker, times: usize, now: Instant) {
        for _ in 0..times {
            breaker.pass(now).expect("closed").failed(now);
        }
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_probe_closes_it() {
        let (breaker, start) = (Breaker::new(PAUSE), Instant::now());
        fail(&breaker, 4, start);
        breaker.pass(start).expect("closed").succeeded();
        fail(&breaker, 5, start);
        assert!(breaker.pass(start + PAUSE / 2).is_none());
        let later = start + PAUSE;
        let probe = breaker.pass(later).expect("a probe");
        assert!(breaker.pass(later).is_none(), "one probe at a time");
        probe.failed(later);
        drop(probe);
        assert!(breaker.pass(later + PAUSE / 2).is_none(), "open again");
        breaker.pass(later + PAUSE).expect("a probe").succeeded();
        fail(&breaker, 4, later);
        assert!(breaker.pass(later).is_some(), "it counts from the start");
    }

    #[test]
    fn late_failures_do_not_prolong_it_and_a_probe_given_up_makes_room() {
        let (breaker, start) = (Breaker::new(PAUSE), Instant::now());
        let slow = breaker.pass(start).expect("closed");
        fail(&breaker, 5, start);
        slow.failed(start + PAUSE);
        let probe = breaker.pass(start + PAUSE).expect("a probe");
        drop(probe);
        assert!(breaker.pass(start + PAUSE).is_some());
    }
}
