//! The demo's call centre: queues, people and alerts that are made up but behave.
//!
//! Pure: [`Simulation::step`] turns the time of one step into that step's
//! events, and one seed always tells one story. Nothing here publishes or
//! waits. A simulated day passes in [`DAY`] steps, so that whoever watches for
//! ten minutes sees a quiet hour and a busy one.

use std::collections::VecDeque;
use std::f64::consts::TAU;

use serde_json::{Map, Value, json};

/// One event of a step: its name and its payload.
type Event = (&'static str, Value);

/// Steps of a simulated day.
const DAY: u64 = 600;
/// Simulated minutes of one step.
const MINUTES_PER_STEP: f64 = 24.0 * 60.0 / DAY as f64;
/// Utilization that the call centre staffs for.
const TARGET_UTILIZATION: f64 = 0.85;
/// Steps between two attendance snapshots.
const ATTENDANCE_EVERY: u64 = 3;
/// Steps between two KPI events of single queues, which take turns.
const QUEUE_KPI_EVERY: u64 = 2;
/// Check-ins that an attendance snapshot lists.
const RECENT_CHECKINS: usize = 6;

/// A call centre with three queues, some forty people and a few alerts at a time.
pub(super) struct Simulation {
    organization: String,
    rng: Rng,
    steps: u64,
    queues: Vec<Queue>,
    staff: Vec<Person>,
    checkins: VecDeque<Value>,
    vitals: Option<Vitals>,
    alerts: Vec<Alert>,
    next_alert: u64,
    next_notice: u64,
    notices: usize,
}

impl Simulation {
    /// A call centre at the start of its day; the same seed tells the same story.
    pub(super) fn new(seed: u64, organization: &str) -> Self {
        let mut rng = Rng::new(seed);
        let queues = QUEUES.iter().map(Queue::new).collect();
        let staff = hire(&mut rng);
        Self {
            organization: organization.to_owned(),
            rng,
            steps: 0,
            queues,
            staff,
            checkins: VecDeque::new(),
            vitals: None,
            alerts: Vec::new(),
            next_alert: 4,
            next_notice: 20,
            notices: 0,
        }
    }

    /// What happens in the next step, stamped with `now`.
    pub(super) fn step(&mut self, now: &str) -> Vec<Event> {
        let mut events = Vec::new();
        self.staff_comes_and_goes(now, &mut events);
        self.work_flows();
        self.report_kpis(now, &mut events);
        self.report_backlogs(now, &mut events);
        self.report_attendance(now, &mut events);
        self.alerts_move_on(now, &mut events);
        self.notify(now, &mut events);
        self.steps += 1;
        events
    }

    /// Somebody checks in or out now and then, around an absence rate that drifts.
    fn staff_comes_and_goes(&mut self, now: &str, events: &mut Vec<Event>) {
        // The first snapshot should not be one without a single check-in.
        if self.steps == 0 {
            for _ in 0..3 {
                self.check_in(now, events);
            }
        } else if self.rng.chance(0.18) {
            let drift = (self.steps as f64 / DAY as f64 * TAU * 2.7).sin();
            let usual = 0.10 + 0.07 * drift;
            let absent = self.staff.iter().filter(|person| person.presence == Presence::Absent).count();
            if absent as f64 > usual * self.staff.len() as f64 {
                self.check_in(now, events);
            } else {
                self.check_out(now, events);
            }
        }
    }

    fn check_in(&mut self, now: &str, events: &mut Vec<Event>) {
        let Some(index) = self.anyone(|presence| presence == Presence::Absent) else { return };
        let presence = if self.rng.chance(0.15) { Presence::Late } else { Presence::OnTime };
        let person = &mut self.staff[index];
        person.presence = presence;
        let checkin = json!({
            "employee_id": person.id,
            "employee_name": person.name,
            "checked_in_at": now,
            "status": presence.status(),
        });
        let mut payload = scope(&self.organization, Some(&self.queues[person.queue]), now);
        payload.extend(checkin.as_object().cloned().unwrap_or_default());
        self.checkins.push_front(checkin);
        self.checkins.truncate(RECENT_CHECKINS);
        events.push(("attendance:checkin", payload.into()));
    }

    fn check_out(&mut self, now: &str, events: &mut Vec<Event>) {
        let Some(index) = self.anyone(|presence| presence != Presence::Absent) else { return };
        let person = &mut self.staff[index];
        person.presence = Presence::Absent;
        let mut payload = scope(&self.organization, Some(&self.queues[person.queue]), now);
        payload.insert("employee_id".into(), json!(person.id));
        payload.insert("employee_name".into(), json!(person.name));
        payload.insert("checked_out_at".into(), json!(now));
        events.push(("attendance:checkout", payload.into()));
    }

    /// Somebody, at random, of those whose presence is wanted.
    fn anyone(&mut self, wanted: impl Fn(Presence) -> bool) -> Option<usize> {
        let candidates: Vec<usize> = (0..self.staff.len()).filter(|&i| wanted(self.staff[i].presence)).collect();
        if candidates.is_empty() { None } else { Some(candidates[self.rng.below(candidates.len())]) }
    }

    /// Demand follows the time of day; backlogs follow demand.
    fn work_flows(&mut self) {
        let day = self.steps as f64 / DAY as f64;
        for (index, queue) in self.queues.iter_mut().enumerate() {
            queue.count(self.staff.iter().filter(|person| person.queue == index));
            queue.flow(day, &mut self.rng);
        }
    }

    fn report_kpis(&mut self, now: &str, events: &mut Vec<Event>) {
        let all = self.queues.iter().fold(Figures::default(), |sum, queue| sum.plus(&queue.figures()));
        let turn = (self.steps / QUEUE_KPI_EVERY) as usize % self.queues.len();
        events.push(("kpi:update", kpi(scope(&self.organization, None, now), &all, &mut self.vitals, self.steps)));
        for (index, queue) in self.queues.iter_mut().enumerate() {
            // The first step tells everything, so that nobody waits for a turn.
            if self.steps == 0 || (self.steps.is_multiple_of(QUEUE_KPI_EVERY) && index == turn) {
                let payload = scope(&self.organization, Some(queue), now);
                let figures = queue.figures();
                events.push(("kpi:update", kpi(payload, &figures, &mut queue.vitals, self.steps)));
            }
        }
    }

    fn report_backlogs(&mut self, now: &str, events: &mut Vec<Event>) {
        for queue in &self.queues {
            let figures = queue.figures();
            let mut payload = scope(&self.organization, Some(queue), now);
            payload.insert("snapshot_id".into(), json!(self.rng.id("snap")));
            payload.insert("total_items".into(), json!(queue.items));
            payload.insert("avg_wait_time_minutes".into(), rounded(figures.wait_minutes(), 1));
            payload.insert("items_over_sla".into(), json!(figures.over_sla));
            payload.insert("sla_compliance_percentage".into(), rounded(figures.compliance(), 1));
            payload.insert("backlog_trend".into(), json!(queue.trend()));
            payload.insert("items_added_this_interval".into(), json!(queue.added));
            payload.insert("items_completed_this_interval".into(), json!(queue.completed));
            events.push(("backlog:update", payload.into()));
        }
    }

    fn report_attendance(&mut self, now: &str, events: &mut Vec<Event>) {
        if !self.steps.is_multiple_of(ATTENDANCE_EVERY) {
            return;
        }
        let counted = |presence| self.staff.iter().filter(|person| person.presence == presence).count();
        let (absent, late) = (counted(Presence::Absent), counted(Presence::Late));
        let scheduled = self.staff.len();
        let present = scheduled - absent;
        let mut payload = scope(&self.organization, None, now);
        payload.insert("snapshot_id".into(), json!(self.rng.id("snap")));
        payload.insert("scheduled_count".into(), json!(scheduled));
        payload.insert("present_count".into(), json!(present));
        payload.insert("absent_count".into(), json!(absent));
        payload.insert("late_count".into(), json!(late));
        payload.insert("attendance_rate".into(), rounded(present as f64 / scheduled as f64, 3));
        payload.insert("recent_checkins".into(), json!(self.checkins));
        events.push(("attendance:update", payload.into()));
    }

    /// Alerts are triggered, then acknowledged, then resolved.
    fn alerts_move_on(&mut self, now: &str, events: &mut Vec<Event>) {
        for alert in &mut self.alerts {
            if let Some(status) = alert.advance(self.steps) {
                let scope = scope(&self.organization, Some(&self.queues[alert.queue]), now);
                events.push((status.event(), alert.payload(scope, status)));
            }
        }
        self.alerts.retain(|alert| alert.resolve_at > self.steps);
        if self.steps >= self.next_alert {
            self.next_alert = self.steps + self.rng.between(20, 40);
            if let Some(alert) = self.raise() {
                let scope = scope(&self.organization, Some(&self.queues[alert.queue]), now);
                events.push((Status::Active.event(), alert.payload(scope, Status::Active)));
                self.alerts.push(alert);
            }
        }
    }

    /// An alert about the queue that is worst off by some rule.
    fn raise(&mut self) -> Option<Alert> {
        let first = self.rng.below(RULES.len());
        for rule in RULES.iter().cycle().skip(first).take(RULES.len()) {
            let figures: Vec<f64> = self.queues.iter().map(|queue| (rule.metric)(&queue.figures())).collect();
            let worst = (0..figures.len()).max_by(|&a, &b| rule.compare(figures[a], figures[b]))?;
            let Some(threshold) = rule.crossed(figures[worst]) else { continue };
            let acknowledge_at = self.steps + self.rng.between(6, 14);
            return Some(Alert {
                id: self.rng.id("alert"),
                rule,
                queue: worst,
                message: rule.message(self.queues[worst].profile.name, figures[worst], threshold),
                value: figures[worst],
                threshold,
                acknowledge_at,
                resolve_at: acknowledge_at + self.rng.between(10, 30),
            });
        }
        None
    }

    fn notify(&mut self, now: &str, events: &mut Vec<Event>) {
        if self.steps < self.next_notice {
            return;
        }
        self.next_notice = self.steps + self.rng.between(90, 150);
        let (level, title, message) = NOTICES[self.notices % NOTICES.len()];
        self.notices += 1;
        let mut payload = scope(&self.organization, None, now);
        payload.insert("notification_id".into(), json!(self.rng.id("note")));
        payload.insert("level".into(), json!(level));
        payload.insert("title".into(), json!(title));
        payload.insert("message".into(), json!(message));
        events.push(("system:notification", payload.into()));
    }
}

/// Level, title and message of the notifications, in turn.
const NOTICES: [(&str, &str, &str); 4] = [
    ("info", "Team huddle", "Shift handover starts in ten minutes in room 2."),
    ("warning", "Phone carrier", "The carrier reports short delays on inbound calls."),
    ("info", "Knowledge base", "The refund guide was updated this morning."),
    ("info", "Thank you", "Yesterday was the best day of the month for first answers."),
];

/// The fields that route a payload: its organization and, for a queue, its department and name.
fn scope(organization: &str, queue: Option<&Queue>, now: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("organization_id".into(), json!(organization));
    if let Some(queue) = queue {
        fields.insert("department_id".into(), json!(queue.profile.department));
        fields.insert("queue_name".into(), json!(queue.profile.name));
    }
    fields.insert("timestamp".into(), json!(now));
    fields
}

// The queues.

/// What never changes about a queue.
struct Profile {
    name: &'static str,
    department: &'static str,
    /// People on the schedule.
    scheduled: usize,
    /// Items that one busy person finishes in a minute.
    pace: f64,
    /// The longest wait that was promised.
    sla_minutes: f64,
    /// Where this queue stands in the day's wave: queues do not peak together.
    phase: f64,
}

const QUEUES: [Profile; 3] = [
    Profile { name: "support", department: "customer_care", scheduled: 20, pace: 0.35, sla_minutes: 8.0, phase: 0.00 },
    Profile { name: "sales", department: "commercial", scheduled: 14, pace: 0.25, sla_minutes: 10.0, phase: 0.22 },
    Profile { name: "billing", department: "back_office", scheduled: 10, pace: 0.20, sla_minutes: 15.0, phase: 0.55 },
];

/// A queue and how it is doing.
struct Queue {
    profile: &'static Profile,
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
    vitals: Option<Vitals>,
}

impl Queue {
    fn new(profile: &'static Profile) -> Self {
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
            vitals: None,
        }
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

    /// One step of work: demand walks, and the backlog follows it.
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

    fn figures(&self) -> Figures {
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

/// What is counted about one queue, or summed over several.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    present: u32,
    absent: u32,
    late: u32,
    required: u32,
    /// People present times their utilization.
    busy: f64,
    items: u32,
    over_sla: u32,
    at_risk: u32,
    /// Minutes waited, summed over the items.
    waiting: f64,
    /// Minutes promised, summed over the items.
    promised: f64,
    /// Items per minute if everybody were busy.
    pace: f64,
}

impl Figures {
    fn plus(self, other: &Self) -> Self {
        Self {
            present: self.present + other.present,
            absent: self.absent + other.absent,
            late: self.late + other.late,
            required: self.required + other.required,
            busy: self.busy + other.busy,
            items: self.items + other.items,
            over_sla: self.over_sla + other.over_sla,
            at_risk: self.at_risk + other.at_risk,
            waiting: self.waiting + other.waiting,
            promised: self.promised + other.promised,
            pace: self.pace + other.pace,
        }
    }

    fn utilization(&self) -> f64 {
        self.busy / f64::from(self.present.max(1))
    }

    fn coverage(&self) -> f64 {
        f64::from(self.present) / f64::from(self.required.max(1))
    }

    fn gap(&self) -> i64 {
        i64::from(self.present) - i64::from(self.required)
    }

    fn per_item(&self, sum: f64) -> f64 {
        sum / f64::from(self.items.max(1))
    }

    fn wait_minutes(&self) -> f64 {
        self.per_item(self.waiting)
    }

    fn compliance(&self) -> f64 {
        100.0 * (1.0 - self.per_item(f64::from(self.over_sla)))
    }

    fn risk_score(&self) -> f64 {
        let missed = self.per_item(f64::from(self.over_sla));
        let strain = (self.utilization() - 0.80).max(0.0);
        (100.0 * (2.3 * missed + 1.2 * strain)).clamp(0.0, 100.0)
    }

    fn efficiency(&self) -> f64 {
        (100.0 - 60.0 * (self.utilization() - TARGET_UTILIZATION).abs()).clamp(0.0, 100.0)
    }

    /// Out of 100: a quarter utilization, a third coverage, the rest the promise kept and efficiency.
    fn health(&self) -> f64 {
        let used = 100.0 - 150.0 * (self.utilization() - TARGET_UTILIZATION).abs();
        let covered = 100.0 - 180.0 * (1.0 - self.coverage()).abs();
        let kept = 2.0 * (self.compliance() - 50.0);
        (0.25 * used + 0.35 * covered + 0.30 * kept + 0.10 * self.efficiency()).clamp(0.0, 100.0)
    }
}

/// The four numbers whose changes a KPI payload tells.
#[derive(Debug, Clone, Copy)]
struct Vitals {
    utilization: f64,
    gap: i64,
    risk: f64,
    health: f64,
}

/// The KPI payload of `figures`; `vitals` are those of the time before, and become these.
fn kpi(mut payload: Map<String, Value>, figures: &Figures, vitals: &mut Option<Vitals>, steps: u64) -> Value {
    let now = Vitals {
        utilization: figures.utilization(),
        gap: figures.gap(),
        risk: figures.risk_score(),
        health: figures.health(),
    };
    let before = vitals.replace(now).unwrap_or(now);
    payload.insert("utilization".into(), utilization(figures, steps));
    payload.insert(
        "headcount_gap".into(),
        json!({
            "headcount_gap": now.gap,
            "current_headcount": figures.present,
            "required_headcount": figures.required,
            "coverage_ratio": rounded(figures.coverage(), 3),
            "staffing_level": staffing_level(figures.coverage()),
            "absent_count": figures.absent,
            "late_count": figures.late,
        }),
    );
    payload.insert(
        "sla_risk".into(),
        json!({
            "risk_score": rounded(now.risk, 1),
            "risk_level": risk_level(now.risk),
            "compliance_percentage": rounded(figures.compliance(), 1),
            "average_wait_time_minutes": rounded(figures.wait_minutes(), 1),
            "items_at_risk": figures.at_risk,
            "sla_threshold_minutes": rounded(figures.per_item(figures.promised), 1),
        }),
    );
    payload.insert("health_score".into(), rounded(now.health, 1));
    payload.insert(
        "changes".into(),
        json!({
            "utilization_change": rounded(now.utilization - before.utilization, 4),
            "headcount_gap_change": now.gap - before.gap,
            "sla_risk_change": rounded(now.risk - before.risk, 1),
            "health_score_change": rounded(now.health - before.health, 1),
        }),
    );
    payload.into()
}

fn utilization(figures: &Figures, steps: u64) -> Value {
    let current = figures.utilization();
    // Hours of an eight-hour shift, of which some part has passed.
    let hours = f64::from(figures.present) * (0.5 + 7.5 * (steps % DAY) as f64 / DAY as f64);
    let on_break = figures.present / 12;
    let active = (figures.busy.round() as u32).min(figures.present - on_break);
    json!({
        "current_utilization": rounded(current, 4),
        "target_utilization": TARGET_UTILIZATION,
        "utilization_variance": rounded(current - TARGET_UTILIZATION, 4),
        "productive_hours": rounded(hours * current, 1),
        "available_hours": rounded(hours, 1),
        "idle_hours": rounded(hours * (1.0 - current), 1),
        "active_staff_count": active,
        "staff_on_break": on_break,
        "idle_staff_count": figures.present - on_break - active,
        "avg_work_rate": rounded(60.0 * current * figures.pace / f64::from(figures.present.max(1)), 1),
        "efficiency_score": rounded(figures.efficiency(), 1),
    })
}

fn staffing_level(coverage: f64) -> &'static str {
    match coverage {
        c if c < 0.80 => "critical_understaffed",
        c if c < 0.95 => "understaffed",
        c if c <= 1.10 => "optimal",
        c if c <= 1.30 => "overstaffed",
        _ => "critical_overstaffed",
    }
}

fn risk_level(score: f64) -> &'static str {
    match score {
        s if s >= 72.0 => "critical",
        s if s >= 52.0 => "high",
        s if s >= 30.0 => "medium",
        _ => "low",
    }
}

