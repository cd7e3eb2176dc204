//! What a call says: its body, and the ids in it.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::rooms::Id;

/// Reads a body that is a JSON object.
///
/// # Errors
/// If it says that it is something else, or does not fit.
pub(in crate::doors) fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, ApiError> {
    check_kind(headers)?;
    object(body)
}

/// Reads JSON that is an object.
///
/// # Errors
/// If it does not fit.
pub(in crate::doors) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::bad_request("the body must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("the body is not valid: {error}")))
}

/// Reads an id from a field of a body.
///
/// # Errors
/// If it is none.
pub(super) fn id(field: &str, text: &str) -> Result<Id, ApiError> {
    Id::parse(text).map_err(|error| ApiError::bad_request(format!("{field} {error}")))
}

/// Checks that a request says that its body is JSON, as it stands.
///
/// # Errors
/// If it says anything else.
pub(super) fn check_kind(headers: &HeaderMap) -> Result<(), ApiError> {
    // Nothing is decompressed, so that no small body becomes a large one.
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(ApiError::wrong_type("send the body as it is, without Content-Encoding"));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" || kind.ends_with("+json") {
        return Ok(());
    }
    Err(ApiError::wrong_type("send Content-Type: application/json"))
}
