//! The accept loop: one task a TCP connection, until it is upgraded or ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::reception::{Arrival, Reception};
use crate::doors::Scheme;

/// How long to wait when the system has no file descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How long requests that are under way have when the server stops.
const UNFINISHED: Duration = Duration::from_secs(1);

/// What the connections of a listener are served with.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) router: Router,
    pub(super) reception: Arc<Reception>,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
}

/// Serves every connection until `closing` is cancelled.
pub(super) async fn run(listener: TcpListener, service: Service) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = service.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                stream.set_nodelay(true).ok();
                service.tasks.spawn(receive(stream, address, service.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Serves one connection.
async fn receive(stream: TcpStream, address: SocketAddr, service: Service) {
    let arrived = tokio::select! {
        arrived = service.reception.receive(stream, address) => arrived,
        () = service.closing.cancelled() => return,
    };
    let outcome = match arrived {
        Ok(Arrival::Plain(stream, client)) => serve(stream, address, client, Scheme::Http, service).await,
        // In a box of its own, so that it costs nothing where there is no TLS.
        Ok(Arrival::Tls(stream, client)) => Box::pin(serve(*stream, address, client, Scheme::Https, service)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, %address, "connection ended");
    }
}

/// Serves HTTP; `hop` is who is at the other end of the stream, and `client` who that speaks for.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    hop: SocketAddr,
    client: SocketAddr,
    scheme: Scheme,
    service: Service,
) -> io::Result<()> {
    let Service { router, reception, closing, .. } = service;
    let header_timeout = reception.header_timeout;
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        let hosts = request.headers().get_all(HOST).iter().count();
        // A request that names a host in its target means that one: RFC 9112, section 3.2.2.
        let target = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        if let Some(target) = target {
            request.headers_mut().insert(HOST, target);
        }
        let peer = reception.proxies.peer(hop, client, scheme, request.headers_mut());
        request.extensions_mut().insert(peer);
        let answer = (hosts <= 1).then(|| router.clone().oneshot(request));
        async move {
            match answer {
                Some(answer) => answer.await,
                None => Ok(two_hosts()),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // A request that is never finished must not hold the stop.
            match tokio::time::timeout(UNFINISHED, connection).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(()),
            }
        }
    };
    outcome.map_err(io::Error::other)
}

/// Nobody can say which host such a request is for, and a proxy may have taken the other: RFC 9112, section 3.2.
fn two_hosts() -> Response {
    (StatusCode::BAD_REQUEST, [(CONNECTION, "close")], "a request has one Host\n").into_response()
}
