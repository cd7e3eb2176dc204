//! A dialect that the configuration shapes: `{"type":…,"data":…,"id"?}` under names of one's own.
//!
//! It says what Socket.IO says; only its keys, and the names of what every
//! client has to say, can be chosen.

use serde_json::Value;
use serde_json::value::RawValue;

use super::dialect::{Asked, Dialect, Ending, Request, Visitor};
use super::frame::{Fields, Unreadable, Writer, grouped};
use crate::wire::message::Envelope;
use crate::wire::now_iso;

/// Names of the keys of a frame, and of the types that are no events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Key of the type. Defaults to `type`.
    pub type_key: String,
    /// Key of the data. Defaults to `data`.
    pub data_key: String,
    /// Key of the id that an answer repeats. Defaults to `id`.
    pub id_key: String,
    /// Type of a ping. Defaults to `ping`.
    pub ping: String,
    /// Type of its answer. Defaults to `pong`.
    pub pong: String,
    /// Type that subscribes. Defaults to `subscribe`.
    pub subscribe: String,
    /// Type that unsubscribes. Defaults to `unsubscribe`.
    pub unsubscribe: String,
    /// Type by which a client says who it is. Defaults to `authenticate`.
    pub authenticate: String,
    /// Type of an error. Defaults to `error`.
    pub error: String,
    /// What an answer's type has behind the type that it answers. Defaults to `:ack`.
    pub ack_suffix: String,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            type_key: "type".into(),
            data_key: "data".into(),
            id_key: "id".into(),
            ping: "ping".into(),
            pong: "pong".into(),
            subscribe: "subscribe".into(),
            unsubscribe: "unsubscribe".into(),
            authenticate: "authenticate".into(),
            error: "error".into(),
            ack_suffix: ":ack".into(),
        }
    }
}

/// A dialect of this shape.
#[derive(Debug)]
pub struct Generic {
    shape: Shape,
}

impl Generic {
    /// A dialect of this shape.
    pub fn new(shape: Shape) -> Self {
        Self { shape }
    }

    fn frame(&self, kind: &str, data: &str) -> Writer {
        Writer::begin(&self.shape.type_key, kind).raw(&self.shape.data_key, data)
    }

    /// The event of a Socket.IO client that a type stands for.
    fn event_of(&self, kind: &str) -> String {
        let Shape { ping, subscribe, unsubscribe, authenticate, .. } = &self.shape;
        let known = [
            (ping, "client:ping"),
            (subscribe, "subscribe"),
            (unsubscribe, "unsubscribe"),
            (authenticate, "authenticate"),
        ];
        let found = known.into_iter().find(|(name, _)| *name == kind);
        found.map_or(kind, |(_, event)| event).to_owned()
    }
}

impl Dialect for Generic {
    fn read(&self, frame: &str) -> Result<Vec<Request>, String> {
        let Shape { type_key, data_key, id_key, .. } = &self.shape;
        let fields = Fields::read(frame).map_err(|unreadable| match unreadable {
            Unreadable::NotJson => "the frame is not JSON".to_owned(),
            Unreadable::NotAnObject => format!("the frame must be an object with a {type_key:?}"),
        })?;
        let kind = fields.text(type_key).filter(|kind| !kind.is_empty());
        let kind = kind.ok_or_else(|| format!("the frame needs a {type_key:?}, a text"))?;
        let argument = fields.get(data_key).unwrap_or(RawValue::NULL).to_owned();
        let asked = Asked::new(kind.clone().into_owned(), fields.get(id_key));
        Ok(vec![Request::new(self.event_of(&kind), argument, asked)])
    }

    fn event(&self, event: &Envelope<'_>) -> Option<String> {
        let frame = self.frame(event.event, event.data.get());
        let frame = match event.requires_ack {
            Some(true) => frame.raw("requires_ack", "true"),
            _ => frame,
        };
        Some(frame.text("timestamp", event.timestamp).ids(event).end())
    }

    fn knows(&self, _: &str) -> bool {
        true
    }

    fn notice(&self, _: Visitor<'_>, name: &str, payload: &Value) -> Vec<String> {
        let kind = match name {
            "error" => &self.shape.error,
            "client:pong" => &self.shape.pong,
            _ => name,
        };
        vec![self.frame(kind, &payload.to_string()).end()]
    }

    fn answer(&self, asked: &Asked, ack: &Value) -> Vec<String> {
        // Nobody waits for an answer to an acknowledgement.
        if asked.what == "ack" && asked.detail.is_none() {
            return Vec::new();
        }
        let is_pong = asked.what == self.shape.ping && ack["success"] != false;
        let kind = if is_pong { self.shape.pong.clone() } else { format!("{}{}", asked.what, self.shape.ack_suffix) };
        let frame = self.frame(&kind, &ack.to_string());
        vec![match &asked.detail {
            Some(id) => frame.raw(&self.shape.id_key, id).end(),
            None => frame.end(),
        }]
    }

    fn refuse(&self, asked: Option<&Asked>, failure: &Value) -> Vec<String> {
        let mut frames = asked.map(|asked| self.answer(asked, failure)).unwrap_or_default();
        // A flood is answered once a message, not twice.
        if frames.is_empty() || failure["code"] != "RATE_LIMIT_EXCEEDED" {
            let error = serde_json::json!({
                "code": failure["code"],
                "message": failure["message"],
                "timestamp": now_iso(),
            });
            frames.push(self.frame(&self.shape.error, &error.to_string()).end());
        }
        frames
    }