// The people.

/// Whether somebody on the schedule is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
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
struct Person {
    id: String,
    name: String,
    queue: usize,
    presence: Presence,
}

const FIRST_NAMES: [&str; 22] = [
    "Amina", "Ben", "Chiara", "Dmitri", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kaori", "Luca", "Maya",
    "Noah", "Olga", "Priya", "Quinn", "Rosa", "Samuel", "Tomás", "Uma", "Zoë",
];
const LAST_NAMES: [&str; 23] = [
    "Adeyemi", "Berg", "Costa", "Dubois", "Eriksen", "Fischer", "García", "Haddad", "Ito", "Jansen", "Kaya", "Lind",
    "Moreau", "Nguyen", "Okafor", "Petrov", "Rossi", "Santos", "Tanaka", "Ueda", "Varga", "Weber", "Yilmaz",
];

/// Everybody on the schedule, a few of them absent.
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

// The alerts.

/// The side of its threshold on which a rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Above,
    Below,
}

/// What an alert is about. Its threshold is the nearest multiple of `grain` that the value has crossed.
struct Rule {
    id: &'static str,
    name: &'static str,
    alert_type: &'static str,
    severity: &'static str,
    source: &'static str,
    what: &'static str,
    unit: &'static str,
    side: Side,
    grain: f64,
    metric: fn(&Figures) -> f64,
}

