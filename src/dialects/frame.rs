//! Frames: JSON objects, read without looking into their fields, and written field by field.

use std::borrow::Cow;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::wire::message::Envelope;
use crate::wire::{fields_in_order, now_iso};

/// Longest value of a client that an answer repeats, in bytes.
const MAX_REPEATED: usize = 256;

/// Longest name of a type that a refusal repeats, in characters.
const MAX_TYPE: usize = 64;

/// A frame that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not JSON.
    NotJson,
    /// It is JSON, and no object.
    NotAnObject,
}

/// The fields of an object, each as it was written.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads an object.
    pub(super) fn read(text: &'a str) -> Result<Self, Unreadable> {
        if !text.trim_start().starts_with('{') {
            // Told apart only because clients are.
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            return Err(if is_json { Unreadable::NotAnObject } else { Unreadable::NotJson });
        }
        fields_in_order(text).map(Self).map_err(|_| Unreadable::NotJson)
    }

    /// The fields of a value that is an object; none of any other.
    pub(super) fn of(value: &'a RawValue) -> Self {
        Self::read(value.get()).unwrap_or_default()
    }

    /// A field; the last of those with this name, as browsers read them, and none if it is `null`.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| *value).filter(|value| value.get() != "null")
    }

    /// A field that is text.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text_of(self.get(name)?)
    }

    /// The fields of a field that is an object; none if it is no object, or not there.
    pub(super) fn nested(&self, name: &str) -> Self {
        self.get(name).map(Self::of).unwrap_or_default()
    }

    /// A field that an answer repeats as it is; none if it is too long for that.
    pub(super) fn repeated(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|value| value.get().len() <= MAX_REPEATED)
    }

    /// All fields, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (&**key, *value))
    }
}

/// A value that is text.
pub(super) fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    if let Some(plain) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
        && !plain.contains('\\')
    {
        return Some(Cow::Borrowed(plain));
    }
    serde_json::from_str(text).ok().map(Cow::Owned)
}

/// The refusal of a type that is not known, naming it as it was written.
pub(super) fn unknown_type(value: Option<&RawValue>) -> String {
    let Some(value) = value else { return "Unknown message type: None".into() };
    let name = text_of(value).filter(|name| !name.is_empty()).unwrap_or_else(|| value.get().into());
    format!("Unknown message type: {}", name.chars().take(MAX_TYPE).collect::<String>())
}

/// The message of a failing ack.
pub(super) fn message_of(failure: &Value) -> &str {
    failure["message"].as_str().unwrap_or("Internal server error")
}

/// A pong with the client's own time, or the server's if it gave none.
pub(super) fn pong(timestamp: Option<&str>, ack: &Value) -> String {
    let frame = Writer::begin("type", "pong");
    match (timestamp, ack["server_time"].as_str()) {
        (Some(timestamp), _) => frame.raw("timestamp", timestamp).end(),
        (None, Some(server_time)) => frame.text("timestamp", server_time).end(),
        (None, None) => frame.text("timestamp", &now_iso()).end(),
    }
}

/// A frame, or another object, that is being written.
#[derive(Debug)]
pub(super) struct Writer(String);

impl Writer {
    /// An object without fields.
    pub(super) fn new() -> Self {
        let mut frame = Self(String::with_capacity(128));
        frame.0.push('{');
        frame
    }

    /// A frame that begins with a field of text.
    pub(super) fn begin(key: &str, text: &str) -> Self {
        Self::new().text(key, text)
    }

    /// A field that is JSON already.
    pub(super) fn raw(mut self, key: &str, json: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.key(key);
        self.0.push_str(json);
        self
    }

    /// A field that is JSON already, if it is there.
    pub(super) fn maybe(self, key: &str, value: Option<&RawValue>) -> Self {
        match value {
            Some(value) => self.raw(key, value.get()),
            None => self,
        }
    }

    /// By what a client tells a published event from another, and goes on behind it.
    pub(super) fn ids(self, event: &Envelope<'_>) -> Self {
        let frame = self.text("message_id", event.message_id);
        match event.position {
            Some(position) => frame.text("position", position),
            None => frame,
        }
    }

