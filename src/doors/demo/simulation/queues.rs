//! The queues: work comes in with the time of day and waits for people.

use std::f64::consts::TAU;

use serde_json::json;

use super::figures::{Figures, TARGET_UTILIZATION};
use super::numbers::{Rng, rounded};
use super::people::{Person, Presence};
use super::step::{MINUTES_PER_STEP, Step};

/// What never changes about a queue.
pub(super) struct Profile {
    pub(super) name: &'static str,
    pub(super) department: &'static str,
    /// People on the schedule.
    pub(super) scheduled: usize,
    /// Items that one busy person finishes in a minute.
    pace: f64,
    /// The longest wait that was promised.
    sla_minutes: f64,
    /// Where this queue stands in the day's wave: queues do not peak together.
    phase: f64,
}

pub(super) const QUEUES: [Profile; 3] = [
    Profile { name: "support", department: "customer_care", scheduled: 20, pace: 0.35, sla_minutes: 8.0, phase: 0.00 },
    Profile { name: "sales", department: "commercial", scheduled: 14, pace: 0.25, sla_minutes: 10.0, phase: 0.22 },
    Profile { name: "billing", department: "back_office", scheduled: 10, pace: 0.20, sla_minutes: 15.0, phase: 0.55 },
];

/// A queue and how it is doing.
pub(super) struct Queue {
    pub(super) profile: &'static Profile,
    present: u32,
    absent: u32,
    late: u32,
    /// Work that comes in, in people who would be busy all the time with it.
    demand: f64,
    /// The part of demand that no time of day explains.
    mood: f64,
    items: u32,
    /// A slow average of `items`; the trend is where `items` stands to it.
    usual_items: f64,
    added: u32,
    completed: u32,
}

impl Queue {
    pub(super) fn new(profile: &'static Profile) -> Self {
        let items = profile.scheduled as u32 * 2;
        Self {
            profile,
            present: 0,
            absent: 0,
            late: 0,
            demand: 0.0,
            mood: 0.0,
            items,
            usual_items: f64::from(items),
            added: 0,
            completed: 0,
        }
    }

    /// One step of work: demand follows the time of day, and the backlog follows demand.
    pub(super) fn work<'a>(&mut self, staff: impl Iterator<Item = &'a Person>, step: &mut Step<'_>) {
        self.count(staff);
        self.flow(step.days(), step.rng);
    }

    pub(super) fn report(&self, step: &mut Step<'_>) {
        let figures = self.figures();
        let mut payload = step.payload(Some(self.profile));
        payload.insert("snapshot_id".into(), json!(step.rng.id("snap")));
        payload.insert("total_items".into(), json!(self.items));
        payload.insert("avg_wait_time_minutes".into(), rounded(figures.wait_minutes(), 1));
        payload.insert("items_over_sla".into(), json!(figures.over_sla));
        payload.insert("sla_compliance_percentage".into(), rounded(figures.compliance(), 1));
        payload.insert("backlog_trend".into(), json!(self.trend()));
        payload.insert("items_added_this_interval".into(), json!(self.added));
        payload.insert("items_completed_this_interval".into(), json!(self.completed));
        step.tell("backlog:update", payload);
    }

    fn count<'a>(&mut self, staff: impl Iterator<Item = &'a Person>) {
        (self.present, self.absent, self.late) = (0, 0, 0);
        for person in staff {
            match person.presence {
                Presence::OnTime => self.present += 1,
                Presence::Late => {
                    self.present += 1;
                    self.late += 1;
                }
                Presence::Absent => self.absent += 1,
            }
        }
    }

    /// Demand is a wave of the day and a mood that walks at random.
    fn flow(&mut self, day: f64, rng: &mut Rng) {
        let x = (day + self.profile.phase) * TAU;
        let wave = 0.5 + 0.36 * x.sin() + 0.14 * (2.0 * x + 1.0).sin();
        self.mood += rng.jitter(0.22) - 0.06 * self.mood;
        let base = self.profile.scheduled as f64 * 0.87;
        self.demand = base * (0.76 + 0.25 * wave) * (1.0 + 0.09 * self.mood.clamp(-1.5, 1.5));

        let strain = (self.utilization() - 0.70).max(0.0);
        let goal = base * (1.0 + 22.0 * strain.powf(1.6));
        let before = f64::from(self.items);
        let after = (before + 0.08 * (goal - before) + rng.jitter(1.6)).round().max(0.0);
        let finished = f64::from(self.present) * self.profile.pace * self.utilization() * MINUTES_PER_STEP;
        // What was finished cannot be less than what the backlog shrank by, or more would have left than was there.
        self.completed = finished.round().max(before - after) as u32;
        self.items = after as u32;
        self.added = self.items + self.completed - before as u32;
        self.usual_items += 0.06 * (after - self.usual_items);
    }

    fn utilization(&self) -> f64 {
        (self.demand / f64::from(self.present.max(1))).clamp(0.30, 0.99)
    }

    fn trend(&self) -> &'static str {
        let lead = (f64::from(self.items) - self.usual_items) / self.usual_items.max(10.0);
        match lead {
            lead if lead > 0.09 => "growing",
            lead if lead < -0.09 => "decreasing",
            _ => "stable",
        }
    }

    pub(super) fn figures(&self) -> Figures {
        let items = f64::from(self.items);
        let throughput = (f64::from(self.present) * self.profile.pace).max(0.1);
        let waited = items / throughput / self.profile.sla_minutes;
        Figures {
            present: self.present,
            absent: self.absent,
            late: self.late,
            required: (self.demand / TARGET_UTILIZATION).ceil() as u32,
            busy: self.utilization() * f64::from(self.present),
            items: self.items,
            over_sla: (items * (0.26 * (waited - 0.45)).clamp(0.0, 0.60)).round() as u32,
            at_risk: (items * (0.35 * (waited - 0.25)).clamp(0.0, 0.80)).round() as u32,
            waiting: items * items / throughput,
            promised: items * self.profile.sla_minutes,
            pace: self.profile.pace * f64::from(self.present),
        }
    }
}
