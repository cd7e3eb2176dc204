//! Acknowledgements of published events: asked for, given, waited for and looked up.

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Client, ConnectOptions, TestServer, assert_shape};

fn asking(extra: Value) -> Value {
    let mut body = json!({
        "event": "alert:triggered",
        "data": { "alert_id": "a-1" },
        "target": { "organization_id": "org-1" },
        "requires_ack": true,
    });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

async fn wait_for_acks(server: &TestServer, body: Value) -> Value {
    let call = server.call(Method::POST, "/broadcast?wait=ack").json(&body);
    let reply = call.send().await.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

/// Answers the next event by Socket.IO ack.
async fn ack_by_packet(agent: &mut Client) {
    let event = agent.next_named("alert:triggered").await;
    agent.ack(&event, json!({ "status": "received" }));
}

fn sockets(list: &Value) -> Vec<&str> {
    let mut ids: Vec<_> = list.as_array().unwrap().iter().map(|entry| entry["socket_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn the_named_form_carries_the_ack_id_and_the_envelope_says_so() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.connect("/").await.authenticate("org-1").await;
    let (status, answer) = server.publish("/broadcast", asking(json!({ "ack_timeout_ms": 4_000 }))).await;
    assert_eq!(status, 200, "{answer}");
    let named = agent.next_event().await;
    assert!(named.ack.is_some(), "{}", named.raw);
    assert_eq!(named.args.len(), 1, "no position beside an ack id: {}", named.raw);
    let envelope = agent.next_event().await;
    assert_eq!(envelope.ack, None, "{}", envelope.raw);
    assert_shape("envelope", envelope.payload());
    assert_eq!(envelope.payload()["requires_ack"], true);
    assert_eq!(envelope.payload()["ack_timeout_ms"], 4_000);
    assert_eq!(envelope.payload()["message_id"], answer["message_id"]);
}

#[tokio::test]
async fn an_event_that_asks_for_none_carries_no_ack_id() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    server.broadcast("alert:triggered", json!({}), json!({ "organization_id": "org-1" })).await;
    assert_eq!(agent.next_event().await.ack, None);
}

#[tokio::test]
async fn a_publisher_waits_until_all_have_acknowledged() {
    let server = TestServer::start(|_| {}).await;
    let mut by_packet = server.agent("org-1").await;
    let mut by_event = server.connect("/").await.authenticate("org-1").await;
    let (answer, (), ()) =
        tokio::join!(wait_for_acks(&server, asking(json!({}))), ack_by_packet(&mut by_packet), async {
            let envelope = by_event.next_named("message").await;
            by_event.send("ack", json!({ "message_id": envelope.payload()["message_id"], "received_at": "now" }));
        });
    assert_shape("broadcast-acknowledged", &answer);
    assert_eq!(answer["pending"], json!([]));
    let mut both = [by_packet.socket_id.as_str(), by_event.socket_id.as_str()];
    both.sort_unstable();
    assert_eq!(sockets(&answer["acknowledged"]), both);
}

#[tokio::test]
async fn polling_clients_acknowledge_too() {
    let server = TestServer::start(|_| {}).await;
    let options = ConnectOptions::named().transport(crate::kit::Transport::Polling);
    let mut agent = server.connect_with(options).await.authenticate("org-1").await;
    let (answer, ()) = tokio::join!(wait_for_acks(&server, asking(json!({}))), ack_by_packet(&mut agent));
    assert_eq!(sockets(&answer["acknowledged"]), [agent.socket_id.as_str()]);
}

#[tokio::test]
async fn both_ways_of_one_socket_are_one_receipt() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let mut silent = server.agent("org-1").await;
    let (_, answer) = server.publish("/broadcast", asking(json!({}))).await;
    let message_id = answer["message_id"].as_str().unwrap().to_owned();
    ack_by_packet(&mut agent).await;
    agent.send("ack", json!({ "message_id": message_id, "status": "processed" }));
    agent.settle().await;
    silent.settle().await;
    let (status, receipts) = server.get(&format!("/messages/{message_id}/receipts")).await;
    assert_eq!(status, 200, "{receipts}");
    assert_eq!(sockets(&receipts["acknowledged"]), [agent.socket_id.as_str()]);
    assert_eq!(sockets(&receipts["pending"]), [silent.socket_id.as_str()]);
}

#[tokio::test]
async fn when_the_time_is_up_the_rest_is_pending() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let silent = server.agent("org-1").await;
    let (answer, ()) =
        tokio::join!(wait_for_acks(&server, asking(json!({ "ack_timeout_ms": 2_000 }))), ack_by_packet(&mut agent));
    assert_shape("broadcast-acknowledged", &answer);
    assert_eq!(sockets(&answer["acknowledged"]), [agent.socket_id.as_str()]);
    assert_eq!(sockets(&answer["pending"]), [silent.socket_id.as_str()]);
    assert_eq!(answer["pending"][0]["user_id"], silent.user);
}

#[tokio::test]
async fn waiting_for_nobody_is_over_at_once() {
    let server = TestServer::start(|_| {}).await;
    let answer = wait_for_acks(&server, asking(json!({ "ack_timeout_ms": 10_000 }))).await;
    assert_eq!((&answer["acknowledged"], &answer["pending"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn only_a_recipient_can_acknowledge() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let mut stranger = server.agent("org-2").await;
    let (_, answer) = server.publish("/broadcast", asking(json!({}))).await;
    stranger.send("ack", json!({ "message_id": answer["message_id"] }));
    stranger.settle().await;
    let (_, receipts) = server.get(&format!("/messages/{}/receipts", answer["message_id"].as_str().unwrap())).await;
    assert_eq!(receipts["acknowledged"], json!([]));
    assert_eq!(sockets(&receipts["pending"]), [agent.socket_id.as_str()]);
    agent.next_event().await;
}

#[tokio::test]
async fn receipts_of_an_unknown_message_are_not_found() {
    let server = TestServer::start(|_| {}).await;
    let (status, answer) = server.get("/messages/msg_0_unknown/receipts").await;
    assert_eq!(status, 404);
    assert_shape("http-error", &answer);
}

#[tokio::test]
async fn an_ack_nobody_asked_for_changes_nothing() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    for frame in ["430[1]", "43999999999999[]", "431099511627776[]", "439007199254740993[1]"] {
        agent.wire.send(frame);
    }
    agent.send("ack", json!({ "message_id": "msg_0_unknown" }));
    agent.send("ack", json!({ "message_id": 7 }));
    agent.send("ack", json!(null));
    agent.settle().await;
}
