//! WorkMatrix: `{"type":…}` frames of its dashboards and of the agents that watch a desk.
//!
//! A client says `auth` with a user id that it declares itself; what agents
//! send goes to the other sockets of that user.

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::Value;
use serde_json::value::RawValue;

use super::dialect::{Asked, Dialect, Ending, Request, Visitor};
use super::frame::{Fields, Writer, message_of, quoted, text_of, unknown_type};
use crate::wire::message::Envelope;
use crate::wire::now_iso;

/// The last millisecond of the year 9999.
const LAST_MS: f64 = 253_402_300_799_999.0;

/// The dialect of WorkMatrix.
#[derive(Debug)]
pub struct WorkMatrix;

impl Dialect for WorkMatrix {
    fn read(&self, frame: &str) -> Result<Vec<Request>, String> {
        let fields = Fields::read(frame).map_err(|_| "Invalid JSON message")?;
        check_time(fields.get("timestamp"))?;
        let kind = fields.text("type");
        let data = fields.get("data");
        let of_agent = |name: &'static str| {
            let data = data.filter(|data| data.get().starts_with('{'));
            let data = data.ok_or_else(|| format!("{name} needs \"data\", an object"))?;
            Ok::<_, String>(Request::new(name, data.to_owned(), Asked::new(name, None)))
        };
        let plain = |name: &'static str| Request::new(name, Writer::new().argument(), Asked::new(name, None));
        let request = match kind.as_deref() {
            Some("auth") => auth(&fields)?,
            Some("ping") => Request::new("client:ping", Writer::new().argument(), Asked::new("ping", None)),
            Some("start_monitoring") => plain("start_monitoring"),
            Some("stop_monitoring") => plain("stop_monitoring"),
            Some("sync_now") => plain("sync_now"),
            Some("activity_update") => of_agent("activity_update")?,
            Some("screenshot_update") => of_agent("screenshot_update")?,
            Some("status_update") => status(&fields)?,
            _ => return Err(unknown_type(fields.get("type"))),
        };
        Ok(vec![request])
    }

    fn event(&self, event: &Envelope<'_>) -> Option<String> {
        if event.event.starts_with("system:") {
            return None;
        }
        let frame = Writer::begin("type", event.event);
        let frame = match event.event {
            // Its dashboards read the status at the top level.
            "status_update" => frame.raw("status", Fields::of(event.data).get("status").map_or("null", RawValue::get)),
            _ => frame.raw("data", event.data.get()),
        };
        Some(frame.text("timestamp", event.timestamp).ids(event).end())
    }

    fn notice(&self, _: Visitor<'_>, name: &str, payload: &Value) -> Vec<String> {
        match name {
            // Only a door that knows its clients beforehand says so; the others wait for `auth`.
            "connected" if payload["authenticated"] == true => welcome(),
            "error" => vec![error(text_for(None, payload))],
            _ => Vec::new(),
        }
    }

    fn answer(&self, asked: &Asked, ack: &Value) -> Vec<String> {
        match &*asked.what {
            "auth" => welcome(),
            "ping" => vec![timed("pong", ack["server_time"].as_str())],
            "start_monitoring" => vec![timed("monitoring_started", None)],
            "stop_monitoring" => vec![timed("monitoring_stopped", None)],
            "sync_now" => vec![timed("sync_complete", None)],
            _ => Vec::new(),
        }
    }

    fn refuse(&self, asked: Option<&Asked>, failure: &Value) -> Vec<String> {
        vec![error(text_for(asked, failure))]
    }

    fn close_code(&self, ending: Ending) -> Option<u16> {
        match ending {
            // One of its dashboards comes back only when a connection breaks.
            Ending::Restart => None,
            Ending::Dismissed => Some(1008),
        }
    }
}

/// `auth` with the user id at the top level, or in `data` in either spelling.
///
/// What is asked notes whether the client said who it is.
fn auth(fields: &Fields<'_>) -> Result<Request, String> {
    let data = fields.nested("data");
    check_time(data.get("timestamp"))?;
    let places = [fields.get("user_id"), data.get("userId"), data.get("user_id")];
    let user = places.into_iter().flatten().find(|user| user.get() != "\"\"");
    let token = fields.get("token").or_else(|| data.get("token"));
    let mut argument = Writer::new();
    if let Some(user) = user {
        // A number that stands for a user is the user of that name.
        let is_number = user.get().bytes().all(|byte| byte.is_ascii_digit());
        argument = if is_number { argument.text("user_id", user.get()) } else { argument.raw("user_id", user.get()) };
    }
    let argument = argument.maybe("token", token).maybe("session_id", fields.get("session_id"));
    let given = user.or(token).map(|_| RawValue::TRUE);
    Ok(Request::new("authenticate", argument.argument(), Asked::new("auth", given)))
}

