//! Who a socket is: by event, by handshake, in time or not at all.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::kit::{ConnectOptions, Forms, TestServer, Transport, assert_shape};

#[tokio::test]
async fn connected_tells_the_public_id_and_the_hints() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.connect("/").await;
    let greeting = client.next_named("connected").await;
    assert_shape("connected", greeting.payload());
    assert_eq!(greeting.args.len(), 1);
    assert_eq!(greeting.payload()["socket_id"], client.socket_id);
    assert_eq!(greeting.payload()["forms"], "both");
}

#[tokio::test]
async fn the_public_id_is_not_the_engine_session() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let client = server.connect_with(ConnectOptions::named().transport(transport)).await;
        assert_ne!(client.socket_id, client.wire.sid(), "the session id is a credential");
    }
}

#[tokio::test]
async fn authenticate_answers_who_the_socket_is() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let mut client = server.connect_with(ConnectOptions::named().transport(transport)).await;
        let ack = client.emit("authenticate", json!({ "user_id": "ann", "organization_id": "org-1" })).await;
        assert_shape("authenticate-ack", &ack);
        assert_eq!(ack["socket_id"], client.socket_id);
        assert_eq!((&ack["user_id"], &ack["organization_id"]), (&json!("ann"), &json!("org-1")));
        assert_eq!(client.next_named("authenticated").await.payload()["success"], true);
        let (_, answer) = server.get(&format!("/connections/{}", client.socket_id)).await;
        assert_eq!(answer["connection"]["user_id"], "ann");
    }
}

#[tokio::test]
async fn authenticating_again_as_the_same_is_fine() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.connect("/").await.authenticate_as("ann", "org-1").await;
    let again = client.try_authenticate("ann", "org-1").await;
    assert_shape("authenticate-ack", &again);
    assert_eq!(server.census().seats, 1);
}

#[tokio::test]
async fn authenticating_as_someone_else_is_refused() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.connect("/").await.authenticate_as("ann", "org-1").await;
    for (user, organization) in [("bob", "org-1"), ("ann", "org-2")] {
        let ack = client.emit("authenticate", json!({ "user_id": user, "organization_id": organization })).await;
        assert_shape("authenticate-refused", &ack);
        assert_eq!(ack["code"], "AUTH_FAILED");
        client.next_error("AUTH_FAILED").await;
    }
    server.broadcast("kpi:update", json!({ "organization_id": "org-2" }), json!({})).await;
    client.expect_silence(&server).await;
    server.broadcast("kpi:update", json!({ "organization_id": "org-1" }), json!({})).await;
    assert_eq!(client.next_event().await.name, "kpi:update");
    client.next_event().await;
}

#[tokio::test]
async fn authenticating_without_ids_is_refused() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.connect("/").await;
    for payload in [
        json!({}),
        json!(null),
        json!("ann"),
        json!({ "user_id": "ann" }),
        json!({ "organization_id": "org-1" }),
        json!({ "user_id": "", "organization_id": "org-1" }),
        json!({ "user_id": "ann", "organization_id": "" }),
        json!({ "user_id": 7, "organization_id": "org-1" }),
        json!({ "user_id": "ann", "organization_id": ["org-1"] }),
        json!({ "user_id": "ann", "organization_id": "org\u{0}1" }),
        json!({ "user_id": "a\nb", "organization_id": "org-1" }),
    ] {
        let ack = client.emit("authenticate", payload.clone()).await;
        assert_shape("authenticate-refused", &ack);
        assert_eq!(ack["socket_id"], client.socket_id, "{payload}");
        assert!(["AUTH_FAILED", "INVALID_MESSAGE"].contains(&ack["code"].as_str().unwrap()), "{payload}: {ack}");
        client.next_named("error").await;
    }
    assert_eq!(server.census().seats, 0);
    client.authenticate("org-1").await;
}

