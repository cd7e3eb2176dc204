//! The people: who is on the schedule of which queue, and who is there.

use std::collections::VecDeque;
use std::f64::consts::TAU;

use serde_json::{Value, json};

use super::numbers::{Rng, rounded};
use super::queues::QUEUES;
use super::step::Step;

/// Steps between two attendance snapshots.
const REPORT_EVERY: u64 = 3;
/// Check-ins that an attendance snapshot lists.
const RECENT_CHECKINS: usize = 6;

/// Everybody on the schedule, and who came last.
pub(super) struct Staff {
    people: Vec<Person>,
    checkins: VecDeque<Value>,
}

impl Staff {
    /// Everybody on the schedule, a few of them absent.
    pub(super) fn hire(rng: &mut Rng) -> Self {
        Self { people: hire(rng), checkins: VecDeque::new() }
    }

    /// The people of one queue.
    pub(super) fn of(&self, queue: usize) -> impl Iterator<Item = &Person> {
        self.people.iter().filter(move |person| person.queue == queue)
    }

    /// Somebody checks in or out now and then, around an absence rate that drifts.
    pub(super) fn come_and_go(&mut self, step: &mut Step<'_>) {
        // The first snapshot should not be one without a single check-in.
        if step.number == 0 {
            for _ in 0..3 {
                self.check_in(step);
            }
        } else if step.rng.chance(0.18) {
            let drift = (step.days() * TAU * 2.7).sin();
            let usual = 0.10 + 0.07 * drift;
            if self.count(Presence::Absent) as f64 > usual * self.people.len() as f64 {
                self.check_in(step);
            } else {
                self.check_out(step);
            }
        }
    }

    fn check_in(&mut self, step: &mut Step<'_>) {
        let Some(person) = self.anyone(|presence| presence == Presence::Absent, step.rng) else { return };
        person.presence = if step.rng.chance(0.15) { Presence::Late } else { Presence::OnTime };
        let checkin = json!({
            "employee_id": person.id,
            "employee_name": person.name,
            "checked_in_at": step.now,
            "status": person.presence.status(),
        });
        let mut payload = step.payload(Some(&QUEUES[person.queue]));
        payload.extend(checkin.as_object().cloned().unwrap_or_default());
        self.checkins.push_front(checkin);
        self.checkins.truncate(RECENT_CHECKINS);
        step.tell("attendance:checkin", payload);
    }

    fn check_out(&mut self, step: &mut Step<'_>) {
        let Some(person) = self.anyone(|presence| presence != Presence::Absent, step.rng) else { return };
        person.presence = Presence::Absent;
        let mut payload = step.payload(Some(&QUEUES[person.queue]));
        payload.insert("employee_id".into(), json!(person.id));
        payload.insert("employee_name".into(), json!(person.name));
        payload.insert("checked_out_at".into(), json!(step.now));
        step.tell("attendance:checkout", payload);
    }

    /// Somebody, at random, of those whose presence is wanted.
    fn anyone(&mut self, wanted: impl Fn(Presence) -> bool, rng: &mut Rng) -> Option<&mut Person> {
        let mut candidates: Vec<&mut Person> =
            self.people.iter_mut().filter(|person| wanted(person.presence)).collect();
        if candidates.is_empty() { None } else { Some(candidates.swap_remove(rng.below(candidates.len()))) }
    }

    fn count(&self, presence: Presence) -> usize {
        self.people.iter().filter(|person| person.presence == presence).count()
    }

    pub(super) fn report(&self, step: &mut Step<'_>) {
        if !step.number.is_multiple_of(REPORT_EVERY) {
            return;
        }
        let (absent, late) = (self.count(Presence::Absent), self.count(Presence::Late));
        let scheduled = self.people.len();
        let present = scheduled - absent;
        let mut payload = step.payload(None);
        payload.insert("snapshot_id".into(), json!(step.rng.id("snap")));
        payload.insert("scheduled_count".into(), json!(scheduled));
        payload.insert("present_count".into(), json!(present));
        payload.insert("absent_count".into(), json!(absent));
        payload.insert("late_count".into(), json!(late));
        payload.insert("attendance_rate".into(), rounded(present as f64 / scheduled as f64, 3));
        payload.insert("recent_checkins".into(), json!(self.checkins));
        step.tell("attendance:update", payload);
    }
}

/// Whether somebody on the schedule is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    OnTime,
    Late,
    Absent,
}

impl Presence {
    fn status(self) -> &'static str {
        match self {
            Self::OnTime => "on_time",
            Self::Late => "late",
            Self::Absent => "absent",
        }
    }
}

/// Somebody on the schedule of a queue.
pub(super) struct Person {
    id: String,
    name: String,
    queue: usize,
    pub(super) presence: Presence,
}

const FIRST_NAMES: [&str; 22] = [
    "Amina", "Ben", "Chiara", "Dmitri", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kaori", "Luca", "Maya",
    "Noah", "Olga", "Priya", "Quinn", "Rosa", "Samuel", "Tomás", "Uma", "Zoë",
];
const LAST_NAMES: [&str; 23] = [
    "Adeyemi", "Berg", "Costa", "Dubois", "Eriksen", "Fischer", "García", "Haddad", "Ito", "Jansen", "Kaya", "Lind",
    "Moreau", "Nguyen", "Okafor", "Petrov", "Rossi", "Santos", "Tanaka", "Ueda", "Varga", "Weber", "Yilmaz",
];

fn hire(rng: &mut Rng) -> Vec<Person> {
    let seats = QUEUES.iter().enumerate().flat_map(|(queue, profile)| vec![queue; profile.scheduled]);
    seats
        .enumerate()
        .map(|(number, queue)| Person {
            id: format!("emp_{:03}", number + 1),
            // 22 and 23 share no factor, so no two people share a name.
            name: format!("{} {}", FIRST_NAMES[number % FIRST_NAMES.len()], LAST_NAMES[number * 7 % LAST_NAMES.len()]),
            queue,
            // Three at least, for the check-ins of the first step.
            presence: match rng.below(100) {
                _ if number % 15 == 7 => Presence::Absent,
                0..=7 => Presence::Absent,
                8..=12 => Presence::Late,
                _ => Presence::OnTime,
            },
        })
        .collect()
}
