//! Events that clients send, and what the rules make of them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tiercast::config::{ClientAction, ClientEvent, Config, CustomEvent, RelayTo};
use tiercast::events::Priority;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use crate::kit::{Client, ConnectOptions, Kind, TestServer, eventually};

fn rule(event: &str, action: ClientAction) -> ClientEvent {
    ClientEvent {
        event: event.into(),
        action,
        to: None,
        published_as: None,
        url: None,
        secret: None,
        timeout_ms: None,
        max_concurrent: None,
        retry_ms: None,
    }
}

fn relay(event: &str, to: RelayTo, name: Option<&str>) -> ClientEvent {
    ClientEvent { to: Some(to), published_as: name.map(Into::into), ..rule(event, ClientAction::Relay) }
}

fn forward(url: &str) -> ClientEvent {
    ClientEvent { url: Some(url.into()), secret: Some("secret".into()), ..rule("order:place", ClientAction::Forward) }
}

/// Rules of each kind, and an event that they publish.
fn rules(config: &mut Config) {
    config.events.custom = vec![CustomEvent {
        name: "typing".into(),
        channel: "typing".into(),
        priority: Priority::Medium,
        entity: None,
        conflated: false,
        history: true,
    }];
    config.client_events = vec![
        relay("typing", RelayTo::Organization, None),
        relay("whisper", RelayTo::User, Some("notification")),
        relay("say", RelayTo::Room, Some("announcement")),
        rule("noise", ClientAction::Drop),
    ];
}

async fn refused(client: &mut Client, event: &str, payload: Value, code: &str) -> String {
    let ack = client.emit(event, payload).await;
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!(code)), "{ack}");
    client.next_error(code).await;
    ack["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn what_is_relayed_to_the_organization_reaches_all_of_it_but_the_sending_socket() {
    let server = TestServer::start(rules).await;
    let mut sender = server.agent("org-1").await;
    let mut twin = server.connect_with(ConnectOptions::named()).await.authenticate_as(&sender.user, "org-1").await;
    let mut other = server.agent("org-1").await;
    let mut deaf = server.subscriber("org-1", json!({ "channels": ["kpi"] })).await;
    let mut foreign = server.agent("org-2").await;
    let payload = json!({ "text": "é", "organization_id": "org-2" });
    let ack = sender.emit("typing", payload.clone()).await;
    assert_eq!(ack["success"], true);
    assert!(ack["message_id"].as_str().expect("an id").starts_with("msg_"), "{ack}");
    for client in [&mut twin, &mut other] {
        assert_eq!(client.next_named("typing").await.payload(), &payload);
    }
    for client in [&mut sender, &mut deaf, &mut foreign] {
        client.expect_silence(&server).await;
    }
    let (_, message) = server.get(&format!("/messages/{}", ack["message_id"].as_str().expect("an id"))).await;
    assert_eq!(message["message"]["organization_id"], "org-1");
}

#[tokio::test]
async fn what_is_relayed_to_a_user_says_who_sent_it() {
    let server = TestServer::start(rules).await;
    let mut sender = server.agent("org-1").await;
    let connect = async |user: &str, organization: &str| {
        server.connect_with(ConnectOptions::named()).await.authenticate_as(user, organization).await
    };
    let mut first = connect("ann", "org-1").await;
    let mut second = connect("ann", "org-1").await;
    let mut bob = connect("bob", "org-1").await;
    let mut namesake = connect("ann", "org-2").await;
    let forged = json!({ "user_id": "ann", "text": "hi", "from": { "user_id": "boss" } });
    assert_eq!(sender.emit("whisper", forged).await["success"], true);
    for client in [&mut first, &mut second] {
        let payload = client.next_named("notification").await.payload().clone();
        assert_eq!(payload["from"], json!({ "user_id": sender.user, "socket_id": sender.socket_id }));
        assert_eq!(payload["text"], "hi");
    }
    for client in [&mut bob, &mut namesake, &mut sender] {
        client.expect_silence(&server).await;
    }
    for payload in [json!({ "text": "hi" }), json!(["ann"]), json!({ "user_id": 7 }), json!({ "user_id": "" })] {
        refused(&mut sender, "whisper", payload, "INVALID_MESSAGE").await;
    }
}

