//! The page: three files, served as they are.

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::doors::state::Doors;

/// `GET /` and what it loads.
pub(in crate::doors) fn routes() -> Router<Arc<Doors>> {
    Router::new()
        .route("/", get(|| file("text/html; charset=utf-8", include_str!("assets/index.html"))))
        .route("/demo/demo.css", get(|| file("text/css; charset=utf-8", include_str!("assets/demo.css"))))
        // The page has no icon; without an answer every browser would log a missing file.
        .route("/favicon.ico", get(|| async { http::StatusCode::NO_CONTENT }))
        .route("/demo/demo.js", get(|| file("text/javascript; charset=utf-8", include_str!("assets/demo.js"))))
}

async fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text)
}
