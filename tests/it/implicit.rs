//! What an authenticated socket receives without asking, and when that ends.

use serde_json::{Value, json};
use tiercast::config::Implicit;

use crate::kit::TestServer;

const ONE_OF_EACH: [&str; 5] =
    ["kpi:update", "backlog:update", "attendance:update", "alert:triggered", "system:notification"];

async fn publish_one_of_each(server: &TestServer, scope: Value) {
    for event in ONE_OF_EACH {
        server.broadcast(event, json!({ "n": 1 }), scope.clone()).await;
    }
}

fn organization() -> Value {
    json!({ "organization_id": "org-1" })
}

#[tokio::test]
async fn everything_of_the_organization_comes_unasked() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    publish_one_of_each(&server, organization()).await;
    assert_eq!(agent.drain_names(&server).await, ONE_OF_EACH);
}

#[tokio::test]
async fn departments_and_queues_come_unasked_too() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let scope = json!({ "organization_id": "org-1", "department_id": "d", "queue_name": "q" });
    publish_one_of_each(&server, scope).await;
    assert_eq!(agent.drain_names(&server).await, ONE_OF_EACH);
}

#[tokio::test]
async fn nothing_of_another_organization_comes() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    publish_one_of_each(&server, json!({ "organization_id": "org-2" })).await;
    agent.expect_silence(&server).await;
}

#[tokio::test]
async fn a_subscription_replaces_it_for_its_channel() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    agent.subscribe(json!({ "channels": ["kpi"], "queue_name": "q" })).await;
    publish_one_of_each(&server, organization()).await;
    assert_eq!(agent.drain_names(&server).await, ONE_OF_EACH[1..]);
}

#[tokio::test]
async fn a_refused_subscription_replaces_nothing() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    agent.emit("subscribe", json!({ "channels": ["kpi"], "organization_id": "org-2" })).await;
    publish_one_of_each(&server, organization()).await;
    assert_eq!(agent.drain_names(&server).await, ONE_OF_EACH);
}

#[tokio::test]
async fn subscribing_to_all_ends_it() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    agent.subscribe(json!({ "channels": ["all"], "queue_name": "q" })).await;
    for event in &ONE_OF_EACH[..4] {
        server.broadcast(event, json!({}), organization()).await;
    }
    agent.expect_silence(&server).await;
}

#[tokio::test]
async fn unsubscribing_from_everything_ends_it() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await.without_implicit().await;
    for event in &ONE_OF_EACH[..4] {
        server.broadcast(event, json!({}), organization()).await;
    }
    agent.expect_silence(&server).await;
}

#[tokio::test]
async fn one_channel_of_it_can_be_unsubscribed() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    assert_eq!(agent.emit("unsubscribe", json!({ "channels": ["backlog"] })).await["success"], true);
    for event in &ONE_OF_EACH[..4] {
        server.broadcast(event, json!({}), organization()).await;
    }
    assert_eq!(agent.drain_names(&server).await, ["kpi:update", "attendance:update", "alert:triggered"]);
}

#[tokio::test]
async fn until_first_ends_it_at_the_first_subscription() {
    let server = TestServer::start(|config| config.subscriptions.implicit = Implicit::UntilFirst).await;
    let mut agent = server.agent("org-1").await;
    server.broadcast("backlog:update", json!({}), organization()).await;
    assert_eq!(agent.drain_names(&server).await, ["backlog:update"]);
    agent.subscribe(json!({ "channels": ["kpi"] })).await;
    for event in &ONE_OF_EACH[..4] {
        server.broadcast(event, json!({}), organization()).await;
    }
    assert_eq!(agent.drain_names(&server).await, ["kpi:update"]);
}

#[tokio::test]
async fn none_gives_nothing_unasked() {
    let server = TestServer::start(|config| config.subscriptions.implicit = Implicit::None).await;
    let mut agent = server.agent("org-1").await;
    for event in &ONE_OF_EACH[..4] {
        server.broadcast(event, json!({}), organization()).await;
    }
    agent.expect_silence(&server).await;
}
