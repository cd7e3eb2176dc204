//! `POST /broadcast/batch`: many broadcasts in one call, each with an answer of its own.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::body::check_kind;
use super::broadcast::{Body, Options, Repeat, key, publish};
use super::caller::Caller;
use super::error::ApiError;
use super::idempotency::{check, hash};
use super::refusals::is_refusal;
use crate::auth::Deed;
use crate::config::Right;
use crate::doors::state::Doors;

/// A batch may be as large as so many messages of the largest size.
pub(in crate::doors) const MESSAGES: usize = 8;

/// Answers `{success, results[]}`, in the order of the items; they are published in that order.
pub(in crate::doors) async fn publish_all(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    caller.require(Right::Publish)?;
    let body = body?;
    check_kind(&headers)?;
    let items: Vec<Box<RawValue>> = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body must be a JSON array of broadcasts: {error}")))?;
    let most = doors.config.api.max_batch_items;
    if items.is_empty() || items.len() > most {
        return Err(ApiError::bad_request(format!("a batch holds 1 to {most} broadcasts, not {}", items.len())));
    }
    let key = key(&headers)?;
    if let Some(key) = key {
        check(key)?;
    }
    let mut results = Vec::with_capacity(items.len());
    let mut over = None;
    for (index, item) in items.iter().enumerate() {
        let result = match &over {
            None => publish_one(&doors, &caller, key, index, item.get()).await,
            Some(error) => Err(ApiError::clone(error)),
        };
        results.push(result.unwrap_or_else(|error| {
            let item = error.item();
            if over.is_none() && is_refusal(error.status()) {
                Deed { who: caller.name(), action: "publish", ..Deed::default() }.refused(error.status().as_u16());
            }
            // What is behind it is refused too, so that what is sent again later keeps its order.
            over = over.take().or_else(|| (error.status() == StatusCode::TOO_MANY_REQUESTS).then_some(error));
            item
        }));
    }
    Ok(Json(json!({ "success": true, "results": results })))
}

async fn publish_one(
    doors: &Arc<Doors>,
    caller: &Caller,
    key: Option<&str>,
    index: usize,
    item: &str,
) -> Result<Value, ApiError> {
    caller.may_publish().await?;
    let limit = doors.config.limits.max_message_size_bytes;
    if item.len() > limit {
        return Err(ApiError::too_large());
    }
    let mut body: Body = serde_json::from_str(item)
        .map_err(|error| ApiError::bad_request(format!("the broadcast is not valid: {error}")))?;
    // The key of a batch stands for each of its items at its place.
    let own = body.message_id.take();
    if let Some(own) = &own {
        check(own)?;
    }
    let key = own.or_else(|| key.map(|key| format!("{key}#{index}")));
    let repeat = key.map(|key| Repeat { key, asked: hash(&[b"", item.as_bytes()]) });
    let options = Options::default();
    let publication = body.publication(&options, &doors.config)?;
    publish(doors, caller, publication, &options, repeat, "Message broadcasted").await.map(|Json(answer)| answer)
}
