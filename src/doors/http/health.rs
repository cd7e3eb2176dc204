//! Health: for people, load balancers and orchestrators. Tells no names, so it needs no key.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use crate::doors::state::Doors;
use crate::wire::now_iso;

const SERVICE: &str = "websocket-server";

/// `GET /api/ws/health`.
pub(in crate::doors) async fn health(State(doors): State<Arc<Doors>>) -> Response {
    if doors.is_stopping() || doors.is_draining() {
        let body = json!({ "status": "unhealthy", "service": SERVICE, "initialized": false, "timestamp": now_iso() });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    if !doors.cluster.is_well() {
        let status = json!({
            "status": "unhealthy",
            "service": SERVICE,
            "initialized": true,
            "redis": "does not answer",
            "active_connections": doors.sessions.count(),
            "timestamp": now_iso(),
        });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(status)).into_response();
    }
    Json(json!({
        "status": "healthy",
        "service": SERVICE,
        "initialized": true,
        "active_connections": doors.sessions.count(),
        "uptime_seconds": doors.counters.totals().uptime.as_secs(),
        "timestamp": now_iso(),
    }))
    .into_response()
}

/// `GET /livez`: the process answers.
pub(in crate::doors) async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the server takes new connections, and what is published.
pub(in crate::doors) async fn ready(State(doors): State<Arc<Doors>>) -> (StatusCode, String) {
    let reason = if doors.is_stopping() {
        "stopping".to_owned()
    } else if doors.is_draining() {
        format!("draining, {} left", doors.left())
    } else if !doors.cluster.is_well() {
        "Redis does not answer".to_owned()
    } else {
        return (StatusCode::OK, "ok\n".to_owned());
    };
    (StatusCode::SERVICE_UNAVAILABLE, reason + "\n")
}
