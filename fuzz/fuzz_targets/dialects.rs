//! All dialects, fed with any text as a frame of a client, and with any JSON as the payload of an event.

#![no_main]

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tiercast::dialects::{
    Apier, Asked, Dexter, Dialect, Ending, Generic, Gym, Intraday, Request, Shape, Visitor, WorkMatrix,
};
use tiercast::wire::message::Envelope;

static DIALECTS: LazyLock<Vec<Box<dyn Dialect>>> = LazyLock::new(|| {
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
});

/// Names of events and notices that dialects treat in their own ways.
const NAMES: [&str; 16] = [
    "connected",
    "authenticated",
    "error",
    "initial_stats",
    "client:pong",
    "activity_update",
    "status_update",
    "issue_update",
    "alert_trigger",
    "presence:update",
    "broadcast",
    "notification",
    "check_in_update",
    "event_update",
    "metrics_update",
    "kpi:update",
];

const CODES: [&str; 3] = ["AUTH_FAILED", "INVALID_MESSAGE", "RATE_LIMIT_EXCEEDED"];

fuzz_target!(|input: &[u8]| {
    let [choice, text @ ..] = input else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let name = NAMES[usize::from(*choice) % NAMES.len()];
    // What is found in the frame stands for what a service answers, too.
    let ack = serde_json::from_str(text).unwrap_or_else(|_| json!({ "success": true, "message": text }));
    let payload: Option<&RawValue> = serde_json::from_str(text).ok();
    for dialect in &*DIALECTS {
        hear(&**dialect, text, &ack);
        tell(&**dialect, name, text, &ack);
        if let Some(payload) = payload {
            publish(&**dialect, name, payload);
        }
        assert!(dialect.close_code(Ending::Restart) != Some(1000), "{dialect:?}");
    }
    if let Some(payload) = payload {
        comes_through(payload);
    }
});

/// A frame of a client: it is read or refused, and whatever it asks for can be answered.
fn hear(dialect: &dyn Dialect, frame: &str, ack: &Value) {
    let requests = match dialect.read(frame) {
        Ok(requests) => requests,
        Err(why) => return failures(&why).for_each(|failure| answered(dialect, &dialect.refuse(None, &failure))),
    };
    for Request { argument, asked, .. } in &requests {
        assert!(is_json(argument.get()), "{dialect:?} asks {argument}");
        objects(dialect, &dialect.answer(asked, ack));
        failures(frame).for_each(|failure| objects(dialect, &dialect.refuse(Some(asked), &failure)));
    }
}

/// An event of the server's own.
fn tell(dialect: &dyn Dialect, name: &'static str, text: &str, payload: &Value) {
    let asked = Asked { what: Cow::Borrowed(name), detail: None };
    objects(dialect, &dialect.notice(Visitor { client_id: Some(text) }, name, payload));
    objects(dialect, &dialect.answer(&asked, payload));
    objects(dialect, &dialect.refuse(Some(&asked), payload));
    objects(dialect, &dialect.refuse(None, payload));
}

/// A published event, alone and in a batch.
fn publish(dialect: &dyn Dialect, name: &str, payload: &RawValue) {
    let envelope = Envelope {
        message_id: "m",
        event: name,
        data: payload,
        timestamp: "T",
        organization_id: Some("o"),
        department_id: None,
        queue_name: None,
        priority: "medium",
        requires_ack: None,
        ack_timeout_ms: None,
        position: Some("e.1"),
    };
    let (event, part) = (dialect.event(&envelope), dialect.part(&envelope));
    assert_eq!(event.is_some(), part.is_some(), "{dialect:?}");
    if let Some((kind, content)) = part {
        objects(dialect, &[dialect.batch(&[(&kind, vec![&content, &content])])]);
    }
    objects(dialect, event.as_slice());
}

/// What a client of the plainest dialect sends is what its server is asked, byte for byte.
fn comes_through(payload: &RawValue) {
    let dialect = Generic::new(Shape::default());
    let frame = format!(r#"{{"type":"a:b","data":{payload},"id":7}}"#);
    let requests = dialect.read(&frame).expect("a frame");
    assert_eq!((requests.len(), requests[0].argument.get()), (1, payload.get()));
    assert_eq!((&*requests[0].name, requests[0].asked.detail.as_deref()), ("a:b", Some("7")));
}

fn failures(message: &str) -> impl Iterator<Item = Value> {
    CODES.iter().map(move |code| json!({ "success": false, "code": code, "message": message }))
}

fn answered(dialect: &dyn Dialect, frames: &[String]) {
    assert!(!frames.is_empty(), "{dialect:?} does not say why");
    objects(dialect, frames);
}

fn objects(dialect: &dyn Dialect, frames: &[String]) {
    for frame in frames {
        let read: Result<HashMap<String, &RawValue>, _> = serde_json::from_str(frame);
        assert!(read.is_ok(), "{dialect:?} wrote {frame}");
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}
