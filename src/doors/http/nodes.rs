//! `GET /nodes`: the nodes of the cluster, as each has described itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::ApiError;
use crate::cluster::Node;
use crate::config::Right;
use crate::doors::state::Doors;
use crate::wire::iso;

/// Answers `{success, nodes:[{id, url?, version, started_at, draining, connections, leader}], total_count}`.
pub(in crate::doors) async fn list(State(doors): State<Arc<Doors>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let leader = doors.cluster.leader();
    let view = |node: &Node| {
        let mut view = json!({
            "id": node.id,
            "version": node.version,
            "started_at": iso(node.started_at_ms),
            "draining": node.draining,
            "connections": node.sockets,
            "leader": leader.as_ref() == Some(&node.id),
        });
        if !node.url.is_empty() {
            view["url"] = json!(node.url);
        }
        view
    };
    let nodes: Vec<Value> = doors.cluster.nodes().iter().map(view).collect();
    Ok(Json(json!({ "success": true, "total_count": nodes.len(), "nodes": nodes })))
}