/// `status_update` with the status at the top level, or in `data`.
fn status(fields: &Fields<'_>) -> Result<Request, String> {
    let status = fields.text("status").or_else(|| fields.nested("data").text("status"));
    let status = status.ok_or("status_update needs \"status\", a text")?;
    let argument = Writer::begin("status", &status).argument();
    Ok(Request::new("status_update", argument, Asked::new("status_update", None)))
}

/// A time, if there is one: ISO 8601 with or without a zone, or milliseconds since the epoch.
fn check_time(value: Option<&RawValue>) -> Result<(), &'static str> {
    let Some(value) = value else { return Ok(()) };
    let is_time = match text_of(value) {
        Some(text) => text.parse::<Timestamp>().is_ok() || text.parse::<DateTime>().is_ok(),
        None => value.get().parse::<f64>().is_ok_and(|ms| (0.0..=LAST_MS).contains(&ms)),
    };
    is_time.then_some(()).ok_or("Invalid timestamp")
}

/// What a client is told that the server now knows; its versions listen to one or the other.
fn welcome() -> Vec<String> {
    let connected = Writer::begin("type", "connection_status").text("status", "connected");
    vec![timed("auth_success", None), connected.text("timestamp", &now_iso()).end()]
}

fn timed(kind: &str, at: Option<&str>) -> String {
    let frame = Writer::begin("type", kind);
    match at {
        Some(at) => frame.text("timestamp", at).end(),
        None => frame.text("timestamp", &now_iso()).end(),
    }
}

/// Why something is refused, in its clients' own words where they have any.
fn text_for<'a>(asked: Option<&Asked>, failure: &'a Value) -> &'a str {
    let what = asked.map(|asked| &*asked.what);
    match (what, failure["code"].as_str()) {
        (_, Some("RATE_LIMIT_EXCEEDED")) => "Rate limit exceeded",
        (_, Some("INTERNAL_ERROR")) => "Internal server error",
        (Some("auth"), Some("AUTH_FAILED")) if asked.is_some_and(|asked| asked.detail.is_none()) => {
            "Authentication failed: No user ID provided"
        }
        (Some(what), Some("UNAUTHORIZED")) if what != "auth" => "Not authenticated or collectors not initialized",
        _ => message_of(failure),
    }
}

