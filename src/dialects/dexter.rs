//! Dexter: `{"type":…}` frames with channels of its own, such as `issues` and `issue:{id}`.
//!
//! The channel `issue:{id}` is the channel `issue` at the queue `{id}`, and so
//! with `project:{id}`; the fields of most events stand at the top level.

use serde_json::Value;
use serde_json::value::RawValue;

use super::dialect::{Asked, Dialect, Ending, Request, Visitor};
use super::frame::{Fields, Unreadable, Writer, message_of, pong, quoted, unknown_type};
use crate::wire::message::Envelope;

/// The dialect of Dexter.
#[derive(Debug)]
pub struct Dexter;

/// Fields of an event's frame that no payload may stand in for.
const OWN_FIELDS: [&str; 3] = ["type", "message_id", "position"];

/// Why a frame cannot be read: these words, a colon, and what to do.
const INVALID_JSON: &str = "Invalid JSON";
const CHANNEL_REQUIRED: &str = "Channel required";
const STATUS_REQUIRED: &str = "Status required";
const UNKNOWN_TYPE: &str = "Unknown message type";

impl Dexter {
    /// Types of the server's own frames, which nobody can broadcast.
    pub const OWN_TYPES: [&str; 4] = ["connection", "subscription", "pong", "error"];
}

impl Dialect for Dexter {
    fn read(&self, frame: &str) -> Result<Vec<Request>, String> {
        let fields = Fields::read(frame).map_err(|unreadable| match unreadable {
            Unreadable::NotJson => format!("{INVALID_JSON}: the frame cannot be parsed"),
            Unreadable::NotAnObject => format!("{INVALID_JSON}: the frame must be an object with a \"type\""),
        })?;
        let request = match fields.text("type").as_deref() {
            Some("subscribe") => in_channel(&fields, "subscribe")?,
            Some("unsubscribe") => in_channel(&fields, "unsubscribe")?,
            Some("presence") => {
                let missing = || format!("{STATUS_REQUIRED}: presence needs a \"status\" such as \"online\"");
                let status = fields.text("status").ok_or_else(missing)?;
                let argument = Writer::begin("status", &status).argument();
                Request::new("presence", argument, Asked::new("presence", None))
            }
            Some("ping") => {
                let asked = Asked::new("ping", fields.repeated("timestamp"));
                Request::new("client:ping", Writer::new().argument(), asked)
            }
            _ => return Err(unknown_type(fields.get("type"))),
        };
        Ok(vec![request])
    }

    fn event(&self, event: &Envelope<'_>) -> Option<String> {
        let payload = || Fields::of(event.data);
        let frame = match event.event {
            name if name.starts_with("system:") => return None,
            "issue_update" | "alert_trigger" => spread(event.event, event, Timed::Always),
            "presence:update" => spread("presence_update", event, Timed::Always),
            "assignment_notification" | "announcement" => spread(event.event, event, Timed::IfGiven),
            "alert:triggered" | "alert:acknowledged" | "alert:resolved" | "alert:escalated" => {
                let id = payload().get("alert_id").map_or_else(|| quoted(event.message_id), |id| id.get().to_owned());
                let frame = Writer::begin("type", "alert_trigger").raw("alert_id", &id);
                frame.raw("data", event.data.get()).text("timestamp", event.timestamp)
            }
            "broadcast" => {
                let fields = payload();
                match fields.text("type") {
                    Some(kind) if Self::OWN_TYPES.contains(&&*kind) => return None,
                    Some(kind) => {
                        Writer::begin("type", &kind).raw("data", fields.get("data").map_or("null", RawValue::get))
                    }
                    None => Writer::begin("type", "broadcast").raw("data", event.data.get()),
                }
            }
            name => Writer::begin("type", name).raw("data", event.data.get()),
        };
        Some(frame.ids(event).end())
    }

    fn notice(&self, visitor: Visitor<'_>, name: &str, payload: &Value) -> Vec<String> {
        match name {
            "connected" => {
                let id = visitor.client_id.or_else(|| payload["socket_id"].as_str()).unwrap_or_default();
                let is_known = payload["authenticated"] == true;
                let greeting = Writer::begin("type", "connection").text("status", "connected").text("clientId", id);
                vec![greeting.raw("authenticated", if is_known { "true" } else { "false" }).end()]
            }
            "error" => vec![error(None, payload)],
            _ => Vec::new(),
        }
    }

