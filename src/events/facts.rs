//! The few fields of a payload that routing, filters and priority look at.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::filter::Severity;
use crate::rooms::ScopeFields;
use crate::wire::fields_in_order;

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

impl Facts {
    /// Reads a payload; one that is not an object says nothing, and a field that is there twice says what it says last.
    pub fn read(payload: &str) -> Self {
        let Ok(fields) = fields_in_order(payload) else { return Self::default() };
        let text = |name: &str| text(&fields, name);
        let sla_risk = last(&fields, "sla_risk").and_then(|risk| fields_in_order(risk.get()).ok());
        Self {
            scope: ScopeFields {
                organization_id: text("organization_id"),
                department_id: text("department_id"),
                queue_name: text("queue_name"),
            },
            severity: text("severity").as_deref().and_then(Severity::parse),
            source: text("source"),
            status: text("status"),
            alert_id: text("alert_id"),
            sla_risk_level: sla_risk.and_then(|fields| self::text(&fields, "risk_level")),
            backlog_trend: text("backlog_trend"),
            attendance_rate: last(&fields, "attendance_rate").and_then(|rate| serde_json::from_str(rate.get()).ok()),
        }
    }
}

type Fields<'a> = [(Cow<'a, str>, &'a RawValue)];

fn last<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
}

fn text(fields: &Fields<'_>, name: &str) -> Option<String> {
    serde_json::from_str(last(fields, name)?.get()).ok()
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

    #[test]
    fn a_field_that_says_nothing_hides_no_other() {
        let facts = Facts::read(r#"{"department_id":"d","severity":1e999,"status":"a","attendance_rate":2e999}"#);
        assert_eq!((facts.scope.department_id.as_deref(), facts.status.as_deref()), (Some("d"), Some("a")));
        assert_eq!((facts.severity, facts.attendance_rate), (None, None));
        let facts = Facts::read(
            r#"{"organization_id":"o","status":"a","status":"b","sla_risk":{"n":1e999,"risk_level":"high"}}"#,
        );
        assert_eq!((facts.scope.organization_id.as_deref(), facts.status.as_deref()), (Some("o"), Some("b")));
        assert_eq!(facts.sla_risk_level.as_deref(), Some("high"));
    }
}
