//! AV-Gym: `{"type":…,"payload":…}` frames of a front desk that checks members in and out.
//!
//! Its versions put fields into `payload`, into `data` or at the top level, in
//! two spellings, and pack frames of theirs into a `batch`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, SeqAccess};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::dialect::{Asked, Dialect, Ending, Request, Visitor};
use super::frame::{Fields, Writer, grouped, message_of, quoted, unknown_type};
use crate::wire::message::Envelope;
use crate::wire::now_iso;

/// The dialect of AV-Gym.
#[derive(Debug)]
pub struct Gym;

/// Frames that one batch of a client may hold; its own bound is 50 at a time and 200 that wait.
const MAX_BATCH: usize = 200;

const AUTHENTICATION_REQUIRED: &str = "Authentication required";

impl Dialect for Gym {
    fn read(&self, frame: &str) -> Result<Vec<Request>, String> {
        let top = Fields::read(frame).map_err(|_| "Invalid JSON format")?;
        let message = Message { payload: top.nested("payload"), data: top.nested("data"), top };
        match message.top.text("type").as_deref() {
            Some("batch") => batched(&message),
            // A button of one page; the server has nothing to do.
            Some("reconnect") => Ok(Vec::new()),
            Some(kind) => match message.request(kind) {
                Some(request) => Ok(vec![request]),
                None => Err(unknown_type(message.top.get("type"))),
            },
            None => Err(unknown_type(message.top.get("type"))),
        }
    }

    fn event(&self, event: &Envelope<'_>) -> Option<String> {
        let (kind, payload) = self.part(event)?;
        Some(Writer::begin("type", &kind).raw("payload", &payload).ids(event).end())
    }

    fn notice(&self, _: Visitor<'_>, name: &str, payload: &Value) -> Vec<String> {
        match name {
            "connected" if payload["authenticated"] == true => vec![auth_response(None)],
            "error" if payload["code"] == "AUTH_FAILED" => {
                let message = message_of(payload);
                vec![auth_response(Some(message)), error(message)]
            }
            "error" => vec![error(text_for(payload))],
            "initial_stats" => vec![Writer::begin("type", name).raw("payload", &payload.to_string()).end()],
            _ => Vec::new(),
        }
    }

