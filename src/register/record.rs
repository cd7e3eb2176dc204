//! One check-in, open or ended.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::member::Member;
use crate::wire::iso;

/// A check-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub member: Member,
    /// When it began, in milliseconds since the epoch.
    pub in_at_ms: i64,
    /// When it ended; none while it is open.
    #[serde(default)]
    pub out_at_ms: Option<i64>,
    /// Where, if that was said.
    #[serde(default)]
    pub location: Option<String>,
    /// What was noted.
    #[serde(default)]
    pub notes: String,
}

impl Record {
    /// The record as clients are told. There is no `location` when none was given: one that is `null` is refused by
    /// a frontend.
    pub fn json(&self) -> Value {
        let mut record = json!({
            "id": self.id,
            "member": self.member.json(),
            "check_in_time": iso(self.in_at_ms),
            "check_out_time": self.out_at_ms.map(iso),
            "status": if self.out_at_ms.is_some() { "checked_out" } else { "checked_in" },
            "notes": self.notes,
        });
        if let Some(location) = &self.location {
            record["location"] = json!(location);
        }
        record
    }
}
