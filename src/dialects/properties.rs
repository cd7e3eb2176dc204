//! What holds for every dialect, whatever it is sent; and what the tests of all of them share.

use std::collections::HashMap;
use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::dialect::{Asked, Dialect, Request, Visitor};
use super::{Apier, Dexter, Generic, Gym, Intraday, Shape, WorkMatrix};
use crate::wire::message::Envelope;

/// The one request of a frame.
pub(super) fn one(dialect: &dyn Dialect, frame: &str) -> Request {
    let mut requests = dialect.read(frame).unwrap_or_else(|error| panic!("{frame}: {error}"));
    assert_eq!(requests.len(), 1, "{frame}");
    requests.remove(0)
}

/// A frame as JSON.
pub(super) fn json_of(frame: impl AsRef<str>) -> Value {
    serde_json::from_str(frame.as_ref()).expect("a frame is JSON")
}

/// What a dialect makes of an event that was published at `T` as `m`, at the position `e.1`.
pub(super) fn envelope<R>(name: &str, payload: &str, told: impl FnOnce(&Envelope<'_>) -> R) -> R {
    let payload = RawValue::from_string(payload.to_owned()).expect("JSON");
    told(&Envelope {
        message_id: "m",
        event: name,
        data: &payload,
        timestamp: "T",
        organization_id: Some("o"),
        department_id: None,
        queue_name: None,
        priority: "medium",
        requires_ack: None,
        ack_timeout_ms: None,
        position: Some("e.1"),
    })
}

fn dialects() -> Vec<Box<dyn Dialect>> {
    let shape = Shape { type_key: "t".into(), data_key: "d\"".into(), error: "oops\n".into(), ..Shape::default() };
    vec![
        Box::new(Intraday),
        Box::new(WorkMatrix),
        Box::new(Dexter),
        Box::new(Gym),
        Box::new(Apier),
        Box::new(Generic::new(Shape::default())),
        Box::new(Generic::new(shape)),
    ]
}

/// Words that mean something to one dialect or another, as types, keys and values.
const WORDS: [&str; 56] = [
    "type",
    "event",
    "data",
    "payload",
    "id",
    "t",
    "d\"",
    "channel",
    "channels",
    "batches",
    "user_id",
    "userId",
    "token",
    "timestamp",
    "since",
    "status",
    "member_id",
    "memberId",
    "check_in_id",
    "checkInId",
    "location",
    "notes",
    "auth",
    "authenticate",
    "ping",
    "client:ping",
    "subscribe",
    "unsubscribe",
    "presence",
    "issues",
    "issue:7",
    "issue:",
    "project:\u{e9}",
    "global",
    "batch",
    "check_in",
    "check_out",
    "heartbeat",
    "reconnect",
    "start_monitoring",
    "sync_now",
    "activity_update",
    "screenshot_update",
    "status_update",
    "issue_update",
    "alert_trigger",
    "broadcast",
    "announcement",
    "alert:triggered",
    "presence:update",
    "event_update",
    "previous_status",
    "action",
    "message_id",
    "position",
    "system:broadcast",
];

/// Names of events and notices that dialects treat in their own ways.
const NAMES: [&str; 22] = [
    "connected",
    "authenticated",
    "error",
    "initial_stats",
    "client:pong",
    "activity_update",
    "status_update",
    "issue_update",
    "alert_trigger",
    "alert:triggered",
    "presence:update",
    "broadcast",
    "notification",
    "announcement",
    "assignment_notification",
    "check_in_update",
    "event_update",
    "event_deleted",
    "metrics_update",
    "system:broadcast",
    "kpi:update",
    "\"\\\n",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => proptest::sample::select(&WORDS[..]).prop_map(String::from), 1 => ".*"]
}

fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(&NAMES[..]).prop_map(String::from)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((word(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A frame whose type is known somewhere.
fn object() -> impl Strategy<Value = Value> {
    (word(), vec((word(), value()), 0..6)).prop_map(|(kind, fields)| {
        let mut frame: serde_json::Map<String, Value> = fields.into_iter().collect();
        for key in ["type", "event", "t"] {
            frame.insert(key.into(), kind.clone().into());
        }
        Value::Object(frame)
    })
}

/// Text, JSON, and JSON with a piece cut out of it.
fn frame() -> impl Strategy<Value = String> {
    let broken = (object(), any::<prop::sample::Index>(), any::<prop::sample::Index>());
    prop_oneof![
        1 => ".*",
        1 => value().prop_map(|value| value.to_string()),
        4 => object().prop_map(|value| value.to_string()),
        2 => broken.prop_map(|(value, from, count)| {
            let chars: Vec<char> = value.to_string().chars().collect();
            let from = from.index(chars.len());
            let to = from + count.index(chars.len() - from);
            chars[..from].iter().chain(&chars[to..]).collect()
        }),
    ]
}

/// Whether a text is JSON (RFC 8259), where a number may be larger than any that this machine can count with.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn is_object(dialect: &dyn Debug, frame: &str) -> Result<(), TestCaseError> {
    let read: Result<HashMap<String, &RawValue>, _> = serde_json::from_str(frame);
    prop_assert!(read.is_ok(), "{dialect:?} wrote {frame}");
    Ok(())
}

fn failure(message: &str) -> Vec<Value> {
    ["AUTH_FAILED", "UNAUTHORIZED", "INVALID_MESSAGE", "RATE_LIMIT_EXCEEDED", "ROOM_NOT_FOUND", "INTERNAL_ERROR"]
        .map(|code| json!({ "success": false, "code": code, "message": message }))
        .to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_frame_is_read_or_refused_and_answered_with_objects(frame in frame(), ack in value()) {
        for dialect in dialects() {
            let requests = match dialect.read(&frame) {
                Ok(requests) => requests,
                Err(why) => {
                    for failure in failure(&why) {
                        let frames = dialect.refuse(None, &failure);
                        prop_assert!(!frames.is_empty(), "{dialect:?} does not say that it cannot read {frame}");
                        frames.iter().try_for_each(|frame| is_object(&dialect, frame))?;
                    }
                    continue;
                }
            };
            for Request { argument, asked, .. } in &requests {
                prop_assert!(is_json(argument.get()), "{dialect:?} asks {argument}");
                let mut frames = dialect.answer(asked, &ack);
                frames.extend(failure(&frame).iter().flat_map(|failure| dialect.refuse(Some(asked), failure)));
                frames.iter().try_for_each(|frame| is_object(&dialect, frame))?;
            }
        }
    }

    #[test]
    fn every_event_and_notice_is_told_with_objects(
        name in name(),
        payload in prop_oneof![value(), object()],
        client in word(),
    ) {
        for dialect in dialects() {
            let visitor = Visitor { client_id: Some(&client) };
            let mut frames = dialect.notice(visitor, &name, &payload);
            frames.extend(dialect.refuse(Some(&Asked::new("connect", None)), &payload));
            frames.extend(dialect.refuse(None, &payload));
            frames.extend(dialect.answer(&Asked::new(name.clone(), None), &payload));
            let (event, part) = envelope(&name, &payload.to_string(), |event| (dialect.event(event), dialect.part(event)));
            prop_assert_eq!(event.is_some(), part.is_some());
            frames.extend(part.map(|(kind, content)| dialect.batch(&[(&kind, vec![&content, &content])])));
            frames.extend(event);
            frames.iter().try_for_each(|frame| is_object(&dialect, frame))?;
        }
    }
}

#[test]
fn numbers_that_are_too_large_to_count_with_are_passed_on_as_they_are() {
    let frame = r#"{"d\"":{"channel":2.0e100000000000000308},"id":-1e999,"t":"payload"}"#;
    let shape = Shape { type_key: "t".into(), data_key: "d\"".into(), ..Shape::default() };
    let dialect = Generic::new(shape);
    let Request { argument, asked, .. } = one(&dialect, frame);
    assert_eq!(argument.get(), r#"{"channel":2.0e100000000000000308}"#);
    let answer = dialect.answer(&asked, &json!({ "success": true }));
    assert_eq!(answer, [r#"{"t":"payload:ack","d\"":{"success":true},"id":-1e999}"#]);
    for dialect in dialects() {
        let event = envelope("kpi:update", r#"{"value":1e999}"#, |event| dialect.event(event));
        assert!(event.is_none_or(|frame| frame.contains("1e999")), "{dialect:?}");
    }
}

#[test]
fn deep_nesting_is_read_without_a_stack() {
    let (open, close) = ("[".repeat(200_000), "]".repeat(200_000));
    let objects = format!("{}1{}", r#"{"data":"#.repeat(50_000), "}".repeat(50_000));
    for kind in ["auth", "ping", "subscribe", "activity_update", "status_update", "presence", "check_in", "batch"] {
        for deep in [&format!("{open}{close}"), &objects] {
            let frame = format!(
                r#"{{"type":"{kind}","event":"{kind}","t":"{kind}","data":{deep},"payload":{deep},"timestamp":{deep}}}"#
            );
            for dialect in dialects() {
                if let Err(why) = dialect.read(&frame) {
                    assert!(why.len() < 500, "{dialect:?}");
                }
            }
        }
    }
}
