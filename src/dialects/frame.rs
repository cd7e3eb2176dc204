//! Frames: JSON objects, read without looking into their fields, and written field by field.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

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
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = deserializer.deserialize_map(InOrder).map_err(|_| Unreadable::NotJson)?;
        deserializer.end().map_err(|_| Unreadable::NotJson)?;
        Ok(Self(fields))
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

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            fields.push((entry.0.0, entry.1));
        }
        Ok(fields)
    }
}

/// The name of a field, borrowed where it is written without escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A frame that is being written.
#[derive(Debug)]
pub(super) struct Writer(String);

impl Writer {
    /// A frame that begins with a field of text.
    pub(super) fn begin(key: &str, text: &str) -> Self {
        let mut frame = Self(String::with_capacity(128));
        frame.0.push('{');
        frame.key(key);
        frame.0.push_str(&quoted(text));
        frame
    }

    /// A field that is JSON already.
    pub(super) fn raw(mut self, key: &str, json: &str) -> Self {
        self.0.push(',');
        self.key(key);
        self.0.push_str(json);
        self
    }

    /// A field of text.
    pub(super) fn text(self, key: &str, text: &str) -> Self {
        let quoted = quoted(text);
        self.raw(key, &quoted)
    }

    /// The whole frame.
    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
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
pub fn grouped(groups: &[(String, Vec<String>)]) -> String {
    let group = |(name, contents): &(String, Vec<String>)| format!("{}:[{}]", quoted(name), contents.join(","));
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
    fn frames_are_written_with_everything_escaped() {
        let frame = Writer::begin("type", "a\"b").raw("data", "[1]").text("e\u{1}", "\n").end();
        assert_eq!(frame, r#"{"type":"a\"b","data":[1],"e\u0001":"\n"}"#);
        let groups = [("a".to_owned(), vec!["1".to_owned(), "2".to_owned()]), ("b".to_owned(), vec!["{}".to_owned()])];
        assert_eq!(grouped(&groups), r#"{"a":[1,2],"b":[{}]}"#);
    }
}
