//! The upgrade of a polling session to a WebSocket: <https://socket.io/docs/v4/engine-io-protocol/#upgrade>.
//!
//! Engine.IO gives its polling session up as soon as a probe begins, whatever
//! becomes of it. So the probe is answered here, and Engine.IO hears of it, as
//! if it had only begun, when the client has said that it goes over: a probe
//! that fails costs the session nothing.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Route};
use super::frame::{frame, opcode};
use super::plane::Plane;
use super::reader::FrameReader;
use super::transport::{Inflow, Transport};

/// The client asks whether its packets arrive.
pub(super) const PING: &[u8] = b"2probe";
/// They do.
pub(super) const PONG: &[u8] = b"3probe";
/// The client goes over.
pub(super) const UPGRADE: &[u8] = b"5";

/// How long a probe may take, as with the reference server.
const PATIENCE: Duration = Duration::from_secs(10);

/// Probes of one session at a time.
const MOST: usize = 4;

/// How long a poll may wait while a probe is under way: the client goes over only when its poll has ended.
const POLL: Duration = Duration::from_millis(100);

/// The probes of a session that are under way. They do not keep the session: it may end beside them.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// Cancelled when the session ends.
    pub(super) ended: CancellationToken,
    open: AtomicUsize,
    answered: AtomicUsize,
    /// Whether a poll has ended since the last answer.
    nudged: AtomicBool,
    answer: Notify,
}

/// A probe that has succeeded: the reader of its stream, and what came in behind it.
pub struct Probed {
    pub(super) reader: FrameReader,
    pub(super) behind: Vec<(u8, Vec<u8>)>,
}

/// One of the numbers of [`Probes`], one less when dropped.
struct Count<'a>(&'a AtomicUsize);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How far a probe has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Begun,
    Answered,
    Done,
    Failed,
}

/// Who answers a probe of a session.
#[derive(Debug)]
pub struct Prober {
    connection: Weak<Connection>,
    probes: Arc<Probes>,
    plane: Arc<Plane>,
}

impl Prober {
    /// Answers the probe of a client, and returns when the client goes over; `read` is what came in behind the
    /// handshake. None if the probe fails or the session ends, which it does as if there were no probe.
    pub async fn probe(&self, transport: &Transport, read: &[u8], deflate: bool) -> Option<(Arc<Connection>, Probed)> {
        let _open = Count::of(&self.probes.open, MOST)?;
        let probed = tokio::select! {
            probed = tokio::time::timeout(PATIENCE, self.converse(transport, read, deflate)) => probed.ok()??,
            () = self.probes.ended.cancelled() => return None,
            () = self.plane.stopping.cancelled() => return None,
        };
        Some((self.connection.upgrade()?, probed))
    }

    async fn converse(&self, transport: &Transport, read: &[u8], deflate: bool) -> Option<Probed> {
        let probes = &self.probes;
        let mut reader = FrameReader::new(self.plane.settings.max_frame_bytes, deflate);
        let mut behind = Vec::new();
        let mut step = Step::Begun;
        let mut answered = None;
        let mut bytes = read.to_vec();
        loop {
            let mut pongs = Vec::new();
            reader
                .feed(&mut bytes, |opcode, payload| match (step, opcode) {
                    (Step::Failed, _) => {}
                    (Step::Done, _) => behind.push((opcode, payload.to_vec())),
                    (_, opcode::PING) => pongs.push(frame(opcode::PONG, payload)),
                    (_, opcode::PONG) => {}
                    (Step::Begun, opcode::TEXT) if payload == PING => step = Step::Answered,
                    (Step::Answered, opcode::TEXT) if payload == UPGRADE => step = Step::Done,
                    _ => step = Step::Failed,
                })
                .ok()?;
            for pong in pongs {
                write(transport, pong).await.ok()?;
            }
            if step != Step::Begun && step != Step::Failed && answered.is_none() {
                write(transport, frame(opcode::TEXT, PONG)).await.ok()?;
                answered = Count::of(&probes.answered, MOST);
                probes.nudged.store(false, Ordering::SeqCst);
                probes.answer.notify_waiters();
            }
            match step {
                Step::Done => return Some(Probed { reader, behind }),
                Step::Failed => return None,
                _ => bytes = self::read(transport).await.ok().filter(|read| !read.is_empty())?,
            }
        }
    }
}