#[tokio::test]
async fn the_handshake_may_say_who_the_socket_is() {
    let server = TestServer::start(|_| {}).await;
    let auth = json!({ "user_id": "ann", "organization_id": "org-1" });
    let mut client = server.connect_with(ConnectOptions::named().auth(auth)).await;
    let ack = client.subscribe(json!({ "channels": ["kpi"] })).await;
    assert_eq!(ack["rooms"], json!(["kpi:org:org-1"]));
    assert_eq!(server.census().sessions_authenticated, 1);
}

#[tokio::test]
async fn a_bad_handshake_is_refused_with_the_code_first() {
    let server = TestServer::start(|_| {}).await;
    for auth in
        [json!({ "user_id": "ann", "organization_id": "" }), json!({ "user_id": 7, "organization_id": "org-1" })]
    {
        let refused = server.try_connect(ConnectOptions::named().auth(auth)).await.err().expect("a refusal");
        assert!(refused.message().starts_with("AUTH_FAILED"), "{refused:?}");
    }
    server.count("nobody has a seat", |census| census.seats == 0 && census.sockets == 0).await;
}

#[tokio::test]
async fn before_authenticating_only_a_ping_works() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.connect("/").await;
    let pong = client.emit("client:ping", json!({ "timestamp": 42 })).await;
    assert_eq!((&pong["pong"], &pong["timestamp"]), (&json!(true), &json!(42)));
    let ack = client.emit("subscribe", json!({ "channels": ["kpi"], "organization_id": "org-1" })).await;
    assert_shape("subscribe-refused", &ack);
    assert_eq!(ack["code"], "UNAUTHORIZED");
    client.next_error("UNAUTHORIZED").await;
    let ack = client.emit("unsubscribe", json!({})).await;
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("UNAUTHORIZED")));
}

#[tokio::test]
async fn a_ping_without_an_ack_is_answered_by_an_event() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.connect("/").await;
    client.wire.send(r#"42["client:ping"]"#);
    let pong = client.next_named("client:pong").await;
    assert!(pong.payload()["server_time"].is_string(), "{}", pong.raw);
}

#[tokio::test]
async fn who_does_not_authenticate_in_time_is_cut_for_good() {
    let server = TestServer::start(|config| config.auth.auth_timeout_ms = 200).await;
    let early = Instant::now();
    for transport in [Transport::WebSocket, Transport::Polling] {
        let mut client = server.connect_with(ConnectOptions::named().transport(transport)).await;
        client.next_error("AUTH_FAILED").await;
        assert!(early.elapsed() >= Duration::from_millis(150));
        assert!(client.closed().await.terminal);
    }
    server.count("nothing is left", |census| census.connections == 0).await;
}

#[tokio::test]
async fn who_authenticates_in_time_stays() {
    let server = TestServer::start(|config| config.auth.auth_timeout_ms = 2_000).await;
    let mut agent = server.agent("org-1").await;
    let mut idle = server.connect("/").await;
    // The idle one's cut is the proof that the agent's time would have been up too.
    idle.closed().await;
    agent.settle().await;
}

#[tokio::test]
async fn without_auth_required_there_is_no_timeout() {
    let server = TestServer::start(|config| {
        config.auth.auth_required = false;
        config.auth.auth_timeout_ms = 50;
        config.limits.rate_limit_messages_per_second = 1_000_000;
    })
    .await;
    let mut client = server.connect("/").await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        client.settle().await;
    }
    let ack = client.emit("subscribe", json!({ "channels": ["kpi"], "organization_id": "org-1" })).await;
    assert_eq!(ack["code"], "UNAUTHORIZED");
    client.authenticate("org-1").await;
}

#[tokio::test]
async fn an_event_in_the_same_breath_as_connect_is_not_lost() {
    let server = TestServer::start(|_| {}).await;
    let options = ConnectOptions { forms: Some(Forms::Named), ..ConnectOptions::default() };
    for _ in 0..100 {
        let mut client = crate::kit::Client::open(server.address, &options).await.unwrap();
        client.wire.send("40");
        let id = client.emit_unanswered("authenticate", &[json!({ "user_id": "ann", "organization_id": "org-1" })]);
        assert_eq!(client.answer(id).await["success"], true);
    }
}
