//! Subscriptions: what is asked for, what the ack says, and how it ends.

use serde_json::{Value, json};

use crate::kit::{Client, TestServer, assert_shape, eventually};

async fn rooms_of(client: &mut Client, request: Value) -> Value {
    client.subscribe(request).await["rooms"].clone()
}

#[tokio::test]
async fn a_subscription_says_what_it_covers() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let ack = agent.subscribe(json!({ "channels": ["kpi", "alerts"] })).await;
    assert_shape("subscribe-ack", &ack);
    assert_eq!(ack["subscribed_channels"], json!(["kpi", "alerts"]));
    assert_eq!(ack["rooms"], json!(["kpi:org:org-1", "alerts:org:org-1"]));
}

#[tokio::test]
async fn each_scope_has_a_room_of_its_own() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let organization = rooms_of(&mut agent, json!({ "channels": ["kpi"], "organization_id": "org-1" })).await;
    let department = rooms_of(&mut agent, json!({ "channels": ["kpi"], "department_id": "d" })).await;
    let queue = rooms_of(&mut agent, json!({ "channels": ["kpi"], "queue_name": "q" })).await;
    let both = rooms_of(&mut agent, json!({ "channels": ["kpi"], "department_id": "d", "queue_name": "q" })).await;
    assert_eq!(organization, json!(["kpi:org:org-1"]));
    assert_eq!(department, json!(["kpi:org:org-1:dept:d"]));
    assert_eq!(queue, json!(["kpi:org:org-1:queue:q"]));
    assert_eq!(both, json!(["kpi:org:org-1:dept:d:queue:q"]));
}

#[tokio::test]
async fn the_aliases_do_the_same() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await.without_implicit().await;
    let ack = agent.emit("client:subscribe", json!({ "channels": ["kpi"] })).await;
    assert_shape("subscribe-ack", &ack);
    server.broadcast("kpi:update", json!({ "organization_id": "org-1" }), json!({})).await;
    assert_eq!(agent.drain_names(&server).await, ["kpi:update"]);
    let ack = agent.emit("client:unsubscribe", json!({ "channels": ["kpi"] })).await;
    assert_eq!(ack["success"], true);
    server.broadcast("kpi:update", json!({ "organization_id": "org-1" }), json!({})).await;
    agent.expect_silence(&server).await;
}

#[tokio::test]
async fn another_organization_is_out_of_reach() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let ack = agent.emit("subscribe", json!({ "channels": ["kpi"], "organization_id": "org-2" })).await;
    assert_shape("subscribe-refused", &ack);
    assert_eq!(ack["code"], "UNAUTHORIZED");
    agent.next_error("UNAUTHORIZED").await;
    server.broadcast("kpi:update", json!({ "organization_id": "org-2" }), json!({})).await;
    agent.expect_silence(&server).await;
}

#[tokio::test]
async fn one_unknown_channel_refuses_the_request() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await.without_implicit().await;
    for channels in [json!(["kpi", "weather"]), json!(["alert"]), json!(["KPI"]), json!([""]), json!([])] {
        let ack = agent.emit("subscribe", json!({ "channels": channels })).await;
        assert_shape("subscribe-refused", &ack);
        assert_eq!(ack["code"], "INVALID_MESSAGE", "{channels}");
    }
    server.broadcast("kpi:update", json!({ "organization_id": "org-1" }), json!({})).await;
    agent.expect_silence(&server).await;
}

#[tokio::test]
async fn subscribing_twice_to_one_scope_replaces() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await.without_implicit().await;
    let critical = json!({ "channels": ["alerts"], "filters": { "min_severity": "critical" } });
    agent.subscribe(critical).await;
    agent.subscribe(json!({ "channels": ["alerts"] })).await;
    let alert = json!({ "organization_id": "org-1", "severity": "info" });
    server.broadcast("alert:triggered", alert, json!({})).await;
    assert_eq!(agent.drain_names(&server).await, ["alert:triggered"]);
}

