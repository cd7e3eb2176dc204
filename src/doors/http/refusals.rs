//! The audit lines of calls that are refused, whatever refuses them.

use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;

use crate::auth::Deed;
use crate::doors::state::Peer;

/// Who calls, once that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Who(Arc<OnceLock<Arc<str>>>);

impl Who {
    /// Notes the name of the caller's key.
    pub(super) fn is(&self, name: &Arc<str>) {
        self.0.set(name.clone()).ok();
    }
}

/// Whether a status says that the caller may not do this, or not now.
pub(super) fn is_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
}

/// Writes a line for a call that its caller may not make, or not so often.
pub(in crate::doors) async fn told(Extension(peer): Extension<Peer>, mut request: Request, next: Next) -> Response {
    let who = Who::default();
    request.extensions_mut().insert(who.clone());
    // The route and not the path: what stands in the place of an id may be a credential.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let status = response.status();
    if is_refusal(status) {
        let action = format!("{method} {}", route.as_ref().map_or("", MatchedPath::as_str));
        let who = who.0.get().map_or("nobody", |name| name);
        Deed { who, action: &action, address: Some(peer.client.ip()), ..Deed::default() }.refused(status.as_u16());
    }
    response
}
