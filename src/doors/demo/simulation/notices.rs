//! The notices: what somebody tells everybody now and then.

use serde_json::json;

use super::step::Step;

/// How many were posted, and when the next is due.
pub(super) struct Notices {
    posted: usize,
    next_at: u64,
}

impl Notices {
    pub(super) fn new() -> Self {
        Self { posted: 0, next_at: 20 }
    }

    pub(super) fn post(&mut self, step: &mut Step<'_>) {
        if step.number < self.next_at {
            return;
        }
        self.next_at = step.number + step.rng.between(90, 150);
        let (level, title, message) = NOTICES[self.posted % NOTICES.len()];
        self.posted += 1;
        let mut payload = step.payload(None);
        payload.insert("notification_id".into(), json!(step.rng.id("note")));
        payload.insert("level".into(), json!(level));
        payload.insert("title".into(), json!(title));
        payload.insert("message".into(), json!(message));
        step.tell("system:notification", payload);
    }
}

/// Level, title and message of the notifications, in turn.
const NOTICES: [(&str, &str, &str); 4] = [
    ("info", "Team huddle", "Shift handover starts in ten minutes in room 2."),
    ("warning", "Phone carrier", "The carrier reports short delays on inbound calls."),
    ("info", "Knowledge base", "The refund guide was updated this morning."),
    ("info", "Thank you", "Yesterday was the best day of the month for first answers."),
];
