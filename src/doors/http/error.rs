//! Failures of the HTTP API: `{error, code}` and a status.

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::others;
use crate::auth::Denied;
use crate::cluster::NodeId;
use crate::wire::{Code, WireError};

/// Why a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doors) struct ApiError {
    status: StatusCode,
    code: Code,
    message: String,
    /// When it is worth another try, where it is.
    retry_after_seconds: u32,
    /// Nodes that might know better.
    unanswered: Vec<NodeId>,
}

impl ApiError {
    fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_seconds: 1, unanswered: Vec::new() }
    }

    /// 400: the call is not what the contract asks for.
    pub(in crate::doors) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidMessage, message)
    }

    /// 403: the caller may not do this.
    pub(in crate::doors) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, Code::Unauthorized, message)
    }

    /// 404: there is no such thing, or the caller may not know of it.
    pub(in crate::doors) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::RoomNotFound, message)
    }

    /// 409: somebody else has what the caller asks for.
    pub(in crate::doors) fn taken(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, Code::Unauthorized, message)
    }

    /// 409: an idempotency key stands for another call.
    pub(super) fn reused_key() -> Self {
        let message = "this idempotency key was used for another call; use a new key for a new call";
        Self::new(StatusCode::CONFLICT, Code::InvalidMessage, message)
    }

    /// 503: it cannot be done now.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::InternalError, message)
    }

    /// 503: it cannot be told as long as these nodes do not answer.
    pub(super) fn unanswered(message: impl Into<String>, nodes: Vec<NodeId>) -> Self {
        Self { unanswered: nodes, ..Self::unavailable(message) }
    }

    /// 413: a message is over the limit.
    pub(super) fn too_large() -> Self {
        let message = "the body is larger than limits.max_message_size_bytes";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::MessageTooLarge, message)
    }

    /// 429: the caller does this more often than it may.
    pub(super) fn too_many(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, Code::RateLimitExceeded, message);
        Self { retry_after_seconds, ..error }
    }

    /// 500: the server's own fault, about which nobody is told more.
    pub(in crate::doors) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::InternalError, "the server has failed; try again later")
    }

    /// What is wrong.
    pub(in crate::doors) fn message(&self) -> &str {
        &self.message
    }

    /// The status that it is answered with.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The failure of one item of a batch: `{success, status, error, code}`.
    pub(super) fn item(&self) -> Value {
        json!({ "success": false, "status": self.status.as_u16(), "error": self.message, "code": self.code })
    }

    /// 415: the body is not JSON as it stands.
    pub(super) fn wrong_type(message: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidMessage, message)
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, denied.to_string())
    }
}

impl From<WireError> for ApiError {
    fn from(error: WireError) -> Self {
        let status = match error.code() {
            Code::AuthFailed => StatusCode::UNAUTHORIZED,
            Code::Unauthorized => StatusCode::FORBIDDEN,
            Code::InvalidMessage | Code::SubscriptionFailed => StatusCode::BAD_REQUEST,
            Code::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::RateLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Code::RoomNotFound => StatusCode::NOT_FOUND,
            Code::RoomFull | Code::ConnectionLimit | Code::InternalError => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(rejection.body_text())
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(),
            status => Self::new(status, Code::InvalidMessage, rejection.body_text()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.message, "code": self.code });
        others::name(&self.unanswered, &mut body);
        let mut response = (self.status, Json(body)).into_response();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(self.retry_after_seconds));
        }
        response
    }
}

/// A path that nothing serves.
pub(in crate::doors) async fn nothing_here() -> ApiError {
    ApiError::not_found("there is nothing here")
}

/// A path that serves other methods.
pub(in crate::doors) async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, Code::InvalidMessage, "this path does not take that method")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_status() {
        let status = |error: WireError| ApiError::from(error).status.as_u16();
        assert_eq!(status(WireError::UnknownEvent("e".into())), 400);
        assert_eq!(status(WireError::NoTarget), 400);
        assert_eq!(status(WireError::TooLarge { size: 2, limit: 1 }), 413);
        assert_eq!(status(WireError::RateLimited(1)), 429);
        assert_eq!(status(WireError::Stopping), 503);
        assert_eq!(ApiError::from(Denied::Unknown).status.as_u16(), 401);
        assert_eq!(ApiError::forbidden("no").status.as_u16(), 403);
    }
}