impl Connection {
    /// Who answers a probe of this session, if it began on polling.
    pub fn prober(self: &Arc<Self>) -> Option<Prober> {
        let probes = self.probes.clone()?;
        Some(Prober { connection: Arc::downgrade(self), probes, plane: self.plane.clone() })
    }

    /// Returns when a poll that finds nothing should end, since a client that probes waits for that.
    pub async fn poll_should_end(&self) {
        let Some(probes) = &self.probes else { return std::future::pending().await };
        loop {
            let answer = probes.answer.notified();
            if probes.answered.load(Ordering::SeqCst) == 0 {
                answer.await;
            } else if probes.nudged.swap(true, Ordering::SeqCst) {
                // A probe that never ends must not make its client poll as fast as it can.
                return tokio::time::sleep(POLL).await;
            } else {
                return;
            }
        }
    }

    /// The polling session goes on over this stream: what is sent from here on waits in the outbox until
    /// socketioxide's queue is empty. False if the session has ended, or has gone over to another stream.
    pub fn switch(self: &Arc<Self>, transport: Transport, deflate: bool) -> bool {
        let mut outbox = self.lock();
        let ends = self.retiring.load(Ordering::SeqCst) || self.is_severed() || self.is_dismissed();
        if ends || self.route() != Route::Polling || self.transport.set(transport).is_err() {
            return false;
        }
        if deflate {
            self.set_deflate();
        }
        self.set_route(Route::Switching, &outbox);
        outbox.begin_switch();
        drop(outbox);
        self.send_mark();
        true
    }

    /// Marks the end of what waits in socketioxide's queue; without a way into it, nothing does.
    pub(super) fn send_mark(self: &Arc<Self>) {
        let (number, namespace) = {
            let outbox = self.lock();
            (outbox.last_mark(), outbox.way_in())
        };
        let (Some(engine), Some(sid), Some(namespace)) = (self.plane.engine(), self.sid.get(), namespace) else {
            return self.pass_mark(number);
        };
        if !engine.mark(*sid, &namespace, &self.plane.mark_name(number)) {
            self.overflow();
        }
    }

    /// Number of the mark that an Engine.IO message is, if it is one.
    pub fn mark_of(&self, message: &str) -> Option<u32> {
        self.is_switching().then(|| self.plane.mark_of(message)).flatten()
    }

    /// A mark has come out of socketioxide's queue: everything before it has, too.
    pub fn pass_mark(self: &Arc<Self>, number: u32) {
        let mine = {
            let mut outbox = self.lock();
            if self.route() != Route::Switching || outbox.last_mark() != number {
                return;
            }
            outbox.end_switch();
            self.set_route(Route::Direct, &outbox);
            outbox.waiting() > 0 && !std::mem::replace(&mut outbox.scheduled, true)
        };
        if mine {
            self.flush();
        }
        if self.retiring.load(Ordering::SeqCst) {
            self.retire();
        }
    }
}

impl<'a> Count<'a> {
    /// One more, unless there are too many.
    fn of(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let more = |open: usize| (open < most).then_some(open + 1);
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Self(count))
    }
}

async fn write(transport: &Transport, mut bytes: Bytes) -> io::Result<()> {
    while !bytes.is_empty() {
        transport.tcp().writable().await?;
        match transport.try_write(std::slice::from_ref(&bytes)) {
            Ok(count) => bytes.advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What comes next; nothing if that is the end.
async fn read(transport: &Transport) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        transport.tcp().readable().await?;
        match transport.try_read(|bytes| read = bytes.to_vec()) {
            Ok(Inflow::Open) if read.is_empty() => {}
            Ok(_) => return Ok(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

impl std::fmt::Debug for Probed {
    /// What a client sends may hold a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probed").finish_non_exhaustive()
    }
}
