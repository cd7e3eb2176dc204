//! The notice that a scope has fallen silent on a channel, or is live again, as `system:notification`.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::events::{Facts, Severity};
use crate::rooms::Scope;
use crate::wire::now_iso;

/// The event.
pub(super) const EVENT: &str = "system:notification";

#[derive(Serialize)]
struct Written<'a> {
    stale: bool,
    channel: &'a str,
    scope: &'a Scope,
    age_ms: i64,
    /// The same fields as those of every other payload.
    #[serde(flatten)]
    place: &'a Scope,
    /// The same for both, so that a filter lets both pass or none.
    severity: &'a str,
    level: &'a str,
    message: String,
    timestamp: String,
}

/// What an earlier process has announced.
#[derive(Debug, Deserialize)]
pub(super) struct Announced {
    pub(super) stale: bool,
    pub(super) channel: String,
    pub(super) scope: Scope,
    pub(super) age_ms: i64,
}

/// What filters look at in a notice.
pub(super) fn facts() -> Facts {
    Facts { severity: Some(Severity::Warning), ..Facts::default() }
}

/// The payload of a notice.
pub(super) fn payload(stale: bool, channel: &str, scope: &Scope, age_ms: i64) -> Box<RawValue> {
    let written = Written {
        stale,
        channel,
        scope,
        age_ms,
        place: scope,
        severity: "warning",
        level: if stale { "warning" } else { "info" },
        message: message(stale, channel, scope, age_ms),
        timestamp: now_iso(),
    };
    to_raw_value(&written).expect("a notice is always JSON")
}

/// What a payload of the event announced, if it is a notice.
pub(super) fn read(payload: &str) -> Option<Announced> {
    serde_json::from_str(payload).ok()
}

fn message(stale: bool, channel: &str, scope: &Scope, age_ms: i64) -> String {
    let department = scope.department.as_ref().map(|id| format!(", department {id}")).unwrap_or_default();
    let queue = scope.queue.as_ref().map(|id| format!(", queue {id}")).unwrap_or_default();
    let seconds = (age_ms + 999) / 1_000;
    if stale {
        format!("Nothing new on {channel} for {seconds} s{department}{queue}")
    } else {
        format!("{channel} is live again after {seconds} s{department}{queue}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::rooms::{Id, ScopeFields};

    #[test]
    fn a_notice_says_where_and_how_long_and_is_read_again() {
        let id = |text: &str| Id::parse(text).expect("an id");
        let scope = Scope { organization: id("o"), department: None, queue: Some(id("q")) };
        for (stale, message) in
            [(true, "Nothing new on kpi for 2 s, queue q"), (false, "kpi is live again after 2 s, queue q")]
        {
            let payload = payload(stale, "kpi", &scope, 1_500);
            let value: Value = serde_json::from_str(payload.get()).expect("JSON");
            assert_eq!(
                (&value["organization_id"], &value["queue_name"]),
                (&value["scope"]["organization_id"], &value["scope"]["queue_name"])
            );
            assert_eq!((value["message"].as_str(), value.get("department_id")), (Some(message), None));
            let facts = Facts { scope: ScopeFields::default(), ..Facts::read(payload.get()) };
            assert_eq!(facts, super::facts());
            let read = read(payload.get()).expect("a notice");
            assert_eq!((read.stale, read.channel.as_str(), &read.scope, read.age_ms), (stale, "kpi", &scope, 1_500));
        }
        assert!(read(r#"{"message":"hello"}"#).is_none());
    }
}
