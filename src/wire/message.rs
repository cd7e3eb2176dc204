//! The arguments of a catalogue event in its two forms, as JSON text.
//!
//! The payload is pasted in byte for byte, never parsed and written again.

use serde::Serialize;
use serde_json::value::RawValue;

/// The envelope, the one argument of the Socket.IO event `message`.
#[derive(Debug, Serialize)]
pub struct Envelope<'a> {
    /// Id of the message.
    pub message_id: &'a str,
    /// Name of the event.
    pub event: &'a str,
    /// The payload, as it was published.
    pub data: &'a RawValue,
    /// When it was published.
    pub timestamp: &'a str,
    /// Organization of its scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<&'a str>,
    /// Department of its scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department_id: Option<&'a str>,
    /// Queue of its scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_name: Option<&'a str>,
    /// Its priority.
    pub priority: &'a str,
    /// Whether recipients are asked to acknowledge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires_ack: Option<bool>,
    /// How long an acknowledgement may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_timeout_ms: Option<u64>,
    /// Its position in the log, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<&'a str>,
}

/// `"name",<payload>[,"<position>"]`: the arguments of the named form.
pub fn named(event: &str, payload: &RawValue, position: Option<&str>) -> String {
    let payload = payload.get();
    let mut out = String::with_capacity(event.len() + payload.len() + position.map_or(0, str::len) + 6);
    out.push_str(&quoted(event));
    out.push(',');
    out.push_str(payload);
    end_with(&mut out, position);
    out
}

/// `"message",<envelope>[,"<position>"]`: the arguments of the envelope form.
pub fn enveloped(envelope: &RawValue, position: Option<&str>) -> String {
    let mut out = format!("\"message\",{}", envelope.get());
    end_with(&mut out, position);
    out
}

/// A position is letters, digits and dots, so it needs no escapes.
fn end_with(out: &mut String, position: Option<&str>) {
    if let Some(position) = position {
        out.push_str(",\"");
        out.push_str(position);
        out.push('"');
    }
}

/// `"name",<value>`: the arguments of any other event.
pub fn plain(event: &str, value: &impl Serialize) -> String {
    let body = serde_json::to_string(value).expect("our own payloads are always JSON");
    format!("{},{body}", quoted(event))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is always JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    #[test]
    fn the_payload_passes_byte_for_byte() {
        let payload = RawValue::from_string(r#"{ "b":1.50, "a" : "é\u0041" }"#.into()).expect("JSON");
        assert_eq!(named("kpi:update", &payload, None), r#""kpi:update",{ "b":1.50, "a" : "é\u0041" }"#);
        assert!(named("kpi:update", &payload, Some("e.1.0")).ends_with(r#"},"e.1.0""#));
        let envelope = Envelope {
            message_id: "m",
            event: "kpi:update",
            data: &payload,
            timestamp: "t",
            organization_id: Some("o"),
            department_id: None,
            queue_name: None,
            priority: "medium",
            requires_ack: None,
            ack_timeout_ms: None,
            position: Some("e.1"),
        };
        let envelope = to_raw_value(&envelope).expect("JSON");
        assert!(enveloped(&envelope, None).contains(r#""data":{ "b":1.50, "a" : "é\u0041" },"#));
    }
}
