//! Whatever a client sends, and wherever it is cut: whole messages as they were, or the right close code.

use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::super::frame::put_head;
use super::*;

const FIN: u8 = 0x80;
const RESERVED_2: u8 = 0x20;
const RESERVED_3: u8 = 0x10;

/// What came out: opcodes and payloads.
type Messages = Vec<(u8, Vec<u8>)>;

/// A frame of a client.
fn masked(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    put_head(&mut frame, 0, payload.len(), true);
    let start = frame.len();
    frame[0] = first;
    frame[start - 4..].copy_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    masked(first, [0x5a, 0x00, 0xff, 0x13], payload)
}

/// Compressed bytes as a client may send them; `level` 0 only wraps them.
fn deflated(payload: &[u8], level: u32) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 1_024);
    compress.compress_vec(payload, &mut out, FlushCompress::Sync).expect("compression of anything");
    assert_eq!(compress.total_in() as usize, payload.len());
    out.strip_suffix(&[0, 0, 0xff, 0xff]).expect("a flush ends so").to_vec()
}

fn read(reader: &mut FrameReader, bytes: &[u8], mut chunk: impl FnMut() -> usize) -> (Messages, Result<(), u16>) {
    let mut messages = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(chunk().min(rest.len()));
        let result = reader.feed(&mut chunk.to_vec(), |opcode, payload| messages.push((opcode, payload.to_vec())));
        if result.is_err() {
            return (messages, result);
        }
        rest = behind;
    }
    (messages, Ok(()))
}

