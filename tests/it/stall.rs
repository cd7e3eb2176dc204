//! Readers that are too slow: removed from every list and count, while the others notice nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tiercast::config::Config;

use crate::kit::{Client, ConnectOptions, TestServer, Transport, eventually};

/// More than what loopback sockets buffer by themselves.
const EVENTS: usize = 400;
const PAD: usize = 64 * 1_024;

fn impatient(config: &mut Config) {
    config.outbox.write_stall_timeout_ms = 1_000;
    // Far away, so that it is the stall that is noticed.
    config.outbox.hard_limit_bytes = 1 << 30;
}

fn target() -> Value {
    json!({ "organization_id": "org-1" })
}

async fn is_listed(server: &TestServer, client: &Client) -> bool {
    server.get(&format!("/connections/{}", client.socket_id)).await.0 == 200
}

async fn assert_forgotten(server: &TestServer, client: &Client) {
    for path in ["/connections", "/rooms"] {
        let (_, answer) = server.get(path).await;
        assert!(!answer.to_string().contains(&client.socket_id), "{path} still lists it");
    }
    let (_, stats) = server.get("/stats").await;
    assert_eq!(stats["stats"]["active_connections"], 1);
    assert_eq!(stats["stats"]["connections_by_org"], json!({ "org-1": 1 }));
    let census = server.census();
    assert_eq!((census.connections, census.sockets, census.seats), (1, 1, 1));
    let answer = server.broadcast("kpi:computed", json!({ "last": true }), target()).await;
    assert_eq!(answer["recipients_count"], 1);
}

#[tokio::test]
async fn a_client_that_stops_reading_is_removed_in_time() {
    let server = TestServer::start(impatient).await;
    let mut healthy = server.agent("org-1").await;
    let stalled = server.agent("org-1").await;
    stalled.wire.freeze();
    let pad = "x".repeat(PAD);
    for n in 0..EVENTS {
        server.broadcast("alert:triggered", json!({ "n": n, "pad": pad }), target()).await;
    }
    let since = Instant::now();
    eventually("it is gone", async || !is_listed(&server, &stalled).await).await;
    assert!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());
    assert_forgotten(&server, &stalled).await;
    for n in 0..EVENTS {
        assert_eq!(healthy.next_event().await.payload()["n"], n);
    }
    assert_eq!(healthy.next_event().await.payload()["last"], true);
}

#[tokio::test]
async fn a_client_in_a_namespace_that_stops_reading_is_removed_too() {
    let server = TestServer::start(impatient).await;
    let _healthy = server.agent("org-1").await;
    let stalled = server.member("org-1", "/org/org-1").await;
    stalled.wire.freeze();
    let pad = "x".repeat(PAD);
    for n in 0..EVENTS {
        server.broadcast("alert:triggered", json!({ "n": n, "pad": pad }), target()).await;
    }
    eventually("it is gone", async || !is_listed(&server, &stalled).await).await;
    assert_forgotten(&server, &stalled).await;
    server.count("its namespace is swept", |census| census.namespaces == 0).await;
}

#[tokio::test]
async fn a_backlog_beyond_the_bound_cuts_at_once() {
    let server = TestServer::start(|config| {
        config.outbox.hard_limit_bytes = 1 << 20;
        config.outbox.write_stall_timeout_ms = 600_000;
    })
    .await;
    let _healthy = server.agent("org-1").await;
    let stalled = server.agent("org-1").await;
    stalled.wire.freeze();
    let pad = "x".repeat(PAD);
    for n in 0..EVENTS {
        server.broadcast("alert:triggered", json!({ "n": n, "pad": pad }), target()).await;
    }
    eventually("it is gone", async || !is_listed(&server, &stalled).await).await;
    assert_forgotten(&server, &stalled).await;
}

#[tokio::test]
async fn a_polling_client_that_does_not_poll_is_cut_when_its_queue_is_full() {
    let server = TestServer::start(|config| config.outbox.polling_queue_packets = 16).await;
    let _healthy = server.agent("org-1").await;
    let options = ConnectOptions::named().transport(Transport::Polling);
    let stalled = server.connect_with(options).await.authenticate("org-1").await;
    stalled.wire.freeze();
    for n in 0..100 {
        server.broadcast("alert:triggered", json!({ "n": n }), target()).await;
    }
    eventually("it is gone", async || !is_listed(&server, &stalled).await).await;
    assert_forgotten(&server, &stalled).await;
}

#[tokio::test]
async fn a_slow_reader_that_goes_on_reading_stays() {
    let server = TestServer::start(impatient).await;
    let mut agent = server.agent("org-1").await;
    let pad = "x".repeat(PAD);
    for n in 0..EVENTS {
        server.broadcast("alert:triggered", json!({ "n": n, "pad": pad }), target()).await;
        if n % 100 == 0 {
            agent.settle().await;
        }
    }
    assert_eq!(agent.drain(&server).await.len(), EVENTS);
}