    fn answer(&self, asked: &Asked, ack: &Value) -> Vec<String> {
        match &*asked.what {
            "ping" => vec![Writer::begin("type", "pong").end()],
            "heartbeat" => {
                let at = ack["server_time"].as_str().map_or_else(|| Cow::Owned(now_iso()), Cow::Borrowed);
                vec![Writer::begin("type", "heartbeat_ack").text("timestamp", &at).end()]
            }
            "authenticate" => {
                let success = Writer::begin("type", "authentication_success");
                vec![success.text("message", "Authentication successful").end(), auth_response(None)]
            }
            // A backend that has been asked answers as it likes.
            "check_in" | "check_out" if ack["success"] == false => self.refuse(Some(asked), ack),
            "check_in" | "check_out" => {
                let record = ack.get("record").unwrap_or(ack);
                vec![
                    Writer::begin("type", &format!("{}_success", asked.what)).raw("payload", &record.to_string()).end(),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn refuse(&self, asked: Option<&Asked>, failure: &Value) -> Vec<String> {
        let message = text_for(failure);
        match asked.map(|asked| (&*asked.what, asked.detail.is_some())) {
            Some(("connect", _)) => vec![auth_response(Some(message_of(failure)))],
            Some(("authenticate", has_token)) => {
                let message = message_of(failure);
                let (short, message) = match failure["code"].as_str() {
                    _ if !has_token => ("No token provided", "No token provided"),
                    Some("AUTH_FAILED") => ("Invalid token", message),
                    _ => (message, message),
                };
                let error = Writer::begin("type", "authentication_error").text("message", short);
                let error = error.raw("payload", &format!("{{\"message\":{}}}", quoted(short))).end();
                vec![error, auth_response(Some(message))]
            }
            Some((what @ ("check_in" | "check_out"), _)) => {
                let message = match (message, what) {
                    (INTERNAL_ERROR, "check_in") => "Internal server error during check-in",
                    (INTERNAL_ERROR, _) => "Internal server error during check-out",
                    _ => message,
                };
                let payload = format!("{{\"error\":{}}}", quoted(message));
                let refusal = Writer::begin("type", &format!("{what}_error")).raw("payload", &payload).end();
                // Whoever is not let in is told so where its versions look for it, too.
                if message == AUTHENTICATION_REQUIRED { vec![refusal, error(message)] } else { vec![refusal] }
            }
            _ => vec![error(message)],
        }
    }

    fn part(&self, event: &Envelope<'_>) -> Option<(String, String)> {
        let is_known = !event.event.starts_with("system:");
        is_known.then(|| (event.event.to_owned(), event.data.get().to_owned()))
    }

    fn batch(&self, groups: &[(&str, Vec<&str>)]) -> String {
        Writer::begin("type", "batch").raw("payload", &format!("{{\"batches\":{}}}", grouped(groups))).end()
    }

    fn close_code(&self, ending: Ending) -> Option<u16> {
        Some(match ending {
            Ending::Restart => 1012,
            // Its clients take this for a failed authentication, and do not come back.
            Ending::Dismissed => 4001,
        })
    }
}

/// A frame, wherever it keeps its fields.
#[derive(Debug, Default)]
struct Message<'a> {
    payload: Fields<'a>,
    data: Fields<'a>,
    top: Fields<'a>,
}

impl<'a> Message<'a> {
    /// A field in any of its spellings; that of `payload` before that of `data`, and that before the top level.
    fn get(&self, spellings: &[&str]) -> Option<&'a RawValue> {
        let places = [&self.payload, &self.data, &self.top];
        places.into_iter().find_map(|fields| spellings.iter().find_map(|name| fields.get(name)))
    }

    /// What it asks for; nothing if its type is not known.
    fn request(&self, kind: &str) -> Option<Request> {
        let plain = |what: &'static str| Request::new("client:ping", Writer::new().argument(), Asked::new(what, None));
        let optional = |argument: Writer, keys: &[&str]| {
            keys.iter().fold(argument, |argument, key| argument.maybe(key, self.get(&[key]))).argument()
        };
        Some(match kind {
            "ping" => plain("ping"),
            "heartbeat" => plain("heartbeat"),
            "check_in" => {
                let argument = Writer::new().maybe("member_id", self.get(&["member_id", "memberId"]));
                let argument = optional(argument, &["location", "notes", "timestamp"]);
                Request::new("check_in", argument, Asked::new("check_in", None))
            }
            "check_out" => {
                let argument = Writer::new().maybe("check_in_id", self.get(&["check_in_id", "checkInId"]));
                Request::new("check_out", optional(argument, &["notes"]), Asked::new("check_out", None))
            }
            "authenticate" => {
                let token = self.get(&["token"]).filter(|token| token.get() != "\"\"");
                let argument = Writer::new().maybe("token", token).argument();
                let given = token.map(|_| RawValue::TRUE);
                Request::new("authenticate", argument, Asked::new("authenticate", given))
            }
            _ => return None,
        })
    }
}

/// The requests in a batch of a client: each type with a list of what would be the data of its frames.
fn batched(message: &Message<'_>) -> Result<Vec<Request>, String> {
    let groups = message.get(&["batches"]).filter(|groups| groups.get().starts_with('{'));
    let groups = Fields::of(groups.ok_or("batch needs \"batches\", an object of lists")?);
    let mut requests = Vec::new();
    let mut count = 0;
    for (kind, items) in groups.iter() {
        // Each item is looked at only when it is known that there are not too many.
        let items = first_items(items.get(), MAX_BATCH + 1 - count)
            .map_err(|_| format!("batch needs a list for each type; see {}", quoted(&shortened(kind))))?;
        count += items.len();
        if count > MAX_BATCH {
            return Err(format!("a batch holds at most {MAX_BATCH} messages; send the rest in another one"));
        }
        for item in items {
            let item = Message { payload: Fields::of(item), ..Message::default() };
            let item = Message { data: item.payload.nested("data"), ..item };
            // Clients put things into a batch for their own sake, too.
            requests.extend(item.request(kind));
        }
    }
    Ok(requests)
}

/// The first items of a list, so many at most; what is behind them is not read.
fn first_items(list: &str, most: usize) -> serde_json::Result<Vec<&RawValue>> {
    let mut found = Vec::new();
    let read = serde_json::Deserializer::from_str(list).deserialize_seq(Items { found: &mut found, most });
    // A list that goes on is none to the deserializer.
    if found.len() == most { Ok(found) } else { read.map(|()| found) }
}

struct Items<'a, 'f> {
    found: &'f mut Vec<&'a RawValue>,
    most: usize,
}

impl<'de> de::Visitor<'de> for Items<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while self.found.len() < self.most
            && let Some(item) = list.next_element()?
        {
            self.found.push(item);
        }
        Ok(())
    }
}