const RULES: [Rule; 6] = [
    Rule {
        id: "rule_backlog_surge",
        name: "Backlog surge",
        alert_type: "backlog_surge",
        severity: "warning",
        source: "backlog",
        what: "backlog",
        unit: " items",
        side: Side::Above,
        grain: 10.0,
        metric: |figures| f64::from(figures.items),
    },
    Rule {
        id: "rule_sla_risk",
        name: "SLA at risk",
        alert_type: "sla_risk_high",
        severity: "error",
        source: "kpi",
        what: "SLA compliance",
        unit: "%",
        side: Side::Below,
        grain: 5.0,
        metric: Figures::compliance,
    },
    Rule {
        id: "rule_late_arrivals",
        name: "Late arrivals",
        alert_type: "schedule_deviation",
        severity: "info",
        source: "schedule",
        what: "late arrivals",
        unit: "",
        side: Side::Above,
        grain: 1.0,
        metric: |figures| f64::from(figures.late),
    },
    Rule {
        id: "rule_wait_breach",
        name: "Wait time breach",
        alert_type: "sla_breach_imminent",
        severity: "critical",
        source: "kpi",
        what: "average wait",
        unit: " min",
        side: Side::Above,
        grain: 2.0,
        metric: Figures::wait_minutes,
    },
    Rule {
        id: "rule_utilization",
        name: "Utilization high",
        alert_type: "utilization_high",
        severity: "warning",
        source: "kpi",
        what: "utilization",
        unit: "%",
        side: Side::Above,
        grain: 5.0,
        metric: |figures| 100.0 * figures.utilization(),
    },
    Rule {
        id: "rule_absence",
        name: "Too many absent",
        alert_type: "absence_high",
        severity: "error",
        source: "attendance",
        what: "absences",
        unit: "",
        side: Side::Above,
        grain: 1.0,
        metric: |figures| f64::from(figures.absent),
    },
];

