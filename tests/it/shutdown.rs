//! A server that stops: it says so, and lets its clients return by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio::sync::Notify;

use crate::kit::{Call, Client, ConnectOptions, Refused, TestServer, Transport, eventually};

async fn assert_told_and_let_go(client: &mut Client) {
    let event = client.next_named("system:maintenance").await;
    assert!(event.payload()["message"].is_string(), "{}", event.raw);
    let closure = client.closed().await;
    assert!(!closure.terminal, "a stock client returns only if no DISCONNECT packet came");
}

#[tokio::test]
async fn clients_are_told_and_the_transport_closes() {
    let mut server = TestServer::start(|_| {}).await;
    let mut clients = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let options = ConnectOptions::named().transport(transport);
        clients.push(server.connect_with(options).await.authenticate("org-1").await);
    }
    clients.push(server.member("org-1", "/org/org-1").await);
    clients.push(server.agent("org-2").await.without_implicit().await);
    server.stop().await;
    for client in &mut clients {
        assert_told_and_let_go(client).await;
    }
}

#[tokio::test]
async fn who_has_not_authenticated_is_let_go_too() {
    let mut server = TestServer::start(|_| {}).await;
    let mut client = server.connect("/").await;
    let mut silent = Client::open(server.address, &ConnectOptions::named()).await.unwrap();
    server.stop().await;
    assert!(!client.closed().await.terminal);
    assert!(!silent.closed().await.terminal);
}

#[tokio::test]
async fn nobody_gets_in_any_more() {
    let mut server = TestServer::start(|_| {}).await;
    server.connect("/").await.settle().await;
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err(), "the port is free");
    assert!(server.try_connect(ConnectOptions::named()).await.is_err());
}

#[tokio::test]
async fn a_publication_under_way_does_not_hold_it_up() {
    for _ in 0..5 {
        let mut server = TestServer::start(|_| {}).await;
        let url = server.url("/api/ws/broadcast/kpi");
        let published = Arc::new(Notify::new());
        let publishing = tokio::spawn({
            let published = published.clone();
            async move {
                let client = reqwest::Client::new();
                let body = json!({ "organization_id": "org-1" });
                for n in 0_u64.. {
                    let call = client.post(&url).header("idempotency-key", format!("key-{n}"));
                    if call.json(&body).send().await.is_err() {
                        return;
                    }
                    published.notify_one();
                }
            }
        });
        published.notified().await;
        let begun = Instant::now();
        server.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
        publishing.await.expect("it ends");
    }
}

#[tokio::test]
async fn a_reader_that_is_stuck_does_not_hold_it_up() {
    let mut server = TestServer::start(|config| {
        config.server.shutdown_grace_ms = 500;
        config.outbox.hard_limit_bytes = 1 << 30;
    })
    .await;
    let stalled = server.agent("org-1").await;
    stalled.wire.freeze();
    let pad = "x".repeat(64 * 1_024);
    for _ in 0..400 {
        server.broadcast("alert:triggered", json!({ "pad": pad }), json!({ "organization_id": "org-1" })).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_publisher_that_waits_is_answered() {
    let mut server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let body = json!({
        "event": "alert:triggered",
        "data": {},
        "target": { "organization_id": "org-1" },
        "requires_ack": true,
        "ack_timeout_ms": 60_000,
    });
    let waiting = tokio::spawn(server.call(Method::POST, "/broadcast?wait=ack").json(&body).send());
    agent.next_named("alert:triggered").await;
    server.stop().await;
    let reply = waiting.await.unwrap().expect("an answer, and not a broken connection");
    assert!([200, 503].contains(&reply.status), "{}", reply.text);
}

#[tokio::test]
async fn what_was_published_before_comes_before_the_end() {
    let mut server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    for n in 0..200 {
        server.broadcast("kpi:computed", json!({ "n": n }), json!({ "organization_id": "org-1" })).await;
    }
    server.stop().await;
    for n in 0..200 {
        assert_eq!(agent.next_event().await.payload()["n"], n);
    }
    assert_told_and_let_go(&mut agent).await;
}

#[tokio::test]
async fn two_servers_live_side_by_side() {
    let mut first = TestServer::start(|_| {}).await;
    let second = TestServer::start(|_| {}).await;
    let mut there = first.agent("org-1").await;
    let mut here = second.agent("org-1").await;
    first.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
    assert_eq!(there.next_event().await.name, "kpi:update");
    here.expect_silence(&second).await;
    first.stop().await;
    here.settle().await;
}

#[tokio::test]
async fn who_comes_while_it_stops_comes_back_later() {
    let mut server = TestServer::start(|_| {}).await;
    let stranger = Client::open(server.address, &ConnectOptions::named()).await.expect("a connection");
    // A client on polling that fetches nothing keeps the stop from ending at once.
    let idle = server.connect_with(ConnectOptions::named().transport(Transport::Polling)).await;
    idle.wire.freeze();
    let address = server.address;
    let coming = async {
        let mut stranger = stranger;
        let ready = || Call::get(&format!("http://{address}/readyz")).send();
        eventually("it stops", async || ready().await.is_none_or(|reply| reply.status == 503)).await;
        let entered = stranger.enter("/", None).await;
        assert!(matches!(entered, Err(Refused::Closed)), "a stock client that is refused stays away: {entered:?}");
    };
    tokio::join!(server.stop(), coming);
}
