//! API/er: `{"type":…,"data":…}` frames about the events that it delivers.

use serde_json::Value;
use serde_json::value::RawValue;

use super::dialect::{Asked, Dialect, Ending, Request, Visitor};
use super::frame::{Fields, Writer, message_of, pong, unknown_type};
use crate::wire::message::Envelope;
use crate::wire::now_iso;

/// The dialect of API/er.
#[derive(Debug)]
pub struct Apier;

/// Fields about a change, and not of the event that has changed; a page takes the `data` that holds them for
/// something else.
const OF_THE_CHANGE: [&str; 2] = ["action", "previous_status"];

impl Dialect for Apier {
    fn read(&self, frame: &str) -> Result<Vec<Request>, String> {
        let fields = Fields::read(frame).map_err(|_| "Invalid JSON")?;
        let request = match fields.text("type").as_deref() {
            Some("ping") => {
                let asked = Asked::new("ping", fields.repeated("timestamp"));
                Request::new("client:ping", Writer::new().argument(), asked)
            }
            Some("subscribe") => in_channels(&fields, "subscribe")?,
            Some("unsubscribe") => in_channels(&fields, "unsubscribe")?,
            Some("authenticate") => {
                let token = fields.nested("data").get("token").or_else(|| fields.get("token"));
                let argument = Writer::new().maybe("token", token).argument();
                Request::new("authenticate", argument, Asked::new("authenticate", None))
            }
            _ => return Err(unknown_type(fields.get("type"))),
        };
        Ok(vec![request])
    }

    fn event(&self, event: &Envelope<'_>) -> Option<String> {
        let frame = Writer::begin("type", event.event);
        let frame = match event.event {
            name if name.starts_with("system:") => return None,
            "event_update" | "event_created" | "event_deleted" => changed(frame, event.data),
            _ => frame.raw("data", event.data.get()),
        };
        Some(frame.text("timestamp", event.timestamp).ids(event).end())
    }

    fn notice(&self, _: Visitor<'_>, name: &str, payload: &Value) -> Vec<String> {
        if name == "error" { vec![error(payload)] } else { Vec::new() }
    }

    fn answer(&self, asked: &Asked, ack: &Value) -> Vec<String> {
        if asked.what == "ping" {
            return vec![pong(asked.detail.as_deref(), ack)];
        }
        vec![Writer::begin("type", "ack").text("action", &asked.what).progress(ack).end()]
    }

    fn refuse(&self, asked: Option<&Asked>, failure: &Value) -> Vec<String> {
        match asked {
            // To leave what one is not in has always been fine.
            Some(asked) if asked.what == "unsubscribe" && failure["code"] == "ROOM_NOT_FOUND" => {
                self.answer(asked, failure)
            }
            _ => vec![error(failure)],
        }
    }

    fn close_code(&self, ending: Ending) -> Option<u16> {
        Some(match ending {
            Ending::Restart => 1012,
            Ending::Dismissed => 1008,
        })
    }
}

/// `subscribe` or `unsubscribe`: one channel, or several.
fn in_channels(fields: &Fields<'_>, name: &'static str) -> Result<Request, String> {
    let data = fields.nested("data");
    let argument = match (data.get("channel"), data.get("channels")) {
        (Some(channel), _) => Writer::new().raw("channels", &format!("[{}]", channel.get())),
        (None, Some(channels)) => Writer::new().raw("channels", channels.get()),
        (None, None) => return Err(format!("{name} needs data.channel, such as \"events\"")),
    };
    let argument = ["since", "batch_ms", "filters"]
        .into_iter()
        .filter(|_| name == "subscribe")
        .fold(argument, |argument, key| argument.maybe(key, data.get(key).or_else(|| fields.get(key))));
    Ok(Request::new(name, argument.argument(), Asked::new(name, None)))
}

/// `data`, and beside it what is about the change.
fn changed(frame: Writer, payload: &RawValue) -> Writer {
    let fields = Fields::of(payload);
    let of_the_change = |key: &str| OF_THE_CHANGE.contains(&key);
    if !fields.iter().any(|(key, _)| of_the_change(key)) {
        return frame.raw("data", payload.get());
    }
    let rest = fields.iter().filter(|(key, _)| !of_the_change(key));
    let data = rest.fold(Writer::new(), |data, (key, value)| data.raw(key, value.get())).end();
    let frame = frame.raw("data", &data);
    OF_THE_CHANGE.iter().fold(frame, |frame, key| frame.maybe(key, fields.get(key)))
}

