//! The accept loop: one task a TCP connection, until it is upgraded or ends.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::HOST;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::config::Config;
use crate::doors::Peer;

/// How long to wait when the system has no file descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How long requests that are under way have when the server stops.
const UNFINISHED: Duration = Duration::from_secs(1);

/// Serves every connection until `closing` is cancelled.
pub(super) async fn run(
    listener: TcpListener,
    router: Router,
    config: Arc<Config>,
    tasks: TaskTracker,
    closing: CancellationToken,
) {
    let header_timeout = Duration::from_millis(config.server.header_timeout_ms);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                stream.set_nodelay(true).ok();
                tasks.spawn(serve(stream, Peer(peer), router.clone(), header_timeout, closing.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: Peer, router: Router, header_timeout: Duration, closing: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        // A request that names a host in its target means that one: RFC 9112, section 3.2.2.
        let target = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        if let Some(target) = target {
            request.headers_mut().insert(HOST, target);
        }
        router.clone().oneshot(request)
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
                Err(_) => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
    }
}
