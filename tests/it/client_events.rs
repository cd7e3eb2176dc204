//! Events that clients send, and what the rules make of them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tiercast::config::{ClientEvent, Config, CustomEvent, DoorIdentity, LogStore, RelayTo};
use tiercast::events::Priority;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use crate::kit::{Client, ConnectOptions, Kind, Plain, SECRET, TestServer, eventually, part, token};

fn rule(event: &str, action: &str) -> ClientEvent {
    part(json!({ "event": event, "action": action }))
}

fn relay(event: &str, to: RelayTo, name: Option<&str>) -> ClientEvent {
    ClientEvent { to: Some(to), published_as: name.map(Into::into), ..rule(event, "relay") }
}

fn forward(url: &str) -> ClientEvent {
    ClientEvent { url: Some(url.into()), secret: Some("secret".to_owned().into()), ..rule("order:place", "forward") }
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
        rule("noise", "drop"),
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
    let payload = json!({ "text": "é", "organization_id": "org-2", "from": { "user_id": "somebody else" } });
    let ack = sender.emit("typing", payload.clone()).await;
    let mut payload = payload;
    payload["from"] = json!({ "user_id": sender.user, "socket_id": sender.socket_id });
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
        assert_eq!(other.next_named("typing").await.payload()["n"], n);
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
    let mut plain = Plain::at(server.address, "/ws").await;
    plain.authenticate("ann", "org-1").await;
    let send = |client: &Client, frame: &str| {
        client.wire.send(frame);
        client.wire.send_binary(vec![0xff, 0, 1]);
    };
    send(&sender, r#"451-["typing",{"image":{"_placeholder":true,"num":0}}]"#);
    assert_eq!(other.next_named("typing").await.payload()["image"], "/wAB");
    assert_eq!(plain.next_with("event", "typing").await["data"]["image"], "/wAB");
    plain.close().await;
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
    let server = server_with(ClientEvent { timeout_ms: Some(1_000), ..forward(&service.url) }).await;
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

fn gym(config: &mut Config) {
    let gym = &mut config.doors.gym;
    (gym.enabled, gym.organization, gym.batch_ms) = (true, "gym".into(), 0);
    config.auth.jwt.secret = SECRET.to_owned().into();
}

/// A front desk that is let in.
async fn desk(server: &TestServer) -> Plain {
    let token = token(json!({ "sub": 1, "organization_id": "gym" }));
    let mut desk = Plain::at(server.address, &format!("/ws/checkins/?token={token}")).await;
    assert_eq!(desk.next_with("type", "auth_response").await["payload"]["success"], true);
    desk
}

/// The types of the next frames, `initial_stats` left out, and their payloads.
async fn frames(desk: &mut Plain, count: usize) -> (Vec<String>, Vec<Value>) {
    let (mut types, mut payloads) = (Vec::new(), Vec::new());
    while types.len() < count {
        let frame = desk.next().await.expect("a frame");
        if frame["type"] != "initial_stats" {
            types.push(frame["type"].as_str().expect("a type").to_owned());
            payloads.push(frame["payload"].clone());
        }
    }
    (types, payloads)
}

#[tokio::test]
async fn a_check_in_is_answered_and_then_told_to_everybody_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let members = folder.path().join("members.json");
    std::fs::write(&members, r#"[{"id":7,"name":"Ann","membership_type":"vip"}]"#).expect("a file");
    let server = TestServer::start(|config| {
        gym(config);
        config.doors.gym.members_file = members.to_str().expect("a path of ours").into();
    })
    .await;
    let (mut first, mut second) = (desk(&server).await, desk(&server).await);
    let mut dashboard = server.agent("gym").await;
    let mut foreign = server.agent("org-2").await;
    first.send(json!({ "type": "check_in", "data": { "memberId": "7", "location": "Main" } })).await;
    let (types, payloads) = frames(&mut first, 4).await;
    assert_eq!(types, ["check_in_success", "check_in_update", "member_checked_in", "check_in_stats"]);
    assert_eq!(payloads[0], payloads[2]);
    assert_eq!(payloads[0]["member"]["id"], json!(7));
    assert_eq!((&payloads[1]["type"], &payloads[1]["currentlyIn"]), (&json!("check_in"), &json!(1)));
    assert_eq!(frames(&mut second, 3).await.1, payloads[1..]);
    assert_eq!(dashboard.next_named("check_in_update").await.payload(), &payloads[1]);
    second.send(json!({ "type": "check_in", "member_id": 7 })).await;
    let refusal = second.next_with("type", "check_in_error").await;
    assert_eq!(refusal["payload"]["error"], "Ann is already checked in");
    second.send(json!({ "type": "check_out", "data": { "check_in_id": payloads[0]["id"], "notes": "bye" } })).await;
    let (types, payloads) = frames(&mut second, 4).await;
    assert_eq!(types, ["check_out_success", "check_in_update", "member_checked_out", "check_in_stats"]);
    assert_eq!((&payloads[0]["status"], &payloads[3]["currentlyIn"]), (&json!("checked_out"), &json!(0)));
    second.send(json!({ "type": "check_out", "data": { "check_in_id": payloads[0]["id"] } })).await;
    let refusal = second.next_with("type", "check_out_error").await;
    assert_eq!(refusal["payload"]["error"], "Check-in not found or already checked out");
    foreign.expect_silence(&server).await;
    first.close().await;
    second.close().await;
}

#[tokio::test]
async fn figures_only_come_in_the_order_of_the_check_ins() {
    const EACH: usize = 50;
    const DESKS: usize = 16;
    let server = TestServer::start(gym).await;
    let mut watcher = desk(&server).await;
    let desks = (0..DESKS).map(|number| {
        let server = &server;
        async move {
            let mut desk = desk(server).await;
            for member in 0..EACH {
                desk.send(json!({ "type": "check_in", "data": { "member_id": number * EACH + member } })).await;
            }
            for _ in 0..EACH {
                desk.next_with("type", "check_in_success").await;
            }
            desk.close().await;
        }
    });
    futures_util::future::join_all(desks).await;
    let mut last = 0;
    while last < (DESKS * EACH) as u64 {
        let now = watcher.next_with("type", "check_in_stats").await["payload"]["currentlyIn"].as_u64();
        let now = now.expect("a number");
        assert!(now > last, "{now} behind {last}");
        last = now;
    }
    watcher.close().await;
}

#[tokio::test]
async fn who_is_checked_in_is_so_in_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data").to_str().expect("a path of ours").to_owned();
    let start = || {
        let path = path.clone();
        TestServer::start(move |config| {
            gym(config);
            (config.log.store, config.log.path) = (LogStore::Disk, path);
        })
    };
    let check_in = json!({ "type": "check_in", "data": { "member_id": 7 } });
    let server = start().await;
    let mut first = desk(&server).await;
    first.send(check_in.clone()).await;
    first.next_with("type", "check_in_success").await;
    first.close().await;
    server.finish().await;
    let server = start().await;
    let mut second = desk(&server).await;
    second.send(check_in).await;
    assert_eq!(second.next_with("type", "check_in_error").await["payload"]["error"], "7 is already checked in");
    second.close().await;
}

#[tokio::test]
async fn a_rule_for_a_check_in_takes_the_place_of_the_register() {
    let mut service = Service::start().await;
    let server = TestServer::start(|config| {
        gym(config);
        config.client_events = vec![ClientEvent { event: "check_in".into(), ..forward(&service.url) }];
    })
    .await;
    let mut desk = desk(&server).await;
    desk.send(json!({ "type": "check_in", "data": { "member_id": 7 } })).await;
    desk.next_with("type", "check_in_success").await;
    let call = service.call().await;
    assert_eq!((&call.body["event"], &call.body["data"]["member_id"]), (&json!("check_in"), &json!(7)));
    desk.close().await;
}

#[tokio::test]
async fn anonymous_visitors_send_nothing() {
    let server = TestServer::start(|config| {
        gym(config);
        config.doors.gym.identity = DoorIdentity::Anonymous;
        config.client_events = vec![rule("check_out", "drop")];
    })
    .await;
    let mut visitor = Plain::at(server.address, "/ws/checkins/").await;
    for (event, error) in [("check_in", "check_in_error"), ("check_out", "check_out_error")] {
        visitor.send(json!({ "type": event, "data": { "member_id": 7, "check_in_id": "x" } })).await;
        let refusal = visitor.next_with("type", error).await;
        assert_eq!(refusal["payload"]["error"], "Authentication required");
    }
    visitor.close().await;
}

/// The types of the frames before the next `pong`.
async fn types_until_pong(client: &mut Plain) -> Vec<Value> {
    client.send(json!({ "type": "ping" })).await;
    let mut types = Vec::new();
    loop {
        match client.next().await.expect("a frame")["type"].clone() {
            pong if pong == "pong" => return types,
            other => types.push(other),
        }
    }
}

#[tokio::test]
async fn what_an_agent_tells_reaches_the_other_sockets_of_its_user() {
    let server = TestServer::start(|config| {
        (config.doors.workmatrix.enabled, config.doors.workmatrix.organization) = (true, "work".into());
    })
    .await;
    let open = async |user: Option<&str>| {
        let mut client = Plain::at(server.address, "/").await;
        if let Some(user) = user {
            client.send(json!({ "type": "auth", "user_id": user })).await;
            client.next_with("type", "auth_success").await;
        }
        client
    };
    let activity = json!({ "mouseMovements": 7, "note": "é" });
    let mut nobody = open(None).await;
    nobody.send(json!({ "type": "start_monitoring" })).await;
    nobody.next_with("type", "error").await;
    nobody.send(json!({ "type": "activity_update", "data": activity })).await;
    nobody.next_with("type", "error").await;
    let (mut agent, mut page) = (open(Some("ann")).await, open(Some("ann")).await);
    let mut other = open(Some("bob")).await;
    page.send(json!({ "type": "start_monitoring" })).await;
    page.next_with("type", "monitoring_started").await;
    types_until_pong(&mut agent).await;
    types_until_pong(&mut page).await;
    agent.send(json!({ "type": "activity_update", "data": activity })).await;
    assert_eq!(page.next_with("type", "activity_update").await["data"], activity);
    agent.send(json!({ "type": "status_update", "status": "synced" })).await;
    assert_eq!(page.next_with("type", "status_update").await["status"], "synced");
    for client in [&mut agent, &mut other] {
        let types = types_until_pong(client).await;
        assert!(types.iter().all(|kind| kind != "activity_update" && kind != "status_update"), "{types:?}");
    }
    // What it told last is told again to who begins to watch, and to all sockets of the user.
    page.send(json!({ "type": "start_monitoring" })).await;
    page.next_with("type", "monitoring_started").await;
    for client in [&mut page, &mut agent] {
        assert_eq!(client.next_with("type", "activity_update").await["data"], activity);
    }
    other.send(json!({ "type": "start_monitoring" })).await;
    other.next_with("type", "monitoring_started").await;
    other.send(json!({ "type": "sync_now" })).await;
    other.next_with("type", "sync_complete").await;
    assert!(types_until_pong(&mut other).await.is_empty());
    for client in [nobody, agent, page, other] {
        client.close().await;
    }
}
