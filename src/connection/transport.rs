//! What carries a WebSocket: a TCP stream, bare or under TLS.
//!
//! Nothing here waits. Readiness is the TCP stream's; who asks for it and what
//! is written next is for the reader and the outbox to know.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;

use bytes::Bytes;
use rustls::ServerConnection;
use smallvec::SmallVec;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::outbox::BATCH;
use super::tls::Tls;

const SCRATCH: usize = 16 * 1024;

thread_local! {
    /// One read buffer a thread, since a connection needs it only while it reads.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// The stream under one WebSocket.
#[derive(Debug)]
pub enum Transport {
    /// What is written goes to the kernel as it is.
    Plain(TcpStream),
    /// What is written is encrypted first; boxed, so that a plain one stays small.
    Tls(Box<Tls>),
}

/// Whether more may come from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inflow {
    Open,
    Ended,
}

impl Transport {
    /// A stream whose TLS handshake is done, and what has been read of it beyond.
    ///
    /// # Errors
    /// If the client has closed, or broken the protocol, meanwhile.
    pub fn secured(tcp: TcpStream, session: ServerConnection) -> io::Result<(Self, Vec<u8>)> {
        let (tls, read) = Tls::new(tcp, session)?;
        Ok((Self::Tls(Box::new(tls)), read))
    }

    /// The TCP stream, whose readiness it is.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
        }
    }

    /// Writes the beginning of these frames, and says how many bytes of them the kernel has taken. After an error that
    /// it would block, the same bytes have to come first in the next attempt.
    pub(super) fn try_write(&self, frames: &[Bytes]) -> io::Result<usize> {
        match (self, frames) {
            (Self::Plain(tcp), [frame]) => tcp.try_write(frame),
            (Self::Plain(tcp), frames) => tcp.try_write_vectored(&slices(frames)),
            (Self::Tls(tls), frames) => tls.try_write(&slices(frames)),
        }
    }

    /// Reads what is there and hands it on, if anything can be read of it yet; `take` may change it.
    pub(super) fn try_read(&self, take: impl FnOnce(&mut [u8])) -> io::Result<Inflow> {
        BUFFER.with_borrow_mut(|buffer| {
            let count = read_ready(self.tcp(), buffer)?;
            if count == 0 {
                return Ok(Inflow::Ended);
            }
            match self {
                Self::Plain(_) => {
                    take(&mut buffer[..count]);
                    Ok(Inflow::Open)
                }
                Self::Tls(tls) => {
                    let (mut read, inflow) = tls.decrypt(&buffer[..count])?;
                    if !read.is_empty() {
                        take(&mut read);
                    }
                    Ok(inflow)
                }
            }
        })
    }

    /// Says that nothing more is written.
    pub(super) fn finish(&self) {
        if let Self::Tls(tls) = self {
            tls.close_notify();
        }
        SockRef::from(self.tcp()).shutdown(Shutdown::Write).ok();
    }

    /// Ends both directions, which wakes whoever reads or waits to write.
    pub(super) fn shut(&self) {
        SockRef::from(self.tcp()).shutdown(Shutdown::Both).ok();
    }
}

fn slices(frames: &[Bytes]) -> SmallVec<[IoSlice<'_>; BATCH]> {
    frames.iter().map(|frame| IoSlice::new(frame)).collect()
}

/// Reads what is there. A short read has emptied the socket, so readiness is cleared with it: the next look
/// would only cost a system call. Both happen in one step, or what arrives in between would not wake us.
fn read_ready(tcp: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    let result = tcp.try_io(Interest::READABLE, || {
        count = (&*SockRef::from(tcp)).read(buffer)?;
        if count > 0 && count < buffer.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        Err(error) if count == 0 => Err(error),
        _ => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_tls_pays_nothing_for_it() {
        assert_eq!(size_of::<Transport>(), size_of::<TcpStream>());
    }
}
