//! The page: three files, of which the first names the organization that the feed publishes to.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use crate::doors::headers::PAGE_POLICY;
use crate::doors::state::Doors;

/// `GET /` and what it loads.
pub(in crate::doors) fn routes() -> Router<Arc<Doors>> {
    Router::new()
        .route("/", get(index))
        .route("/demo/demo.css", get(|| file("text/css; charset=utf-8", include_str!("assets/demo.css"))))
        // The page has no icon; without an answer every browser would log a missing file.
        .route("/favicon.ico", get(|| async { http::StatusCode::NO_CONTENT }))
        .route("/demo/demo.js", get(|| file("text/javascript; charset=utf-8", include_str!("assets/demo.js"))))
}

async fn index(State(doors): State<Arc<Doors>>) -> impl IntoResponse {
    let headers = [(CACHE_CONTROL, HeaderValue::from_static("no-cache")), (CONTENT_SECURITY_POLICY, PAGE_POLICY)];
    (headers, Html(html(&doors.config.doors.demo.organization)))
}

/// The page of an organization.
fn html(organization: &str) -> String {
    include_str!("assets/index.html").replace("{organization}", &escaped(organization))
}

/// Text as the value of an attribute in double quotes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

async fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_its_organization() {
        assert!(html("org_7").contains(r#"<body data-organization="org_7">"#));
    }

    #[test]
    fn an_organization_is_never_markup() {
        let page = html(r#""><script>&"#);
        assert!(page.contains(r#"<body data-organization="&quot;&gt;&lt;script&gt;&amp;">"#));
    }
}
