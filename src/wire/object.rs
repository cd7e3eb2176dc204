//! JSON objects read into structs.
//!
//! Serde would fill a struct from an array too, field by field; clients mean
//! objects, so anything else is refused.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

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
/// If the value is neither `null` nor an object with the fields of `T`.
pub fn nested_object<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let Some(fields) = Option::<Map<String, Value>>::deserialize(deserializer)? else { return Ok(None) };
    serde_json::from_value(Value::Object(fields)).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

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
