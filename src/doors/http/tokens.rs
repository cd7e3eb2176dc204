//! `POST /token`: a backend has a token made for a client, and a client exchanges its own for a later one.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CACHE_CONTROL;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{id, parse};
use super::caller::Caller;
use super::error::ApiError;
use super::reader::{Reader, bearer};
use crate::auth::{Deed, Grant, MintError, Minted, RenewError};
use crate::config::Right;
use crate::doors::state::Doors;
use crate::rooms::Id;
use crate::wire::{WireError, iso};

/// Longest time that a token holds, in milliseconds: 400 days.
const MAX_TTL_MS: u64 = 34_560_000_000;

/// What a token is to say; a list that is absent means all, and one of roles none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    user_id: String,
    organization_id: String,
    departments: Option<Vec<String>>,
    queues: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    #[serde(default)]
    roles: Vec<String>,
    expires_in_ms: Option<u64>,
}

/// Answers `{success, token, token_id, expires_at}`, for no cache.
pub(in crate::doors) async fn make(
    State(doors): State<Arc<Doors>>,
    reader: Reader,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<([(http::HeaderName, &'static str); 1], Json<Value>), ApiError> {
    let tokens = doors.sessions.authenticator().tokens()?;
    let minted = match reader {
        Reader::Caller(caller) => {
            let grant = grant(&doors, &caller, &headers, &body?)?;
            let minted = tokens.mint(&grant)?;
            told(caller.name(), "make a token", &grant.organization, &grant.user);
            minted
        }
        Reader::Client(client) => {
            let minted = tokens.renew(bearer(&headers).unwrap_or_default())?;
            told(client.user.as_str(), "renew a token", &client.organization, &client.user);
            minted
        }
    };
    let Minted { token, token_id, expires_at_ms } = minted;
    let answer = json!({ "success": true, "token": token, "token_id": token_id, "expires_at": iso(expires_at_ms) });
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)))
}

fn told(who: &str, action: &str, organization: &Id, user: &Id) {
    let (organization, subject) = (Some(organization.as_str()), Some(user.as_str()));
    Deed { who, action, organization, subject, ..Deed::default() }.done();
}

fn grant(doors: &Doors, caller: &Caller, headers: &HeaderMap, body: &[u8]) -> Result<Grant, ApiError> {
    caller.may_call(Right::Admin)?;
    let body: Body = parse(headers, body)?;
    let organization = id("organization_id", &body.organization_id)?;
    if !caller.may_touch(Some(&organization)) {
        return Err(ApiError::forbidden("this key may not touch that organization"));
    }
    let ttl_ms = body.expires_in_ms.unwrap_or(doors.config.auth.jwt.token_ttl_ms);
    if !(1_000..=MAX_TTL_MS).contains(&ttl_ms) {
        return Err(ApiError::bad_request(format!("expires_in_ms must be 1000 to {MAX_TTL_MS}, found {ttl_ms}")));
    }
    Ok(Grant {
        user: id("user_id", &body.user_id)?,
        organization,
        departments: ids("departments", body.departments.as_deref())?,
        queues: ids("queues", body.queues.as_deref())?,
        channels: channels(doors, body.channels)?,
        roles: body.roles,
        lifetime: Duration::from_millis(ttl_ms),
    })
}

fn ids(field: &str, texts: Option<&[String]>) -> Result<Option<Vec<Id>>, ApiError> {
    texts.map(|texts| texts.iter().map(|text| id(field, text)).collect()).transpose()
}

/// A channel that is misspelt would be one that the client is refused later.
fn channels(doors: &Doors, names: Option<Vec<String>>) -> Result<Option<Vec<String>>, ApiError> {
    let unknown = |name: &&String| doors.hub.catalogue.channel(name).is_none();
    match names.iter().flatten().find(unknown) {
        Some(name) => Err(WireError::UnknownChannel(name.chars().take(64).collect()).into()),
        None => Ok(names),
    }
}

impl From<MintError> for ApiError {
    fn from(error: MintError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<RenewError> for ApiError {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::Refused(error) => error.into(),
            RenewError::Unmade(error) => error.into(),
        }
    }
}
