//! The few fields of a payload that routing, filters and priority look at.

use serde::Deserialize;
use serde_json::Value;

use super::filter::Severity;
use crate::rooms::ScopeFields;

/// What a payload says about itself; a field of another type counts as absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// `organization_id`, `department_id`, `queue_name`.
    pub scope: ScopeFields,
    /// `severity`.
    pub severity: Option<Severity>,
    /// `source`.
    pub source: Option<String>,
    /// `status`.
    pub status: Option<String>,
    /// `alert_id`.
    pub alert_id: Option<String>,
    /// `sla_risk.risk_level`.
    pub sla_risk_level: Option<String>,
    /// `backlog_trend`.
    pub backlog_trend: Option<String>,
    /// `attendance_rate`, a fraction.
    pub attendance_rate: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    organization_id: Value,
    department_id: Value,
    queue_name: Value,
    severity: Value,
    source: Value,
    status: Value,
    alert_id: Value,
    sla_risk: Value,
    backlog_trend: Value,
    attendance_rate: Value,
}

impl Facts {
    /// Reads a payload; one that is not an object says nothing.
    pub fn read(payload: &str) -> Self {
        if !payload.trim_start().starts_with('{') {
            return Self::default();
        }
        let raw: Raw = serde_json::from_str(payload).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            scope: ScopeFields {
                organization_id: text(&raw.organization_id),
                department_id: text(&raw.department_id),
                queue_name: text(&raw.queue_name),
            },
            severity: raw.severity.as_str().and_then(Severity::parse),
            source: text(&raw.source),
            status: text(&raw.status),
            alert_id: text(&raw.alert_id),
            sla_risk_level: raw.sla_risk.get("risk_level").and_then(text),
            backlog_trend: text(&raw.backlog_trend),
            attendance_rate: raw.attendance_rate.as_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_another_type_count_as_absent() {
        let facts = Facts::read(r#"{"organization_id":"o","queue_name":7,"severity":"error","status":[1]}"#);
        assert_eq!(facts.scope.organization_id.as_deref(), Some("o"));
        assert_eq!(facts.scope.queue_name, None);
        assert_eq!((facts.severity, facts.status), (Some(Severity::Error), None));
        assert_eq!(Facts::read("[1]"), Facts::default());
        assert_eq!(Facts::read("null"), Facts::default());
    }
}