#[tokio::test]
async fn what_is_relayed_to_a_room_comes_from_one_who_is_in_it() {
    let server = TestServer::start(rules).await;
    let scope = json!({ "channels": ["kpi"], "queue_name": "q" });
    let mut sender = server.subscriber("org-1", scope.clone()).await;
    let mut member = server.subscriber("org-1", scope).await;
    let mut outside = server.subscriber("org-1", json!({ "channels": ["kpi"], "queue_name": "r" })).await;
    let payload = json!({ "room": "kpi:org:org-1:queue:q", "text": "hi" });
    assert_eq!(sender.emit("say", payload.clone()).await["success"], true);
    let told = member.next_named("announcement").await.payload().clone();
    assert_eq!((&told["text"], &told["from"]["user_id"]), (&json!("hi"), &json!(sender.user)));
    for client in [&mut sender, &mut outside] {
        client.expect_silence(&server).await;
    }
    refused(&mut outside, "say", payload, "UNAUTHORIZED").await;
    let foreign = format!("user:org-1:{}", member.user);
    refused(&mut outside, "say", json!({ "room": foreign }), "UNAUTHORIZED").await;
    member.expect_silence(&server).await;
}

#[tokio::test]
async fn a_sender_in_a_namespace_speaks_to_its_scope_only() {
    let server = TestServer::start(rules).await;
    let mut sender = server.member("org-1", "/org/org-1/dept/d").await;
    let mut inside = server.subscriber("org-1", json!({ "channels": ["typing"], "department_id": "d" })).await;
    let mut elsewhere = server.subscriber("org-1", json!({ "channels": ["typing"], "department_id": "e" })).await;
    assert_eq!(sender.emit("typing", json!({ "department_id": "e" })).await["success"], true);
    inside.next_named("typing").await;
    elsewhere.expect_silence(&server).await;
}

#[tokio::test]
async fn what_has_no_rule_is_refused_and_what_is_dropped_is_not() {
    let server = TestServer::start(rules).await;
    let mut client = server.connect_with(ConnectOptions::named()).await;
    refused(&mut client, "typing", json!({}), "UNAUTHORIZED").await;
    refused(&mut client, "noise", json!({}), "UNAUTHORIZED").await;
    let mut client = client.authenticate("org-1").await;
    assert_eq!(client.emit("noise", json!({})).await, json!({ "success": true }));
    // Those of the plain doors are built in only there.
    for event in ["nothing", "check_in", "activity_update", "start_monitoring", "kpi:update"] {
        refused(&mut client, event, json!({ "member_id": 7 }), "INVALID_MESSAGE").await;
    }
}

#[tokio::test]
async fn an_event_inside_a_message_goes_the_same_way() {
    let server = TestServer::start(rules).await;
    let mut sender = server.agent("org-1").await;
    let mut other = server.agent("org-1").await;
    let envelope = |event: &str, data: Value, requires_ack: bool| json!({ "message_id": "m-1", "event": event, "data": data, "requires_ack": requires_ack });
    let ack = sender.emit("message", envelope("typing", json!({ "n": 1 }), true)).await;
    assert_eq!((&ack["message_id"], &ack["status"]), (&json!("m-1"), &json!("received")), "{ack}");
    assert_eq!(sender.emit("message", envelope("typing", json!({ "n": 2 }), false)).await, json!({ "success": true }));
    for n in [1, 2] {
        assert_eq!(other.next_named("typing").await.payload(), &json!({ "n": n }));
    }
    refused(&mut sender, "message", envelope("say", json!({ "room": "x" }), true), "UNAUTHORIZED").await;
    refused(&mut sender, "message", envelope("nothing", json!({}), true), "INVALID_MESSAGE").await;
    // An event of the catalogue without a rule goes nowhere.
    assert_eq!(sender.emit("message", envelope("kpi:update", json!({}), true)).await["status"], "received");
    other.expect_silence(&server).await;
}

