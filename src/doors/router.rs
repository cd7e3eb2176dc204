//! All routes, by who calls them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{any, delete, get, post};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use super::http::{
    batch, broadcast, connections, drain, health, history, messages, nodes, presence, refusals, revocations, rooms,
    stats, tokens,
};
use super::plain::{self, Entrance};
use super::state::Doors;
use super::{demo, elsewhere, headers, http, intakes, socketio};

/// Everything that one port serves.
pub fn router(doors: &Arc<Doors>) -> Router {
    let config = &doors.config;
    let mut router = Router::new()
        // Used by backend services.
        .route("/api/ws/broadcast", post(broadcast::any))
        .route(
            "/api/ws/broadcast/batch",
            post(batch::publish_all)
                .layer(DefaultBodyLimit::max(batch::MESSAGES * config.limits.max_message_size_bytes)),
        )
        .route("/api/ws/broadcast/{kind}", post(broadcast::shortcut))
        .route("/api/ws/messages/{message_id}", get(messages::one))
        .route("/api/ws/messages/{message_id}/receipts", get(messages::receipts))
        // Used by operators.
        .route("/api/ws/stats", get(stats::read))
        .route("/api/ws/connections", get(connections::list))
        .route("/api/ws/connections/{socket_id}", get(connections::one))
        .route("/api/ws/connections/{socket_id}", delete(connections::disconnect))
        .route("/api/ws/nodes", get(nodes::list))
        .route("/api/ws/rooms", get(rooms::list))
        .route("/api/ws/rooms/{room}/messages", get(history::read))
        .route("/api/ws/presence", get(presence::list))
        .route("/api/ws/drain", post(drain::begin))
        .route("/api/ws/revocations", post(revocations::revoke))
        // Used by those who give clients their tokens, and by clients.
        .route("/api/ws/token", post(tokens::make))
        .route("/api/ws/health", get(health::health))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        // Used by the services of the systems behind the plain doors.
        .merge(intakes::routes(config))
        .layer(from_fn(refusals::told))
        .layer(DefaultBodyLimit::max(config.limits.max_message_size_bytes));
    // Used by dashboards.
    for path in std::iter::once(&config.server.path).chain(&config.server.path_aliases) {
        router = router
            .route(path, any(socketio::handle))
            .route(&format!("{path}/"), any(socketio::handle))
            .route(&format!("{path}/{{file}}"), get(socketio::bundle));
    }
    // Used by a person with a browser.
    if config.doors.demo.enabled {
        router = router.merge(demo::routes());
    }
    // Upgrades to the doors that do not speak Socket.IO, whose paths lie among those above.
    let plain = from_fn_with_state(doors.clone(), plain::first);
    let router = router.fallback(http::nothing_here).method_not_allowed_fallback(http::wrong_method);
    let router = if config.compression.compression_enabled {
        let predicate = SizeAbove::new(config.compression.compression_threshold_bytes);
        router.layer(CompressionLayer::new().compress_when(predicate))
    } else {
        router
    };
    guarded(router.layer(plain).with_state(doors.clone()))
}

/// What the listener of a plain door serves, bound to this address.
pub fn plain_router(doors: &Arc<Doors>, door: u8, bound: SocketAddr) -> Router {
    let plain = from_fn_with_state(doors.clone(), plain::first);
    guarded(Router::new().fallback(plain::only).layer(plain).layer(Extension(Entrance { door, bound })))
}

/// What the listener for the other nodes serves.
pub fn node_router(doors: &Arc<Doors>) -> Router {
    guarded(Router::new().route(elsewhere::PATH, any(elsewhere::receive)).with_state(doors.clone()))
}

/// What holds for every response, whoever makes it.
fn guarded(router: Router) -> Router {
    router.layer(CatchPanicLayer::custom(headers::panicked)).layer(map_response(headers::complete))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_without_a_word_about_it() {
        let broken = get(|| async { panic!("a secret of the inside") as &'static str });
        let router = guarded(Router::new().route("/", broken));
        let response = router.oneshot(axum::http::Request::get("/").body(Body::empty()).expect("a request")).await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let body = axum::body::to_bytes(response.into_body(), 1_000).await.expect("a body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["code"], "INTERNAL_ERROR");
        assert!(!body.to_string().contains("inside"), "{body}");
    }
}
