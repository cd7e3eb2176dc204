//! Golden wire shapes: `tests/wire/<name>.json` against what came over the wire.
//!
//! A golden value stands for itself, except that a string in angle brackets
//! stands for a kind of value (`"<string>"`, `"<integer>"`, …), `"a|b"` in
//! brackets for one of several strings (`"<kpi|backlog>"`), and a list of one
//! shape and `"<more>"` for any number of that shape. A key that ends in `?`
//! may be absent. Any other key must be there, and no further one may.

use serde_json::Value;

/// Asserts that `value` has the shape of `tests/wire/<name>.json`.
pub fn assert_shape(name: &str, value: &Value) {
    let path = format!("{}/tests/wire/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let golden: Value = serde_json::from_str(&golden).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut faults = Vec::new();
    compare(&golden, value, name, &mut faults);
    assert!(faults.is_empty(), "{}\nin {value:#}", faults.join("\n"));
}

fn compare(golden: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    match (golden, placeholder(golden)) {
        (_, Some(kind)) if is(value, kind) => {}
        (_, Some(kind)) => faults.push(format!("{at} should be <{kind}>, but is {value}")),
        (Value::Object(shape), _) => object(shape, value, at, faults),
        (Value::Array(shape), _) => array(shape, value, at, faults),
        _ if golden == value => {}
        _ => faults.push(format!("{at} should be {golden}, but is {value}")),
    }
}

/// The kind of value that a golden string in angle brackets stands for.
fn placeholder(golden: &Value) -> Option<&str> {
    golden.as_str()?.strip_prefix('<')?.strip_suffix('>')
}

fn object(shape: &serde_json::Map<String, Value>, value: &Value, at: &str, faults: &mut Vec<String>) {
    let Some(fields) = value.as_object() else {
        return faults.push(format!("{at} should be an object, but is {value}"));
    };
    for (key, golden) in shape {
        let name = key.trim_end_matches('?');
        match fields.get(name) {
            Some(value) => compare(golden, value, &format!("{at}.{name}"), faults),
            None if key.ends_with('?') => {}
            None => faults.push(format!("{at}.{name} is missing")),
        }
    }
    for key in fields.keys() {
        if !shape.contains_key(key) && !shape.contains_key(&format!("{key}?")) {
            faults.push(format!("{at}.{key} should not be there"));
        }
    }
}

fn array(shape: &[Value], value: &Value, at: &str, faults: &mut Vec<String>) {
    let Some(items) = value.as_array() else {
        return faults.push(format!("{at} should be a list, but is {value}"));
    };
    if let [golden, more] = shape
        && more == "<more>"
    {
        for (place, item) in items.iter().enumerate() {
            compare(golden, item, &format!("{at}[{place}]"), faults);
        }
    } else if shape.len() == items.len() {
        for (place, (golden, item)) in shape.iter().zip(items).enumerate() {
            compare(golden, item, &format!("{at}[{place}]"), faults);
        }
    } else {
        faults.push(format!("{at} should have {} items, but is {value}", shape.len()));
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "any" => true,
        "string" => value.as_str().is_some_and(|text| !text.is_empty()),
        "text" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "timestamp" => value.as_str().is_some_and(is_timestamp),
        "position" => value.as_str().is_some_and(is_position),
        // Any counter by name, such as `{"org-1": 3}`.
        "counts" => value.as_object().is_some_and(|counts| counts.values().all(Value::is_u64)),
        choices if choices.contains('|') => value.as_str().is_some_and(|text| choices.split('|').any(|c| c == text)),
        other => panic!("a golden file names the unknown kind <{other}>"),
    }
}

/// ISO 8601 in UTC with milliseconds, such as `2024-01-15T10:30:00.000Z`.
fn is_timestamp(text: &str) -> bool {
    let mask = "dddd-dd-ddTdd:dd:dd.dddZ";
    text.len() == mask.len()
        && text.chars().zip(mask.chars()).all(|(c, m)| if m == 'd' { c.is_ascii_digit() } else { c == m })
}

/// `<epoch>.<offset>`.
fn is_position(text: &str) -> bool {
    text.rsplit_once('.').is_some_and(|(epoch, offset)| {
        !epoch.is_empty() && !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit())
    })
}