    fn batch(&self, groups: &[(&str, Vec<&str>)]) -> String {
        self.frame("batch", &format!("{{\"batches\":{}}}", grouped(groups))).end()
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

    use super::super::properties::{envelope, json_of, one};
    use super::*;

    fn usual() -> Generic {
        Generic::new(Shape::default())
    }

    fn shaped() -> Generic {
        Generic::new(Shape {
            type_key: "op".into(),
            data_key: "d".into(),
            id_key: "n".into(),
            ping: "hb".into(),
            pong: "hb_ack".into(),
            subscribe: "sub".into(),
            unsubscribe: "unsub".into(),
            authenticate: "identify".into(),
            error: "oops".into(),
            ack_suffix: "_ok".into(),
        })
    }

    #[test]
    fn types_are_events_under_the_names_of_the_shape() {
        for (kind, name) in [
            ("hb", "client:ping"),
            ("sub", "subscribe"),
            ("unsub", "unsubscribe"),
            ("identify", "authenticate"),
            ("note", "note"),
        ] {
            let request = one(&shaped(), &format!(r#"{{"op":"{kind}","d":{{"a" :1}},"n":7}}"#));
            assert_eq!((&*request.name, request.argument.get()), (name, r#"{"a" :1}"#));
        }
        for name in ["subscribe", "unsubscribe", "authenticate", "message", "presence"] {
            let request = one(&usual(), &format!(r#"{{"type":"{name}"}}"#));
            assert_eq!((&*request.name, request.argument.get()), (name, "null"));
        }
    }

    #[test]
    fn answers_repeat_the_id() {
        let ack = json!({ "success": true });
        let asked = one(&usual(), r#"{"type":"subscribe","data":{"channels":["kpi"]},"id":"a"}"#).asked;
        assert_eq!(usual().answer(&asked, &ack), [r#"{"type":"subscribe:ack","data":{"success":true},"id":"a"}"#]);
        let asked = one(&shaped(), r#"{"op":"sub","d":{},"n":7}"#).asked;
        assert_eq!(shaped().answer(&asked, &ack), [r#"{"op":"sub_ok","d":{"success":true},"n":7}"#]);
        let asked = one(&shaped(), r#"{"op":"hb"}"#).asked;
        let pong = json!({ "pong": true, "server_time": "T" });
        assert_eq!(shaped().answer(&asked, &pong), [r#"{"op":"hb_ack","d":{"pong":true,"server_time":"T"}}"#]);
        let asked = one(&usual(), r#"{"type":"ack","data":{"message_id":"m"}}"#).asked;
        assert!(usual().answer(&asked, &ack).is_empty());
    }

    #[test]
    fn refusals_fail_the_request_and_are_an_error() {
        let failure = json!({ "success": false, "code": "INVALID_MESSAGE", "message": "why" });
        let asked = one(&shaped(), r#"{"op":"hb","n":7}"#).asked;
        let frames = shaped().refuse(Some(&asked), &failure);
        let expected = r#"{"op":"hb_ok","d":{"code":"INVALID_MESSAGE","message":"why","success":false},"n":7}"#;
        assert_eq!((&*frames[0], frames.len()), (expected, 2));
        let error = json_of(&frames[1]);
        assert_eq!((&error["op"], &error["d"]["message"]), (&json!("oops"), &json!("why")));
        assert_eq!(shaped().refuse(None, &failure).len(), 1);
        let flood = json!({ "success": false, "code": "RATE_LIMIT_EXCEEDED", "message": "why" });
        assert_eq!(shaped().refuse(Some(&asked), &flood).len(), 1);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (frame, why) in [
            ("x", "the frame is not JSON"),
            ("[]", r#"the frame must be an object with a "op""#),
            ("{}", r#"the frame needs a "op", a text"#),
            (r#"{"op":7}"#, r#"the frame needs a "op", a text"#),
            (r#"{"op":""}"#, r#"the frame needs a "op", a text"#),
        ] {
            assert_eq!(shaped().read(frame).expect_err("refused"), why);
        }
    }

    #[test]
    fn events_and_notices_are_told_in_the_shape() {
        let frame = envelope("system:broadcast", r#"{"a" :1}"#, |event| shaped().event(event));
        let expected = r#"{"op":"system:broadcast","d":{"a" :1},"timestamp":"T","message_id":"m","position":"e.1"}"#;
        assert_eq!(frame.as_deref(), Some(expected));
        let asking = |event: &Envelope<'_>| {
            let event = Envelope { requires_ack: Some(true), message_id: "n", position: None, ..*event };
            usual().event(&event)
        };
        let expected = r#"{"type":"note","data":1,"requires_ack":true,"timestamp":"T","message_id":"n"}"#;
        assert_eq!(envelope("note", "1", asking).as_deref(), Some(expected));
        let part = envelope("note", "1", |event| usual().part(event)).expect("a part");
        let batch = json_of(usual().batch(&[(&part.0, vec![&part.1])]));
        assert_eq!(batch["data"]["batches"]["note"][0]["data"], 1);
        for (name, kind) in [("connected", "connected"), ("error", "oops"), ("client:pong", "hb_ack")] {
            let frames = shaped().notice(Visitor::default(), name, &json!({ "a": 1 }));
            assert_eq!(frames, [format!(r#"{{"op":"{kind}","d":{{"a":1}}}}"#)]);
        }
    }

    #[test]
    fn closes_are_told_apart() {
        assert_eq!(
            (usual().close_code(Ending::Restart), usual().close_code(Ending::Dismissed)),
            (Some(1012), Some(1008))
        );
    }
}