fn error(failure: &Value) -> String {
    Writer::begin("type", "error").text("error", message_of(failure)).text("timestamp", &now_iso()).end()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::properties::{envelope, json_of, one};
    use super::*;

    fn told(name: &str, payload: &str) -> Option<String> {
        envelope(name, payload, |event| Apier.event(event))
    }

    #[test]
    fn there_is_no_greeting() {
        let payload = json!({ "socket_id": "s", "authenticated": true });
        for name in ["connected", "authenticated", "initial_stats"] {
            assert!(Apier.notice(Visitor::default(), name, &payload).is_empty());
        }
    }

    #[test]
    fn pings_come_back_with_their_own_time_or_the_servers() {
        let request = one(&Apier, r#"{"type":"ping","timestamp":"2024-01-15T10:30:00.000Z"}"#);
        assert_eq!((&*request.name, request.argument.get()), ("client:ping", "{}"));
        let pong = Apier.answer(&request.asked, &json!({ "server_time": "T" }));
        assert_eq!(pong, [r#"{"type":"pong","timestamp":"2024-01-15T10:30:00.000Z"}"#]);
        let long = format!(r#"{{"type":"ping","timestamp":"{}"}}"#, "x".repeat(300));
        for frame in [r#"{"type":"ping"}"#, r#"{"type":"ping","timestamp":null}"#, &long] {
            let pong = Apier.answer(&one(&Apier, frame).asked, &json!({ "server_time": "T" }));
            assert_eq!(pong, [r#"{"type":"pong","timestamp":"T"}"#]);
        }
    }

    #[test]
    fn subscriptions_name_one_channel_or_several() {
        for (data, argument) in [
            (r#"{"channel":"events"}"#, r#"{"channels":["events"]}"#),
            (r#"{"channels":["events", "metrics"]}"#, r#"{"channels":["events", "metrics"]}"#),
        ] {
            for kind in ["subscribe", "unsubscribe"] {
                let request = one(&Apier, &format!(r#"{{"type":"{kind}","data":{data}}}"#));
                assert_eq!((&*request.name, request.argument.get()), (kind, argument));
                let expected = format!(r#"{{"type":"ack","action":"{kind}"}}"#);
                assert_eq!(Apier.answer(&request.asked, &json!({ "success": true, "position": "e.1" })), [&*expected]);
                let failure = json!({ "success": false, "code": "ROOM_NOT_FOUND", "message": "why" });
                let refusal = Apier.refuse(Some(&request.asked), &failure);
                assert_eq!(json_of(&refusal[0])["type"], if kind == "subscribe" { "error" } else { "ack" });
            }
        }
        let request = one(&Apier, r#"{"type":"subscribe","data":{"channel":"events","since":"e.1"}}"#);
        assert_eq!(request.argument.get(), r#"{"channels":["events"],"since":"e.1"}"#);
        let ack = json!({ "success": true, "position": "e.5", "replayed": 0, "complete": false });
        let expected = r#"{"type":"ack","action":"subscribe","position":"e.5","replayed":0,"complete":false}"#;
        assert_eq!(Apier.answer(&request.asked, &ack), [expected]);
    }

    #[test]
    fn a_token_may_come_after_the_handshake() {
        for frame in
            [r#"{"type":"authenticate","data":{"token":"a.b.c"}}"#, r#"{"type":"authenticate","token":"a.b.c"}"#]
        {
            let request = one(&Apier, frame);
            assert_eq!((&*request.name, request.argument.get()), ("authenticate", r#"{"token":"a.b.c"}"#));
            let ack = Apier.answer(&request.asked, &json!({ "success": true }));
            assert_eq!(ack, [r#"{"type":"ack","action":"authenticate"}"#]);
        }
    }

    #[test]
    fn errors_are_texts() {
        for (frame, text) in [
            ("x", "Invalid JSON"),
            ("[]", "Invalid JSON"),
            (r#"{"type":"custom"}"#, "Unknown message type: custom"),
            ("{}", "Unknown message type: None"),
            (r#"{"type":"subscribe"}"#, "subscribe needs data.channel, such as \"events\""),
        ] {
            let why = Apier.read(frame).expect_err("refused");
            assert_eq!(why, text);
            let frames = Apier.refuse(None, &json!({ "success": false, "code": "INVALID_MESSAGE", "message": why }));
            let error = json_of(&frames[0]);
            assert_eq!((&error["type"], &error["error"]), (&json!("error"), &json!(text)));
            assert!(error["timestamp"].is_string());
        }
        let late = json!({ "code": "AUTH_FAILED", "message": "late", "timestamp": "T" });
        assert_eq!(json_of(&Apier.notice(Visitor::default(), "error", &late)[0])["error"], "late");
    }

    #[test]
    fn changes_of_events_carry_what_is_about_the_change_beside_the_data() {
        let payload = r#"{"id":"7","status" : "delivered","previous_status":"pending","delivery_latency_ms":1.50,"action":"updated"}"#;
        let expected = r#"{"type":"event_update","data":{"id":"7","status":"delivered","delivery_latency_ms":1.50},"action":"updated","previous_status":"pending","timestamp":"T","message_id":"m","position":"e.1"}"#;
        assert_eq!(told("event_update", payload).as_deref(), Some(expected));
        for name in ["event_update", "event_created", "event_deleted"] {
            let expected = format!(
                r#"{{"type":"{name}","data":{{"id" : "7"}},"timestamp":"T","message_id":"m","position":"e.1"}}"#
            );
            assert_eq!(told(name, r#"{"id" : "7"}"#), Some(expected));
        }
        assert_eq!(
            json_of(told("event_update", r#"{"id":1,"action":null}"#).expect("a frame"))["data"],
            json!({"id":1})
        );
    }

    #[test]
    fn everything_else_passes_unchanged() {
        let payload = r#"{"total_events":1,"summary":{"total":1},"action":"x"}"#;
        let expected = format!(
            r#"{{"type":"metrics_update","data":{payload},"timestamp":"T","message_id":"m","position":"e.1"}}"#
        );
        assert_eq!(told("metrics_update", payload), Some(expected));
        assert_eq!(told("system:maintenance", "{}"), None);
        let part = envelope("event_created", r#"{"id":"7"}"#, |event| Apier.part(event)).expect("a part");
        let batch = json_of(Apier.batch(&[(&part.0, vec![&part.1])]));
        assert_eq!(batch["data"]["batches"]["event_created"][0]["data"]["id"], "7");
    }

    #[test]
    fn closes_are_told_apart() {
        assert_eq!((Apier.close_code(Ending::Restart), Apier.close_code(Ending::Dismissed)), (Some(1012), Some(1008)));
    }
}