    /// A field of text.
    pub(super) fn text(self, key: &str, text: &str) -> Self {
        let quoted = quoted(text);
        self.raw(key, &quoted)
    }

    /// What the ack of a subscription that goes on from a position tells of it.
    pub(super) fn progress(self, ack: &Value) -> Self {
        if ack["complete"].is_null() {
            return self;
        }
        let known = ["position", "replayed", "complete"].into_iter().filter(|key| !ack[*key].is_null());
        known.fold(self, |frame, key| frame.raw(key, &ack[key].to_string()))
    }

    /// The whole frame.
    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    /// The whole object, as the argument of an event.
    pub(super) fn argument(self) -> Box<RawValue> {
        RawValue::from_string(self.end()).expect("written field by field, each of them JSON")
    }

    fn key(&mut self, key: &str) {
        self.0.push_str(&quoted(key));
        self.0.push(':');
    }
}

/// Text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is always JSON")
}

/// An object of lists: the groups of a batch.
pub fn grouped(groups: &[(&str, Vec<&str>)]) -> String {
    let group = |(name, contents): &(&str, Vec<&str>)| format!("{}:[{}]", quoted(name), contents.join(","));
    format!("{{{}}}", groups.iter().map(group).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were_written_and_the_last_one_counts() {
        let text = r#" {"type":"a", "data" : {"b": 1.50} ,"typ\u0065":"c","n":null} "#;
        let fields = Fields::read(text).expect("an object");
        assert_eq!(fields.text("type").as_deref(), Some("c"));
        assert_eq!(fields.get("data").map(RawValue::get), Some(r#"{"b": 1.50}"#));
        assert!(fields.get("n").is_none() && fields.get("m").is_none() && fields.text("data").is_none());
        assert_eq!(fields.iter().count(), 4);
    }

    #[test]
    fn what_is_no_object_is_told_apart() {
        for text in ["", "{", "x", "{\"a\":}", "{} x", "[1", "{\"a\":1}}"] {
            assert_eq!(Fields::read(text).err(), Some(Unreadable::NotJson), "{text}");
        }
        for text in ["[]", "1", "null", "\"{}\""] {
            assert_eq!(Fields::read(text).err(), Some(Unreadable::NotAnObject), "{text}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
        assert!(Fields::read(&deep).is_ok());
    }

    #[test]
    fn only_short_values_are_repeated_and_only_objects_have_fields() {
        let long = format!(r#"{{"a":"{}","b":[1,"2"],"c":{{"d":null}}}}"#, "x".repeat(MAX_REPEATED));
        let fields = Fields::read(&long).expect("an object");
        assert!(fields.repeated("a").is_none());
        assert_eq!(fields.repeated("b").map(RawValue::get), Some(r#"[1,"2"]"#));
        assert_eq!(fields.nested("c").iter().count(), 1);
        assert_eq!(fields.nested("b").iter().count() + fields.nested("z").iter().count(), 0);
        assert_eq!(unknown_type(fields.get("b")), r#"Unknown message type: [1,"2"]"#);
        assert_eq!(unknown_type(fields.get("a")).len(), "Unknown message type: ".len() + MAX_TYPE);
        assert_eq!(unknown_type(None), "Unknown message type: None");
    }

    #[test]
    fn arguments_are_objects_with_the_fields_that_are_there() {
        let fields = Fields::read(r#"{"a":1}"#).expect("an object");
        assert_eq!(
            Writer::new().maybe("a", fields.get("a")).maybe("b", fields.get("b")).argument().get(),
            r#"{"a":1}"#
        );
        assert_eq!(Writer::new().argument().get(), "{}");
    }

    #[test]
    fn frames_are_written_with_everything_escaped() {
        let frame = Writer::begin("type", "a\"b").raw("data", "[1]").text("e\u{1}", "\n").end();
        assert_eq!(frame, r#"{"type":"a\"b","data":[1],"e\u0001":"\n"}"#);
        let groups = [("a", vec!["1", "2"]), ("b", vec!["{}"])];
        assert_eq!(grouped(&groups), r#"{"a":[1,2],"b":[{}]}"#);
    }
}
