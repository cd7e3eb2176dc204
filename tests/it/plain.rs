//! Plain WebSockets: frames of JSON in the place of Socket.IO, with the same sessions.

use serde_json::{Value, json};
use tiercast::config::DoorIdentity;
use tokio_tungstenite::tungstenite::Message;

use crate::kit::{ConnectOptions, Forms, Plain, SECRET, TestServer, eventually, token};

async fn server() -> TestServer {
    TestServer::start(|config| {
        let doors = &mut config.doors;
        (doors.workmatrix.enabled, doors.workmatrix.organization) = (true, "work".into());
        doors.workmatrix.listen = "127.0.0.1:0".into();
        (doors.dexter.enabled, doors.dexter.organization) = (true, "dex".into());
        doors.dexter.anonymous_channels = vec!["issues".into(), "alerts".into()];
        (doors.apier.enabled, doors.apier.organization) = (true, "api".into());
        doors.apier.paths = vec!["/production".into()];
    })
    .await
}

fn kpi(n: u64) -> Value {
    json!({ "organization_id": "org", "n": n })
}

#[tokio::test]
async fn one_event_reaches_every_kind_of_client_with_the_same_id() {
    let server = server().await;
    let mut named = server.agent("org").await;
    let mut plain = Plain::at(server.address, "/ws").await;
    plain.authenticate("ann", "org").await;
    let answer = server.broadcast("kpi:update", kpi(1), json!({ "organization_id": "org" })).await;
    assert_eq!(answer["recipients_count"], 2);
    assert_eq!(named.next_named("kpi:update").await.args[0], kpi(1));
    let frame = plain.next_with("event", "kpi:update").await;
    assert_eq!((&frame["data"], &frame["message_id"]), (&kpi(1), &answer["message_id"]));
    assert_eq!((&frame["position"], &frame["organization_id"]), (&answer["position"], &json!("org")));
    plain.close().await;
}

#[tokio::test]
async fn a_plain_client_catches_up_by_since() {
    let server = server().await;
    let mut plain = Plain::at(server.address, "/ws").await;
    plain.authenticate("ann", "org").await;
    plain.send(json!({ "event": "subscribe", "data": { "channels": ["kpi"] }, "id": 1 })).await;
    let position = plain.next_with("event", "subscribe:ack").await["data"]["position"].clone();
    drop(plain);
    for n in 1..=3 {
        server.broadcast("kpi:update", kpi(n), json!({ "organization_id": "org" })).await;
    }
    let mut plain = Plain::at(server.address, "/ws/").await;
    plain.authenticate("ann", "org").await;
    plain.send(json!({ "event": "subscribe", "data": { "channels": ["kpi"], "since": position } })).await;
    let mut seen = Vec::new();
    let answer = loop {
        let frame = plain.next().await.expect("a frame");
        match frame["event"].as_str() {
            Some("kpi:update") => seen.push(frame["data"]["n"].clone()),
            Some("subscribe:ack") => break frame,
            _ => {}
        }
    };
    while seen.len() < 3 {
        seen.push(plain.next_with("event", "kpi:update").await["data"]["n"].clone());
    }
    assert_eq!((seen, &answer["data"]["complete"]), (vec![json!(1), json!(2), json!(3)], &json!(true)));
    plain.close().await;
}