/// Random numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        // SplitMix64, which takes any seed.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut next = self.0;
        next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        next = (next ^ (next >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        next ^ (next >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    fn mask(&mut self) -> [u8; 4] {
        (self.roll() as u32).to_be_bytes()
    }

    /// Bytes of a random length, around every length that is written in its own way.
    fn payload(&mut self) -> Vec<u8> {
        let length = match self.below(40) {
            0..20 => self.below(20),
            20..30 => 120 + self.below(12),
            30..39 => self.below(4_000),
            _ => 65_530 + self.below(12),
        };
        // Few different bytes can be compressed.
        let variety = [1, 4, 256][self.below(3)];
        (0..length).map(|_| self.below(variety) as u8).collect()
    }
}

/// A message in random fragments, perhaps compressed and with control frames between them, into `wire`; what should
/// come out of it into `expected`. Returns the size it has on the wire.
fn write_message(dice: &mut Dice, deflate: bool, wire: &mut Vec<u8>, expected: &mut Messages) -> usize {
    let opcode = [opcode::TEXT, opcode::BINARY][dice.below(2)];
    let payload = dice.payload();
    let compressed = (deflate && dice.below(2) == 0).then(|| deflated(&payload, [0, 1, 6, 9][dice.below(4)]));
    let reserved = if compressed.is_some() { RESERVED_1 } else { 0 };
    let sent = compressed.as_ref().unwrap_or(&payload);
    let mut rest = &sent[..];
    let mut first = opcode | reserved;
    loop {
        let last = dice.below(2) == 0;
        let (part, behind) = rest.split_at(if last { rest.len() } else { dice.below(rest.len() + 1) });
        wire.extend(masked(if last { FIN | first } else { first }, dice.mask(), part));
        if last {
            break;
        }
        (rest, first) = (behind, opcode::CONTINUATION);
        if dice.below(2) == 0 {
            let control = [opcode::PING, opcode::PONG, opcode::CLOSE][dice.below(3)];
            let size = dice.below(126);
            let payload: Vec<u8> = (0..size).map(|_| dice.roll() as u8).collect();
            wire.extend(masked(FIN | control, dice.mask(), &payload));
            expected.push((control, payload));
        }
    }
    let size = sent.len().max(payload.len());
    expected.push((opcode, payload));
    size
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_come_out_whole_wherever_they_are_cut(seed: u64) {
        let mut dice = Dice(seed);
        let deflate = dice.below(2) == 0;
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        let sizes = (0..=dice.below(6)).map(|_| write_message(&mut dice, deflate, &mut wire, &mut expected));
        // The largest message is as large as may be.
        let limit = sizes.max().unwrap_or_default();
        let longest = [1, 2, 15, 1_400, 100_000][dice.below(5)];
        let mut reader = FrameReader::new(limit, deflate);
        let (messages, result) = read(&mut reader, &wire, || 1 + dice.below(longest));
        prop_assert_eq!(result, Ok(()));
        prop_assert!(messages == expected, "{} messages, {} expected", messages.len(), expected.len());
        prop_assert_eq!((reader.partial.capacity(), reader.message.is_none()), (0, true), "nothing is kept");
    }
}

/// Asserts that the frames are refused with this code, read at once or byte by byte, and only at the last of them.
#[track_caller]
fn assert_refused(limit: usize, deflate: bool, frames: &[Vec<u8>], code: u16) {
    let (last, before) = frames.split_last().expect("something to refuse");
    for chunk in [1, 2, usize::MAX] {
        let mut reader = FrameReader::new(limit, deflate);
        assert_eq!(read(&mut reader, &before.concat(), || chunk).1, Ok(()));
        let (messages, result) = read(&mut reader, last, || chunk);
        assert_eq!((messages, result), (Vec::new(), Err(code)), "in chunks of {chunk}");
    }
}

const PROTOCOL: u16 = 1002;
const DAMAGED: u16 = 1007;
const TOO_BIG: u16 = 1009;

#[test]
fn reserved_bits_are_refused() {
    let text = FIN | opcode::TEXT;
    assert_refused(100, false, &[client(text | RESERVED_1, b"x")], PROTOCOL);
    for reserved in [RESERVED_2, RESERVED_3, RESERVED_1 | RESERVED_2] {
        assert_refused(100, true, &[client(text | reserved, b"x")], PROTOCOL);
    }
    assert_refused(100, true, &[client(FIN | RESERVED_1 | opcode::PING, b"x")], PROTOCOL);
    let begun = client(RESERVED_1 | opcode::TEXT, &deflated(b"hello", 6));
    assert_refused(100, true, &[begun, client(FIN | RESERVED_1 | opcode::CONTINUATION, b"")], PROTOCOL);
}

#[test]
fn frames_without_a_mask_are_refused() {
    for opcode in [opcode::TEXT, opcode::BINARY, opcode::PING, opcode::CLOSE] {
        let mut frame = Vec::new();
        put_head(&mut frame, opcode, 3, false);
        frame.extend_from_slice(b"abc");
        assert_refused(100, false, &[frame], PROTOCOL);
    }
}

#[test]
fn fragments_out_of_order_are_refused() {
    let continuation = client(FIN | opcode::CONTINUATION, b"x");
    let begun = client(opcode::TEXT, b"x");
    assert_refused(100, false, std::slice::from_ref(&continuation), PROTOCOL);
    assert_refused(100, false, &[client(FIN | opcode::TEXT, b"x"), continuation.clone()], PROTOCOL);
    assert_refused(100, false, &[begun.clone(), continuation.clone(), continuation], PROTOCOL);
    for opcode in [opcode::TEXT, opcode::BINARY] {
        assert_refused(100, false, &[begun.clone(), client(FIN | opcode, b"x")], PROTOCOL);
        assert_refused(100, false, &[begun.clone(), client(opcode, b"x")], PROTOCOL);
    }
}

#[test]
fn control_frames_that_are_long_fragmented_or_unknown_are_refused() {
    for opcode in [opcode::CLOSE, opcode::PING, opcode::PONG] {
        assert_refused(1_000, false, &[client(FIN | opcode, &[0; 126])], PROTOCOL);
        assert_refused(1_000, false, &[client(opcode, b"x")], PROTOCOL);
    }
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        assert_refused(1_000, true, &[client(FIN | opcode, b"x")], PROTOCOL);
    }
}

#[test]
fn a_message_over_the_limit_is_refused_before_it_is_read() {
    // The head alone is enough.
    let head = |first: u8, length: usize| {
        let mut head = Vec::new();
        put_head(&mut head, first & 0xf, length, true);
        head[0] = first;
        head
    };
    for length in [101, 65_536, 1 << 40, usize::MAX] {
        assert_refused(100, true, &[head(FIN | opcode::TEXT, length)], TOO_BIG);
        assert_refused(100, true, &[head(FIN | RESERVED_1 | opcode::BINARY, length)], TOO_BIG);
        let begun = client(opcode::TEXT, b"x");
        assert_refused(100, true, &[begun, head(opcode::CONTINUATION, length)], TOO_BIG);
    }
}

#[test]
fn fragments_over_the_limit_are_refused() {
    let part = |first: u8| client(first, &[b'x'; 50]);
    let (begun, more) = (part(opcode::TEXT), part(opcode::CONTINUATION));
    let one = client(FIN | opcode::CONTINUATION, b"x");
    assert_refused(100, false, &[begun, more, client(FIN | opcode::PING, &[0; 125]), one], TOO_BIG);
}

#[test]
fn a_message_that_inflates_over_the_limit_is_refused() {
    for size in [101, 10_000_000] {
        let bomb = deflated(&vec![b'z'; size], 9);
        let limit = bomb.len().max(100);
        assert_refused(limit, true, &[client(FIN | RESERVED_1 | opcode::TEXT, &bomb)], TOO_BIG);
        let (begin, end) = bomb.split_at(bomb.len() / 2);
        let frames = [client(RESERVED_1 | opcode::TEXT, begin), client(FIN | opcode::CONTINUATION, end)];
        assert_refused(limit, true, &frames, TOO_BIG);
    }
}

#[test]
fn damaged_compressed_data_is_refused() {
    // A block of a type that does not exist, and a distance to before the start.
    for damaged in [&[0xff, 0xff, 0xff][..], &[0x07], &[0x02, 0x02, 0x00]] {
        assert_refused(100, true, &[client(FIN | RESERVED_1 | opcode::TEXT, damaged)], DAMAGED);
    }
    let mut wrong_length = deflated(&[b'x'; 20], 0);
    wrong_length[1] ^= 1;
    assert_refused(100, true, &[client(FIN | RESERVED_1 | opcode::TEXT, &wrong_length)], DAMAGED);
}

/// The examples of RFC 7692, section 7.2.3.
#[test]
fn every_way_to_compress_is_understood() {
    let hello: [&[u8]; 5] = [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        // Without compression.
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        // With a last block that says it is the last one.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        // In two blocks.
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        // Without the byte that ends the flush.
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07],
    ];
    for compressed in hello {
        let mut reader = FrameReader::new(100, true);
        let frame = client(FIN | RESERVED_1 | opcode::TEXT, compressed);
        let (messages, result) = read(&mut reader, &frame, || 3);
        assert_eq!((messages, result), (vec![(opcode::TEXT, b"Hello".to_vec())], Ok(())), "{compressed:x?}");
    }
}

