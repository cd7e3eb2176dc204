//! Keys of the HTTP API, and what is served without any.

use reqwest::Method;
use serde_json::{Value, json};
use tiercast::config::{Config, Right};

use crate::kit::{Call, ConnectOptions, Refused, Reply, TestServer, Transport, assert_shape, key};

fn keys(config: &mut Config) {
    config.api.keys = vec![
        key("publisher", &[Right::Publish], None),
        key("reader", &[Right::Read], None),
        key("admin", &[Right::Publish, Right::Read, Right::Admin], None),
        key("of-one", &[Right::Publish, Right::Read, Right::Admin], Some(&["org-1"])),
    ];
}

/// A call with the key of that name.
fn call(server: &TestServer, name: &str, method: Method, path: &str) -> Call {
    server.call(method, path).header("authorization", &format!("Bearer {name}-secret"))
}

async fn send(call: Call) -> Reply {
    call.send().await.expect("an HTTP answer")
}

async fn publish(server: &TestServer, name: &str, body: &Value) -> Reply {
    send(call(server, name, Method::POST, "/broadcast").json(body)).await
}

fn kpi(target: Value) -> Value {
    json!({ "event": "kpi:update", "data": {}, "target": target })
}

#[tokio::test]
async fn without_a_key_nothing_is_served() {
    let server = TestServer::start(keys).await;
    for (method, path) in [
        (Method::GET, "/stats"),
        (Method::GET, "/connections"),
        (Method::GET, "/connections/unknown"),
        (Method::DELETE, "/connections/unknown"),
        (Method::GET, "/rooms"),
        (Method::POST, "/broadcast"),
        (Method::POST, "/broadcast/kpi"),
        (Method::POST, "/broadcast/alert"),
        (Method::GET, "/messages/unknown/receipts"),
    ] {
        for header in ["", "Bearer ", "Bearer wrong", "Basic cHVibGlzaGVyLXNlY3JldA==", "publisher-secret-x"] {
            let call = server.call(method.clone(), path).header("authorization", header);
            let reply = send(call.raw_json("{")).await;
            assert_eq!(reply.status, 401, "{method} {path} with {header:?}: {}", reply.text);
            assert_shape("http-error", &reply.json());
        }
    }
}

#[tokio::test]
async fn a_key_does_what_its_rights_say() {
    let server = TestServer::start(keys).await;
    let body = kpi(json!({ "organization_id": "org-1" }));
    for (name, publishes, reads, deletes) in
        [("publisher", 200, 403, 403), ("reader", 403, 200, 403), ("admin", 200, 200, 404)]
    {
        assert_eq!(publish(&server, name, &body).await.status, publishes, "{name} publishes");
        for path in ["/stats", "/connections", "/rooms"] {
            assert_eq!(send(call(&server, name, Method::GET, path)).await.status, reads, "{name} reads {path}");
        }
        let deleted = send(call(&server, name, Method::DELETE, "/connections/unknown")).await;
        assert_eq!(deleted.status, deletes, "{name} deletes: {}", deleted.text);
        assert_shape("http-error", &deleted.json());
    }
}

#[tokio::test]
async fn a_key_of_one_organization_publishes_there_only() {
    let server = TestServer::start(keys).await.with_key("admin");
    let mut other = server.agent("org-2").await;
    assert_eq!(publish(&server, "of-one", &kpi(json!({ "organization_id": "org-1" }))).await.status, 200);
    let in_data = json!({ "event": "kpi:update", "data": { "organization_id": "org-2" } });
    for body in [
        kpi(json!({ "organization_id": "org-2" })),
        kpi(json!({ "organization_id": "org-2", "user_ids": [other.user] })),
        kpi(json!({ "organization_id": "org-1", "rooms": ["kpi:org:org-2"] })),
        kpi(json!({ "organization_id": "org-1", "socket_ids": [other.socket_id] })),
        in_data,
    ] {
        let reply = publish(&server, "of-one", &body).await;
        assert_eq!(reply.status, 403, "{body}: {}", reply.text);
        assert_shape("http-error", &reply.json());
        assert_eq!(reply.json()["code"], "UNAUTHORIZED");
    }
    let shortcut = call(&server, "of-one", Method::POST, "/broadcast/kpi");
    assert_eq!(send(shortcut.json(&json!({ "organization_id": "org-2" }))).await.status, 403);
    other.expect_silence(&server).await;
}

