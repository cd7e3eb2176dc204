//! The rules that alerts are raised by.

use std::cmp::Ordering;

use super::figures::Figures;

/// The side of its threshold on which a rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Above,
    Below,
}

/// What an alert is about. Its threshold is the nearest multiple of `grain` that the value has crossed.
pub(super) struct Rule {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) alert_type: &'static str,
    pub(super) severity: &'static str,
    pub(super) source: &'static str,
    what: &'static str,
    unit: &'static str,
    side: Side,
    grain: f64,
    pub(super) metric: fn(&Figures) -> f64,
}

pub(super) const RULES: [Rule; 6] = [
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
    pub(super) fn compare(&self, a: f64, b: f64) -> Ordering {
        match self.side {
            Side::Above => a.total_cmp(&b),
            Side::Below => b.total_cmp(&a),
        }
    }

    /// The threshold that `value` has crossed, if there is a sensible one.
    pub(super) fn crossed(&self, value: f64) -> Option<f64> {
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

    pub(super) fn message(&self, queue: &str, value: f64, threshold: f64) -> String {
        let side = match self.side {
            Side::Above => "above",
            Side::Below => "below",
        };
        let value = (value * 10.0).round() / 10.0;
        format!("{} in {queue}: {value}{unit}, {side} {threshold}{unit}", self.what, unit = self.unit)
    }
}
