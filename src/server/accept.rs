//! The accept loop: one task a TCP connection, until it is upgraded or ends.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::arrival::{Bounds, Guard};
use super::reception::{Received, Reception};
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
    pub(super) bounds: Arc<Bounds>,
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
                // A proxy has as many connections as its clients need; they are counted by what it tells of them.
                let counted = Some(address.ip()).filter(|_| !service.reception.proxies.trusts(address));
                if let Some(guard) = service.bounds.admit(&stream, address.ip(), counted) {
                    service.tasks.spawn(receive(stream, address, guard, service.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Serves one connection.
async fn receive(stream: TcpStream, address: SocketAddr, guard: Arc<Guard>, service: Service) {
    let received = tokio::select! {
        received = service.reception.receive(stream, address) => received,
        () = guard.displaced() => return,
        () = service.closing.cancelled() => return,
    };
    let outcome = match received {
        Ok(Received::Plain(stream, client)) => serve(stream, (address, client, Scheme::Http), guard, service).await,
        // In a box of its own, so that it costs nothing where there is no TLS.
        Ok(Received::Tls(stream, client)) => {
            Box::pin(serve(*stream, (address, client, Scheme::Https), guard, service)).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, %address, "connection ended");
    }
}

/// Serves HTTP; `hop` is who is at the other end of the stream, and `client` who that speaks for.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (hop, client, scheme): (SocketAddr, SocketAddr, Scheme),
    guard: Arc<Guard>,
    service: Service,
) -> io::Result<()> {
    if client != hop && !guard.turns_out(client.ip()) {
        return Ok(());
    }
    let Service { router, reception, closing, .. } = service;
    let asked = guard.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (guard, router, reception) = (asked.clone(), router.clone(), reception.clone());
        async move {
            // With a length beside it a proxy may see another end of this request than we do, and hyper hides the
            // length: nothing behind it is read, as RFC 9112, section 6.1, asks for.
            let is_last = request.headers().contains_key(TRANSFER_ENCODING);
            let mut request = match guard.begin(request) {
                Ok(request) => request,
                Err(refusal) => return Ok(*refusal),
            };
            if request.headers().get_all(HOST).iter().count() > 1 {
                return Ok(two_hosts());
            }
            // A request that names a host in its target means that one: RFC 9112, section 3.2.2.
            let target = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
            if let Some(target) = target {
                request.headers_mut().insert(HOST, target);
            }
            let peer = reception.proxies.peer(hop, client, scheme, request.headers_mut());
            request.extensions_mut().insert(peer);
            let mut response = router.oneshot(request).await?;
            if is_last {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            guard.end(&response);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = guard.http().serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = guard.displaced() => return Ok(()),
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // A request that is never finished must not hold the stop.
            match tokio::time::timeout(UNFINISHED, connection).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(()),
            }
        }
    };
    outcome.inspect_err(|error| guard.failed(error)).map_err(io::Error::other)
}

/// Nobody can say which host such a request is for, and a proxy may have taken the other: RFC 9112, section 3.2.
fn two_hosts() -> Response {
    (StatusCode::BAD_REQUEST, [(CONNECTION, "close")], "a request has one Host\n").into_response()
}
