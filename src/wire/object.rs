//! JSON objects read into structs.
//!
//! Serde would fill a struct from an array too, field by field; clients mean
//! objects, so anything else is refused.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::WireError;

/// Reads an object; `what` is named when it is none.
///
/// # Errors
/// If the text is not an object with the fields of `T`.
pub fn read_object<T: DeserializeOwned>(what: &str, json: &str) -> Result<T, WireError> {
    if !json.trim_start().starts_with('{') {
        return Err(WireError::malformed(what, &"must be an object"));
    }
    serde_json::from_str(json).map_err(|error| WireError::malformed(what, &error))
}

/// For `deserialize_with` on an optional field that must be an object.
///
/// # Errors
/// If the value is neither `null` nor an object with the fields of `T`, each once.
pub fn nested_object<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(Nested(PhantomData))
}

struct Nested<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Nested<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

/// An object with one field set, and all others as they were written; none if the text is no object.
pub fn with_field(json: &str, name: &str, value: &Value) -> Option<Box<RawValue>> {
    let mut fields = fields_in_order(json).ok()?;
    fields.retain(|(key, _)| key != name);
    Some(and_field(&fields, name, value))
}

/// The same, where an object that has such a field keeps it.
pub fn with_default(json: &str, name: &str, value: &Value) -> Option<Box<RawValue>> {
    let fields = fields_in_order(json).ok()?;
    if fields.iter().any(|(key, _)| key == name) {
        return RawValue::from_string(json.to_owned()).ok();
    }
    Some(and_field(&fields, name, value))
}

fn and_field(fields: &[(Cow<'_, str>, &RawValue)], name: &str, value: &Value) -> Box<RawValue> {
    let key = |name: &str| serde_json::to_string(name).expect("text is always JSON");
    let mut object = String::from("{");
    for (name, value) in fields {
        object.extend([&*key(name), ":", value.get(), ","]);
    }
    object.extend([&*key(name), ":", &value.to_string(), "}"]);
    RawValue::from_string(object).expect("fields make an object")
}

/// The fields of an object, in order and not looked into, so that they may be as deep as they like.
///
/// # Errors
/// If the text is not an object.
pub fn fields_in_order(json: &str) -> serde_json::Result<Vec<(Cow<'_, str>, &RawValue)>> {
    serde_json::from_str(json).map(|Fields(fields)| fields)
}

struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            fields.push((key, value));
        }
        Ok(Fields(fields))
    }
}

/// The name of a field, borrowed where it is written without escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_set_and_the_others_stay_as_they_were_written() {
        let set = |text: &str| with_field(text, "from", &json!({ "a": 1 })).map(|object| object.get().to_owned());
        assert_eq!(
            set(r#" {"b" : 1.50,"from":1,"c":[ 2 ],"fr\u006fm":3} "#).as_deref(),
            Some(r#"{"b":1.50,"c":[ 2 ],"from":{"a":1}}"#)
        );
        assert_eq!(set("{}").as_deref(), Some(r#"{"from":{"a":1}}"#));
        for none in ["[]", "1", "", "{", "{} x"] {
            assert_eq!(set(none), None, "{none}");
        }
        let default = |text: &str| with_default(text, "ok", &json!(true)).map(|object| object.get().to_owned());
        assert_eq!(default(r#"{"ok":null}"#).as_deref(), Some(r#"{"ok":null}"#));
        assert_eq!(default(r#"{"a":1e2}"#).as_deref(), Some(r#"{"a":1e2,"ok":true}"#));
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        name: String,
        #[serde(default, deserialize_with = "nested_object")]
        inner: Option<Inner>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        size: u8,
    }

    #[test]
    fn arrays_are_no_objects() {
        let read = |json: &str| read_object::<Outer>("outer", json);
        let outer = |inner| Ok(Outer { name: "n".into(), inner });
        assert_eq!(read(r#"{"name":"n","inner":{"size":1}}"#), outer(Some(Inner { size: 1 })));
        assert_eq!(read(r#"{"name":"n","inner":null}"#), outer(None));
        assert!(read(r#"["n",null]"#).is_err());
        assert!(read(r#"{"name":"n","inner":[1]}"#).is_err());
    }
}