fn shortened(kind: &str) -> String {
    kind.chars().take(64).collect()
}

/// Whether a client is let in; if not, why.
fn auth_response(refusal: Option<&str>) -> String {
    let payload =
        refusal.map_or_else(|| json!({ "success": true }), |message| json!({ "success": false, "message": message }));
    Writer::begin("type", "auth_response").raw("payload", &payload.to_string()).end()
}

/// An error, where each of its versions looks for the text.
fn error(message: &str) -> String {
    let payload = format!("{{\"message\":{}}}", quoted(message));
    Writer::begin("type", "error").text("message", message).raw("payload", &payload).end()
}

const INTERNAL_ERROR: &str = "Internal server error";

/// Why something is refused, in its clients' own words where they have any.
fn text_for(failure: &Value) -> &str {
    match failure["code"].as_str() {
        Some("UNAUTHORIZED") => AUTHENTICATION_REQUIRED,
        Some("INTERNAL_ERROR") => INTERNAL_ERROR,
        _ => message_of(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::super::properties::{envelope, json_of, one};
    use super::*;

    fn failure(code: &str, message: &str) -> Value {
        json!({ "success": false, "code": code, "message": message })
    }

    fn error_of(message: &str) -> String {
        format!(r#"{{"type":"error","message":"{message}","payload":{{"message":"{message}"}}}}"#)
    }

    const LET_IN: &str = r#"{"type":"auth_response","payload":{"success":true}}"#;

    fn kept_out(message: &str) -> String {
        format!(r#"{{"type":"auth_response","payload":{{"message":"{message}","success":false}}}}"#)
    }

    #[test]
    fn check_ins_are_read_in_every_spelling_and_place() {
        for frame in [
            r#"{"type":"check_in","data":{"member_id":"7"}}"#,
            r#"{"type":"check_in","payload":{"memberId":"7"}}"#,
            r#"{"type":"check_in","member_id":"7"}"#,
            r#"{"type":"check_in","member_id":"9","data":{"member_id":"8"},"payload":{"memberId":"7"}}"#,
            r#"{"type":"check_in","data":{"memberId":"7","location":null}}"#,
        ] {
            let request = one(&Gym, frame);
            assert_eq!((&*request.name, request.argument.get()), ("check_in", r#"{"member_id":"7"}"#), "{frame}");
        }
        let frame = r#"{"type":"check_in","data":{"memberId":7,"timestamp":"t","location":"l","notes":"n","x":1}}"#;
        let expected = r#"{"member_id":7,"location":"l","notes":"n","timestamp":"t"}"#;
        assert_eq!(one(&Gym, frame).argument.get(), expected);
        for frame in [
            r#"{"type":"check_out","data":{"check_in_id":"c","notes":"n"}}"#,
            r#"{"type":"check_out","data":{"checkInId":"c","timestamp":"t","notes":"n"}}"#,
        ] {
            let request = one(&Gym, frame);
            let expected = ("check_out", r#"{"check_in_id":"c","notes":"n"}"#);
            assert_eq!((&*request.name, request.argument.get()), expected);
        }
    }

    #[test]
    fn check_ins_are_answered_with_their_record_or_an_error() {
        for what in ["check_in", "check_out"] {
            let asked = one(&Gym, &format!(r#"{{"type":"{what}","data":{{}}}}"#)).asked;
            let answer = Gym.answer(&asked, &json!({ "success": true, "record": { "id": "c" } }));
            assert_eq!(answer, [format!(r#"{{"type":"{what}_success","payload":{{"id":"c"}}}}"#)]);
            let expected = [format!(r#"{{"type":"{what}_error","payload":{{"error":"Member not found"}}}}"#)];
            assert_eq!(Gym.refuse(Some(&asked), &failure("INVALID_MESSAGE", "Member not found")), expected);
            assert_eq!(Gym.answer(&asked, &failure("INVALID_MESSAGE", "Member not found")), expected);
            let frames = Gym.refuse(Some(&asked), &failure("UNAUTHORIZED", "why"));
            let refusal = format!(r#"{{"type":"{what}_error","payload":{{"error":"Authentication required"}}}}"#);
            assert_eq!(frames, [refusal, error_of("Authentication required")]);
            let frames = Gym.refuse(Some(&asked), &failure("INTERNAL_ERROR", "why"));
            let text = format!("Internal server error during {}", what.replace('_', "-"));
            assert_eq!(json_of(&frames[0])["payload"]["error"], text);
        }
    }

    #[test]
    fn pings_and_heartbeats() {
        for frame in [r#"{"type":"heartbeat"}"#, r#"{"type":"heartbeat","timestamp":1705314600000}"#] {
            let request = one(&Gym, frame);
            assert_eq!((&*request.name, request.argument.get()), ("client:ping", "{}"));
            let answer = Gym.answer(&request.asked, &json!({ "server_time": "T" }));
            assert_eq!(answer, [r#"{"type":"heartbeat_ack","timestamp":"T"}"#]);
        }
        let request = one(&Gym, r#"{"type":"ping"}"#);
        assert_eq!(&*request.name, "client:ping");
        assert_eq!(Gym.answer(&request.asked, &json!({ "server_time": "T" })), [r#"{"type":"pong"}"#]);
    }

    #[test]
    fn a_token_in_the_url_is_answered_before_anything_else() {
        let visitor = Visitor::default();
        assert_eq!(Gym.notice(visitor, "connected", &json!({ "authenticated": true })), [LET_IN]);
        assert!(Gym.notice(visitor, "connected", &json!({ "authenticated": false })).is_empty());
        assert!(Gym.notice(visitor, "authenticated", &json!({ "success": true })).is_empty());
        let connect = Asked::new("connect", None);
        assert_eq!(Gym.refuse(Some(&connect), &failure("AUTH_FAILED", "why")), [kept_out("why")]);
        let late = json!({ "code": "AUTH_FAILED", "message": "late", "timestamp": "T" });
        assert_eq!(Gym.notice(visitor, "error", &late), [kept_out("late"), error_of("late")]);
        let stats = json!({ "currentlyIn": 1, "todayTotal": 2 });
        let expected = r#"{"type":"initial_stats","payload":{"currentlyIn":1,"todayTotal":2}}"#;
        assert_eq!(Gym.notice(visitor, "initial_stats", &stats), [expected]);
    }

    #[test]
    fn a_token_may_come_in_a_message() {
        let request = one(&Gym, r#"{"type":"authenticate","payload":{"token":"a.b.c"}}"#);
        assert_eq!((&*request.name, request.argument.get()), ("authenticate", r#"{"token":"a.b.c"}"#));
        assert!(!format!("{:?}", request.asked).contains("a.b.c"));
        let success = r#"{"type":"authentication_success","message":"Authentication successful"}"#;
        assert_eq!(Gym.answer(&request.asked, &json!({ "success": true })), [success, LET_IN]);
        let invalid =
            r#"{"type":"authentication_error","message":"Invalid token","payload":{"message":"Invalid token"}}"#;
        let frames = Gym.refuse(Some(&request.asked), &failure("AUTH_FAILED", "it has expired"));
        assert_eq!(frames, [invalid.to_owned(), kept_out("it has expired")]);
        let full = Gym.refuse(Some(&request.asked), &failure("CONNECTION_LIMIT", "full"));
        assert_eq!(full, [invalid.replace("Invalid token", "full"), kept_out("full")]);
        for frame in [r#"{"type":"authenticate"}"#, r#"{"type":"authenticate","payload":{"token":""}}"#] {
            let request = one(&Gym, frame);
            assert_eq!(request.argument.get(), "{}");
            let frames = Gym.refuse(Some(&request.asked), &failure("AUTH_FAILED", "why"));
            assert_eq!(frames, [invalid.replace("Invalid token", "No token provided"), kept_out("No token provided")]);
        }
    }

    #[test]
    fn batches_are_unwrapped() {
        for frame in [
            r#"{"type":"batch","batches":{"check_in":[{"member_id":1},{"memberId":2}],"check_out":[{"check_in_id":"c"}]}}"#,
            r#"{"type":"batch","payload":{"batches":{"check_in":[{"data":{"member_id":1}},{"memberId":2}],"check_out":[{"checkInId":"c"}]}}}"#,
        ] {
            let requests = Gym.read(frame).expect("a batch");
            let told: Vec<_> = requests.iter().map(|one| (&*one.name, one.argument.get(), &*one.asked.what)).collect();
            let expected = [
                ("check_in", r#"{"member_id":1}"#, "check_in"),
                ("check_in", r#"{"member_id":2}"#, "check_in"),
                ("check_out", r#"{"check_in_id":"c"}"#, "check_out"),
            ];
            assert_eq!(told, expected, "{frame}");
        }
        let own = r#"{"type":"batch","batches":{"dance":[{}],"check_in_update":[{}],"member_update":[1],"notification":[],"error":[null],"authentication":[{}]},"metadata":{"count":4}}"#;
        assert!(Gym.read(own).expect("a batch").is_empty());
        // Without an answer the client takes the connection for dead.
        let heartbeat = one(&Gym, r#"{"type":"batch","batches":{"heartbeat":[{"timestamp":1}]}}"#);
        assert_eq!(heartbeat.asked.what, "heartbeat");
    }

    #[test]
    fn batches_are_bounded_and_hold_what_is_known() {
        let of = |count: usize| {
            let items = vec![r#"{"member_id":1}"#; count].join(",");
            Gym.read(&format!(r#"{{"type":"batch","batches":{{"check_in":[{items}]}}}}"#))
        };
        assert_eq!(of(200).expect("a batch").len(), 200);
        assert!(of(201).expect_err("refused").contains("at most 200"));
        for (batches, why) in [
            (r#"{"check_in":{}}"#, r#"batch needs a list for each type; see "check_in""#),
            ("[]", "batch needs \"batches\", an object of lists"),
            ("null", "batch needs \"batches\", an object of lists"),
        ] {
            let frame = format!(r#"{{"type":"batch","batches":{batches}}}"#);
            assert_eq!(Gym.read(&frame).expect_err("refused"), why);
        }
    }

    #[test]
    fn a_batch_is_read_as_far_as_it_may_go() {
        let texts = |list| first_items(list, 2).map(|items| items.into_iter().map(RawValue::get).collect::<Vec<_>>());
        assert_eq!(texts("[1, {} ,3 x").expect("two items"), ["1", "{}"]);
        assert_eq!(texts("[1]").expect("an item"), ["1"]);
        for list in ["[1 x", "{}", "7"] {
            assert!(texts(list).is_err(), "{list}");
        }
        let first = vec![r#"{"member_id":1}"#; 200].join(",");
        let over = format!(r#"{{"type":"batch","batches":{{"check_in":[{first}],"check_out":[{{}}]}}}}"#);
        assert!(Gym.read(&over).expect_err("refused").contains("at most 200"), "all types together");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_reconnect_is_nothing() {
        assert!(Gym.read(r#"{"type":"reconnect"}"#).expect("a frame").is_empty());
        for (frame, why) in [
            ("x", "Invalid JSON format"),
            ("[]", "Invalid JSON format"),
            ("{}", "Unknown message type: None"),
            (r#"{"type":"dance"}"#, "Unknown message type: dance"),
        ] {
            assert_eq!(Gym.read(frame).expect_err("refused"), why);
            assert_eq!(Gym.refuse(None, &failure("INVALID_MESSAGE", why)), [error_of(why)]);
        }
        let limited = json!({ "code": "RATE_LIMIT_EXCEEDED", "message": "slow down", "timestamp": "T" });
        assert_eq!(Gym.notice(Visitor::default(), "error", &limited), [error_of("slow down")]);
        let ping = one(&Gym, r#"{"type":"ping"}"#).asked;
        assert_eq!(Gym.refuse(Some(&ping), &failure("INTERNAL_ERROR", "why")), [error_of("Internal server error")]);
    }

    #[test]
    fn published_events_have_a_payload() {
        for name in ["check_in_update", "member_checked_in", "check_in_stats", "member_update", "notification"] {
            let frame = envelope(name, r#"{"id" :"c"}"#, |event| Gym.event(event));
            let expected = format!(r#"{{"type":"{name}","payload":{{"id" :"c"}},"message_id":"m","position":"e.1"}}"#);
            assert_eq!(frame, Some(expected));
        }
        assert_eq!(envelope("system:maintenance", "{}", |event| Gym.event(event)), None);
        let part = envelope("member_update", r#"{"id":"7"}"#, |event| Gym.part(event)).expect("a part");
        let expected = r#"{"type":"batch","payload":{"batches":{"member_update":[{"id":"7"}]}}}"#;
        assert_eq!(Gym.batch(&[(&part.0, vec![&part.1])]), expected);
    }

    #[test]
    fn a_dismissed_client_stays_away() {
        assert_eq!((Gym.close_code(Ending::Restart), Gym.close_code(Ending::Dismissed)), (Some(1012), Some(4001)));
    }
}