    fn answer(&self, asked: &Asked, ack: &Value) -> Vec<String> {
        match &*asked.what {
            "subscribe" => vec![subscription(asked, "subscribed", ack)],
            "unsubscribe" => vec![subscription(asked, "unsubscribed", ack)],
            "ping" => vec![pong(asked.detail.as_deref(), ack)],
            _ => Vec::new(),
        }
    }

    fn refuse(&self, asked: Option<&Asked>, failure: &Value) -> Vec<String> {
        match (asked, failure["code"].as_str()) {
            // Its clients send what they were subscribed to again and again, and leave it as often.
            (Some(asked), Some("ROOM_NOT_FOUND")) if asked.what == "unsubscribe" => self.answer(asked, failure),
            // The presence of nobody is nobody's fault.
            (Some(asked), Some("UNAUTHORIZED")) if asked.what == "presence" => Vec::new(),
            _ => vec![error(asked, failure)],
        }
    }

    fn close_code(&self, ending: Ending) -> Option<u16> {
        Some(match ending {
            Ending::Restart => 1012,
            // Its clients come back after every code but 1000 and 1001.
            Ending::Dismissed => 1000,
        })
    }
}

/// `subscribe` or `unsubscribe` for one of Dexter's channels.
fn in_channel(fields: &Fields<'_>, name: &'static str) -> Result<Request, String> {
    let missing = || format!("{CHANNEL_REQUIRED}: {name} needs a \"channel\" such as \"issues\" or \"issue:7\"");
    let repeated = fields.repeated("channel").ok_or_else(missing)?;
    let channel = fields.text("channel").filter(|channel| !channel.is_empty()).ok_or_else(missing)?;
    let (channel, queue) = match channel.split_once(':') {
        Some((channel @ ("issue" | "project"), id)) => (channel, Some(id)),
        _ => (&*channel, None),
    };
    let argument = Writer::new().raw("channels", &format!("[{}]", quoted(channel)));
    let argument = match queue {
        Some("") => return Err(missing()),
        Some(queue) => argument.text("queue_name", queue),
        None => argument,
    };
    let argument = ["since", "batch_ms", "filters"]
        .into_iter()
        .filter(|_| name == "subscribe")
        .fold(argument, |argument, key| argument.maybe(key, fields.get(key)));
    Ok(Request::new(name, argument.argument(), Asked::new(name, Some(repeated))))
}

/// Whether a frame has a time when its payload has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timed {
    Always,
    IfGiven,
}

/// A frame with the fields of the payload; a payload that has none is `data`.
fn spread(kind: &str, event: &Envelope<'_>, timed: Timed) -> Writer {
    let frame = Writer::begin("type", kind);
    if !event.data.get().starts_with('{') {
        return frame.raw("data", event.data.get());
    }
    let fields = Fields::of(event.data);
    let own = |key: &str| OWN_FIELDS.contains(&key);
    let frame =
        fields.iter().filter(|(key, _)| !own(key)).fold(frame, |frame, (key, value)| frame.raw(key, value.get()));
    if timed == Timed::Always && !fields.iter().any(|(key, _)| key == "timestamp") {
        return frame.text("timestamp", event.timestamp);
    }
    frame
}

/// The answer to a subscription, which tells one that goes on from a position whether it is complete.
fn subscription(asked: &Asked, status: &str, ack: &Value) -> String {
    let channel = asked.detail.as_deref().unwrap_or("null");
    let frame = Writer::begin("type", "subscription").raw("channel", channel).text("status", status);
    frame.progress(ack).end()
}

/// An error: what it is in short, why, and the channel if it is about one.
fn error(asked: Option<&Asked>, failure: &Value) -> String {
    let message = message_of(failure);
    let (short, message) = match asked {
        None => own_words(message).unwrap_or((in_short(failure), message)),
        Some(_) => (in_short(failure), message),
    };
    let frame = Writer::begin("type", "error").text("error", short).text("message", message);
    let channel = asked.filter(|asked| asked.what != "ping").and_then(|asked| asked.detail.as_deref());
    match channel {
        Some(channel) => frame.raw("channel", channel).end(),
        None => frame.end(),
    }
}

