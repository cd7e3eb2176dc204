//! The simulation: what happens in one step after the other, in this order.

use super::alerts::Alerts;
use super::kpis::Kpis;
use super::notices::Notices;
use super::numbers::Rng;
use super::people::Staff;
use super::queues::{QUEUES, Queue};
use super::step::{Event, Step};

/// A call centre with three queues, some forty people and a few alerts at a time.
pub(in crate::doors::demo) struct Simulation {
    organization: String,
    rng: Rng,
    steps: u64,
    queues: Vec<Queue>,
    staff: Staff,
    kpis: Kpis,
    alerts: Alerts,
    notices: Notices,
}

impl Simulation {
    /// A call centre at the start of its day; the same seed tells the same story.
    pub(in crate::doors::demo) fn new(seed: u64, organization: &str) -> Self {
        let mut rng = Rng::new(seed);
        let staff = Staff::hire(&mut rng);
        Self {
            organization: organization.to_owned(),
            rng,
            steps: 0,
            queues: QUEUES.iter().map(Queue::new).collect(),
            staff,
            kpis: Kpis::default(),
            alerts: Alerts::new(),
            notices: Notices::new(),
        }
    }

    /// What happens in the next step, stamped with `now`.
    pub(in crate::doors::demo) fn step(&mut self, now: &str) -> Vec<Event> {
        let mut step = Step::new(self.steps, &self.organization, now, &mut self.rng);
        self.staff.come_and_go(&mut step);
        for (index, queue) in self.queues.iter_mut().enumerate() {
            queue.work(self.staff.of(index), &mut step);
        }
        self.kpis.report(&self.queues, &mut step);
        for queue in &self.queues {
            queue.report(&mut step);
        }
        self.staff.report(&mut step);
        self.alerts.move_on(&self.queues, &mut step);
        self.notices.post(&mut step);
        self.steps += 1;
        step.events()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;

    use serde_json::Value;

    use super::super::step::DAY;
    use super::*;

    /// The events of so many steps.
    pub(in super::super) fn run(seed: u64, steps: usize) -> Vec<Event> {
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
