//! Socket.IO's events in plain JSON: `{"event":…,"data":…,"id"?}`.
//!
//! Answers are `{"event":"<name>:ack","data":…,"id"?}`, and a published event is its envelope.

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::dialect::{Asked, Dialect, Ending, Request, Visitor};
use super::frame::{Fields, Unreadable, Writer, grouped};
use crate::wire::message::Envelope;
use crate::wire::now_iso;

/// Longest name of an event that is looked at, in bytes.
const MAX_NAME: usize = 128;

/// The dialect of the Intraday dashboards' document, for wscat and programs.
#[derive(Debug)]
pub struct Intraday;

impl Dialect for Intraday {
    fn read(&self, frame: &str) -> Result<Vec<Request>, String> {
        let fields = Fields::read(frame).map_err(|unreadable| match unreadable {
            Unreadable::NotJson => "the frame is not JSON",
            Unreadable::NotAnObject => "the frame must be an object such as {\"event\":\"client:ping\"}",
        })?;
        let name =
            fields.text("event").filter(|name| !name.is_empty()).ok_or("the frame needs an \"event\", its name")?;
        if name.len() > MAX_NAME {
            return Err(format!("the frame's \"event\" is longer than {MAX_NAME} bytes"));
        }
        let argument = fields.get("data").map_or_else(|| RawValue::NULL.to_owned(), ToOwned::to_owned);
        let asked = Asked::new(name.clone().into_owned(), fields.repeated("id"));
        Ok(vec![Request::new(name.into_owned(), argument, asked)])
    }

    fn event(&self, event: &Envelope<'_>) -> Option<String> {
        Some(serde_json::to_string(event).expect("an envelope is always JSON"))
    }

    fn knows(&self, _: &str) -> bool {
        true
    }

    fn notice(&self, _: Visitor<'_>, name: &str, payload: &Value) -> Vec<String> {
        vec![Writer::begin("event", name).raw("data", &payload.to_string()).end()]
    }

    fn answer(&self, asked: &Asked, ack: &Value) -> Vec<String> {
        // Nobody waits for an answer to an acknowledgement.
        if asked.what == "ack" && asked.detail.is_none() {
            return Vec::new();
        }
        let frame = Writer::begin("event", &format!("{}:ack", asked.what)).raw("data", &ack.to_string());
        vec![match &asked.detail {
            Some(id) => frame.raw("id", id).end(),
            None => frame.end(),
        }]
    }

    fn refuse(&self, asked: Option<&Asked>, failure: &Value) -> Vec<String> {
        let error = serde_json::json!({
            "code": failure["code"],
            "message": failure["message"],
            "timestamp": now_iso(),
        });
        let mut frames = asked.map(|asked| self.answer(asked, failure)).unwrap_or_default();
        // A flood is answered once a message, not twice.
        if frames.is_empty() || failure["code"] != "RATE_LIMIT_EXCEEDED" {
            frames.push(Writer::begin("event", "error").raw("data", &error.to_string()).end());
        }
        frames
    }

    fn part(&self, event: &Envelope<'_>) -> Option<(String, String)> {
        let envelope = to_raw_value(event).expect("an envelope is always JSON");
        Some((event.event.to_owned(), envelope.get().to_owned()))
    }

    fn batch(&self, groups: &[(&str, Vec<&str>)]) -> String {
        Writer::begin("event", "batch").raw("data", &format!("{{\"batches\":{}}}", grouped(groups))).end()
    }

    fn close_code(&self, ending: Ending) -> Option<u16> {
        Some(match ending {
            Ending::Restart => 1012,
            Ending::Dismissed => 1008,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_are_events_and_answers_repeat_the_id() {
        let asked = Intraday.read(r#"{"event":"subscribe","data":{"channels":["kpi"]},"id":7}"#).expect("a frame");
        assert_eq!((&*asked[0].name, asked[0].argument.get()), ("subscribe", r#"{"channels":["kpi"]}"#));
        let answer = Intraday.answer(&asked[0].asked, &json!({ "success": true }));
        assert_eq!(answer, [r#"{"event":"subscribe:ack","data":{"success":true},"id":7}"#]);
        let ping = Intraday.read(r#"{"event":"client:ping"}"#).expect("a frame");
        assert_eq!((ping[0].argument.get(), &ping[0].asked.detail), ("null", &None));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (frame, why) in [("x", "not JSON"), ("[]", "object"), ("{}", "event"), (r#"{"event":7}"#, "event")] {
            assert!(Intraday.read(frame).expect_err("a refusal").contains(why), "{frame}");
        }
    }
}
