//! What the path of a call names.

use axum::extract::FromRequestParts;
use axum::extract::rejection::PathRejection;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The names in a path, as axum reads them, and refused like everything else that a call gets wrong.
#[derive(Debug)]
pub(in crate::doors) struct Path<T>(pub(in crate::doors) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path: Result<axum::extract::Path<T>, PathRejection> =
            axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(names)| Self(names)).map_err(|_| ApiError::bad_request("the path is not UTF-8"))
    }
}
