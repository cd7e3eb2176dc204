//! One step: when it is, and what happens in it.
//!
//! A simulated day passes in [`DAY`] steps, so that whoever watches for ten
//! minutes sees a quiet hour and a busy one.

use serde_json::{Map, Value, json};

use super::numbers::Rng;
use super::queues::Profile;

/// One event of a step: its name and its payload.
pub(super) type Event = (&'static str, Value);

/// Steps of a simulated day.
pub(super) const DAY: u64 = 600;
/// Simulated minutes of one step.
pub(super) const MINUTES_PER_STEP: f64 = 24.0 * 60.0 / DAY as f64;

/// What every part of the call centre needs to play its part in a step.
pub(super) struct Step<'a> {
    /// Steps before this one.
    pub(super) number: u64,
    /// The wall clock, for timestamps.
    pub(super) now: &'a str,
    pub(super) rng: &'a mut Rng,
    organization: &'a str,
    events: Vec<Event>,
}

impl<'a> Step<'a> {
    pub(super) fn new(number: u64, organization: &'a str, now: &'a str, rng: &'a mut Rng) -> Self {
        Self { number, now, rng, organization, events: Vec::new() }
    }

    /// Days that have passed, with their fraction.
    pub(super) fn days(&self) -> f64 {
        self.number as f64 / DAY as f64
    }

    /// A payload with the fields that route it: its organization and, for a queue, its department and name.
    pub(super) fn payload(&self, queue: Option<&Profile>) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("organization_id".into(), json!(self.organization));
        if let Some(queue) = queue {
            fields.insert("department_id".into(), json!(queue.department));
            fields.insert("queue_name".into(), json!(queue.name));
        }
        fields.insert("timestamp".into(), json!(self.now));
        fields
    }

    /// Adds an event to what happens.
    pub(super) fn tell(&mut self, event: &'static str, payload: Map<String, Value>) {
        self.events.push((event, payload.into()));
    }

    /// Everything that was told.
    pub(super) fn events(self) -> Vec<Event> {
        self.events
    }
}
