//! WebSocket frames: RFC 6455, section 5.

use bytes::Bytes;

use super::deflate;

/// Opcodes of frames.
pub(super) mod opcode {
    pub(in crate::connection) const CONTINUATION: u8 = 0x0;
    pub(in crate::connection) const TEXT: u8 = 0x1;
    pub(in crate::connection) const BINARY: u8 = 0x2;
    pub(in crate::connection) const CLOSE: u8 = 0x8;
    pub(in crate::connection) const PING: u8 = 0x9;
    pub(in crate::connection) const PONG: u8 = 0xa;

    pub(in crate::connection) fn is_control(opcode: u8) -> bool {
        opcode & 0x8 != 0
    }
}

/// Close codes that we send ourselves.
pub(super) mod close_code {
    pub(in crate::connection) const NORMAL: u16 = 1000;
    pub(in crate::connection) const PROTOCOL_ERROR: u16 = 1002;
    pub(in crate::connection) const INVALID_PAYLOAD: u16 = 1007;
    pub(in crate::connection) const TOO_BIG: u16 = 1009;
}

/// The first reserved bit: the message is compressed (RFC 7692).
pub(super) const RESERVED_1: u8 = 0x40;

/// Longest head of a frame: two bytes, eight of length, four of mask.
pub(super) const MAX_HEAD: usize = 14;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fin: bool,
    pub(super) reserved: u8,
    pub(super) opcode: u8,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) length: u64,
    /// Bytes of the head itself.
    pub(super) size: usize,
}

impl Head {
    /// Reads a head, if all of it is there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (length, mut size) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
            length => (u64::from(length), 2),
        };
        let mut mask = None;
        if second & 0x80 != 0 {
            mask = Some(bytes.get(size..size + 4)?.try_into().ok()?);
            size += 4;
        }
        Some(Self { fin: first & 0x80 != 0, reserved: first & 0x70, opcode: first & 0x0f, mask, length, size })
    }

    pub(super) fn is_control(&self) -> bool {
        opcode::is_control(self.opcode)
    }
}

/// Writes the head of an unfragmented frame; `masked` adds a mask of zeros.
pub(super) fn put_head(out: &mut Vec<u8>, opcode: u8, length: usize, masked: bool) {
    let mask_bit = if masked { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match length {
        0..=125 => out.push(mask_bit | length as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if masked {
        out.extend_from_slice(&[0; 4]);
    }
}

/// A whole frame of a server.
pub(super) fn frame(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 10);
    put_head(&mut out, opcode, payload.len(), false);
    out.extend_from_slice(payload);
    out.into()
}

/// A text frame of a server.
pub fn text_frame(text: &str) -> Bytes {
    frame(opcode::TEXT, text.as_bytes())
}

/// A compressed text frame of a server; a plain one if compression does not make it smaller.
pub fn deflated_text_frame(text: &str) -> Bytes {
    deflate::deflated_frame(opcode::TEXT, text.as_bytes()).unwrap_or_else(|| text_frame(text))
}

/// A close frame of a server.
pub(super) fn close_frame(code: u16) -> Bytes {
    frame(opcode::CLOSE, &code.to_be_bytes())
}

/// Applies a mask, in place.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let whole = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes(chunk.try_into().expect("a chunk has eight bytes")) ^ whole;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_every_length_come_back() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            for masked in [false, true] {
                let mut bytes = Vec::new();
                put_head(&mut bytes, opcode::TEXT, length, masked);
                for cut in 0..bytes.len() {
                    assert_eq!(Head::parse(&bytes[..cut]), None);
                }
                let head = Head::parse(&bytes).expect("a head");
                assert_eq!((head.length, head.size, head.fin), (length as u64, bytes.len(), true));
                assert_eq!(head.mask.is_some(), masked);
            }
        }
    }

    #[test]
    fn masking_twice_changes_nothing() {
        let original: Vec<u8> = (0..21).collect();
        let mut payload = original.clone();
        unmask(&mut payload, [1, 2, 3, 4]);
        assert_eq!(payload[..5], [1, 3, 1, 7, 5]);
        unmask(&mut payload, [1, 2, 3, 4]);
        assert_eq!(payload, original);
    }
}
