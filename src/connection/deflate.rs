//! permessage-deflate: RFC 7692, without context takeover in either direction.
//!
//! Without a context the compressed bytes of a message are the same for every
//! client, so they are made once and shared, and no connection holds state
//! between messages.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{HeaderMap, HeaderValue};

use super::frame::{RESERVED_1, put_head};

const NAME: &str = "permessage-deflate";

/// A message ends with an empty block, which is not sent: RFC 7692, section 7.2.1.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// How much a message grows at a time.
const STEP: usize = 16 * 1024;

/// Bytes that a thread keeps to inflate into.
const KEPT: usize = 2 * 1024 * 1024;

thread_local! {
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::default(), false));
    static DECOMPRESS: RefCell<Decompress> = RefCell::new(Decompress::new(false));
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Why a message cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InflateError {
    /// It is no deflated data.
    Damaged,
    /// It would be larger than allowed.
    TooLarge,
}

/// The extension header of the answer, for the first offer that can be honoured.
pub fn negotiate(headers: &HeaderMap) -> Option<HeaderValue> {
    let offers = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|value| value.to_str().ok());
    offers.flat_map(|value| value.split(',')).find_map(answer)
}

fn answer(offer: &str) -> Option<HeaderValue> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some(NAME) {
        return None;
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut full_window = false;
    for parameter in parts {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (parameter, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits", None) => {}
            // A smaller window of the client's needs nothing of us: any window inflates.
            ("client_max_window_bits", Some(bits)) if is_window(bits) => {}
            // A smaller window of ours would need bytes of its own for this client.
            ("server_max_window_bits", Some("15")) => full_window = true,
            _ => return None,
        }
    }
    let window = if full_window { "; server_max_window_bits=15" } else { "" };
    let text = format!("{NAME}; server_no_context_takeover; client_no_context_takeover{window}");
    HeaderValue::from_str(&text).ok()
}

fn is_window(bits: &str) -> bool {
    bits.parse().is_ok_and(|bits: u8| (8..=15).contains(&bits)) && !bits.starts_with('0')
}

/// A compressed frame of a server; none if compression does not make it smaller.
pub(super) fn deflated_frame(opcode: u8, payload: &[u8]) -> Option<Bytes> {
    let deflated = COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        loop {
            let read = compress.total_in() as usize;
            compress.compress_vec(&payload[read..], &mut out, FlushCompress::Sync).ok()?;
            // Room that is left means that everything has been flushed.
            if compress.total_in() as usize == payload.len() && out.len() < out.capacity() {
                break;
            }
            if out.len() > payload.len() {
                return None;
            }
            out.reserve(STEP);
        }
        out.strip_suffix(&TAIL[..]).map(<[u8]>::to_vec)
    })?;
    if deflated.len() >= payload.len() {
        return None;
    }
    let mut frame = Vec::with_capacity(deflated.len() + 10);
    put_head(&mut frame, opcode | RESERVED_1, deflated.len(), false);
    frame.extend_from_slice(&deflated);
    Some(frame.into())
}

/// The message that was compressed to these bytes, of at most `limit` bytes.
pub(super) fn inflate(deflated: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    SCRATCH.with_borrow_mut(|scratch| {
        let message = inflate_into(scratch, deflated, limit).map(|size| scratch[..size].to_vec());
        if scratch.len() > KEPT {
            *scratch = Vec::new();
        }
        message
    })
}

/// Inflates into memory that is there already, since making it costs more than inflating; how many bytes it gave.
fn inflate_into(scratch: &mut Vec<u8>, deflated: &[u8], limit: usize) -> Result<usize, InflateError> {
    DECOMPRESS.with_borrow_mut(|decompress| {
        decompress.reset(false);
        for part in [deflated, &TAIL] {
            let begun = decompress.total_in();
            loop {
                let (read, size) = ((decompress.total_in() - begun) as usize, decompress.total_out() as usize);
                let end = (size + STEP).min(limit.saturating_add(1));
                if scratch.len() < end {
                    scratch.resize(end, 0);
                }
                let status = decompress
                    .decompress(&part[read..], &mut scratch[size..end], FlushDecompress::Sync)
                    .map_err(|_| InflateError::Damaged)?;
                let (all_read, inflated) = ((decompress.total_in() - begun) as usize, decompress.total_out() as usize);
                if inflated > limit {
                    return Err(InflateError::TooLarge);
                }
                if status == Status::StreamEnd || (all_read == part.len() && inflated < end) {
                    break;
                }
                if (all_read, inflated) == (read, size) {
                    return Err(InflateError::Damaged);
                }
            }
        }
        Ok(decompress.total_out() as usize)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::connection::frame::{Head, opcode};

    fn negotiated(offer: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offer));
        negotiate(&headers).map(|value| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn the_first_offer_that_can_be_honoured_is_answered() {
        let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(negotiated("permessage-deflate; client_max_window_bits").as_deref(), Some(plain));
        assert_eq!(negotiated("permessage-deflate; client_max_window_bits=10").as_deref(), Some(plain));
        assert_eq!(
            negotiated("x, permessage-deflate; server_max_window_bits=10, permessage-deflate").as_deref(),
            Some(plain)
        );
        let full = format!("{plain}; server_max_window_bits=15");
        assert_eq!(negotiated("permessage-deflate; server_max_window_bits=15"), Some(full));
        for declined in [
            "permessage-deflate; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover=1",
            "x-webkit-deflate-frame",
        ] {
            assert_eq!(negotiated(declined), None, "{declined}");
        }
        assert_eq!(negotiate(&HeaderMap::new()), None);
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let frame = deflated_frame(opcode::TEXT, &vec![b'z'; 10_000_000]).expect("it shrinks");
        let head = Head::parse(&frame).expect("a head");
        assert_eq!(inflate(&frame[head.size..], 1_000_000), Err(InflateError::TooLarge));
        assert_eq!(inflate(&frame[head.size..], 10_000_000).map(|message| message.len()), Ok(10_000_000));
    }

    #[test]
    fn damaged_data_is_refused() {
        assert_eq!(inflate(&[0xff, 0xff, 0xff], 1_000), Err(InflateError::Damaged));
        assert_eq!(inflate(&[], 1_000), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn what_is_deflated_inflates_to_the_same(
            text in "[a-c]{0,40}",
            times in 1usize..2_000,
            noise in proptest::collection::vec(any::<u8>(), 0..3_000),
        ) {
            let mut message = text.repeat(times).into_bytes();
            message.extend(noise);
            if let Some(frame) = deflated_frame(opcode::BINARY, &message) {
                let head = Head::parse(&frame).expect("a head");
                prop_assert_eq!(head.reserved, RESERVED_1);
                prop_assert!(frame.len() < message.len() + 10);
                prop_assert_eq!(inflate(&frame[head.size..], message.len()), Ok(message));
            }
        }
    }
}