/// An error, where each of its dashboards looks for the text.
fn error(text: &str) -> String {
    let data = format!("{{\"message\":{}}}", quoted(text));
    Writer::begin("type", "error").text("error", text).raw("data", &data).text("timestamp", &now_iso()).end()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::properties::{envelope, json_of, one};
    use super::*;

    fn failure(code: &str, message: &str) -> Value {
        json!({ "success": false, "code": code, "message": message })
    }

    #[test]
    fn auth_takes_the_user_id_from_wherever_a_version_puts_it() {
        for frame in [
            r#"{"type":"auth","user_id":"user123","timestamp":"2024-01-15T10:30:00.000Z"}"#,
            r#"{"type":"auth","user_id":"user123"}"#,
            r#"{"type":"auth","data":{"userId":"user123","timestamp":"2024-01-15T10:30:00.000Z"}}"#,
            r#"{"type":"auth","data":{"user_id":"user123"}}"#,
            r#"{"type":"auth","user_id":"","data":{"userId":null,"user_id":"user123"}}"#,
        ] {
            let request = one(&WorkMatrix, frame);
            assert_eq!(
                (&*request.name, request.argument.get()),
                ("authenticate", r#"{"user_id":"user123"}"#),
                "{frame}"
            );
        }
        assert_eq!(one(&WorkMatrix, r#"{"type":"auth","user_id":7}"#).argument.get(), r#"{"user_id":"7"}"#);
        let with_token = one(&WorkMatrix, r#"{"type":"auth","data":{"token":"a.b.c"}}"#);
        assert_eq!(with_token.argument.get(), r#"{"token":"a.b.c"}"#);
        assert!(!format!("{:?}", with_token.asked).contains("a.b.c"));
    }

    #[test]
    fn auth_is_answered_for_every_version() {
        let asked = one(&WorkMatrix, r#"{"type":"auth","user_id":"u"}"#).asked;
        let frames: Vec<Value> = WorkMatrix.answer(&asked, &json!({ "success": true })).iter().map(json_of).collect();
        assert_eq!(frames[0]["type"], "auth_success");
        assert!(frames[0]["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')));
        assert_eq!((&frames[1]["type"], &frames[1]["status"]), (&json!("connection_status"), &json!("connected")));
        assert_eq!(frames.len(), 2);
        let notice = |payload: Value| WorkMatrix.notice(Visitor::default(), "connected", &payload).len();
        assert_eq!((notice(json!({ "authenticated": true })), notice(json!({ "authenticated": false }))), (2, 0));
        assert!(WorkMatrix.notice(Visitor::default(), "authenticated", &json!({ "success": true })).is_empty());
    }

    #[test]
    fn commands_and_their_answers() {
        for (kind, name, answer) in [
            ("ping", "client:ping", "pong"),
            ("start_monitoring", "start_monitoring", "monitoring_started"),
            ("stop_monitoring", "stop_monitoring", "monitoring_stopped"),
            ("sync_now", "sync_now", "sync_complete"),
        ] {
            let request = one(&WorkMatrix, &format!(r#"{{"type":"{kind}","timestamp":1705314600000}}"#));
            assert_eq!((&*request.name, request.argument.get()), (name, "{}"));
            let frames = WorkMatrix.answer(&request.asked, &json!({ "success": true }));
            assert_eq!(json_of(&frames[0])["type"], answer);
            assert!(json_of(&frames[0])["timestamp"].is_string() && frames.len() == 1);
        }
        let asked = one(&WorkMatrix, r#"{"type":"ping"}"#).asked;
        let pong = WorkMatrix.answer(&asked, &json!({ "pong": true, "server_time": "T" }));
        assert_eq!(pong, [r#"{"type":"pong","timestamp":"T"}"#]);
    }

    #[test]
    fn what_agents_send_passes_unchanged_and_unanswered() {
        for kind in ["activity_update", "screenshot_update"] {
            let request = one(&WorkMatrix, &format!(r#"{{"type":"{kind}","data":{{"a" : 1.50,"timestamp":"x"}}}}"#));
            assert_eq!((&*request.name, request.argument.get()), (kind, r#"{"a" : 1.50,"timestamp":"x"}"#));
            assert!(WorkMatrix.answer(&request.asked, &json!({ "success": true })).is_empty());
            for data in ["", r#","data":null"#, r#","data":[1]"#, r#","data":"x""#] {
                let refused = WorkMatrix.read(&format!(r#"{{"type":"{kind}"{data}}}"#)).expect_err("refused");
                assert_eq!(refused, format!("{kind} needs \"data\", an object"));
            }
        }
        for frame in
            [r#"{"type":"status_update","status":"synced"}"#, r#"{"type":"status_update","data":{"status":"synced"}}"#]
        {
            let request = one(&WorkMatrix, frame);
            assert_eq!((&*request.name, request.argument.get()), ("status_update", r#"{"status":"synced"}"#));
        }
        assert!(WorkMatrix.read(r#"{"type":"status_update","status":1}"#).is_err());
    }

    #[test]
    fn timestamps_are_verified() {
        for good in [
            r#""2024-01-15T10:30:00Z""#,
            r#""2024-01-15T10:30:00.123Z""#,
            r#""2024-01-15T10:30:00.123456""#,
            r#""2024-01-15T10:30:00""#,
            r#""2024-01-15T10:30:00+02:00""#,
            "1705314600000",
            "1705314600000.5",
            "null",
        ] {
            assert!(WorkMatrix.read(&format!(r#"{{"type":"ping","timestamp":{good}}}"#)).is_ok(), "{good}");
            assert!(WorkMatrix.read(&format!(r#"{{"type":"auth","data":{{"timestamp":{good}}}}}"#)).is_ok(), "{good}");
        }
        for bad in [r#""yesterday""#, r#""""#, "-1", "1e300", "true", "[]", "{}", r#""2024-13-01T00:00:00Z""#] {
            for frame in [
                format!(r#"{{"type":"ping","timestamp":{bad}}}"#),
                format!(r#"{{"type":"activity_update","data":{{}},"timestamp":{bad}}}"#),
                format!(r#"{{"type":"auth","data":{{"userId":"u","timestamp":{bad}}}}}"#),
            ] {
                assert_eq!(WorkMatrix.read(&frame).expect_err("refused"), "Invalid timestamp", "{frame}");
            }
        }
    }

    #[test]
    fn refusals_use_its_own_words() {
        let unread = |frame: &str| WorkMatrix.read(frame).expect_err("refused");
        assert_eq!(unread("x"), "Invalid JSON message");
        assert_eq!(unread("[1]"), "Invalid JSON message");
        assert_eq!(unread(r#"{"type":"dance"}"#), "Unknown message type: dance");
        assert_eq!(unread(r#"{"a":1}"#), "Unknown message type: None");
        let text = |asked: Option<&Asked>, failure: &Value| {
            let frames = WorkMatrix.refuse(asked, failure);
            let frame = json_of(&frames[0]);
            assert_eq!((&frame["type"], frames.len()), (&json!("error"), 1));
            assert_eq!(frame["error"], frame["data"]["message"]);
            assert!(frame["timestamp"].is_string());
            frame["error"].as_str().expect("text").to_owned()
        };
        let asked = |frame: &str| one(&WorkMatrix, frame).asked;
        let failed = failure("AUTH_FAILED", "why");
        for frame in [r#"{"type":"auth"}"#, r#"{"type":"auth","user_id":""}"#, r#"{"type":"auth","data":{}}"#] {
            assert_eq!(text(Some(&asked(frame)), &failed), "Authentication failed: No user ID provided");
        }
        assert_eq!(text(Some(&asked(r#"{"type":"auth","user_id":"u"}"#)), &failed), "why");
        assert_eq!(text(Some(&Asked::new("connect", None)), &failed), "why");
        let start = asked(r#"{"type":"start_monitoring"}"#);
        let unauthorized = failure("UNAUTHORIZED", "why");
        assert_eq!(text(Some(&start), &unauthorized), "Not authenticated or collectors not initialized");
        assert_eq!(text(Some(&start), &failure("RATE_LIMIT_EXCEEDED", "why")), "Rate limit exceeded");
        assert_eq!(text(None, &failure("INVALID_MESSAGE", "Invalid JSON message")), "Invalid JSON message");
        assert_eq!(text(None, &failure("INTERNAL_ERROR", "why")), "Internal server error");
        let notice =
            WorkMatrix.notice(Visitor::default(), "error", &json!({ "code": "AUTH_FAILED", "message": "late" }));
        assert_eq!(json_of(&notice[0])["error"], "late");
    }

    #[test]
    fn published_events_are_told_with_ids_and_time() {
        let frame = envelope("activity_update", r#"{"mouseMovements" :1}"#, |event| WorkMatrix.event(event));
        let expected = r#"{"type":"activity_update","data":{"mouseMovements" :1},"timestamp":"T","message_id":"m","position":"e.1"}"#;
        assert_eq!(frame.as_deref(), Some(expected));
        let frame = envelope("status_update", r#"{"status":"synced"}"#, |event| WorkMatrix.event(event));
        let expected =
            r#"{"type":"status_update","status":"synced","timestamp":"T","message_id":"m","position":"e.1"}"#;
        assert_eq!(frame.as_deref(), Some(expected));
        assert_eq!(envelope("system:broadcast", "{}", |event| WorkMatrix.event(event)), None);
        assert_eq!(envelope("system:broadcast", "{}", |event| WorkMatrix.part(event)), None);
        let part = envelope("screenshot_update", "{}", |event| WorkMatrix.part(event)).expect("a part");
        let batch = json_of(WorkMatrix.batch(&[(&part.0, vec![&part.1])]));
        assert_eq!(batch["data"]["batches"]["screenshot_update"][0]["message_id"], "m");
    }

    #[test]
    fn a_restart_breaks_the_connection_and_a_dismissal_closes_it() {
        assert_eq!(WorkMatrix.close_code(Ending::Restart), None);
        assert_eq!(WorkMatrix.close_code(Ending::Dismissed), Some(1008));
    }
}
