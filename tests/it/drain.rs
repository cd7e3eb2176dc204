//! A server that drains: it is not ready, lets nobody in, and sends its clients away in even steps.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tiercast::config::Right;

use crate::kit::{Call, ConnectOptions, Refused, TestServer, Transport, eventually, key};

const OVER: Duration = Duration::from_millis(3_000);

/// What is lost to the clock: steps that are close to each other are one.
const STEP: Duration = Duration::from_millis(15);

async fn readyz(server: &TestServer) -> (u16, String) {
    let reply = Call::get(&server.url("/readyz")).send().await.expect("an answer");
    (reply.status, reply.text)
}

#[tokio::test]
async fn clients_go_one_after_another_and_the_oldest_first() {
    let server = TestServer::start(|config| config.server.drain_ms = OVER.as_millis() as u64).await;
    let mut clients = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade, Transport::WebSocket] {
        for _ in 0..3 {
            clients.push(
                server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org").await,
            );
        }
    }
    assert_eq!(readyz(&server).await, (200, "ok\n".to_owned()));
    let begun = Instant::now();
    for _ in 0..2 {
        let (status, answer) = server.publish("/drain", json!({})).await;
        assert_eq!((status, &answer["success"], &answer["drain_ms"]), (202, &json!(true), &json!(3_000)), "{answer}");
    }
    let (status, told) = readyz(&server).await;
    assert!(status == 503 && told.starts_with("draining, ") && told.ends_with(" left\n"), "{status} {told}");
    assert_eq!(server.get("/health").await.0, 503);
    eventually("handshakes are refused", async || {
        let refused = server.try_connect(ConnectOptions::named()).await;
        matches!(refused, Err(Refused::Http(reply)) if reply.status == 503 && reply.header("retry-after") == "2")
    })
    .await;
    let count = clients.len() as u32;
    for number in 0..clients.len() {
        if number + 3 < clients.len() {
            // Whoever is still there is served.
            let marker = server.mark(&clients[number + 3]).await;
            clients[number + 3].events_until(&marker).await;
        }
        let closure = clients[number].closed().await;
        assert!(!closure.terminal, "a stock client comes back");
        let due = OVER * (number as u32 + 1) / count;
        assert!(begun.elapsed() + STEP >= due, "client {number} is gone after {:?} and not {due:?}", begun.elapsed());
    }
    server.drained().await;
    server.count("nobody is left", |census| census.sockets == 0).await;
    assert_eq!(readyz(&server).await, (503, "draining, 0 left\n".to_owned()));
}

#[tokio::test]
async fn a_load_balancer_has_time_to_notice() {
    let mut server = TestServer::start(|config| {
        config.server.drain_ms = 60_000;
        config.server.drain_notice_ms = 60_000;
    })
    .await;
    server.agent("org").await.settle().await;
    assert_eq!(server.publish("/drain", json!({})).await.0, 202);
    assert_eq!(readyz(&server).await.0, 503);
    let mut late = server.agent("org").await;
    late.settle().await;
    // A stop does not wait for the rest of it.
    server.stop().await;
    assert!(!late.closed().await.terminal);
}

#[tokio::test]
async fn without_a_time_a_drain_leaves_everybody_to_the_stop() {
    let mut server = TestServer::start(|_| {}).await;
    let mut client = server.agent("org").await;
    assert_eq!(server.publish("/drain", json!({})).await.0, 202);
    server.drained().await;
    client.settle().await;
    server.stop().await;
    client.next_named("system:maintenance").await;
    assert!(!client.closed().await.terminal);
}

#[tokio::test]
async fn a_drain_takes_a_key_for_all_organizations() {
    let server = TestServer::start(|config| {
        config.server.drain_notice_ms = 60_000;
        config.api.keys = vec![
            key("reader", &[Right::Read, Right::Publish], None),
            key("bound", &[Right::Admin], Some(&["org-1"])),
            key("admin", &[Right::Admin], None),
        ];
    })
    .await;
    let drain =
        |key: &str| server.call(Method::POST, "/drain").header("authorization", &format!("Bearer {key}-secret")).send();
    for key in ["reader", "bound"] {
        assert_eq!(drain(key).await.expect("an answer").status, 403);
        assert_eq!(readyz(&server).await.0, 200);
    }
    assert_eq!(drain("admin").await.expect("an answer").status, 202);
    assert_eq!(readyz(&server).await.0, 503);
}
