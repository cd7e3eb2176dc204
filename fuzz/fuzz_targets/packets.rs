//! Socket.IO packets and the bodies of polling, which our code takes apart before socketioxide sees them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use serde_json::value::RawValue;
use tiercast::connection::{Format, measured};
use tiercast::wire::packet::{self, Head, Kind};
use tiercast::wire::{fields_in_order, with_default, with_field};

fuzz_target!(|input: &[u8]| {
    for format in [Format::V4, Format::V3, Format::V3Binary] {
        body(format, input);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(head) = packet::parse(text) {
        packet(text, head);
    }
    object(text);
});

/// A body is refused, or its packets can be written again as the same packets.
fn body(format: Format, input: &[u8]) {
    let Some(packets) = format.decode(input) else { return };
    let text = if format == Format::V3Binary { Format::V3 } else { format };
    let written: String = packets.iter().map(|packet| text.encode(packet)).collect();
    assert_eq!(text.decode(written.as_bytes()).as_ref(), Some(&packets), "{format:?}");
    if text == Format::V3 {
        let measured: Option<Vec<&str>> = measured(&written).collect();
        assert_eq!(measured, Some(packets.iter().map(String::as_str).collect()));
    }
    for packet in &packets {
        if let Some(head) = packet.strip_prefix('4').and_then(packet::parse) {
            self::packet(&packet[1..], head);
        }
    }
}

/// What is read of a packet is part of it, and is read again when it is written.
fn packet(text: &str, head: Head<'_>) {
    assert!(text.ends_with(head.body));
    assert!(head.namespace.starts_with('/') && !head.namespace.contains([',', '?']), "{head:?}");
    let again = |written: &str, kind: Kind| {
        let read = packet::parse(written.strip_prefix('4').expect("a message")).expect("a packet");
        assert_eq!((read.kind, read.namespace, read.has_query), (kind, head.namespace, false), "{written}");
        (read.id, read.body.to_owned())
    };
    let event = packet::event(head.namespace, head.id, head.body);
    assert_eq!(again(&event, Kind::Event), (head.id, format!("[{}]", head.body)));
    if let Some(id) = head.id.and_then(|id| i64::try_from(id).ok()) {
        assert_eq!(again(&packet::ack(head.namespace, id, head.body), Kind::Ack).0, head.id);
    }
    again(&packet::disconnect(head.namespace), Kind::Disconnect);
    let (_, refusal) = again(&packet::connect_error(head.namespace, head.body), Kind::ConnectError);
    assert!(serde_json::from_str::<&RawValue>(&refusal).is_ok(), "{refusal}");
}

/// A field that is set in an object is there, and all others are as they were.
fn object(text: &str) {
    let Ok(fields) = fields_in_order(text) else {
        assert!(with_field(text, "from", &json!(1)).is_none());
        return;
    };
    let set = with_field(text, "from", &json!({ "a": 1 })).expect("an object");
    let others = fields.iter().filter(|(name, _)| name != "from").map(|(name, value)| (&**name, value.get()));
    let expected: Vec<_> = others.chain([("from", r#"{"a":1}"#)]).collect();
    let read = fields_in_order(set.get()).expect("an object");
    assert_eq!(read.iter().map(|(name, value)| (&**name, value.get())).collect::<Vec<_>>(), expected);
    let kept = with_default(text, "from", &json!(1)).expect("an object");
    let has = fields.iter().any(|(name, _)| name == "from");
    assert_eq!(fields_in_order(kept.get()).expect("an object").len(), fields.len() + usize::from(!has));
}