/// The two parts of what [`Dexter::read`] has said itself.
fn own_words(message: &str) -> Option<(&str, &str)> {
    let own = [INVALID_JSON, CHANNEL_REQUIRED, STATUS_REQUIRED, UNKNOWN_TYPE];
    message.split_once(": ").filter(|(short, _)| own.contains(short))
}

fn in_short(failure: &Value) -> &'static str {
    match failure["code"].as_str() {
        Some("AUTH_FAILED") => "Authentication failed",
        Some("UNAUTHORIZED") => "Unauthorized",
        Some("INVALID_MESSAGE") => "Invalid message",
        Some("MESSAGE_TOO_LARGE") => "Message too large",
        Some("RATE_LIMIT_EXCEEDED") => "Rate limit exceeded",
        Some("SUBSCRIPTION_FAILED") => "Subscription failed",
        Some("ROOM_NOT_FOUND") => "Not subscribed",
        Some("ROOM_FULL") => "Channel full",
        Some("CONNECTION_LIMIT") => "Connection limit",
        _ => "Internal server error",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::properties::{envelope, json_of, one};
    use super::*;

    fn told(name: &str, payload: &str) -> Option<String> {
        envelope(name, payload, |event| Dexter.event(event))
    }

    fn failure(code: &str, message: &str) -> Value {
        json!({ "success": false, "code": code, "message": message })
    }

    #[test]
    fn the_greeting_names_the_client() {
        let visitor = Visitor { client_id: Some("client_1_abc") };
        let greet =
            |known: bool| Dexter.notice(visitor, "connected", &json!({ "socket_id": "s", "authenticated": known }));
        let expected = r#"{"type":"connection","status":"connected","clientId":"client_1_abc","authenticated":false}"#;
        assert_eq!(greet(false), [expected]);
        assert_eq!(greet(true), [expected.replace("false", "true")]);
        for name in ["authenticated", "initial_stats", "client:pong"] {
            assert!(Dexter.notice(visitor, name, &json!({})).is_empty());
        }
    }

    #[test]
    fn channels_are_channels_and_queues() {
        for (channel, argument) in [
            ("issues", r#"{"channels":["issues"]}"#),
            ("alerts", r#"{"channels":["alerts"]}"#),
            ("presence", r#"{"channels":["presence"]}"#),
            ("global", r#"{"channels":["global"]}"#),
            ("issue:42", r#"{"channels":["issue"],"queue_name":"42"}"#),
            ("project:a:b", r#"{"channels":["project"],"queue_name":"a:b"}"#),
            ("order:x", r#"{"channels":["order:x"]}"#),
        ] {
            for (kind, status) in [("subscribe", "subscribed"), ("unsubscribe", "unsubscribed")] {
                let request = one(&Dexter, &format!(r#"{{"type":"{kind}","channel":"{channel}"}}"#));
                assert_eq!((&*request.name, request.argument.get()), (kind, argument));
                let reply = Dexter.answer(&request.asked, &json!({ "success": true, "position": "e.1" }));
                let expected = format!(r#"{{"type":"subscription","channel":"{channel}","status":"{status}"}}"#);
                assert_eq!(reply, std::slice::from_ref(&expected));
                if kind == "unsubscribe" {
                    assert_eq!(Dexter.refuse(Some(&request.asked), &failure("ROOM_NOT_FOUND", "why")), [expected]);
                }
            }
        }
    }

    #[test]
    fn a_subscription_goes_on_from_a_position() {
        let request = one(&Dexter, r#"{"type":"subscribe","channel":"issues","since":"e.1","batch_ms":100}"#);
        assert_eq!(request.argument.get(), r#"{"channels":["issues"],"since":"e.1","batch_ms":100}"#);
        let ack = json!({ "success": true, "position": "e.5", "replayed": 3, "complete": true });
        let expected = r#"{"type":"subscription","channel":"issues","status":"subscribed","position":"e.5","replayed":3,"complete":true}"#;
        assert_eq!(Dexter.answer(&request.asked, &ack), [expected]);
    }

    #[test]
    fn a_denied_channel_is_named() {
        let asked = one(&Dexter, r#"{"type":"subscribe","channel":"presence"}"#).asked;
        let expected = r#"{"type":"error","error":"Unauthorized","message":"why","channel":"presence"}"#;
        assert_eq!(Dexter.refuse(Some(&asked), &failure("UNAUTHORIZED", "why")), [expected]);
        let expected = r#"{"type":"error","error":"Not subscribed","message":"why","channel":"presence"}"#;
        assert_eq!(Dexter.refuse(Some(&asked), &failure("ROOM_NOT_FOUND", "why")), [expected]);
    }

    #[test]
    fn pings_come_back_with_their_own_time() {
        for timestamp in ["1705314600000", r#""2024-01-15T10:30:00Z""#, "1.50"] {
            let request = one(&Dexter, &format!(r#"{{"type":"ping","timestamp":{timestamp}}}"#));
            assert_eq!((&*request.name, request.argument.get()), ("client:ping", "{}"));
            let pong = Dexter.answer(&request.asked, &json!({ "pong": true, "server_time": "T" }));
            assert_eq!(pong, [format!(r#"{{"type":"pong","timestamp":{timestamp}}}"#)]);
        }
        let asked = one(&Dexter, r#"{"type":"ping"}"#).asked;
        assert_eq!(Dexter.answer(&asked, &json!({ "server_time": "T" })), [r#"{"type":"pong","timestamp":"T"}"#]);
        let asked = one(&Dexter, r#"{"type":"ping","timestamp":7}"#).asked;
        assert!(json_of(&Dexter.refuse(Some(&asked), &failure("RATE_LIMIT_EXCEEDED", "why"))[0])["channel"].is_null());
    }

    #[test]
    fn presence_is_an_event_without_an_answer() {
        let request = one(&Dexter, r#"{"type":"presence","status":"busy"}"#);
        assert_eq!((&*request.name, request.argument.get()), ("presence", r#"{"status":"busy"}"#));
        assert!(Dexter.answer(&request.asked, &json!({ "success": true })).is_empty());
        assert!(Dexter.refuse(Some(&request.asked), &failure("UNAUTHORIZED", "why")).is_empty());
        let expected = r#"{"type":"error","error":"Invalid message","message":"why"}"#;
        assert_eq!(Dexter.refuse(Some(&request.asked), &failure("INVALID_MESSAGE", "why")), [expected]);
    }

    #[test]
    fn what_cannot_be_read_says_so_in_short_and_at_length() {
        let long = format!(r#"{{"type":"subscribe","channel":"{}"}}"#, "x".repeat(300));
        for (frame, short) in [
            ("x", "Invalid JSON"),
            ("[]", "Invalid JSON"),
            (r#"{"type":"message","event":"authenticate"}"#, "Unknown message type"),
            (r#"{"type":7}"#, "Unknown message type"),
            ("{}", "Unknown message type"),
            (r#"{"type":"subscribe"}"#, "Channel required"),
            (r#"{"type":"subscribe","channel":["issues"]}"#, "Channel required"),
            (r#"{"type":"unsubscribe","channel":""}"#, "Channel required"),
            (r#"{"type":"subscribe","channel":"issue:"}"#, "Channel required"),
            (&long, "Channel required"),
            (r#"{"type":"presence"}"#, "Status required"),
        ] {
            let why = Dexter.read(frame).expect_err("refused");
            let frames = Dexter.refuse(None, &failure("INVALID_MESSAGE", &why));
            let error = json_of(&frames[0]);
            assert_eq!((&error["type"], &error["error"]), (&json!("error"), &json!(short)), "{frame}");
            assert!(why.ends_with(error["message"].as_str().expect("text")) && error["message"] != "");
        }
        let expected = r#"{"type":"error","error":"Message too large","message":"a: b"}"#;
        assert_eq!(Dexter.refuse(None, &failure("MESSAGE_TOO_LARGE", "a: b")), [expected]);
        let expected = r#"{"type":"error","error":"Authentication failed","message":"late"}"#;
        let late = json!({ "code": "AUTH_FAILED", "message": "late", "timestamp": "T" });
        assert_eq!(Dexter.notice(Visitor::default(), "error", &late), [expected]);
    }

    #[test]
    fn issue_alert_and_presence_updates_stand_at_the_top_level() {
        let payload =
            r#"{"issue_id":"7","update_type":"assigned","data":{"assignee" :"x"},"type":"connection","position":0}"#;
        let expected = r#"{"type":"issue_update","issue_id":"7","update_type":"assigned","data":{"assignee" :"x"},"timestamp":"T","message_id":"m","position":"e.1"}"#;
        assert_eq!(told("issue_update", payload).as_deref(), Some(expected));
        let expected = r#"{"type":"issue_update","issue_id":7,"timestamp":"then","message_id":"m","position":"e.1"}"#;
        assert_eq!(told("issue_update", r#"{"issue_id":7,"timestamp":"then"}"#).as_deref(), Some(expected));
        let expected = r#"{"type":"alert_trigger","alert_id":"a","data":{"severity":"high"},"timestamp":"T","message_id":"m","position":"e.1"}"#;
        assert_eq!(told("alert_trigger", r#"{"alert_id":"a","data":{"severity":"high"}}"#).as_deref(), Some(expected));
        let payload = r#"{"user_id":"u","status":"away","last_seen":"t","timestamp":"t"}"#;
        let expected = r#"{"type":"presence_update","user_id":"u","status":"away","last_seen":"t","timestamp":"t","message_id":"m","position":"e.1"}"#;
        assert_eq!(told("presence:update", payload).as_deref(), Some(expected));
        assert_eq!(json_of(told("issue_update", "[1]").expect("a frame"))["data"], json!([1]));
    }

    #[test]
    fn assignments_and_announcements_have_only_their_own_fields() {
        let expected = r#"{"type":"assignment_notification","issue_id":"7","title":"x","assigned_by":"y","message_id":"m","position":"e.1"}"#;
        let payload = r#"{"issue_id":"7","title":"x","assigned_by":"y"}"#;
        assert_eq!(told("assignment_notification", payload).as_deref(), Some(expected));
        let expected = r#"{"type":"announcement","message":"hi","message_id":"m","position":"e.1"}"#;
        assert_eq!(told("announcement", r#"{"message":"hi"}"#).as_deref(), Some(expected));
    }

    #[test]
    fn alerts_of_the_dashboards_become_triggers() {
        let expected = r#"{"type":"alert_trigger","alert_id":"a","data":{"alert_id":"a"},"timestamp":"T","message_id":"m","position":"e.1"}"#;
        for name in ["alert:triggered", "alert:acknowledged", "alert:resolved", "alert:escalated"] {
            assert_eq!(told(name, r#"{"alert_id":"a"}"#).as_deref(), Some(expected));
        }
        assert_eq!(json_of(told("alert:triggered", "{}").expect("a frame"))["alert_id"], "m");
    }

    #[test]
    fn broadcasts_carry_their_own_type_and_everything_else_is_data() {
        let expected = r#"{"type":"deploy","data":{"a" :1},"message_id":"m","position":"e.1"}"#;
        assert_eq!(told("broadcast", r#"{"type":"deploy","data":{"a" :1}}"#).as_deref(), Some(expected));
        let expected = r#"{"type":"notification","data":{"title":"x"},"message_id":"m","position":"e.1"}"#;
        assert_eq!(told("notification", r#"{"title":"x"}"#).as_deref(), Some(expected));
        let expected = r#"{"type":"broadcast","data":{"a":1},"message_id":"m","position":"e.1"}"#;
        assert_eq!(told("broadcast", r#"{"a":1}"#).as_deref(), Some(expected));
        assert_eq!(told("broadcast", r#"{"type":"connection","data":{"a":1}}"#), None);
        for name in ["system:broadcast", "system:notification", "system:maintenance"] {
            assert_eq!(told(name, "{}"), None);
        }
        let part = envelope("issue_update", r#"{"issue_id":"7"}"#, |event| Dexter.part(event)).expect("a part");
        let batch = json_of(Dexter.batch(&[(&part.0, vec![&part.1])]));
        assert_eq!(batch["data"]["batches"]["issue_update"][0]["issue_id"], "7");
    }

    #[test]
    fn its_clients_stay_away_only_after_a_normal_close() {
        assert_eq!(Dexter.close_code(Ending::Restart), Some(1012));
        assert_eq!(Dexter.close_code(Ending::Dismissed), Some(1000));
    }
}
