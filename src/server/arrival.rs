//! What a TCP connection may do before anybody knows who it is: for how long, how large and how many.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::limits::{Arrival, Arrivals, Newcomer, Newcomers};
use crate::stats::{Counters, Refusal};
use crate::wire::Code;

/// Connections that a client on polling has beside each other, each of which may wait for its next request.
const PER_CLIENT: usize = 2;

/// The bounds of all TCP connections of a server.
#[derive(Debug)]
pub(super) struct Bounds {
    arrivals: Arc<Arrivals>,
    /// Those that have not asked for anything yet.
    half_open: Arc<Newcomers>,
    /// Those that have, and may ask for more.
    idle: Arc<Newcomers>,
    config: Arc<Config>,
    counters: Arc<Counters>,
}

impl Bounds {
    pub(super) fn new(config: &Arc<Config>, counters: &Arc<Counters>) -> Arc<Self> {
        Self::with(config, counters, config.limits.max_connections_per_address)
    }

    /// Those of the connections that other nodes make, each of which speaks for many clients.
    pub(super) fn of_nodes(config: &Arc<Config>, counters: &Arc<Counters>) -> Arc<Self> {
        Self::with(config, counters, 0)
    }

    fn with(config: &Arc<Config>, counters: &Arc<Counters>, per_address: usize) -> Arc<Self> {
        let limits = &config.limits;
        let idle = limits.max_connections_total.saturating_mul(PER_CLIENT);
        let idle = idle.saturating_add(limits.max_half_open_connections);
        Arc::new(Self {
            arrivals: Arrivals::new(per_address),
            half_open: Newcomers::new(limits.max_half_open_connections, usize::MAX, Duration::ZERO),
            idle: Newcomers::new(idle, usize::MAX, Duration::ZERO),
            config: config.clone(),
            counters: counters.clone(),
        })
    }

    /// How many TCP connections are open.
    pub(super) fn connections(&self) -> usize {
        self.arrivals.count()
    }

    /// Lets a connection from this address in, which counts for `counted`; none if there are too many.
    pub(super) fn admit(
        self: &Arc<Self>,
        stream: &TcpStream,
        address: IpAddr,
        counted: Option<IpAddr>,
    ) -> Option<Arc<Guard>> {
        let Some(arrival) = self.arrivals.arrive(counted) else {
            self.counters.refused(Refusal::AddressConnections);
            return None;
        };
        set_write_timeout(stream, Duration::from_millis(self.config.outbox.write_stall_timeout_ms));
        let guard = Arc::new(Guard {
            bounds: self.clone(),
            arrival,
            address,
            displaced: CancellationToken::new(),
            has_asked: AtomicBool::new(false),
            waiting: Mutex::default(),
        });
        guard.wait(&self.half_open);
        Some(guard)
    }
}

/// A client that takes nothing of an answer for so long is cut, by the system, where it can.
#[cfg(target_os = "linux")]
fn set_write_timeout(stream: &TcpStream, timeout: Duration) {
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout)).ok();
}

#[cfg(not(target_os = "linux"))]
fn set_write_timeout(_: &TcpStream, _: Duration) {}

/// One TCP connection, as long as HTTP is spoken on it.
#[derive(Debug)]
pub(super) struct Guard {
    bounds: Arc<Bounds>,
    arrival: Arc<Arrival>,
    address: IpAddr,
    /// Cancelled when it makes room for another.
    displaced: CancellationToken,
    has_asked: AtomicBool,
    /// Held while the client is to ask for something.
    waiting: Mutex<Option<Newcomer>>,
}

impl Guard {
    /// HTTP within the bounds.
    pub(super) fn http(&self) -> http1::Builder {
        let config = &self.bounds.config;
        let mut http = http1::Builder::new();
        // It counts from the last answer, or from the beginning, so that who asks for nothing goes too.
        http.timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(config.server.header_timeout_ms))
            .max_header_size(config.limits.max_request_head_bytes);
        http
    }

    /// It is from this address, as a proxy has told; false if there are too many.
    pub(super) fn turns_out(&self, client: IpAddr) -> bool {
        let is_in = self.arrival.turns_out(client);
        if !is_in {
            self.bounds.counters.refused(Refusal::AddressConnections);
        }
        is_in
    }

    /// A request has come: its body has to follow in time.
    pub(super) fn begin(&self, request: Request<Incoming>) -> Result<Request<Body>, Box<Response>> {
        self.has_asked.store(true, Ordering::Relaxed);
        let waited = self.lock().take();
        drop(waited);
        let limit = self.bounds.config.limits.max_query_bytes;
        if request.uri().query().is_some_and(|query| query.len() > limit) {
            self.bounds.counters.refused(Refusal::LargeHeads);
            let error = format!("the query is longer than {limit} bytes");
            let body = json!({ "error": error, "code": Code::MessageTooLarge });
            return Err(Box::new((StatusCode::URI_TOO_LONG, axum::Json(body)).into_response()));
        }
        let timeout = Duration::from_millis(self.bounds.config.server.body_timeout_ms);
        let counters = self.bounds.counters.clone();
        let mut request = request.map(|body| match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(Timed { body, deadline: Instant::now() + timeout, sleep: None, counters }),
        });
        request.extensions_mut().insert(self.arrival.clone());
        Ok(request)
    }

    /// A request is answered: another may follow.
    pub(super) fn end(&self, response: &Response) {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.wait(&self.bounds.idle);
        }
    }

    /// Returns when the connection has to make room.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// The connection has ended with a fault.
    pub(super) fn failed(&self, error: &hyper::Error) {
        if error.is_parse_too_large() {
            self.bounds.counters.refused(Refusal::LargeHeads);
        } else if error.is_timeout() && !self.has_asked.load(Ordering::Relaxed) {
            self.bounds.counters.refused(Refusal::SlowHeads);
        }
    }

    fn wait(&self, among: &Arc<Newcomers>) {
        let newcomer = among.enter(self.address);
        if let Some(newcomer) = &newcomer {
            let (displaced, counters) = (self.displaced.clone(), self.bounds.counters.clone());
            newcomer.when_displaced(move || {
                counters.refused(Refusal::SilentConnections);
                displaced.cancel();
            });
        }
        *self.lock() = newcomer;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Newcomer>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that has to be there in time.
struct Timed {
    body: Incoming,
    deadline: Instant,
    /// Made when it has to be waited for.
    sleep: Option<Pin<Box<Sleep>>>,
    counters: Arc<Counters>,
}

/// The body of a request took too long.
#[derive(Debug)]
struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body took longer than server.body_timeout_ms")
    }
}

impl Error for TooSlow {}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = self.deadline;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(sleep.as_mut().poll(cx));
        self.counters.refused(Refusal::SlowBodies);
        Poll::Ready(Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
