//! MessagePack as JSON, as far as JSON can say it: <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use rmpv::Value;
use serde::ser::{Error, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::wire::iso;

/// The type of an extension that is a time.
const TIMESTAMP: i8 = -1;

/// The JSON of a value; times become texts, as `JSON.stringify` writes them.
///
/// # Errors
/// If there is no JSON for it, or there is more of it than so many bytes.
pub(super) fn json(value: &Value, max_bytes: usize) -> Result<Box<RawValue>, String> {
    let text = serde_json::to_string(&Json(value)).map_err(|error| error.to_string())?;
    if text.len() > max_bytes {
        return Err(format!("its payload has {} bytes; limits.max_message_size_bytes is {max_bytes}", text.len()));
    }
    RawValue::from_string(text).map_err(|error| error.to_string())
}

struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Nil => serializer.serialize_unit(),
            Value::Boolean(value) => serializer.serialize_bool(*value),
            Value::Integer(value) => match (value.as_u64(), value.as_i64()) {
                (Some(value), _) => serializer.serialize_u64(value),
                (None, value) => serializer.serialize_i64(value.unwrap_or_default()),
            },
            Value::F32(value) => serializer.serialize_f32(*value),
            Value::F64(value) => serializer.serialize_f64(*value),
            Value::String(value) => {
                serializer.serialize_str(value.as_str().ok_or_else(|| S::Error::custom("a text is not UTF-8"))?)
            }
            Value::Array(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| list.serialize_element(&Json(value)))?;
                list.end()
            }
            Value::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    let name = name.as_str().ok_or_else(|| S::Error::custom("the name of a field is no text"))?;
                    map.serialize_entry(name, &Json(value))?;
                }
                map.end()
            }
            Value::Ext(TIMESTAMP, time) => {
                let ms = time_of(time).ok_or_else(|| S::Error::custom("a time is not valid"))?;
                serializer.serialize_str(&iso(ms))
            }
            Value::Binary(_) | Value::Ext(..) => {
                Err(S::Error::custom("a payload is JSON, which cannot hold binary data"))
            }
        }
    }
}

/// A time in milliseconds since the epoch, within the years that are written with four digits.
fn time_of(bytes: &[u8]) -> Option<i64> {
    let (seconds, nanoseconds) = match *bytes {
        [a, b, c, d] => (i64::from(u32::from_be_bytes([a, b, c, d])), 0),
        [a, b, c, d, e, f, g, h] => {
            let both = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            ((both & 0x3_ffff_ffff) as i64, both >> 34)
        }
        [a, b, c, d, ref seconds @ ..] => {
            (i64::from_be_bytes(seconds.try_into().ok()?), u64::from(u32::from_be_bytes([a, b, c, d])))
        }
        _ => return None,
    };
    let years = -62_135_596_800..253_402_300_800;
    (years.contains(&seconds) && nanoseconds < 1_000_000_000)
        .then(|| seconds * 1_000 + (nanoseconds / 1_000_000) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_can_say_is_said() {
        let text = |text: &str| Value::from(text);
        let value = Value::Map(vec![
            (text("z"), Value::Array(vec![Value::Nil, true.into(), (-3).into(), u64::MAX.into(), 1.5.into()])),
            (text("at"), Value::Ext(-1, vec![0, 0, 0, 1])),
            (text("ms"), Value::Ext(-1, (500_000_000_u64 << 34 | 2).to_be_bytes().to_vec())),
            (text("old"), Value::Ext(-1, [&[0; 4][..], &(-1_i64).to_be_bytes()].concat())),
            (text("a"), Value::F64(f64::NAN)),
        ]);
        let written = json(&value, 1_000).expect("JSON");
        let expected = "{\"z\":[null,true,-3,18446744073709551615,1.5],\"at\":\"1970-01-01T00:00:01.000Z\",\
                        \"ms\":\"1970-01-01T00:00:02.500Z\",\"old\":\"1969-12-31T23:59:59.000Z\",\"a\":null}";
        assert_eq!(written.get(), expected);
    }

    #[test]
    fn what_it_cannot_say_is_refused() {
        let far = [&[0; 4][..], &i64::MAX.to_be_bytes()].concat();
        for value in [
            Value::Binary(vec![1]),
            Value::Ext(0, vec![0]),
            Value::Ext(-1, vec![0; 3]),
            Value::Ext(-1, far),
            Value::Map(vec![(1.into(), 2.into())]),
            Value::String(rmpv::Utf8String::from("x".repeat(99))),
        ] {
            assert!(json(&Value::Array(vec![value.clone()]), 99).is_err(), "{value}");
        }
    }
}
