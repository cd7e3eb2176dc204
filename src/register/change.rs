//! What a check-in or a check-out has changed, and what clients are told of it.

use serde_json::{Value, json};

use super::record::Record;
use super::register::Statistics;
use crate::wire::iso;

/// Which way a member went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// In.
    In,
    /// Out.
    Out,
}

/// What has changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which way the member went.
    pub direction: Direction,
    /// The check-in as it is now.
    pub record: Record,
    /// The figures as they are now.
    pub statistics: Statistics,
}

impl Change {
    /// What the asking client is answered.
    pub fn ack(&self) -> Value {
        json!({ "success": true, "record": self.record.json() })
    }

    /// The events that tell everybody, in order.
    pub fn events(&self) -> [(&'static str, Value); 3] {
        let told = match self.direction {
            Direction::In => "member_checked_in",
            Direction::Out => "member_checked_out",
        };
        [("check_in_update", self.update()), (told, self.record.json()), ("check_in_stats", self.statistics.json())]
    }

    /// `check_in_update`: three listeners of the frontends each read another shape of it, and find theirs here.
    fn update(&self) -> Value {
        let Record { id, member, in_at_ms, out_at_ms, .. } = &self.record;
        let mut update = self.record.json();
        if let (Value::Object(update), Value::Object(statistics)) = (&mut update, self.statistics.json()) {
            update.extend(statistics);
        }
        update["type"] = match self.direction {
            Direction::In => json!("check_in"),
            Direction::Out => json!("check_out"),
        };
        update["checkIn"] = json!({
            "id": id,
            "member": { "id": member.id, "fullName": member.full_name },
            "checkInTime": iso(*in_at_ms),
            "checkOutTime": out_at_ms.map(iso),
        });
        update
    }
}
