//! TLS under a WebSocket (RFC 8446), on a stream that does not block.
//!
//! A write counts as far as the kernel has its records, so that what waits is
//! accounted for in the outbox and nowhere else. What TLS has to say
//! by itself, such as an alert, leaves with a read if the kernel takes it, and
//! else in front of the next write.

use std::io::{self, IoSlice, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::ServerConnection;
use tokio::net::TcpStream;

use super::transport::Inflow;

/// Bytes of one write that are encrypted at a time.
const PORTION: usize = 64 * 1024;

/// A TLS session and its stream.
#[derive(Debug)]
pub struct Tls {
    tcp: TcpStream,
    /// Shared by the reader and the writer, for as long as it takes to work on a few records.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    session: ServerConnection,
    /// Bytes that come first in the next write and are encrypted already, since the kernel has not taken their records.
    encrypted: usize,
}

impl Tls {
    /// A session whose handshake is done, and what it has read beyond.
    pub(super) fn new(tcp: TcpStream, mut session: ServerConnection) -> io::Result<(Self, Vec<u8>)> {
        session.set_buffer_limit(Some(PORTION));
        let mut read = Vec::new();
        if take_plaintext(&mut session, &mut read)? == Inflow::Ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((Self { tcp, state: Mutex::new(State { session, encrypted: 0 }) }, read))
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// See [`Transport::try_write`](super::transport::Transport::try_write).
    pub(super) fn try_write(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.encrypted == 0 {
            state.encrypted = state.session.writer().write_vectored(frames)?;
        }
        let written = match self.send(&mut state.session) {
            (_, Ok(())) => state.encrypted,
            // A record in part is progress; the last byte counts when all of them are gone.
            (taken @ 1.., Err(error)) if error.kind() == io::ErrorKind::WouldBlock && state.encrypted > 1 => {
                taken.min(state.encrypted - 1)
            }
            (_, Err(error)) => return Err(error),
        };
        state.encrypted -= written;
        Ok(written)
    }

    /// What these bytes from the kernel say, together with those before.
    pub(super) fn decrypt(&self, mut came: &[u8]) -> io::Result<(Vec<u8>, Inflow)> {
        let mut state = self.lock();
        let session = &mut state.session;
        let mut read = Vec::new();
        let mut inflow = Ok(Inflow::Open);
        while !came.is_empty() && matches!(inflow, Ok(Inflow::Open)) {
            session.read_tls(&mut came)?;
            inflow = take_plaintext(session, &mut read);
        }
        // If the kernel takes nothing now, the next write takes it along.
        let _ = self.send(session);
        Ok((read, inflow?))
    }

    /// Tells the other side that nothing more comes.
    pub(super) fn close_notify(&self) {
        let mut state = self.lock();
        state.session.send_close_notify();
        // A connection that is about to be closed waits for nobody who does not read.
        let _ = self.send(&mut state.session);
    }

    /// Hands the records that wait to the kernel, and says how many bytes of them it has taken.
    fn send(&self, session: &mut ServerConnection) -> (usize, io::Result<()>) {
        let mut taken = 0;
        while session.wants_write() {
            match session.write_tls(&mut Kernel(&self.tcp)) {
                Ok(count) => taken += count,
                Err(error) => return (taken, Err(error)),
            }
        }
        (taken, Ok(()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works on the records that have come in, and adds what they say.
fn take_plaintext(session: &mut ServerConnection, read: &mut Vec<u8>) -> io::Result<Inflow> {
    let state = session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let before = read.len();
    read.resize(before + state.plaintext_bytes_to_read(), 0);
    session.reader().read_exact(&mut read[before..])?;
    Ok(if state.peer_has_closed() { Inflow::Ended } else { Inflow::Open })
}

/// The stream as what records are written to.
struct Kernel<'a>(&'a TcpStream);

impl Write for Kernel<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, records: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(records)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