#[tokio::test]
async fn a_channel_is_unsubscribed_by_name() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.subscriber("org-1", json!({ "channels": ["kpi", "alerts", "backlog"] })).await;
    assert_eq!(agent.emit("unsubscribe", json!({ "channels": ["alerts"] })).await["success"], true);
    for event in ["kpi:update", "alert:triggered", "backlog:update"] {
        server.broadcast(event, json!({ "organization_id": "org-1" }), json!({})).await;
    }
    assert_eq!(agent.drain_names(&server).await, ["kpi:update", "backlog:update"]);
}

#[tokio::test]
async fn a_subscription_is_unsubscribed_by_id() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.subscriber("org-1", json!({ "channels": ["kpi"], "queue_name": "a" })).await;
    let second = agent.subscribe(json!({ "channels": ["kpi"], "queue_name": "b" })).await;
    let ack = agent.emit("unsubscribe", json!({ "subscription_id": second["subscription_id"] })).await;
    assert_eq!(ack["success"], true);
    for queue in ["a", "b"] {
        let data = json!({ "organization_id": "org-1", "queue_name": queue });
        server.broadcast("kpi:update", data, json!({})).await;
    }
    let events = agent.drain(&server).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].payload()["queue_name"], "a");
}

#[tokio::test]
async fn what_was_not_subscribed_cannot_be_unsubscribed() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.subscriber("org-1", json!({ "channels": ["kpi"] })).await;
    for request in [json!({ "channels": ["backlog"] }), json!({ "subscription_id": "sub_0_unknown" })] {
        let ack = agent.emit("unsubscribe", request).await;
        assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("ROOM_NOT_FOUND")));
        agent.next_error("ROOM_NOT_FOUND").await;
    }
}

#[tokio::test]
async fn rooms_list_their_members_and_vanish_without() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.subscriber("org-1", json!({ "channels": ["kpi"], "queue_name": "q" })).await;
    let room = |answer: &Value| {
        let rooms = answer["rooms"].as_array().unwrap().clone();
        rooms.into_iter().find(|room| room["room_id"] == "kpi:org:org-1:queue:q")
    };
    let found = room(&server.get("/rooms").await.1).expect("the room is listed");
    assert_shape("room", &found);
    assert_eq!(found["member_count"], 1);
    assert_eq!(found["member_socket_ids"], json!([agent.socket_id]));
    assert_eq!((&found["organization_id"], &found["queue_name"]), (&json!("org-1"), &json!("q")));
    agent.emit("unsubscribe", json!({ "channels": ["kpi"] })).await;
    eventually("the empty room is gone", async || room(&server.get("/rooms").await.1).is_none()).await;
}

#[tokio::test]
async fn ids_are_encoded_in_rooms_and_raw_elsewhere() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("a:b").await;
    let rooms = rooms_of(&mut agent, json!({ "channels": ["kpi"], "queue_name": "x/y é" })).await;
    assert_eq!(rooms, json!(["kpi:org:a%3Ab:queue:x%2Fy%20%C3%A9"]));
    let (_, answer) = server.get(&format!("/connections/{}", agent.socket_id)).await;
    assert_eq!(answer["connection"]["organization_id"], "a:b");
}

#[tokio::test]
async fn two_spellings_of_one_character_are_one_id() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("caf\u{e9}").await;
    server.broadcast("kpi:update", json!({ "organization_id": "cafe\u{301}" }), json!({})).await;
    let marker = server.mark(&agent).await;
    assert_eq!(agent.events_until(&marker).await.len(), 1);
}

#[tokio::test]
async fn ids_have_a_length() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent(&"o".repeat(128)).await;
    agent.subscribe(json!({ "channels": ["kpi"], "queue_name": "q".repeat(128) })).await;
    for queue in ["q".repeat(129), "é".repeat(65), String::new(), "a\u{7f}b".into(), "a\u{85}b".into()] {
        let ack = agent.emit("subscribe", json!({ "channels": ["kpi"], "queue_name": queue })).await;
        assert_eq!(ack["code"], "INVALID_MESSAGE", "{queue:?}: {ack}");
    }
}