impl Rule {
    /// Greater is worse.
    fn compare(&self, a: f64, b: f64) -> std::cmp::Ordering {
        match self.side {
            Side::Above => a.total_cmp(&b),
            Side::Below => b.total_cmp(&a),
        }
    }

    /// The threshold that `value` has crossed, if there is a sensible one.
    fn crossed(&self, value: f64) -> Option<f64> {
        let steps = value / self.grain;
        let threshold = match self.side {
            Side::Above => (steps.ceil() - 1.0) * self.grain,
            Side::Below => (steps.floor() + 1.0) * self.grain,
        };
        let sensible = match self.side {
            Side::Above => threshold > 0.0,
            Side::Below => threshold < 100.0,
        };
        sensible.then_some(threshold)
    }

    fn message(&self, queue: &str, value: f64, threshold: f64) -> String {
        let side = match self.side {
            Side::Above => "above",
            Side::Below => "below",
        };
        let value = (value * 10.0).round() / 10.0;
        format!("{} in {queue}: {value}{unit}, {side} {threshold}{unit}", self.what, unit = self.unit)
    }
}

/// How far an alert has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Active,
    Acknowledged,
    Resolved,
}

impl Status {
    fn event(self) -> &'static str {
        match self {
            Self::Active => "alert:triggered",
            Self::Acknowledged => "alert:acknowledged",
            Self::Resolved => "alert:resolved",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// An alert that is not yet resolved.
struct Alert {
    id: String,
    rule: &'static Rule,
    queue: usize,
    message: String,
    value: f64,
    threshold: f64,
    acknowledge_at: u64,
    resolve_at: u64,
}

impl Alert {
    /// The status that this step brings, if it brings one.
    fn advance(&self, step: u64) -> Option<Status> {
        match step {
            step if step == self.acknowledge_at => Some(Status::Acknowledged),
            step if step == self.resolve_at => Some(Status::Resolved),
            _ => None,
        }
    }

    fn payload(&self, mut payload: Map<String, Value>, status: Status) -> Value {
        // What is resolved is back at its threshold.
        let value = if status == Status::Resolved { self.threshold } else { self.value };
        payload.insert("alert_id".into(), json!(self.id));
        payload.insert("rule_id".into(), json!(self.rule.id));
        payload.insert("rule_name".into(), json!(self.rule.name));
        payload.insert("alert_type".into(), json!(self.rule.alert_type));
        payload.insert("severity".into(), json!(self.rule.severity));
        payload.insert("source".into(), json!(self.rule.source));
        payload.insert("message".into(), json!(self.message));
        payload.insert("current_value".into(), rounded(value, 1));
        payload.insert("threshold_value".into(), rounded(self.threshold, 1));
        payload.insert("status".into(), json!(status.name()));
        payload.into()
    }
}

// Numbers.

/// A number with so many decimals.
fn rounded(value: f64, decimals: i32) -> Value {
    let scale = 10_f64.powi(decimals);
    json!((value * scale).round() / scale)
}

/// A small xorshift generator: for a demo, never for secrets.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
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
    fn jitter(&mut self, size: f64) -> f64 {
        size * (2.0 * self.unit() - 1.0)
    }

    fn chance(&mut self, likelihood: f64) -> bool {
        self.unit() < likelihood
    }

    /// From 0 up to, and without, `count`.
    fn below(&mut self, count: usize) -> usize {
        (self.unit() * count as f64) as usize
    }

    /// From `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below((high - low + 1) as usize) as u64
    }

    fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}_{:012x}", self.next() >> 16)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn run(seed: u64, steps: usize) -> Vec<Event> {
        let mut simulation = Simulation::new(seed, "org_demo");
        (0..steps).flat_map(|step| simulation.step(&format!("2026-01-31T12:00:00.{step:03}Z"))).collect()
    }

    /// The fields of a payload that every event of that name has, `part.field` for nested ones.
    fn required(event: &str) -> &'static [&'static str] {
        match event {
            "kpi:update" => &[
                "utilization.current_utilization",
                "utilization.target_utilization",
                "utilization.utilization_variance",
                "utilization.productive_hours",
                "utilization.available_hours",
                "utilization.idle_hours",
                "utilization.active_staff_count",
                "utilization.staff_on_break",
                "utilization.idle_staff_count",
                "utilization.avg_work_rate",
                "utilization.efficiency_score",
                "headcount_gap.headcount_gap",
                "headcount_gap.current_headcount",
                "headcount_gap.required_headcount",
                "headcount_gap.coverage_ratio",
                "headcount_gap.staffing_level",
                "headcount_gap.absent_count",
                "headcount_gap.late_count",
                "sla_risk.risk_score",
                "sla_risk.risk_level",
                "sla_risk.compliance_percentage",
                "sla_risk.average_wait_time_minutes",
                "sla_risk.items_at_risk",
                "sla_risk.sla_threshold_minutes",
                "health_score",
                "changes.utilization_change",
                "changes.headcount_gap_change",
                "changes.sla_risk_change",
                "changes.health_score_change",
            ],
            "backlog:update" => &[
                "snapshot_id",
                "department_id",
                "queue_name",
                "total_items",
                "avg_wait_time_minutes",
                "items_over_sla",
                "sla_compliance_percentage",
                "backlog_trend",
                "items_added_this_interval",
                "items_completed_this_interval",
            ],
            "attendance:update" => &[
                "snapshot_id",
                "scheduled_count",
                "present_count",
                "absent_count",
                "late_count",
                "attendance_rate",
                "recent_checkins",
            ],
            "attendance:checkin" => &["employee_id", "employee_name", "checked_in_at", "status", "queue_name"],
            "attendance:checkout" => &["employee_id", "employee_name", "checked_out_at", "queue_name"],
            "alert:triggered" | "alert:acknowledged" | "alert:resolved" => &[
                "alert_id",
                "rule_id",
                "rule_name",
                "alert_type",
                "severity",
                "source",
                "message",
                "current_value",
                "threshold_value",
                "status",
                "department_id",
                "queue_name",
            ],
            "system:notification" => &["notification_id", "level", "title", "message"],
            other => panic!("an event that nobody expects: {other}"),
        }
    }

    #[test]
    fn payloads_have_their_fields() {
        let mut seen = HashMap::new();
        for (event, payload) in run(1, 400) {
            *seen.entry(event).or_insert(0) += 1;
            assert_eq!(payload["organization_id"], "org_demo", "{event}");
            for field in ["timestamp"].iter().chain(required(event)) {
                let pointer = format!("/{}", field.replace('.', "/"));
                let value = payload.pointer(&pointer).unwrap_or(&Value::Null);
                assert!(!value.is_null(), "{event} lacks {field}: {payload}");
            }
        }
        assert_eq!(seen.len(), 9, "{seen:?}");
    }

    #[test]
    fn the_first_step_shows_everything_but_alerts() {
        let names: Vec<&str> = run(1, 1).iter().map(|(event, _)| *event).collect();
        assert_eq!(names.iter().filter(|name| **name == "kpi:update").count(), 1 + QUEUES.len());
        assert_eq!(names.iter().filter(|name| **name == "backlog:update").count(), QUEUES.len());
        assert!(names.contains(&"attendance:update") && names.contains(&"attendance:checkin"));
    }

    #[test]
    fn alerts_are_triggered_then_acknowledged_then_resolved() {
        let mut stages: HashMap<String, Vec<&str>> = HashMap::new();
        for (event, payload) in run(7, 1_000).into_iter().filter(|(event, _)| event.starts_with("alert:")) {
            let id = payload["alert_id"].as_str().expect("an id").to_owned();
            stages.entry(id).or_default().push(event);
        }
        let life = ["alert:triggered", "alert:acknowledged", "alert:resolved"];
        assert!(stages.values().all(|stages| life.starts_with(stages)), "{stages:?}");
        let resolved = stages.values().filter(|stages| stages.len() == life.len()).count();
        assert!((20..=50).contains(&stages.len()), "{}", stages.len());
        assert!(stages.len() - resolved <= 4, "only the last ones may be open: {stages:?}");
    }

    #[test]
    fn one_seed_tells_one_story() {
        assert_eq!(run(3, 200), run(3, 200));
        assert_ne!(run(3, 200), run(4, 200));
    }

    #[test]
    fn numbers_stay_plausible_for_days_and_agree_with_each_other() {
        for seed in 0..5 {
            let mut items: HashMap<String, i64> = HashMap::new();
            for (event, payload) in run(seed, 3 * DAY as usize) {
                let number = |pointer: &str| payload.pointer(pointer).and_then(Value::as_f64).expect("a number");
                match event {
                    "kpi:update" => {
                        assert!((0.3..=1.0).contains(&number("/utilization/current_utilization")), "{payload}");
                        assert!((30.0..=100.0).contains(&number("/sla_risk/compliance_percentage")), "{payload}");
                        assert!((0.0..=100.0).contains(&number("/health_score")), "{payload}");
                        assert!(number("/headcount_gap/headcount_gap").abs() < 20.0, "{payload}");
                    }
                    "backlog:update" => {
                        let total = number("/total_items") as i64;
                        let change = number("/items_added_this_interval") - number("/items_completed_this_interval");
                        let queue = payload["queue_name"].as_str().expect("a name").to_owned();
                        let before = items.insert(queue, total).unwrap_or(total - change as i64);
                        assert_eq!(before + change as i64, total, "{payload}");
                        assert!((0..400).contains(&total), "{payload}");
                        assert!(number("/items_over_sla") <= number("/total_items"), "{payload}");
                    }
                    "attendance:update" => {
                        let there = number("/present_count") + number("/absent_count");
                        assert_eq!(there, number("/scheduled_count"), "{payload}");
                        assert!((0.6..=1.0).contains(&number("/attendance_rate")), "{payload}");
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn a_day_has_quiet_and_busy_hours() {
        let events = run(1, DAY as usize);
        let organization = events.iter().filter(|(event, p)| *event == "kpi:update" && p.get("queue_name").is_none());
        let health: Vec<f64> = organization.filter_map(|(_, payload)| payload["health_score"].as_f64()).collect();
        let spread = health.iter().copied().fold(0.0, f64::max) - health.iter().copied().fold(100.0, f64::min);
        assert!(spread > 10.0, "health stays within {spread}");
        for trend in ["growing", "stable", "decreasing"] {
            assert!(events.iter().any(|(_, payload)| payload["backlog_trend"] == trend), "never {trend}");
        }
    }
}