#[tokio::test]
async fn a_foreign_id_is_answered_like_one_that_does_not_exist() {
    let server = TestServer::start(keys).await.with_key("admin");
    let foreign = server.subscriber("org-2", json!({ "channels": ["kpi"] })).await;
    let unknown = "A".repeat(foreign.socket_id.len());
    for method in [Method::GET, Method::DELETE] {
        let [theirs, nobodys] = [&foreign.socket_id, &unknown].map(|id| format!("/connections/{id}"));
        let theirs = send(call(&server, "of-one", method.clone(), &theirs)).await;
        let nobodys = send(call(&server, "of-one", method, &nobodys)).await;
        assert_eq!((theirs.status, theirs.json()), (nobodys.status, nobodys.json()));
        assert_eq!(theirs.status, 404);
    }
    for (theirs, nobodys) in [
        (json!({ "socket_ids": [foreign.socket_id] }), json!({ "socket_ids": [unknown] })),
        (json!({ "except_socket_ids": [foreign.socket_id] }), json!({ "except_socket_ids": [unknown] })),
        (json!({ "rooms": ["kpi:org:org-2"] }), json!({ "rooms": ["kpi:org:org-9"] })),
        (json!({ "user_ids": [foreign.user] }), json!({ "user_ids": ["nobody"] })),
    ] {
        let mut answers = Vec::new();
        for mut target in [theirs.clone(), nobodys] {
            target["organization_id"] = json!("org-1");
            let reply = publish(&server, "of-one", &kpi(target)).await;
            let (error, count) = (reply.json()["error"].clone(), reply.json()["recipients_count"].clone());
            // What the request itself named may be repeated in the message.
            let error = error.as_str().unwrap_or_default().replace(&foreign.socket_id, "…").replace(&unknown, "…");
            answers.push((reply.status, error.replace("org-2", "…").replace("org-9", "…"), count));
        }
        assert_eq!(answers[0], answers[1], "{theirs}");
    }
    for (theirs, nobodys) in
        [("/connections?organization_id=org-2", "/connections?organization_id=org-9"), ("/rooms", "/rooms?x=1")]
    {
        let theirs = send(call(&server, "of-one", Method::GET, theirs)).await;
        let nobodys = send(call(&server, "of-one", Method::GET, nobodys)).await;
        assert_eq!(
            (theirs.status, theirs.json()["total_count"].clone()),
            (nobodys.status, nobodys.json()["total_count"].clone())
        );
    }
}

#[tokio::test]
async fn a_key_of_one_organization_sees_that_one_only() {
    let server = TestServer::start(keys).await.with_key("admin");
    let ours = server.agent("org-1").await;
    let theirs = server.subscriber("org-2", json!({ "channels": ["kpi"], "queue_name": "secret-queue" })).await;
    for path in ["/connections", "/rooms", "/stats"] {
        let reply = send(call(&server, "of-one", Method::GET, path)).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        for secret in ["org-2", "secret-queue", theirs.socket_id.as_str(), theirs.user.as_str()] {
            assert!(!reply.text.contains(secret), "{path} tells {secret}");
        }
    }
    let reply = send(call(&server, "of-one", Method::GET, "/connections")).await;
    assert_eq!(reply.json()["total_count"], 1);
    assert_eq!(reply.json()["connections"][0]["socket_id"], ours.socket_id);
}

#[tokio::test]
async fn only_an_unbound_admin_speaks_to_everyone() {
    let server = TestServer::start(keys).await.with_key("admin");
    let mut agent = server.agent("org-1").await;
    let body = json!({ "event": "system:notification", "data": { "message": "hello" } });
    for name in ["publisher", "of-one", "reader"] {
        assert_eq!(publish(&server, name, &body).await.status, 403, "{name}");
    }
    agent.expect_silence(&server).await;
    assert_eq!(publish(&server, "admin", &body).await.status, 200);
    assert_eq!(agent.next_event().await.name, "system:notification");
}

