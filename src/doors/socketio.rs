//! The Socket.IO door: `/ws`, `/ws/` and its aliases, whatever the transport.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use socketioxide::service::SocketIoService;
use socketioxide::socket::Sid;
use socketioxide::{ParserConfig, SocketIo};
use tokio_util::task::TaskTracker;
use tower::Service;

use super::handshake::{Query, bearer_of};
use super::state::{Doors, Peer};
use super::{client_bundle, elsewhere, polling, upgrade};
use crate::config::Config;
use crate::connection::{Connection, EngineControl, EngineIo, EngineStream, Handle};
use crate::delivery::{Directory, RoomAdapter};

/// Path that socketioxide is told it serves; requests are rewritten to it.
const ENGINE_PATH: &str = "/ws";

/// Bytes that a POST may grow by on its way to socketioxide.
const REWRITING: usize = 64 * 1024;

type Service_ = SocketIoService<axum::Router, RoomAdapter>;

/// socketioxide: one service for all transports, so that sessions are shared.
#[derive(Clone)]
pub struct Engine {
    service: Service_,
    io: SocketIo<RoomAdapter>,
    directory: Arc<Directory>,
    tasks: TaskTracker,
}

impl Engine {
    /// socketioxide as the config asks for it.
    pub fn new(config: &Config, directory: &Arc<Directory>, tasks: &TaskTracker) -> Self {
        let limits = &config.limits;
        let hard_limit = limits.max_message_size_bytes.saturating_mul(4);
        let millis = std::time::Duration::from_millis;
        let parser = ParserConfig::common()
            .max_incoming_binaries(usize::from(limits.max_attachments_per_event))
            .max_incoming_binary_buf_size(hard_limit);
        let (service, io) = SocketIo::builder()
            .req_path(ENGINE_PATH)
            .ping_interval(millis(config.heartbeat.ping_interval_ms))
            .ping_timeout(millis(config.heartbeat.ping_timeout_ms))
            .connect_timeout(millis(limits.connect_timeout_ms))
            .max_payload((hard_limit + REWRITING) as u64)
            .max_buffer_size(config.outbox.polling_queue_packets)
            .ws_max_message_size(hard_limit)
            .ws_max_frame_size(hard_limit)
            // What it reads is in memory already.
            .ws_read_buffer_size(256)
            .with_parser(parser)
            .with_adapter::<RoomAdapter>(directory.clone())
            .build_with_inner_svc(axum::Router::new());
        Self { service, io, directory: directory.clone(), tasks: tasks.clone() }
    }

    /// The handle that namespaces are mounted on.
    pub fn io(&self) -> &SocketIo<RoomAdapter> {
        &self.io
    }

    /// Serves a request on polling.
    pub(super) async fn serve(&self, request: Request<Body>) -> Response {
        let mut service = self.service.clone();
        match Service::<Request<Body>>::call(&mut service, request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }

    /// Answers the ping that Engine.IO sends to a new session at once: clients expect the first one, as from
    /// its reference server, after an interval.
    pub(super) async fn answer_first_ping(&self, sid: Sid) {
        let uri = format!("{ENGINE_PATH}/?EIO=4&transport=polling&sid={sid}");
        let ping = Request::get(uri).body(Body::empty()).expect("a session id is part of a valid address");
        self.serve(ping).await;
        self.serve(packets(sid, EngineIo::V4, "3")).await;
    }

    /// Serves a WebSocket whose handshake is done.
    pub(super) fn serve_stream(&self, stream: EngineStream, connection: &Arc<Connection>, address: Uri) {
        let mut request = Request::new(());
        *request.uri_mut() = address;
        request.extensions_mut().insert(Handle::WebSocket(Arc::downgrade(connection)));
        let mut service = self.service.clone();
        let outcome = Service::<(EngineStream, Request<()>)>::call(&mut service, (stream, request)).into_inner();
        if let Err(error) = outcome {
            tracing::debug!(%error, "websocket refused by Engine.IO");
        }
    }
}

impl EngineControl for Engine {
    fn disconnect(&self, sid: Sid, namespaces: Vec<String>) {
        for rooms in namespaces.iter().filter_map(|namespace| self.directory.namespace(namespace)) {
            rooms.disconnect(sid);
        }
    }

    fn mark(&self, sid: Sid, namespace: &str, mark: &str) -> bool {
        self.directory.namespace(namespace).is_some_and(|rooms| rooms.mark(sid, mark))
    }

