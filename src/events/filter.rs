//! Filters of a subscription.

use serde::{Deserialize, Serialize};

use super::facts::Facts;

/// How bad an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For information.
    Info,
    /// Worth a look.
    Warning,
    /// Something is wrong.
    Error,
    /// Something must be done now.
    Critical,
}

impl Severity {
    /// The severity of this name, if there is one.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "info" => Self::Info,
            "warning" => Self::Warning,
            "error" => Self::Error,
            "critical" => Self::Critical,
            _ => return None,
        })
    }
}

/// `filters` of a `subscribe`; an event that lacks a field passes the filter on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filters {
    /// Least severity that passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_severity: Option<Severity>,
    /// Sources that pass; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Statuses that pass; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<String>,
}

/// Most names in a list, and the longest of them.
const MAX_NAMES: usize = 64;
const MAX_NAME: usize = 128;

impl Filters {
    /// Whether its lists are within bounds; each filter is kept for as long as its subscription.
    pub fn is_bounded(&self) -> bool {
        [&self.sources, &self.statuses]
            .into_iter()
            .all(|list| list.len() <= MAX_NAMES && list.iter().all(|name| name.len() <= MAX_NAME))
    }

    /// Whether an event with these facts passes.
    pub fn pass(&self, facts: &Facts) -> bool {
        let among = |list: &[String], value: &Option<String>| {
            list.is_empty() || value.as_ref().is_none_or(|value| list.contains(value))
        };
        self.min_severity.is_none_or(|least| facts.severity.is_none_or(|severity| severity >= least))
            && among(&self.sources, &facts.source)
            && among(&self.statuses, &facts.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_lacks_a_field_passes_the_filter_on_it() {
        let filters = Filters {
            min_severity: Some(Severity::Error),
            sources: vec!["kpi".into()],
            statuses: vec!["active".into()],
        };
        assert!(filters.pass(&Facts::read("{}")));
        assert!(filters.pass(&Facts::read(r#"{"severity":"critical","source":"kpi","status":"active"}"#)));
        assert!(!filters.pass(&Facts::read(r#"{"severity":"warning"}"#)));
        assert!(!filters.pass(&Facts::read(r#"{"source":"backlog"}"#)));
        assert!(!filters.pass(&Facts::read(r#"{"status":"resolved"}"#)));
    }
}
