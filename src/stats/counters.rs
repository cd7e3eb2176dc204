//! What has been published, delivered, refused and lost since the start.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::refusals::{Refusal, Refusals};

/// Seconds over which rates are averaged.
const WINDOW: usize = 10;

/// The counters of one server.
#[derive(Debug)]
pub struct Counters {
    started: Instant,
    delivered: AtomicU64,
    received: AtomicU64,
    errors: AtomicU64,
    cut_overflow: AtomicU64,
    cut_stalled: AtomicU64,
    published: Mutex<Published>,
    lost: Mutex<BTreeMap<u16, Lost>>,
    refusals: Refusals,
}

#[derive(Debug, Default)]
struct Published {
    total: u64,
    by_event: HashMap<String, u64>,
    recent: Recent,
    recently_delivered: Recent,
    latency_sum: Duration,
    latency_max: Duration,
    last_error: Option<String>,
}

/// Counts of the last seconds, each slot with the second it is for.
#[derive(Debug, Default)]
struct Recent([(u64, u64); WINDOW]);

impl Recent {
    fn add(&mut self, second: u64, count: u64) {
        let slot = &mut self.0[second as usize % WINDOW];
        *slot = if slot.0 == second { (second, slot.1 + count) } else { (second, count) };
    }

    fn per_second(&self, uptime: Duration) -> f64 {
        let now = uptime.as_secs();
        let recent: u64 =
            self.0.iter().filter(|(second, _)| now - second < WINDOW as u64).map(|(_, count)| count).sum();
        recent as f64 / uptime.as_secs_f64().clamp(1.0, WINDOW as f64)
    }
}

/// What clients did not get of one event, since they read too slowly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// A newer value took the place of so many.
    pub conflated: u64,
    /// So many were of low priority.
    pub dropped: u64,
}

/// A reading of the counters.
#[derive(Debug, Clone)]
pub struct Totals {
    /// Time since the start.
    pub uptime: Duration,
    /// Messages published.
    pub published: u64,
    /// Messages published a second, over the last ten.
    pub published_per_second: f64,
    /// Messages handed to sockets a second, over the last ten.
    pub delivered_per_second: f64,
    /// Messages published, by event.
    pub by_event: HashMap<String, u64>,
    /// Messages handed to sockets.
    pub delivered: u64,
    /// Messages that clients sent.
    pub received: u64,
    /// Refusals and faults.
    pub errors: u64,
    /// Text of the last one.
    pub last_error: Option<String>,
    /// Average time from publishing to the sockets' outboxes.
    pub latency_average: Duration,
    /// Longest such time.
    pub latency_max: Duration,
    /// What clients did not get since they read too slowly, by the event's number in the catalogue.
    pub lost: BTreeMap<u16, Lost>,
    /// Connections cut because too much waited for them.
    pub cut_overflow: u64,
    /// Connections cut because their reader took nothing.
    pub cut_stalled: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            delivered: AtomicU64::new(0),
            received: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            cut_overflow: AtomicU64::new(0),
            cut_stalled: AtomicU64::new(0),
            published: Mutex::default(),
            lost: Mutex::default(),
            refusals: Refusals::default(),
        }
    }
}

impl Counters {
    /// A message was handed to this many sockets.
    pub fn delivered(&self, recipients: usize) {
        self.delivered.fetch_add(recipients as u64, Ordering::Relaxed);
        self.lock().recently_delivered.add(self.started.elapsed().as_secs(), recipients as u64);
    }

    /// A message was published, and took this long to be handed to its sockets.
    pub fn published(&self, event: &str, latency: Duration) {
        let second = self.started.elapsed().as_secs();
        let mut published = self.lock();
        published.total += 1;
        match published.by_event.get_mut(event) {
            Some(count) => *count += 1,
            None => {
                published.by_event.insert(event.to_owned(), 1);
            }
        }
        published.recent.add(second, 1);
        published.latency_sum += latency;
        published.latency_max = published.latency_max.max(latency);
    }

    /// A client sent a message.
    pub fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Something was refused or failed.
    pub fn error(&self, text: &str) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.lock().last_error = Some(text.to_owned());
    }

    /// Something was over a bound.
    pub fn refused(&self, refusal: Refusal) {
        self.refusals.count(refusal);
    }

    /// How often something of this kind was over a bound.
    pub fn refusals(&self, refusal: Refusal) -> u64 {
        self.refusals.of(refusal)
    }

    /// A newer value took the place of an event that waited for a client.
    pub fn conflated(&self, event: u16) {
        self.lock_lost().entry(event).or_default().conflated += 1;
    }

    /// An event of low priority was not sent to a client that reads too slowly.
    pub fn dropped(&self, event: u16) {
        self.lock_lost().entry(event).or_default().dropped += 1;
    }

    /// A connection was cut because too much waited for it.
    pub fn overflow(&self) {
        self.cut_overflow.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was cut because its reader took nothing.
    pub fn stalled(&self) {
        self.cut_stalled.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads everything.
    pub fn totals(&self) -> Totals {
        let uptime = self.started.elapsed();
        let published = self.lock();
        Totals {
            uptime,
            published: published.total,
            published_per_second: published.recent.per_second(uptime),
            delivered_per_second: published.recently_delivered.per_second(uptime),
            by_event: published.by_event.clone(),
            delivered: self.delivered.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            last_error: published.last_error.clone(),
            latency_average: published.latency_sum.checked_div(published.total as u32).unwrap_or_default(),
            latency_max: published.latency_max,
            lost: self.lock_lost().clone(),
            cut_overflow: self.cut_overflow.load(Ordering::Relaxed),
            cut_stalled: self.cut_stalled.load(Ordering::Relaxed),
        }
    }

    fn lock_lost(&self) -> std::sync::MutexGuard<'_, BTreeMap<u16, Lost>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_are_counted_by_event() {
        let counters = Counters::default();
        counters.delivered(3);
        counters.published("kpi:update", Duration::from_millis(2));
        counters.published("kpi:update", Duration::from_millis(4));
        let totals = counters.totals();
        assert_eq!((totals.published, totals.delivered, totals.by_event["kpi:update"]), (2, 3, 2));
        assert_eq!((totals.latency_average, totals.latency_max), (Duration::from_millis(3), Duration::from_millis(4)));
        assert!(totals.published_per_second > 0.0);
    }
}
