//! WebSocket frames as a client needs them: whole messages in, small ones out.
//!
//! Messages are handed over where they lie in the read buffer; only the piece
//! of a frame that is still incomplete is kept with the connection.

use anyhow::{Result, bail};

/// A larger carry than this is given back once it is empty.
const KEPT_CAPACITY: usize = 16 * 1024;

/// One unfragmented message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Its opcode.
    pub(super) opcode: Opcode,
    /// Whether the payload is deflated.
    pub(super) deflated: bool,
    /// Its payload as it came.
    pub(super) payload: &'a [u8],
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    /// A text message: an Engine.IO packet.
    Text = 1,
    /// A binary message.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// A WebSocket ping, to be answered.
    Ping = 9,
    /// The answer to one.
    Pong = 10,
}

/// Cuts what is read into frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    carry: Vec<u8>,
}

impl Frames {
    /// Hands over each frame that is complete with these bytes.
    ///
    /// # Errors
    /// If the server breaks the protocol, fragments a message (which none of those measured does), or `take` fails.
    pub(super) fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(Frame<'_>) -> Result<()>) -> Result<()> {
        if self.carry.is_empty() {
            let used = cut(bytes, &mut take)?;
            self.carry.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        self.carry.extend_from_slice(bytes);
        let used = cut(&self.carry, &mut take)?;
        self.carry.drain(..used);
        if self.carry.is_empty() && self.carry.capacity() > KEPT_CAPACITY {
            self.carry = Vec::new();
        }
        Ok(())
    }
}

fn cut(bytes: &[u8], take: &mut impl FnMut(Frame<'_>) -> Result<()>) -> Result<usize> {
    let mut used = 0;
    while let Some((frame, length)) = first(&bytes[used..])? {
        take(frame)?;
        used += length;
    }
    Ok(used)
}

fn first(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let [head, second, rest @ ..] = bytes else { return Ok(None) };
    let (head_length, length) = match (second & 0x7F, rest) {
        (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (10, usize::try_from(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))?)
        }
        (126 | 127, _) => return Ok(None),
        (short, _) => (2, usize::from(short)),
    };
    if second & 0x80 != 0 {
        bail!("the server sent a masked frame");
    }
    let Some(payload) = bytes[head_length..].get(..length) else { return Ok(None) };
    let opcode = opcode(*head)?;
    Ok(Some((Frame { opcode, deflated: head & 0x40 != 0, payload }, head_length + length)))
}

fn opcode(head: u8) -> Result<Opcode> {
    if head & 0x80 == 0 {
        bail!("the server fragmented a message, which the load tool cannot read");
    }
    Ok(match head & 0x0F {
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        other => bail!("the server sent a frame with opcode {other}"),
    })
}

/// Appends a client's frame; the mask is zero, which is a mask like any other and costs nothing.
pub(super) fn write(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.push(0x80 | opcode as u8);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..126), _) => out.push(0x80 | short),
        (_, Ok(medium)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write(&mut frame, Opcode::Text, payload);
        let mask = frame.len() - payload.len() - 4;
        frame.drain(mask..mask + 4);
        frame[1] &= 0x7F;
        frame
    }

    #[test]
    fn frames_are_found_wherever_the_reads_end() {
        let sizes = [0, 1, 125, 126, 300, 65_535, 65_536];
        let stream: Vec<u8> = sizes.iter().flat_map(|size| server_frame(&vec![b'x'; *size])).collect();
        for step in [1, 7, 1_000, stream.len()] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for chunk in stream.chunks(step) {
                let taken = frames.feed(chunk, |frame| {
                    seen.push(frame.payload.len());
                    Ok(())
                });
                taken.unwrap();
            }
            assert_eq!(seen, sizes, "read {step} bytes at a time");
        }
    }

    #[test]
    fn a_masked_or_fragmented_frame_is_an_error() {
        for bytes in [[0x81, 0x80], [0x01, 0x00]] {
            assert!(Frames::default().feed(&bytes, |_| Ok(())).is_err());
        }
    }
}
