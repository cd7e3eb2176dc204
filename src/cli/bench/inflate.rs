//! Inflating what a sample of the clients receives.
//!
//! Inflating costs far more than receiving does, so only a few clients do it;
//! their times stand for all, and every client counts what it gets.

use anyhow::{Context, Result, bail};
use flate2::{Decompress, FlushDecompress, Status};

/// What RFC 7692 takes off the end of a message and the receiver puts back.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
const STEP: usize = 16 * 1024;

/// The inflater of one connection.
pub(super) struct Inflater {
    decompress: Decompress,
    context: Window,
}

/// Whether a message may refer to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    /// It may: the window is kept.
    Kept,
    /// It may not (`server_no_context_takeover`).
    None,
}

impl Inflater {
    /// An inflater with an empty window.
    pub(super) fn new(context: Window) -> Self {
        Self { decompress: Decompress::new(false), context }
    }

    /// Inflates one message into `out`, which is emptied first.
    ///
    /// # Errors
    /// If the message is not deflated data.
    pub(super) fn inflate(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        self.piece(message, out)?;
        self.piece(&TAIL, out)?;
        if self.context == Window::None {
            self.decompress.reset(false);
        }
        Ok(())
    }

    fn piece(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        loop {
            out.reserve(STEP);
            let before = self.decompress.total_in();
            let status = self
                .decompress
                .decompress_vec(input, out, FlushDecompress::Sync)
                .context("the server sent a message that cannot be inflated")?;
            input = &input[usize::try_from(self.decompress.total_in() - before)?..];
            if input.is_empty() && out.len() < out.capacity() {
                return Ok(());
            }
            if status == Status::StreamEnd {
                bail!("the server ended its deflate stream");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn deflated(compress: &mut Compress, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() + 100);
        compress.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
        out.truncate(out.len() - TAIL.len());
        out
    }

    #[test]
    fn messages_come_back_with_and_without_a_kept_window() {
        for context in [Window::Kept, Window::None] {
            let mut compress = Compress::new(Compression::default(), false);
            let mut inflater = Inflater::new(context);
            let mut out = Vec::new();
            for size in [1_usize, 1_000, STEP, 100_000] {
                let mut message = Vec::new();
                write!(message, "{size}").unwrap();
                message.resize(size, b'a');
                inflater.inflate(&deflated(&mut compress, &message), &mut out).unwrap();
                assert_eq!(out, message);
                if context == Window::None {
                    compress.reset();
                }
            }
        }
    }
}
