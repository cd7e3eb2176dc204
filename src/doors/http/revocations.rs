//! `POST /revocations`: tokens hold no more, and whoever is there by them is sent away.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{id, parse};
use super::caller::Caller;
use super::error::ApiError;
use super::others;
use crate::auth::{Deed, Revocation, Revoked};
use crate::config::Right;
use crate::doors::state::Doors;
use crate::wire::{WireError, iso, now_ms};

/// Longest id of a token, in bytes.
const MAX_TOKEN_ID: usize = 1_024;

/// The question to other nodes.
const KIND: &str = "revoke";

/// How many sockets of this node a revocation that another one has made ends.
pub(super) fn answer_others(doors: &Arc<Doors>) {
    let sessions = doors.sessions.clone();
    doors.cluster.answer(KIND, move |revocation: Revocation| {
        let sessions = sessions.clone();
        async move {
            let revoking = tokio::task::spawn_blocking(move || sessions.revoke(&revocation));
            revoking.await.ok().and_then(Result::ok)
        }
    });
}

/// A user, a token, or with neither the whole organization.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    organization_id: String,
    user_id: Option<String>,
    token_id: Option<String>,
}

/// Answers `{success, revoked_at, disconnected, message}`, once the revocation is on the disk.
pub(in crate::doors) async fn revoke(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Admin)?;
    let revocation = parse::<Body>(&headers, &body?)?.revocation()?;
    if !caller.may_touch(Some(&revocation.organization_id)) {
        return Err(ApiError::forbidden("this key may not touch that organization"));
    }
    let (revocation, sessions) = (Arc::new(revocation), doors.sessions.clone());
    let made = revocation.clone();
    let revoked = tokio::task::spawn_blocking(move || sessions.revoke(&made)).await;
    let disconnected = revoked.map_err(|_| WireError::Internal)?.map_err(|error| match error.kind() {
        io::ErrorKind::QuotaExceeded => ApiError::unavailable(error.to_string()),
        _ => ApiError::unavailable(
            "the revocation holds for this process only, since it could not be written; try again",
        ),
    })?;
    let Revocation { organization_id, revoked, at_ms } = &*revocation;
    let subject = match revoked {
        Revoked::Organization => None,
        Revoked::UserId(user) => Some(user.as_str()),
        Revoked::TokenId(token) => Some(token.as_str()),
    };
    // Whoever does not answer hears of it with the revocations that all share, and nobody is let in by it meanwhile.
    let asked = doors.cluster.ask::<usize>(KIND, &*revocation).await;
    let disconnected = disconnected + asked.answers.iter().map(|answer| answer.answer).sum::<usize>();
    doors.sessions.share_revocation(&revocation).await.map_err(|error| {
        tracing::error!(%error, "the other nodes are not told of a revocation");
        ApiError::unavailable("the revocation may hold for this node only, since Redis does not answer; try again")
    })?;
    let organization = Some(organization_id.as_str());
    Deed { who: caller.name(), action: "revoke", organization, subject, ..Deed::default() }.done();
    let mut answer = json!({
        "success": true,
        "revoked_at": iso(*at_ms),
        "disconnected": disconnected,
        "message": "Revoked",
    });
    others::name(&asked.unanswered, &mut answer);
    Ok(Json(answer))
}

impl Body {
    fn revocation(self) -> Result<Revocation, ApiError> {
        let revoked = match (self.user_id, self.token_id) {
            (None, None) => Revoked::Organization,
            (Some(user), None) => Revoked::UserId(id("user_id", &user)?),
            (None, Some(token)) if (1..=MAX_TOKEN_ID).contains(&token.len()) => Revoked::TokenId(token),
            (None, Some(_)) => {
                return Err(ApiError::bad_request(format!("token_id must have 1 to {MAX_TOKEN_ID} bytes")));
            }
            (Some(_), Some(_)) => return Err(ApiError::bad_request("give user_id or token_id, not both")),
        };
        Ok(Revocation { organization_id: id("organization_id", &self.organization_id)?, revoked, at_ms: now_ms() })
    }
}
