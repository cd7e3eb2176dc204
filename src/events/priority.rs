//! Priorities, and what raises them.

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::filter::Severity;

/// How urgent an event is; a higher one overtakes in a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// May be dropped for a slow reader.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Before medium.
    High,
    /// Before everything.
    Urgent,
}

impl Priority {
    /// The priority as it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }

    /// The priority that an event's payload asks for, if it does.
    pub fn of_payload(event: &str, facts: &Facts) -> Option<Self> {
        match event.split(':').next()? {
            "kpi" => (facts.sla_risk_level.as_deref() == Some("critical")).then_some(Self::Urgent),
            "backlog" => (facts.backlog_trend.as_deref() == Some("growing")).then_some(Self::High),
            "attendance" => facts.attendance_rate.is_some_and(|rate| rate < 0.85).then_some(Self::High),
            "alert" => match facts.severity? {
                Severity::Critical => Some(Self::Urgent),
                Severity::Error => Some(Self::High),
                Severity::Info | Severity::Warning => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(event: &str, payload: &str) -> Option<Priority> {
        Priority::of_payload(event, &Facts::read(payload))
    }

    #[test]
    fn payloads_raise_priorities_as_documented() {
        assert_eq!(raised("kpi:update", r#"{"sla_risk":{"risk_level":"critical"}}"#), Some(Priority::Urgent));
        assert_eq!(raised("kpi:update", r#"{"utilization":{}}"#), None);
        assert_eq!(raised("backlog:update", r#"{"backlog_trend":"growing"}"#), Some(Priority::High));
        assert_eq!(raised("attendance:update", r#"{"attendance_rate":0.84}"#), Some(Priority::High));
        assert_eq!(raised("attendance:update", r#"{"attendance_rate":0.85}"#), None);
        assert_eq!(raised("alert:triggered", r#"{"severity":"critical"}"#), Some(Priority::Urgent));
        assert_eq!(raised("alert:triggered", r#"{"severity":"error"}"#), Some(Priority::High));
        assert_eq!(raised("alert:triggered", r#"{"severity":"info"}"#), None);
        assert_eq!(raised("system:notification", r#"{"severity":"critical"}"#), None);
    }
}