#[tokio::test]
async fn a_receipt_is_told_to_keys_of_its_organization() {
    let server = TestServer::start(keys).await.with_key("admin");
    let mut body = kpi(json!({ "organization_id": "org-2" }));
    body["requires_ack"] = json!(true);
    let message_id = publish(&server, "admin", &body).await.json()["message_id"].as_str().unwrap().to_owned();
    let theirs = format!("/messages/{message_id}/receipts");
    assert_eq!(send(call(&server, "reader", Method::GET, &theirs)).await.status, 200);
    let foreign = send(call(&server, "of-one", Method::GET, &theirs)).await;
    let unknown = send(call(&server, "of-one", Method::GET, "/messages/msg_0_unknown/receipts")).await;
    assert_eq!((foreign.status, unknown.status), (404, 404));
    assert_eq!(foreign.json()["code"], unknown.json()["code"]);
}

const FORGED: [(&str, &str); 9] = [
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-host", "localhost"),
    ("x-forwarded-proto", "http"),
    ("forwarded", "for=127.0.0.1;host=localhost"),
    ("via", "1.1 proxy"),
    ("x-real-ip", "127.0.0.1"),
    ("host", "dashboards.example.com"),
    ("host", "localhost.example.com:5000"),
    ("origin", "https://evil.example.com"),
];

#[tokio::test]
async fn a_forged_header_does_not_open_the_keyless_api() {
    let server = TestServer::start(|_| {}).await;
    for (name, value) in FORGED {
        for (method, path) in [(Method::GET, "/stats"), (Method::GET, "/connections"), (Method::POST, "/broadcast/kpi")]
        {
            let call = server.call(method, path).header(name, value);
            let reply = send(call.raw_json(r#"{"organization_id":"org-1"}"#)).await;
            assert_eq!(reply.status, 401, "{name}: {value} on {path}: {}", reply.text);
            assert_shape("http-error", &reply.json());
        }
    }
    assert_eq!(server.get("/stats").await.0, 200);
}

#[tokio::test]
async fn the_refusal_says_what_to_do() {
    let server = TestServer::start(|_| {}).await;
    let reply = send(server.call(Method::GET, "/stats").header("via", "1.1 proxy")).await;
    let error = reply.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("key"), "{error}");
}

#[tokio::test]
async fn a_developer_on_the_same_machine_needs_no_key() {
    let server = TestServer::start(|_| {}).await;
    let port = server.address.port();
    for (name, value) in [
        ("host", format!("localhost:{port}")),
        ("host", "localhost".into()),
        ("host", "127.0.0.1".into()),
        ("host", format!("[::1]:{port}")),
        ("origin", "http://localhost:3000".into()),
        ("origin", format!("http://127.0.0.1:{port}")),
    ] {
        let reply = send(server.call(Method::GET, "/stats").header(name, &value)).await;
        assert_eq!(reply.status, 200, "{name}: {value}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_forged_header_does_not_open_the_trusted_door() {
    let server = TestServer::start(|_| {}).await;
    for (name, value) in FORGED {
        for transport in [Transport::WebSocket, Transport::Polling] {
            let options = ConnectOptions::named().transport(transport).header(name, value);
            match server.try_connect(options).await {
                Err(Refused::Http(reply)) => assert!([401, 403].contains(&reply.status), "{name}: {}", reply.status),
                Err(other) => panic!("{name}: {value} by {transport:?}: {other:?}"),
                Ok(_) => panic!("{name}: {value} by {transport:?} was let in"),
            }
        }
    }
    server.connect("/").await.settle().await;
}

#[tokio::test]
async fn with_keys_a_proxy_is_fine() {
    let server = TestServer::start(keys).await;
    let call = call(&server, "reader", Method::GET, "/stats").header("x-forwarded-for", "203.0.113.7");
    assert_eq!(send(call).await.status, 200);
}
