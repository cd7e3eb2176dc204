//! What a reader makes of a stream.

use tiercast::connection::FrameReader;

/// Largest message.
pub const LIMIT: usize = 1_024;

/// Messages and control frames that came out, and how reading ended.
pub type Outcome = (Vec<(u8, Vec<u8>)>, Result<(), u16>);

/// Reads a stream in chunks of these sizes, again and again.
pub fn read(wire: &[u8], deflate: bool, chunks: &[usize]) -> Outcome {
    let mut reader = FrameReader::new(LIMIT, deflate);
    let mut messages = Vec::new();
    let mut sizes = chunks.iter().cycle();
    let mut rest = wire;
    while !rest.is_empty() {
        let size = sizes.next().map_or(1, |size| *size.max(&1));
        let (chunk, behind) = rest.split_at(size.min(rest.len()));
        let result = reader.feed(&mut chunk.to_vec(), |opcode, payload| {
            assert!(payload.len() <= LIMIT, "a message of {} bytes", payload.len());
            messages.push((opcode, payload.to_vec()));
        });
        if result.is_err() {
            return (messages, result);
        }
        rest = behind;
    }
    (messages, Ok(()))
}

/// Reads a stream at once, and asserts that other ways to cut it make no difference.
pub fn read_every_way(wire: &[u8], deflate: bool, chunks: &[usize]) -> Outcome {
    let whole = read(wire, deflate, &[usize::MAX]);
    assert_eq!(read(wire, deflate, &[1]), whole, "byte by byte");
    assert_eq!(read(wire, deflate, chunks), whole, "in chunks of {chunks:?}");
    whole
}
