//! The alerts: raised when a rule finds a queue badly off, then acknowledged, then resolved.

use serde_json::json;

use super::numbers::rounded;
use super::queues::{QUEUES, Queue};
use super::rules::{RULES, Rule};
use super::step::Step;

/// The alerts that are not yet resolved, and when the next is due.
pub(super) struct Alerts {
    open: Vec<Alert>,
    next_at: u64,
}

impl Alerts {
    pub(super) fn new() -> Self {
        Self { open: Vec::new(), next_at: 4 }
    }

    /// Alerts are triggered, then acknowledged, then resolved.
    pub(super) fn move_on(&mut self, queues: &[Queue], step: &mut Step<'_>) {
        for alert in &self.open {
            if let Some(status) = alert.advance(step.number) {
                alert.tell(status, step);
            }
        }
        self.open.retain(|alert| alert.resolve_at > step.number);
        if step.number >= self.next_at {
            self.next_at = step.number + step.rng.between(20, 40);
            if let Some(alert) = Alert::raise(queues, step) {
                alert.tell(Status::Active, step);
                self.open.push(alert);
            }
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
    /// An alert about the queue that is worst off by some rule.
    fn raise(queues: &[Queue], step: &mut Step<'_>) -> Option<Self> {
        let first = step.rng.below(RULES.len());
        for rule in RULES.iter().cycle().skip(first).take(RULES.len()) {
            let figures: Vec<f64> = queues.iter().map(|queue| (rule.metric)(&queue.figures())).collect();
            let worst = (0..figures.len()).max_by(|&a, &b| rule.compare(figures[a], figures[b]))?;
            let Some(threshold) = rule.crossed(figures[worst]) else { continue };
            let acknowledge_at = step.number + step.rng.between(6, 14);
            return Some(Self {
                id: step.rng.id("alert"),
                rule,
                queue: worst,
                message: rule.message(QUEUES[worst].name, figures[worst], threshold),
                value: figures[worst],
                threshold,
                acknowledge_at,
                resolve_at: acknowledge_at + step.rng.between(10, 30),
            });
        }
        None
    }

    /// The status that this step brings, if it brings one.
    fn advance(&self, step: u64) -> Option<Status> {
        match step {
            step if step == self.acknowledge_at => Some(Status::Acknowledged),
            step if step == self.resolve_at => Some(Status::Resolved),
            _ => None,
        }
    }

    fn tell(&self, status: Status, step: &mut Step<'_>) {
        let mut payload = step.payload(Some(&QUEUES[self.queue]));
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
        step.tell(status.event(), payload);
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::simulation::tests::run;

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
}
