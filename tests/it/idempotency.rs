//! `Idempotency-Key`: what is published once although it is asked for twice.

use reqwest::Method;
use serde_json::{Value, json};
use tiercast::config::{LogStore, Right};

use crate::kit::{Reply, TestServer, copy, key};

fn body(organization: &str, n: u64) -> Value {
    json!({ "event": "kpi:update", "data": { "n": n }, "target": { "organization_id": organization } })
}

async fn post(server: &TestServer, path: &str, key: &str, body: &Value) -> Reply {
    let call = server.call(Method::POST, path).header("idempotency-key", key).json(body);
    call.send().await.expect("an answer")
}

#[tokio::test]
async fn a_call_that_is_repeated_is_answered_like_the_first_and_done_once() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let first = post(&server, "/broadcast", "order 1", &body("org-1", 1)).await;
    assert_eq!(first.status, 200, "{}", first.text);
    for _ in 0..3 {
        let again = post(&server, "/broadcast", "order 1", &body("org-1", 1)).await;
        assert_eq!((again.status, again.json()), (200, first.json()));
    }
    let shortcut = json!({ "organization_id": "org-1", "n": 2 });
    let first = post(&server, "/broadcast/kpi", "order 2", &shortcut).await;
    assert_eq!(post(&server, "/broadcast/kpi", "order 2", &shortcut).await.json(), first.json());
    let numbers: Vec<_> = agent.drain(&server).await.iter().map(|event| event.payload()["n"].clone()).collect();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test]
async fn calls_at_the_same_time_are_done_once() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let body = body("org-1", 1);
    let calls = (0..20).map(|_| post(&server, "/broadcast", "all at once", &body));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.json() == answers[0].json()));
    assert_eq!(agent.drain(&server).await.len(), 1);
}

#[tokio::test]
async fn a_key_stands_for_one_call() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    assert_eq!(post(&server, "/broadcast", "k", &body("org-1", 1)).await.status, 200);
    let other = post(&server, "/broadcast", "k", &body("org-1", 2)).await;
    assert_eq!((other.status, &other.json()["code"]), (409, &json!("INVALID_MESSAGE")), "{}", other.text);
    let shortcut = post(&server, "/broadcast/kpi", "k", &json!({ "organization_id": "org-1" })).await;
    assert_eq!(shortcut.status, 409);
    assert_eq!(post(&server, "/broadcast", "k", &body("org-2", 1)).await.status, 200, "an organization has its own");
    assert_eq!(agent.drain(&server).await.len(), 1);
}

#[tokio::test]
async fn keys_of_different_callers_are_different() {
    let keys = [key("one", &[Right::Publish], None), key("two", &[Right::Publish], None)];
    let server = TestServer::start(|config| config.api.keys = keys.to_vec()).await;
    let mut answers = Vec::new();
    for caller in ["one", "two"] {
        let call = server.call(Method::POST, "/broadcast").header("x-api-key", &format!("{caller}-secret"));
        let reply = call.header("idempotency-key", "same").json(&body("org-1", 1)).send().await.expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text);
        answers.push(reply.json()["message_id"].clone());
    }
    assert_ne!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_call_that_fails_is_not_remembered() {
    let server = TestServer::start(|_| {}).await;
    let nobody = json!({ "event": "kpi:update", "data": {} });
    assert_eq!(post(&server, "/broadcast", "k", &nobody).await.status, 400);
    assert_eq!(post(&server, "/broadcast", "k", &body("org-1", 1)).await.status, 200);
}

#[tokio::test]
async fn a_message_id_in_the_body_is_a_key() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let mut body = body("org-1", 1);
    body["message_id"] = json!("order-7");
    let (status, first) = server.publish("/broadcast", body.clone()).await;
    assert_eq!(status, 200, "{first}");
    assert_eq!(server.publish("/broadcast", body).await, (200, first));
    assert_eq!(agent.drain(&server).await.len(), 1);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let server = TestServer::start(|_| {}).await;
    for key in ["", &"x".repeat(256), "a\tb"] {
        let reply = post(&server, "/broadcast", key, &body("org-1", 1)).await;
        assert_eq!(reply.status, 400, "{key:?}: {}", reply.text);
    }
    let mut body = body("org-1", 1);
    body["message_id"] = json!("\u{0}");
    assert_eq!(server.publish("/broadcast", body).await.0, 400);
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_window() {
    let server = TestServer::start(|config| config.api.idempotency_window_ms = 1).await;
    let first = post(&server, "/broadcast", "k", &body("org-1", 1)).await.json();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let second = post(&server, "/broadcast", "k", &body("org-1", 1)).await.json();
    assert_ne!(first["message_id"], second["message_id"]);
}

#[tokio::test]
async fn the_next_process_knows_what_was_done_also_after_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = |name: &str, window_ms: u64| {
        let path = folder.path().join(name).to_str().expect("a path of ours").to_owned();
        TestServer::start(move |config| {
            config.log.store = LogStore::Disk;
            config.log.path = path;
            config.api.idempotency_window_ms = window_ms;
        })
    };
    let mut server = start("data", 60_000).await;
    let first = post(&server, "/broadcast", "k", &body("org-1", 1)).await.json();
    let shortcut = post(&server, "/broadcast/kpi", "s", &json!({ "organization_id": "org-1" })).await.json();
    let all = json!({ "event": "system:broadcast", "data": {} });
    let everyone = post(&server, "/broadcast", "everyone", &all).await.json();
    copy(&folder.path().join("data"), &folder.path().join("crashed"));
    server.stop().await;
    drop(server);
    for name in ["data", "crashed"] {
        let server = start(name, 60_000).await;
        let mut agent = server.agent("org-1").await;
        let again = post(&server, "/broadcast", "k", &body("org-1", 1)).await.json();
        for field in ["success", "message_id", "position", "sent_at", "message"] {
            assert_eq!(again[field], first[field], "{field} in {name}");
        }
        let again = post(&server, "/broadcast/kpi", "s", &json!({ "organization_id": "org-1" })).await.json();
        assert_eq!((&again["message_id"], &again["message"]), (&shortcut["message_id"], &shortcut["message"]));
        let again = post(&server, "/broadcast", "everyone", &all).await.json();
        assert_eq!(again["position"], everyone["position"]);
        assert_eq!(post(&server, "/broadcast", "k", &body("org-1", 2)).await.status, 409);
        agent.expect_silence(&server).await;
        agent.disconnect().await;
        server.finish().await;
    }
    let server = start("data", 1).await;
    let later = post(&server, "/broadcast", "k", &body("org-1", 1)).await.json();
    assert_ne!(later["message_id"], first["message_id"], "its time is over");
}