#[test]
fn a_long_message_may_begin_and_is_not_held() {
    let mut reader = FrameReader::new(100_000, true);
    reader.hold(1_000);
    let mut bytes = client(FIN | opcode::TEXT, &[b'x'; 50_000]);
    let mut received = Vec::new();
    let mut feed =
        |reader: &mut FrameReader, bytes: &mut [u8]| reader.feed(bytes, |_, payload| received.push(payload.len()));
    assert_eq!(feed(&mut reader, &mut bytes[..1_000]), Ok(()));
    assert_eq!(feed(&mut reader, &mut bytes[1_000..2_000]), Err(close_code::TOO_BIG));
    let mut reader = FrameReader::new(100_000, true);
    reader.hold(1_000);
    let mut bytes = client(FIN | opcode::TEXT, &[b'x'; 50_000]);
    assert_eq!(feed(&mut reader, &mut bytes[..1_000]), Ok(()));
    // Its sender is known by now.
    reader.hold(100_000);
    assert_eq!(feed(&mut reader, &mut bytes[1_000..]), Ok(()));
    assert_eq!(received, [50_000]);
}

#[test]
fn what_a_compressed_message_becomes_is_bounded_too() {
    let mut reader = FrameReader::new(100_000, true);
    reader.hold(1_000);
    let bomb = client(FIN | RESERVED_1 | opcode::TEXT, &deflated(&[0; 50_000], 9));
    assert_eq!(read(&mut reader, &bomb, || usize::MAX).1, Err(close_code::TOO_BIG));
}
