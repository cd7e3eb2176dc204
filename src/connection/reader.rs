//! Reading WebSocket frames: from bytes in pieces of any size to whole messages.
//!
//! Frames are checked, unmasked, put together and inflated (RFC 6455, section 5;
//! RFC 7692). A message over the limit is refused before it is held in memory.

use super::deflate::{InflateError, inflate};
use super::frame::{Head, MAX_HEAD, RESERVED_1, close_code, opcode, unmask};

/// Largest payload of a control frame (RFC 6455, section 5.5).
const MAX_CONTROL: usize = 125;

/// What has come in and is no whole message yet.
#[derive(Default)]
pub struct FrameReader {
    limit: usize,
    /// Bytes that may be held of a message, or come of a compressed one.
    held: usize,
    deflate: bool,
    /// A frame that is not complete.
    partial: Vec<u8>,
    /// A message that is not complete.
    message: Option<Partial>,
}

/// The fragments of a message, put together as far as they have come.
#[derive(Debug)]
struct Partial {
    opcode: u8,
    deflated: bool,
    payload: Vec<u8>,
}

impl FrameReader {
    /// A reader of messages of at most `limit` bytes; `deflate` says whether compressed ones are agreed.
    pub fn new(limit: usize, deflate: bool) -> Self {
        Self { limit, held: limit, deflate, partial: Vec::new(), message: None }
    }

    /// From now on no more than so many bytes are held, though a longer message may begin.
    pub fn hold(&mut self, bytes: usize) {
        self.held = bytes;
    }

    /// Takes bytes from the stream, which are changed in place, and hands each whole message and control frame on,
    /// as its opcode and payload.
    ///
    /// # Errors
    /// The close code that the connection ends with (RFC 6455, section 7.4.1): 1002 for what is against the
    /// protocol, 1007 for damaged compressed data, 1009 for a message over the limit.
    pub fn feed(&mut self, bytes: &mut [u8], message: impl FnMut(u8, &[u8])) -> Result<(), u16> {
        self.take(bytes, message)?;
        let held = self.partial.len() + self.message.as_ref().map_or(0, |message| message.payload.len());
        // A control frame may lie between the frames of a message.
        let is_too_much = self.held < self.limit && held > self.held + MAX_CONTROL + MAX_HEAD;
        if is_too_much { Err(close_code::TOO_BIG) } else { Ok(()) }
    }

    fn take(&mut self, bytes: &mut [u8], mut message: impl FnMut(u8, &[u8])) -> Result<(), u16> {
        if self.partial.is_empty() {
            let used = self.parse(bytes, &mut message)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(bytes);
        let used = self.parse(&mut partial, &mut message)?;
        partial.drain(..used);
        if !partial.is_empty() {
            self.partial = partial;
        }
        Ok(())
    }

    /// Takes every whole frame, and says how many bytes they had.
    fn parse(&mut self, bytes: &mut [u8], message: &mut impl FnMut(u8, &[u8])) -> Result<usize, u16> {
        let mut used = 0;
        while let Some(head) = Head::parse(&bytes[used..]) {
            self.check(&head)?;
            let start = used + head.size;
            let end = start + head.length as usize;
            if end > bytes.len() {
                break;
            }
            let payload = &mut bytes[start..end];
            unmask(payload, head.mask.ok_or(close_code::PROTOCOL_ERROR)?);
            used = end;
            if head.is_control() {
                message(head.opcode, payload);
            } else {
                self.data(&head, payload, message)?;
            }
        }
        debug_assert!(bytes.len() - used < self.limit.max(MAX_CONTROL) + MAX_HEAD);
        Ok(used)
    }

    fn check(&self, head: &Head) -> Result<(), u16> {
        let in_order = match head.opcode {
            opcode::CONTINUATION => self.message.is_some(),
            opcode::TEXT | opcode::BINARY => self.message.is_none(),
            _ => head.is_control() && head.fin && head.length <= MAX_CONTROL as u64 && head.opcode <= 0xa,
        };
        // Only the first frame of a message says that it is compressed.
        let begins = matches!(head.opcode, opcode::TEXT | opcode::BINARY);
        let reserved = if self.deflate && begins { head.reserved & !RESERVED_1 } else { head.reserved };
        if reserved != 0 || head.mask.is_none() || !in_order {
            return Err(close_code::PROTOCOL_ERROR);
        }
        let held = self.message.as_ref().map_or(0, |message| message.payload.len() as u64);
        if !head.is_control() && head.length.saturating_add(held) > self.limit as u64 {
            return Err(close_code::TOO_BIG);
        }
        Ok(())
    }

    fn data(&mut self, head: &Head, payload: &[u8], message: &mut impl FnMut(u8, &[u8])) -> Result<(), u16> {
        let deflated = head.reserved & RESERVED_1 != 0;
        let Some(mut partial) = self.message.take() else {
            if head.fin {
                return self.whole(head.opcode, deflated, payload, message);
            }
            self.message = Some(Partial { opcode: head.opcode, deflated, payload: payload.to_vec() });
            return Ok(());
        };
        partial.payload.extend_from_slice(payload);
        if head.fin {
            return self.whole(partial.opcode, partial.deflated, &partial.payload, message);
        }
        self.message = Some(partial);
        Ok(())
    }

    fn whole(
        &self,
        opcode: u8,
        deflated: bool,
        payload: &[u8],
        message: &mut impl FnMut(u8, &[u8]),
    ) -> Result<(), u16> {
        if !deflated {
            message(opcode, payload);
            return Ok(());
        }
        match inflate(payload, self.limit.min(self.held)) {
            Ok(inflated) => message(opcode, &inflated),
            Err(InflateError::Damaged) => return Err(close_code::INVALID_PAYLOAD),
            Err(InflateError::TooLarge) => return Err(close_code::TOO_BIG),
        }
        Ok(())
    }
}

impl std::fmt::Debug for FrameReader {
    /// What a client sends may hold a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
