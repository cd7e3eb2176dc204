//! What a message of the server means to a client, be it a packet or a plain frame.

use crate::cli::bench::{args::Form, payload::NAMED};

/// How the packet of an event in its envelope form begins.
const ENVELOPE: &[u8] = b"42[\"message\",";
/// How a plain event begins, which is its envelope.
const PLAIN: &[u8] = b"{\"message_id\":";
/// How every other plain frame begins.
const NAME: &[u8] = b"{\"event\":\"";

/// What a message of the server means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// An event in a form that is counted.
    Event,
    /// A ping that is a message of its own.
    Ping,
    /// Engine.IO is open.
    Open,
    /// The socket has been let in.
    Connected,
    /// An answer to a request.
    Answer(&'a [u8]),
    /// The server refuses something, or ends the conversation.
    Refusal,
    /// Nothing that matters here.
    Other,
}

/// What an Engine.IO packet means to a client that counts events in this form.
pub(super) fn packet(packet: &[u8], form: Form) -> Heard<'_> {
    match packet {
        [b'4', b'2', ..] => {
            let named = form != Form::Envelope && packet.starts_with(NAMED);
            let enveloped = form != Form::Named && packet.starts_with(ENVELOPE);
            if named || enveloped { Heard::Event } else { Heard::Other }
        }
        [b'2', ..] => Heard::Ping,
        [b'0', ..] => Heard::Open,
        [b'4', b'0', ..] => Heard::Connected,
        [b'4', b'3', ack @ ..] => Heard::Answer(ack),
        [b'1', ..] | [b'4', b'1' | b'4', ..] => Heard::Refusal,
        _ => Heard::Other,
    }
}

/// What a plain frame means.
pub(super) fn frame(frame: &[u8]) -> Heard<'_> {
    if frame.starts_with(PLAIN) {
        return Heard::Event;
    }
    let name = frame.strip_prefix(NAME).and_then(|rest| rest.split(|byte| *byte == b'"').next());
    match name {
        Some(b"connected") => Heard::Connected,
        Some(b"error") => Heard::Refusal,
        Some([.., b':', b'a', b'c', b'k']) => Heard::Answer(frame),
        _ => Heard::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_frames_are_told_apart_by_how_they_begin() {
        let answer = br#"{"event":"subscribe:ack","data":{"success":true},"id":2}"#;
        assert_eq!(frame(answer), Heard::Answer(answer));
        for (text, meaning) in [
            (r#"{"message_id":"m","event":"kpi:update","data":{}}"#, Heard::Event),
            (r#"{"event":"connected","data":{}}"#, Heard::Connected),
            (r#"{"event":"authenticated","data":{}}"#, Heard::Other),
            (r#"{"event":"error","data":{}}"#, Heard::Refusal),
            ("", Heard::Other),
        ] {
            assert_eq!(frame(text.as_bytes()), meaning, "{text}");
        }
    }
}
