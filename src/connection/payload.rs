//! Payloads of Engine.IO's polling: several packets in one body.
//!
//! Version 4 separates them by a character: <https://socket.io/docs/v4/engine-io-protocol/#http-long-polling-1>.
//! Version 3 puts its length in front of each: <https://github.com/socketio/engine.io-protocol/tree/v3#payload>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Stands between the packets of version 4.
const SEPARATOR: char = '\u{1e}';

/// Ends the length in a binary payload of version 3.
const LENGTH_ENDS: u8 = 0xff;

/// Digits of a length in a binary payload of version 3.
const MAX_DIGITS: usize = 8;

/// How the packets of a payload are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `<packet>\x1e<packet>…`
    V4,
    /// `<length>:<packet>…`, lengths in UTF-16 code units.
    V3,
    /// `<0 or 1><digits><255><packet>…`, 0 for text and 1 for binary, lengths in bytes.
    V3Binary,
}

impl Format {
    /// The packets of a payload, bytes as base64; none if it is not UTF-8 where it should be, or a length does not
    /// fit.
    pub fn decode(self, body: &[u8]) -> Option<Vec<String>> {
        if self == Self::V3Binary {
            return binary_packets(body);
        }
        let text = std::str::from_utf8(body).ok()?;
        match self {
            _ if text.is_empty() => Some(Vec::new()),
            Self::V4 => {
                Some(text.strip_suffix(SEPARATOR).unwrap_or(text).split(SEPARATOR).map(str::to_owned).collect())
            }
            _ => measured(text).map(|packet| packet.map(str::to_owned)).collect(),
        }
    }

    /// A payload of text with this packet alone, which others can follow.
    pub fn encode(self, packet: &str) -> String {
        match self {
            Self::V4 => format!("{packet}{SEPARATOR}"),
            _ => format!("{}:{packet}", packet.encode_utf16().count()),
        }
    }
}

/// The packets of a text payload of version 3; none where a length does not fit.
pub fn measured(mut body: &str) -> impl Iterator<Item = Option<&str>> {
    std::iter::from_fn(move || {
        if body.is_empty() {
            return None;
        }
        let packet = body.split_once(':').and_then(|(length, rest)| {
            let packet = first_units(rest, length.parse().ok()?)?;
            Some((packet, &rest[packet.len()..]))
        });
        body = packet.map_or("", |(_, rest)| rest);
        Some(packet.map(|(packet, _)| packet))
    })
}

/// The first so many UTF-16 code units of a text, as JavaScript counts; none if a character would be cut.
fn first_units(text: &str, units: usize) -> Option<&str> {
    let mut left = units;
    for (index, char) in text.char_indices() {
        if left == 0 {
            return Some(&text[..index]);
        }
        left = left.checked_sub(char.len_utf16())?;
    }
    (left == 0).then_some(text)
}

fn binary_packets(mut body: &[u8]) -> Option<Vec<String>> {
    let mut packets = Vec::new();
    while let Some((kind, rest)) = body.split_first() {
        let digits = rest.iter().take(MAX_DIGITS + 1).position(|byte| *byte == LENGTH_ENDS)?;
        let length =
            rest[..digits].iter().try_fold(0, |sum, digit| (*digit < 10).then_some(sum * 10 + usize::from(*digit)))?;
        let (packet, rest) = rest[digits + 1..].split_at_checked(length)?;
        packets.push(match kind {
            0 => str::from_utf8(packet).ok()?.to_owned(),
            // Only a message can be binary.
            1 => format!("b4{}", STANDARD.encode(packet.strip_prefix(&[4])?)),
            _ => return None,
        });
        body = rest;
    }
    Some(packets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_count_as_javascript_does_and_never_cut_a_character() {
        assert_eq!(first_units("\u{1f600}x", 2), Some("\u{1f600}"));
        assert_eq!(first_units("\u{1f600}x", 1), None);
        assert_eq!(first_units("ab", 2), Some("ab"));
        assert_eq!(first_units("ab", 3), None);
        assert_eq!(first_units("", 0), Some(""));
    }

    #[test]
    fn payloads_are_read_as_clients_write_them() {
        let read = |format: Format, body: &[u8]| format.decode(body).expect("a payload");
        assert!(read(Format::V4, b"").is_empty());
        assert_eq!(read(Format::V4, "40\u{1e}2".as_bytes()), ["40", "2"]);
        assert_eq!(read(Format::V3, "2:4\u{20ac}1:2".as_bytes()), ["4\u{20ac}", "2"]);
        let body = b"\x00\x01\x02\xff42[\"say\",10]\x01\x03\xff\x04\x01\x02";
        assert_eq!(read(Format::V3Binary, body), ["42[\"say\",10]", "b4AQI="]);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for body in ["3:ab", ":", "x", "1", "-1:a", "18446744073709551616:a", "1:\u{1f600}"] {
            assert_eq!(Format::V3.decode(body.as_bytes()), None, "{body}");
        }
        let bodies: [&[u8]; 8] = [
            b"\x00",
            b"\x00\x01",
            b"\x00\x02\xffa",
            b"\x02\x01\xffa",
            b"\x00\x0a\xffa",
            b"\x00\x01\xff\xff",
            b"\x01\x01\xffa",
            &[1; 20],
        ];
        for body in bodies {
            assert_eq!(Format::V3Binary.decode(body), None, "{body:?}");
        }
        assert_eq!(Format::V4.decode(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_packet_by_packet_is_read_again(packets in prop::collection::vec("[^\u{1e}]{1,40}", 0..8)) {
            for format in [Format::V4, Format::V3] {
                let body: String = packets.iter().map(|packet| format.encode(packet)).collect();
                let read = format.decode(body.as_bytes());
                prop_assert_eq!(read.as_ref(), Some(&packets));
            }
        }

        #[test]
        fn no_body_is_too_much(body in prop::collection::vec(any::<u8>(), 0..200)) {
            for format in [Format::V4, Format::V3, Format::V3Binary] {
                format.decode(&body);
            }
        }
    }
}