#[tokio::test]
async fn attachments_of_an_event_with_a_rule_are_text_in_its_payload() {
    let server = TestServer::start(rules).await;
    let mut sender = server.agent("org-1").await;
    let mut other = server.agent("org-1").await;
    let send = |client: &Client, frame: &str| {
        client.wire.send(frame);
        client.wire.send_binary(vec![0xff, 0, 1]);
    };
    send(&sender, r#"451-["typing",{"image":{"_placeholder":true,"num":0}}]"#);
    assert_eq!(other.next_named("typing").await.payload(), &json!({ "image": "/wAB" }));
    let place = r#"{"_placeholder":true,"num":0}"#;
    send(&sender, &format!(r#"451-["typing",[{place},{place}]]"#));
    sender.next_error("INVALID_MESSAGE").await;
    send(&sender, &format!(r#"451-["nothing",{place}]"#));
    assert!(sender.next_error("INVALID_MESSAGE").await["message"].as_str().expect("text").contains("binary"));
    other.expect_silence(&server).await;
}

/// A call as the service got it.
struct Call {
    headers: HeaderMap,
    text: String,
    body: Value,
}

/// A service that answers what the event's data say: `{status, answer}`, and with `hold` when it may.
struct Service {
    url: String,
    calls: mpsc::UnboundedReceiver<Call>,
    may: Arc<Semaphore>,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/orders", listener.local_addr().expect("an address"));
        let (taken, calls) = mpsc::unbounded_channel();
        let may = Arc::new(Semaphore::new(0));
        let answer = async |State((taken, may)): State<(mpsc::UnboundedSender<Call>, Arc<Semaphore>)>,
                            headers: HeaderMap,
                            text: String| {
            let body: Value = serde_json::from_str(&text).expect("JSON");
            let data = body["data"].clone();
            taken.send(Call { headers, text, body }).ok();
            if data["hold"] == true {
                may.acquire().await.expect("it is open").forget();
            }
            let status = data["status"].as_u64().map_or(200, |status| u16::try_from(status).expect("a status"));
            let answer = data["answer"].as_str().unwrap_or_default().to_owned();
            (StatusCode::from_u16(status).expect("a status"), answer)
        };
        let router = axum::Router::new().route("/orders", post(answer)).with_state((taken, may.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, calls, may }
    }

    async fn call(&mut self) -> Call {
        self.calls.recv().await.expect("a call")
    }
}

async fn server_with(rule: ClientEvent) -> TestServer {
    TestServer::start(|config| config.client_events = vec![rule]).await
}

#[tokio::test]
async fn a_service_is_told_who_asks_and_its_answer_is_the_ack() {
    let mut service = Service::start().await;
    let server = server_with(forward(&service.url)).await;
    let mut client = server.connect_with(ConnectOptions::named()).await;
    let identity = json!({ "user_id": "ann", "organization_id": "org-1", "session_id": "s-1" });
    assert_eq!(client.emit("authenticate", identity).await["success"], true);
    let data = json!({ "answer": "{\"order\":7,\"price\":1.50}", "n": 1 });
    assert_eq!(client.emit("order:place", data.clone()).await, json!({ "order": 7, "price": 1.5, "success": true }));
    let call = service.call().await;
    let timestamp = call.body["timestamp"].clone();
    let expected = json!({
        "event": "order:place",
        "data": data,
        "user_id": "ann",
        "organization_id": "org-1",
        "socket_id": client.socket_id,
        "session_id": "s-1",
        "namespace": "/",
        "timestamp": timestamp,
    });
    assert_eq!(call.body, expected);
    assert!(timestamp.as_str().expect("text").ends_with('Z'));
    let header = |name: &str| call.headers[name].to_str().expect("text").to_owned();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").expect("a key");
    mac.update(format!("{}.{}", header("x-tiercast-timestamp"), call.text).as_bytes());
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("x-tiercast-signature"), format!("sha256={digits}"));
    for (answer, ack) in [("", json!({ "success": true })), ("{\"success\":false}", json!({ "success": false }))] {
        assert_eq!(client.emit("order:place", json!({ "answer": answer })).await, ack);
    }
}

#[tokio::test]
async fn what_a_service_declines_is_refused_in_its_words() {
    let service = Service::start().await;
    let server = server_with(forward(&service.url)).await;
    let mut client = server.agent("org-1").await;
    let declined = json!({ "status": 409, "answer": "{\"error\":\"sold out\"}" });
    assert_eq!(refused(&mut client, "order:place", declined, "INVALID_MESSAGE").await, "sold out");
    let told = refused(&mut client, "order:place", json!({ "status": 404 }), "INVALID_MESSAGE").await;
    assert!(told.contains("404"), "{told}");
    let huge = json!({ "status": 200, "answer": "x".repeat(1_000_000) });
    assert_eq!(client.emit("order:place", huge).await, json!({ "success": true }));
}

#[tokio::test]
async fn a_service_that_fails_is_left_alone_and_tried_again() {
    let mut service = Service::start().await;
    let server = server_with(ClientEvent { retry_ms: Some(1_000), ..forward(&service.url) }).await;
    let mut client = server.agent("org-1").await;
    for _ in 0..5 {
        let told = refused(&mut client, "order:place", json!({ "status": 503 }), "INTERNAL_ERROR").await;
        assert!(!told.contains("http") && !told.contains("127.0.0.1"), "{told}");
        service.call().await;
    }
    // It would answer now, and is not asked.
    refused(&mut client, "order:place", json!({}), "INTERNAL_ERROR").await;
    assert!(service.calls.try_recv().is_err());
    eventually("it is tried again", async || client.emit("order:place", json!({})).await["success"] == true).await;
    service.call().await;
    assert_eq!(client.emit("order:place", json!({})).await["success"], true);
}

#[tokio::test]
async fn a_service_that_is_not_there_or_too_slow_fails() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let server = server_with(forward(&format!("http://{nobody}/secret-path"))).await;
    let mut client = server.agent("org-1").await;
    let told = refused(&mut client, "order:place", json!({}), "INTERNAL_ERROR").await;
    assert!(!told.contains("secret-path"), "{told}");
    let service = Service::start().await;
    let server = server_with(ClientEvent { timeout_ms: Some(100), ..forward(&service.url) }).await;
    let mut client = server.agent("org-1").await;
    refused(&mut client, "order:place", json!({ "hold": true }), "INTERNAL_ERROR").await;
    assert_eq!(client.emit("order:place", json!({})).await["success"], true);
}

#[tokio::test]
async fn what_is_sent_behind_an_event_that_waits_for_a_service_waits_too() {
    let mut service = Service::start().await;
    let server = server_with(ClientEvent { max_concurrent: Some(1), ..forward(&service.url) }).await;
    let mut client = server.agent("org-1").await;
    let mut other = server.agent("org-1").await;
    let order = client.emit_unanswered("order:place", &[json!({ "hold": true })]);
    let ping = client.emit_unanswered("client:ping", &[json!({})]);
    let second = client.emit_unanswered("order:place", &[json!({})]);
    service.call().await;
    // Other sockets do not wait, and events reach this one.
    other.settle().await;
    let told = refused(&mut other, "order:place", json!({}), "INTERNAL_ERROR").await;
    assert!(told.contains("too many"), "{told}");
    client.expect_silence(&server).await;
    service.may.add_permits(1);
    for id in [order, ping, second] {
        let answer = client.take(|packet| packet.kind == Kind::Ack).await;
        assert_eq!(answer.ack, Some(id));
    }
    service.call().await;
    // What waits for its service when the client goes holds nothing up, and no more when the server stops.
    client.emit_unanswered("order:place", &[json!({ "hold": true })]);
    service.call().await;
    client.disconnect().await;
    other.disconnect().await;
    server.finish().await;
}
