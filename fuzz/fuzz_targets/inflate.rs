//! The inflater behind the frame reader, fed with any bytes as a compressed message, whole and in two fragments.

#![no_main]

mod read;

use libfuzzer_sys::fuzz_target;
use read::{LIMIT, read, read_every_way};
use tiercast::connection::deflated_text_frame;

const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CONTINUATION: u8 = 0x0;

fuzz_target!(|input: &[u8]| {
    let [cut, chunk, message @ ..] = input else { return };
    let whole = read_every_way(&frame(FIN | COMPRESSED | BINARY, message), true, &[usize::from(*chunk)]);
    let (begin, end) = message.split_at(usize::from(*cut).min(message.len()));
    let fragments = [frame(COMPRESSED | BINARY, begin), frame(FIN | CONTINUATION, end)].concat();
    assert_eq!(read(&fragments, true, &[usize::MAX]), whole, "in two fragments");
    if let Ok(text) = std::str::from_utf8(message) {
        assert_comes_back(text);
    }
});

/// Asserts that a text is the same after it was compressed by us and inflated again.
fn assert_comes_back(text: &str) {
    let ours = deflated_text_frame(text);
    let head = match ours[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let outcome = read(&frame(ours[0], &ours[head..]), true, &[usize::MAX]);
    if text.len() <= LIMIT {
        assert_eq!(outcome, (vec![(TEXT, text.as_bytes().to_vec())], Ok(())));
    }
}

/// A frame of a client, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}