    fn close(&self, sid: Sid, protocol: EngineIo) {
        let close = match protocol {
            EngineIo::V3 => "1:1",
            EngineIo::V4 => "1",
        };
        let request = packets(sid, protocol, close);
        let engine = self.clone();
        self.tasks.spawn(async move { engine.serve(request).await });
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// Packets of a session on polling, as its client would send them.
fn packets(sid: Sid, protocol: EngineIo, body: &'static str) -> Request<Body> {
    let version = match protocol {
        EngineIo::V3 => 3,
        EngineIo::V4 => 4,
    };
    Request::post(format!("{ENGINE_PATH}/?EIO={version}&transport=polling&sid={sid}"))
        .header(CONTENT_TYPE, "text/plain;charset=UTF-8")
        .body(Body::new(Full::from(body)))
        .expect("a session id is part of a valid address")
}

/// Every request at the door's paths.
pub(super) async fn handle(
    State(doors): State<Arc<Doors>>,
    Extension(peer): Extension<Peer>,
    request: Request<Body>,
) -> Response {
    let headers = request.headers().clone();
    let mut response = route(&doors, peer, request).await;
    doors.origins.put_headers(&headers, peer.hop.scheme, response.headers_mut());
    response
}

/// `GET {path}/{file}`: the official browser client.
pub(super) async fn bundle(
    State(doors): State<Arc<Doors>>,
    Extension(peer): Extension<Peer>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut response = client_bundle::serve(&file, &headers)
        .unwrap_or_else(|| (StatusCode::NOT_FOUND, "there is nothing here\n").into_response());
    doors.origins.put_headers(&headers, peer.hop.scheme, response.headers_mut());
    response
}

async fn route(doors: &Arc<Doors>, peer: Peer, request: Request<Body>) -> Response {
    if request.method() == Method::OPTIONS {
        let mut response = StatusCode::NO_CONTENT.into_response();
        doors.origins.put_preflight(request.headers(), response.headers_mut());
        return response;
    }
    // Without CORS headers a page could not read an answer, but it would have made the request.
    if !doors.origins.allow(request.headers(), peer.hop.scheme) {
        return refusal(4);
    }
    let text = request.uri().query().unwrap_or_default().to_owned();
    let query = Query::parse(Some(&text));
    if query.protocol.is_none() {
        return if text.contains("EIO=") { refusal(5) } else { refusal(0) };
    }
    if query.sid.is_none()
        && let Err(refusal) = doors.take_turn(request.headers(), peer, &doors.main_gate()).await
    {
        return *refusal;
    }
    if let Some(bearer) = bearer_of(request.headers(), &query).filter(|_| query.sid.is_none()) {
        doors.sessions.authenticator().look_for_key(&bearer).await;
    }
    match query.node {
        Some(node) if !doors.is_here(node) => elsewhere::pass_on(doors, &query, request).await,
        _ => serve(doors, peer, &query, request).await,
    }
}

/// What is for this node.
pub(super) async fn serve(doors: &Arc<Doors>, peer: Peer, query: &Query<'_>, mut request: Request<Body>) -> Response {
    match query.transport {
        Some("websocket") if upgrade::is_upgrade(request.headers()) => upgrade::open(doors, peer, query, request),
        Some("polling") => {
            *request.uri_mut() = address(query);
            polling::serve(doors, peer, query, request).await
        }
        Some("websocket") => refusal(3),
        _ => refusal(0),
    }
}

/// What Engine.IO is asked for, without what is not for it: it keeps this for as long as the session lives, and a
/// query may hold a token.
fn address(query: &Query<'_>) -> Uri {
    let version = if query.protocol == Some(EngineIo::V3) { 3 } else { 4 };
    let sid = query.sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
    format!("{ENGINE_PATH}/?EIO={version}&transport=polling{sid}").parse().unwrap_or_default()
}

/// Engine.IO's own refusals, as its reference server writes them.
pub(super) fn refusal(code: u8) -> Response {
    let message = match code {
        0 => "Transport unknown",
        1 => "Session ID unknown",
        2 => "Bad handshake method",
        4 => "Forbidden",
        5 => "Unsupported protocol version",
        _ => "Bad request",
    };
    let status = if code == 4 { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
    (status, axum::Json(serde_json::json!({ "code": code, "message": message }))).into_response()
}
