//! What every response tells a browser, and what none tells a stranger.

use reqwest::Method;
use serde_json::json;
use tiercast::config::Right;

use crate::kit::{Call, Reply, TestServer, key};

async fn send(call: Call) -> Reply {
    call.send().await.expect("an answer")
}

fn assert_guarded(what: &str, reply: &Reply) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(reply.header(name), value, "{what}: {:?}", reply.headers);
    }
    let policy = reply.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{what}: {policy}");
    for banner in ["server", "x-powered-by", "via", "set-cookie"] {
        assert!(!reply.headers.contains_key(banner), "{what}: {:?}", reply.headers);
    }
    let version = env!("CARGO_PKG_VERSION");
    assert!(!reply.text.to_lowercase().contains("tiercast/") || what == "/", "{what} tells {version}: {}", reply.text);
}

#[tokio::test]
async fn every_response_is_guarded() {
    let server = TestServer::start(|config| {
        config.doors.demo.enabled = true;
        config.doors.dexter.enabled = true;
        config.doors.dexter.organization = "dex".into();
        config.doors.dexter.anonymous_channels = vec!["issues".into()];
    })
    .await;
    for path in [
        "/",
        "/demo/demo.js",
        "/demo/demo.css",
        "/favicon.ico",
        "/nothing/here",
        "/livez",
        "/readyz",
        "/connections",
        "/api/ws/health",
        "/api/ws/stats",
        "/api/ws/connections",
        "/api/ws/connections/unknown",
        "/api/ws/broadcast",
        "/ws/?EIO=4&transport=polling",
        "/ws/?EIO=9",
        "/ws/socket.io.js",
    ] {
        assert_guarded(path, &send(Call::get(&server.url(path))).await);
    }
    let page = send(Call::get(&server.url("/"))).await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("script-src 'self'") && policy.contains("style-src 'self'"), "{policy}");
    assert!(!page.text.contains("style=") && !page.text.contains("<style") && !page.text.contains(" on"), "inline");
}

#[tokio::test]
async fn answers_of_the_api_are_kept_by_nobody() {
    let server = TestServer::start(|_| {}).await;
    server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
    for path in ["/stats", "/connections", "/rooms", "/connections/unknown", "/presence?organization_id=org-1"] {
        let reply = send(server.call(Method::GET, path)).await;
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
    }
    let polling = send(Call::get(&server.url("/ws/?EIO=4&transport=polling"))).await;
    assert_eq!(polling.header("cache-control"), "no-store");
    // What has a tag is kept by its caller, who asks before it is used again.
    let path = "/rooms/kpi:org:org-1/messages";
    let first = send(server.call(Method::GET, path)).await;
    assert_eq!(first.header("cache-control"), "private, no-cache");
    let again = send(server.call(Method::GET, path).header("if-none-match", first.header("etag"))).await;
    assert_eq!((again.status, again.header("cache-control")), (304, "private, no-cache"));
    let bundle = send(Call::get(&server.url("/ws/socket.io.js"))).await;
    assert_eq!(bundle.header("cross-origin-resource-policy"), "cross-origin");
}

#[tokio::test]
async fn health_tells_a_stranger_what_the_contract_says_and_no_more() {
    let server = TestServer::start(|config| config.api.keys = vec![key("one", &[Right::Read], None)]).await;
    let health = send(Call::get(&server.url("/api/ws/health"))).await.json();
    let fields: Vec<_> = health.as_object().expect("an object").keys().map(String::as_str).collect();
    let known = ["active_connections", "initialized", "service", "status", "timestamp", "uptime_seconds"];
    assert!(fields.iter().all(|field| known.contains(field)) && fields.len() == known.len(), "{fields:?}");
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ok\n")] {
        assert_eq!(send(Call::get(&server.url(path))).await.text, text);
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused_and_costs_no_more_than_its_bytes() {
    let server = TestServer::start(|_| {}).await;
    // A kilobyte that would be a megabyte.
    let bomb: Vec<u8> = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3].into_iter().chain([0; 1_000]).collect();
    for path in ["/broadcast", "/broadcast/kpi", "/broadcast/batch"] {
        for encoding in ["gzip", "deflate", "br", "zstd", "gzip, identity", "GZIP"] {
            let call = server.call(Method::POST, path).header("content-type", "application/json");
            let reply = send(call.header("content-encoding", encoding).body(bomb.clone())).await;
            assert_eq!(reply.status, 415, "{path} with {encoding}: {}", reply.text);
        }
    }
    let call = server.call(Method::POST, "/broadcast").header("content-encoding", "identity");
    let body = json!({ "event": "kpi:update", "data": {}, "target": { "organization_id": "org-1" } });
    assert_eq!(send(call.json(&body)).await.status, 200);
}

#[tokio::test]
async fn deep_and_ambiguous_json_is_refused_or_passed_on_and_breaks_nothing() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let target = r#""target":{"organization_id":"org-1"}"#;
    for (body, status) in [
        (format!(r#"{{"event":{},"data":{{}},{target}}}"#, deep(400_000)), 400),
        (format!(r#"{{"event":"kpi:update","data":{{}},"target":{}}}"#, deep(400_000)), 400),
        (format!(r#"{{"event":"kpi:update","data":{{}},"target":{{"channels":{}}}}}"#, deep(400_000)), 400),
        ("[".repeat(1_000_000), 400),
        (format!("{{\"a\":{}", "[".repeat(900_000)), 400),
        // The same key twice would be read by one program as this and by another as that.
        (format!(r#"{{"event":"kpi:update","event":"kpi:alert","data":{{}},{target}}}"#), 400),
        (format!(r#"{{"event":"kpi:update","data":{{}},{target},{target}}}"#), 400),
        (
            r#"{"event":"kpi:update","data":{},"target":{"organization_id":"org-1","organization_id":"org-2"}}"#.into(),
            400,
        ),
    ] {
        let reply = send(server.call(Method::POST, "/broadcast").raw_json(body.clone())).await;
        assert_eq!(reply.status, status, "{}: {}", &body[..body.len().min(80)], reply.text);
    }
    agent.expect_silence(&server).await;
}
