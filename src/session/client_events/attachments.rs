//! Binary attachments of an event, in the places that its payload keeps for them.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::wire::WireError;

/// A payload in which each `{"_placeholder":true,"num":N}` is attachment N as base64 text.
///
/// # Errors
/// If a place names an attachment that is not there, or that stands elsewhere already: repeated, a small event would
/// become a huge one.
pub(super) fn embed(argument: &RawValue, attachments: Option<&VecDeque<Bytes>>) -> Result<Box<RawValue>, WireError> {
    let Some(attachments) = attachments else { return Ok(argument.to_owned()) };
    let mut payload: Value =
        serde_json::from_str(argument.get()).map_err(|error| WireError::malformed("payload", &error))?;
    let mut left: Vec<Option<&Bytes>> = attachments.iter().map(Some).collect();
    fill(&mut payload, &mut left)?;
    Ok(to_raw_value(&payload).expect("a value is always JSON"))
}

fn fill(value: &mut Value, left: &mut [Option<&Bytes>]) -> Result<(), WireError> {
    if let Some(number) = placeholder(value) {
        let attachment = usize::try_from(number).ok().and_then(|number| left.get_mut(number)?.take());
        let why = "has no attachment of its own";
        let attachment = attachment.ok_or_else(|| WireError::malformed(format!("_placeholder {number}"), &why))?;
        *value = Value::String(STANDARD.encode(attachment));
        return Ok(());
    }
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, left)),
        Value::Object(fields) => fields.values_mut().try_for_each(|field| fill(field, left)),
        _ => Ok(()),
    }
}

fn placeholder(value: &Value) -> Option<u64> {
    (value.get("_placeholder")? == true).then(|| value.get("num")?.as_u64()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).expect("JSON")
    }

    fn of(argument: &str) -> Result<String, WireError> {
        let attachments = VecDeque::from([Bytes::from_static(b"abc"), Bytes::from_static(&[0xff])]);
        embed(raw(argument), Some(&attachments)).map(|payload| payload.get().to_owned())
    }

    #[test]
    fn attachments_take_their_places_as_base64() {
        let told = of(r#"{"a":[{"_placeholder":true,"num":1}],"b":{"_placeholder":true,"num":0},"c":1}"#);
        assert_eq!(told.as_deref(), Ok(r#"{"a":["/w=="],"b":"YWJj","c":1}"#));
        // One in a later argument is not asked for.
        assert_eq!(of(r#"{"_placeholder":false,"num":0}"#).as_deref(), Ok(r#"{"_placeholder":false,"num":0}"#));
        let plain = embed(raw(r#"{"b": 1.50, "a":{"_placeholder":true,"num":0}}"#), None).expect("a payload");
        assert_eq!(plain.get(), r#"{"b": 1.50, "a":{"_placeholder":true,"num":0}}"#);
    }

    #[test]
    fn a_place_without_an_attachment_of_its_own_is_refused() {
        let place = r#"{"_placeholder":true,"num":0}"#;
        for argument in [format!("[{place},{place}]"), r#"{"_placeholder":true,"num":2}"#.to_owned()] {
            assert!(matches!(of(&argument), Err(WireError::Malformed { .. })), "{argument}");
        }
        assert!(of(&format!("{}{}", "[".repeat(1_000), "]".repeat(1_000))).is_err());
    }
}