#[tokio::test]
async fn malformed_frames_are_told_and_keep_the_connection() {
    let server = server().await;
    let mut plain = Plain::at(server.address, "/ws").await;
    plain.authenticate("ann", "org").await;
    let deep = "[".repeat(1_000_000);
    let frames = [
        Message::text("not json"),
        Message::text("[]"),
        Message::text("{}"),
        Message::text(r#"{"event":7}"#),
        Message::text(deep),
        Message::text(format!(r#"{{"event":"nothing","data":{}{}}}"#, "[".repeat(400_000), "]".repeat(400_000))),
        Message::binary(vec![0xff, 0xfe]),
    ];
    for message in frames {
        plain.send_message(message).await;
        let error = plain.next_with("event", "error").await;
        assert!(error["data"]["code"] == "INVALID_MESSAGE" || error["data"]["code"] == "UNAUTHORIZED", "{error}");
    }
    plain.send(json!({ "event": "client:ping", "id": "x" })).await;
    assert_eq!(plain.next_with("event", "client:ping:ack").await["data"]["pong"], true);
    plain.close().await;
}

#[tokio::test]
async fn who_does_not_say_who_it_is_is_sent_away() {
    let server = TestServer::start(|config| config.auth.auth_timeout_ms = 50).await;
    let mut plain = Plain::at(server.address, "/ws").await;
    let (frames, code) = plain.closed().await;
    assert_eq!(frames.last().map(|frame| &frame["data"]["code"]), Some(&json!("AUTH_FAILED")));
    assert_eq!(code, Some(1008));
}

#[tokio::test]
async fn a_stopping_server_asks_plain_clients_to_come_back() {
    let mut server = server().await;
    let mut plain = Plain::at(server.address, "/ws").await;
    plain.authenticate("ann", "org").await;
    let stopping = tokio::spawn(async move {
        server.stop().await;
    });
    let (frames, code) = plain.closed().await;
    assert_eq!(frames.last().map(|frame| &frame["event"]), Some(&json!("system:maintenance")));
    assert_eq!(code, Some(1012));
    stopping.await.unwrap();
}

#[tokio::test]
async fn the_heartbeat_ends_a_connection_that_does_not_answer() {
    let server = TestServer::start(|config| {
        config.heartbeat.ping_interval_ms = 50;
        config.heartbeat.ping_timeout_ms = 1_000;
    })
    .await;
    let mut plain = Plain::at(server.address, "/ws").await;
    plain.authenticate("ann", "org").await;
    // Its answers to pings are written when it reads.
    for n in 0..3 {
        server.broadcast("kpi:update", kpi(n), json!({ "organization_id": "org" })).await;
        plain.next_with("event", "kpi:update").await;
    }
    eventually("a client that reads nothing is gone", async || server.census().sockets == 0).await;
}

#[tokio::test]
async fn each_door_has_its_paths_and_its_listener() {
    let server = server().await;
    for path in ["/ws", "/ws/", "/", "/ws/test-client", "/events/ws", "/production"] {
        Plain::at(server.address, path).await.close().await;
    }
    for path in ["/wsx", "/ws/a/b", "/other", "/api/ws/stats", "/ws/?EIO=5&transport=websocket"] {
        assert!(Plain::open(server.address, path, &[]).await.is_err(), "{path}");
    }
    let own = server.plain_addresses()[0];
    Plain::at(own, "/any/path").await.close().await;
    let status = reqwest::get(format!("http://{own}/api/ws/stats")).await.expect("an answer").status();
    assert_eq!(status.as_u16(), 426);
}

#[tokio::test]
async fn a_door_that_believes_its_clients_serves_only_this_machine() {
    let server = server().await;
    for (name, value) in [("x-forwarded-for", "1.2.3.4"), ("host", "evil.test"), ("origin", "http://evil.test")] {
        let refused = Plain::open(server.address, "/", &[(name, value)]).await.err();
        assert!(matches!(refused, Some(401 | 403)), "{name}: {refused:?}");
    }
    // Nobody is believed there, so a proxy is fine; a foreign page is not.
    assert!(Plain::open(server.address, "/events/ws", &[("x-forwarded-for", "1.2.3.4")]).await.is_ok());
    assert_eq!(Plain::open(server.address, "/events/ws", &[("origin", "http://evil.test")]).await.err(), Some(403));
}

#[tokio::test]
async fn a_door_has_origins_of_its_own() {
    let server = TestServer::start(|config| {
        (config.doors.apier.enabled, config.doors.apier.organization) = (true, "api".into());
        config.doors.apier.origins = vec!["https://console.example".into()];
        config.doors.apier.identity = DoorIdentity::Anonymous;
    })
    .await;
    let headers = [("origin", "https://console.example")];
    assert!(Plain::open(server.address, "/events/ws", &headers).await.is_ok());
    assert!(Plain::open(server.address, "/ws", &headers).await.is_err());
}

#[tokio::test]
async fn leaving_a_part_of_a_channel_leaves_the_others() {
    let server = server().await;
    let mut client = server.subscriber("org", json!({ "channels": ["kpi"], "queue_name": "a" })).await;
    client.subscribe(json!({ "channels": ["kpi"], "queue_name": "b" })).await;
    let answer = client.emit("unsubscribe", json!({ "channels": ["kpi"], "queue_name": "a" })).await;
    assert_eq!(answer["success"], true, "{answer}");
    let answer = client.emit("unsubscribe", json!({ "channels": ["kpi"], "queue_name": "a" })).await;
    assert_eq!(answer["code"], "ROOM_NOT_FOUND");
    server.broadcast("kpi:update", kpi(1), json!({ "organization_id": "org", "queue_name": "a" })).await;
    server.broadcast("kpi:update", kpi(2), json!({ "organization_id": "org", "queue_name": "b" })).await;
    assert_eq!(client.next_named("kpi:update").await.args[0]["n"], 2);
}

#[tokio::test]
async fn events_come_together_to_who_asks_for_it_and_urgent_ones_do_not_wait() {
    let server = server().await;
    let mut client = server.agent("org").await;
    client.subscribe(json!({ "channels": ["kpi", "backlog", "alerts"], "batch_ms": 100 })).await;
    let target = json!({ "organization_id": "org" });
    let event = |name: &str, n: u64| json!({ "event": name, "data": kpi(n), "target": target });
    let events = [event("kpi:update", 1), event("kpi:update", 2), event("kpi:update", 3), event("backlog:update", 4)];
    assert_eq!(server.publish("/broadcast/batch", json!(events)).await.0, 200);
    let batch = client.next_named("batch").await;
    let expected = json!({ "batches": { "kpi:update": [kpi(1), kpi(2), kpi(3)], "backlog:update": [kpi(4)] } });
    assert_eq!(batch.args[0], expected);
    assert!(batch.args[1].as_str().is_some_and(|position| position.ends_with(".1")), "{:?}", batch.args);
    // One alone comes as it is.
    server.broadcast("kpi:update", kpi(5), target.clone()).await;
    assert_eq!(client.next_named("kpi:update").await.args[0], kpi(5));
    // An urgent one takes what was collected with it.
    server.broadcast("kpi:update", kpi(6), target.clone()).await;
    let alert = json!({ "organization_id": "org", "alert_id": "a", "severity": "critical" });
    server.broadcast("alert:triggered", alert.clone(), target.clone()).await;
    let next = [client.next_event().await, client.next_event().await];
    assert_eq!([&next[0].name, &next[1].name], ["kpi:update", "alert:triggered"]);
    client.subscribe(json!({ "channels": ["kpi"], "batch_ms": 0 })).await;
    for n in 7..=8 {
        server.broadcast("kpi:update", kpi(n), target.clone()).await;
        assert_eq!(client.next_named("kpi:update").await.args[0], kpi(n));
    }
}

#[tokio::test]
async fn a_batch_in_envelopes_and_one_in_plain_frames() {
    let server = server().await;
    let options = ConnectOptions { forms: Some(Forms::Envelope), ..Default::default() };
    let mut client = server.connect_with(options).await.authenticate("org").await;
    client.subscribe(json!({ "channels": ["kpi"], "batch_ms": 100 })).await;
    let mut plain = Plain::at(server.address, "/ws?batch_ms=100").await;
    plain.authenticate("ann", "org").await;
    let event = |n: u64| json!({ "event": "kpi:update", "data": kpi(n), "target": { "organization_id": "org" } });
    assert_eq!(server.publish("/broadcast/batch", json!([event(1), event(2)])).await.0, 200);
    let batch = client.next_named("batch").await.args[0].clone();
    assert_eq!(batch["batches"]["kpi:update"][1]["data"], kpi(2));
    let frame = plain.next_with("event", "batch").await;
    assert_eq!(frame["data"]["batches"], batch["batches"]);
    plain.close().await;
}

#[tokio::test]
async fn a_batch_holds_what_its_own_socket_collected() {
    let server = server().await;
    // Of several shards, whose offsets are the same.
    let organizations: Vec<String> = (0..8).map(|n| format!("org-{n}")).collect();
    let mut clients = Vec::new();
    for organization in &organizations {
        let mut client = server.agent(organization).await;
        client.subscribe(json!({ "channels": ["kpi"], "batch_ms": 100 })).await;
        clients.push(client);
    }
    for round in 0..2 {
        let mine = |organization: &String| json!({ "organization_id": organization, "round": round });
        let events: Vec<Value> = organizations
            .iter()
            .flat_map(|organization| [0, 1].map(|_| json!({ "event": "kpi:update", "data": mine(organization) })))
            .collect();
        assert_eq!(server.publish("/broadcast/batch", json!(events)).await.0, 200);
        for (client, organization) in clients.iter_mut().zip(&organizations) {
            let batch = client.next_named("batch").await;
            let expected = json!({ "batches": { "kpi:update": [mine(organization), mine(organization)] } });
            assert_eq!(batch.args[0], expected);
        }
    }
}

#[tokio::test]
async fn a_visitor_may_still_say_who_it_is() {
    let server = TestServer::start(|config| {
        let apier = &mut config.doors.apier;
        (apier.enabled, apier.organization, apier.identity) = (true, "api".into(), DoorIdentity::Token);
        config.auth.jwt.secret = SECRET.to_owned().into();
    })
    .await;
    let mut plain = Plain::at(server.address, "/events/ws").await;
    plain.send(json!({ "type": "ping" })).await;
    plain.next_with("type", "pong").await;
    let user = async || server.get("/connections").await.1["connections"][0]["user_id"].clone();
    assert!(user().await.as_str().is_some_and(|user| user.starts_with("anonymous:")));
    plain.send(json!({ "type": "authenticate", "data": { "token": token(json!({ "sub": "ann" })) } })).await;
    eventually("the visitor is somebody", async || user().await == "ann").await;
    let body = json!({ "action": "created", "event": { "id": 1 } });
    assert_eq!(server.publish("/apier/events", body).await.1["recipients_count"], 1);
    plain.next_with("type", "event_created").await;
    // And cannot become somebody else.
    plain.send(json!({ "type": "authenticate", "data": { "token": token(json!({ "sub": "bob" })) } })).await;
    plain.next_with("type", "error").await;
    assert_eq!(user().await, "ann");
    plain.close().await;
}

#[tokio::test]
async fn a_session_id_brings_no_channel_back_that_a_token_does_not_allow() {
    let server = TestServer::start(|config| {
        let door = r#"{"path":"/live","organization":"org-1"}"#;
        config.doors.generic = vec![serde_json::from_str(door).expect("a door")];
        config.auth.jwt.secret = SECRET.to_owned().into();
    })
    .await;
    let mut client = server.connect_with(ConnectOptions::named()).await;
    let identity = json!({ "user_id": "ann", "organization_id": "org-1", "session_id": "s" });
    assert_eq!(client.emit("authenticate", identity).await["success"], true);
    client.organization = "org-1".into();
    client.subscribe(json!({ "channels": ["kpi", "alerts"] })).await;
    let mut plain = Plain::at(server.address, "/live").await;
    let token = token(json!({ "sub": "ann", "channels": ["alerts"] }));
    plain.send(json!({ "type": "authenticate", "data": { "token": token, "session_id": "s" } })).await;
    assert_eq!(plain.next_with("type", "authenticate:ack").await["data"]["success"], true);
    let target = json!({ "organization_id": "org-1" });
    let answer = server.broadcast("kpi:update", json!({ "n": 1 }), target.clone()).await;
    assert_eq!(answer["recipients_count"], 1, "the Socket.IO client alone");
    server.broadcast("alert:triggered", json!({ "alert_id": "a" }), target).await;
    assert!(plain.next_with("type", "alert:triggered").await["message_id"].is_string());
    plain.close().await;
}

#[tokio::test]
async fn nothing_waits_for_visitors() {
    let server = server().await;
    let mut visitor = Plain::at(server.address, "/events/ws").await;
    visitor.send(json!({ "type": "ping" })).await;
    visitor.next_with("type", "pong").await;
    let target = json!({ "organization_id": "api" });
    let body = json!({ "event": "event_created", "data": { "id": 1 }, "target": target, "requires_ack": true });
    let (_, answer) = server.publish("/broadcast", body).await;
    assert_eq!(answer["recipients_count"], 1);
    visitor.next_with("type", "event_created").await;
    visitor.close().await;
    server.count("the visitor has left", |census| census.sockets == 0).await;
    let path = format!("/messages/{}/receipts", answer["message_id"].as_str().expect("an id"));
    let receipts = server.get(&path).await.1;
    assert!(!receipts.to_string().contains("anonymous:"), "{receipts}");
}

#[tokio::test]
async fn an_event_waits_until_a_client_comes_that_knows_it() {
    let server = server().await;
    let target = json!({ "organization_id": "work", "user_ids": ["ann"] });
    server.broadcast("system:notification", json!({ "n": 1 }), target.clone()).await;
    server.broadcast("status_update", json!({ "status": "synced" }), target).await;
    let mut page = Plain::at(server.address, "/").await;
    page.send(json!({ "type": "auth", "user_id": "ann" })).await;
    assert_eq!(page.next_with("type", "status_update").await["status"], "synced");
    // Its answer comes behind what the user was told, which counts as told then.
    page.send(json!({ "type": "ping" })).await;
    page.next_with("type", "pong").await;
    page.close().await;
    let mut dashboard = server.connect_with(ConnectOptions::named()).await.authenticate_as("ann", "work").await;
    assert_eq!(dashboard.next_named("system:notification").await.payload()["n"], 1);
    dashboard.expect_silence(&server).await;
}
