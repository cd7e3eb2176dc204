//! The HTTP API as a backend service or a person with curl uses it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Call, ConnectOptions, Kind, Reply, TestServer, Transport, assert_shape};

async fn send(call: Call) -> Reply {
    call.send().await.expect("an HTTP answer")
}

/// Asserts an error's status, shape and code.
fn assert_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_shape("http-error", &reply.json());
    assert_eq!(reply.json()["code"], code, "{}", reply.text);
    assert!(reply.header("content-type").starts_with("application/json"));
}

#[tokio::test]
async fn stats_speak_both_vocabularies() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let _other = server.agent("org-2").await;
    agent.subscribe(json!({ "channels": ["kpi"], "queue_name": "q" })).await;
    server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1", "queue_name": "q" })).await;
    agent.next_event().await;
    let (status, answer) = server.get("/stats").await;
    assert_eq!(status, 200);
    assert_shape("stats", &answer);
    let stats = &answer["stats"];
    assert_eq!(stats["active_connections"], 2);
    assert_eq!(stats["connections_by_org"], json!({ "org-1": 1, "org-2": 1 }));
    assert_eq!(stats["messages_by_event"]["kpi:update"], 1);
    assert!(stats["rooms_by_type"]["queue"].as_u64() >= Some(1), "{stats}");
    for (ours, theirs) in [("active_rooms", "total_rooms"), ("average_latency_ms", "avg_latency_ms")] {
        assert_eq!(stats[ours], stats[theirs]);
    }
}

#[tokio::test]
async fn connections_are_listed_and_filtered() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.subscriber("org-1", json!({ "channels": ["kpi"] })).await;
    let other = server.connect_with(ConnectOptions::named().transport(Transport::Polling)).await;
    let _other = other.authenticate("org-2").await;
    let _unknown = server.connect("/").await;
    let (status, all) = server.get("/connections").await;
    assert_eq!((status, &all["success"], &all["total_count"]), (200, &json!(true), &json!(3)));
    for connection in all["connections"].as_array().unwrap() {
        assert_shape("connection", connection);
        assert_eq!(connection["status"], "connected");
    }
    let (_, one) = server.get("/connections?organization_id=org-1").await;
    assert_eq!(one["total_count"], 1);
    let connection = &one["connections"][0];
    assert_eq!(connection["socket_id"], agent.socket_id);
    assert_eq!(connection["user_id"], agent.user);
    assert_eq!(connection["subscriptions"], json!(["kpi:org:org-1"]));
    let (_, none) = server.get("/connections?organization_id=nobody").await;
    assert_eq!((&none["connections"], &none["total_count"]), (&json!([]), &json!(0)));
    agent.settle().await;
}

#[tokio::test]
async fn one_connection_is_found_by_its_public_id_only() {
    let server = TestServer::start(|_| {}).await;
    let agent = server.agent("org-1").await;
    let (status, answer) = server.get(&format!("/connections/{}", agent.socket_id)).await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)));
    assert_shape("connection", &answer["connection"]);
    for id in [agent.wire.sid(), "unknown", "%00", &"x".repeat(3_000)] {
        let reply = send(server.call(Method::GET, &format!("/connections/{id}"))).await;
        assert_eq!(reply.status, 404, "{id}");
        assert_shape("http-error", &reply.json());
        assert_eq!(reply.json()["error"], "Connection not found");
    }
}

#[tokio::test]
async fn the_engine_session_is_never_told() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.connect_with(ConnectOptions::named().transport(Transport::Polling)).await;
    agent = agent.authenticate("org-1").await;
    let sid = agent.wire.sid().to_owned();
    for path in ["/connections", "/rooms", "/stats", "/health"] {
        let reply = send(server.call(Method::GET, path)).await;
        assert!(!reply.text.contains(&sid), "{path} tells a credential");
    }
}

#[tokio::test]
async fn a_deleted_connection_is_cut_for_good() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let mut agent =
            server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org-1").await;
        let reply = send(server.call(Method::DELETE, &format!("/connections/{}", agent.socket_id))).await;
        assert_eq!((reply.status, &reply.json()["success"]), (200, &json!(true)), "{}", reply.text);
        assert!(agent.closed().await.terminal, "{transport:?}");
        let again = send(server.call(Method::DELETE, &format!("/connections/{}", agent.socket_id))).await;
        assert_eq!(again.status, 404);
    }
    server.count("all are gone", |census| census.connections == 0 && census.seats == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_that_it_is_cut_only_when_it_is_nowhere_any_more() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 100_000).await;
    for round in 0..60 {
        let transport = [Transport::WebSocket, Transport::Polling, Transport::Upgrade][round % 3];
        let client = server.connect_with(ConnectOptions::named().transport(transport)).await;
        let mut client = client.authenticate("org-1").await;
        // Leaving many rooms takes a while.
        for queue in 0..50 {
            client.subscribe(json!({ "channels": ["kpi"], "queue_name": format!("queue-{queue}") })).await;
        }
        let deleting = tokio::spawn(send(server.call(Method::DELETE, &format!("/connections/{}", client.socket_id))));
        client.take(|packet| packet.kind == Kind::Disconnect).await;
        let census = server.census();
        assert_eq!((census.sockets, census.rooms, census.seats), (0, 0, 0), "{transport:?}, round {round}");
        assert_eq!(deleting.await.expect("no panic").status, 200);
    }
}

#[tokio::test]
async fn rooms_are_listed() {
    let server = TestServer::start(|_| {}).await;
    let agent = server.subscriber("org-1", json!({ "channels": ["kpi"], "department_id": "d" })).await;
    let (status, answer) = server.get("/rooms").await;
    assert_eq!((status, &answer["success"]), (200, &json!(true)));
    let rooms = answer["rooms"].as_array().unwrap();
    assert_eq!(answer["total_count"], rooms.len());
    for room in rooms {
        assert_shape("room", room);
        assert_eq!(room["member_count"], room["member_socket_ids"].as_array().unwrap().len());
    }
    let scope = rooms.iter().find(|room| room["room_id"] == "org:org-1").expect("the organization's room");
    assert_eq!((&scope["room_type"], &scope["organization_id"]), (&json!("organization"), &json!("org-1")));
    assert_eq!(scope["member_socket_ids"], json!([agent.socket_id]));
    assert!(rooms.iter().any(|room| room["room_id"] == "kpi:org:org-1:dept:d"), "{answer}");
}

#[tokio::test]
async fn a_broadcast_is_answered() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let answer = server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
    assert_shape("broadcast", &answer);
    assert_eq!(answer["recipients_count"], 1);
    agent.next_event().await;
    let nobody = server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-2" })).await;
    assert_eq!(nobody["recipients_count"], 0);
    assert_ne!(answer["message_id"], nobody["message_id"]);
}

#[tokio::test]
async fn positions_grow() {
    let server = TestServer::start(|_| {}).await;
    let mut last = 0;
    for _ in 0..5 {
        let answer = server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
        let position = answer["position"].as_str().unwrap();
        let offset: u64 = position.rsplit_once('.').unwrap().1.parse().unwrap();
        assert!(offset > last, "{position} after {last}");
        last = offset;
    }
}

#[tokio::test]
async fn a_broadcast_that_lacks_something_is_refused() {
    let server = TestServer::start(|_| {}).await;
    for (body, error) in [
        (json!({ "data": {} }), "event is required"),
        (json!({}), "event is required"),
        (json!({ "event": "kpi:update" }), "data is required"),
    ] {
        let reply = send(server.call(Method::POST, "/broadcast").json(&body)).await;
        assert_error(&reply, 400, "INVALID_MESSAGE");
        assert_eq!(reply.json()["error"], error);
    }
}

#[tokio::test]
async fn a_broadcast_of_the_wrong_shape_is_refused() {
    let server = TestServer::start(|_| {}).await;
    let whole = |event: &str| json!({ "event": event, "data": {}, "target": { "organization_id": "org-1" } });
    for body in [
        json!([]),
        json!("kpi:update"),
        json!(null),
        json!({ "event": 5, "data": {} }),
        json!({ "event": "kpi:update", "data": {}, "target": "org-1" }),
        json!({ "event": "kpi:update", "data": {}, "target": { "organization_id": 5 } }),
        json!({ "event": "kpi:update", "data": {}, "target": { "organization_id": "org-1", "user_ids": "ann" } }),
        json!({ "event": "kpi:update", "data": {}, "target": { "organization_id": "org-1", "channels": ["x"] } }),
        json!({ "event": "kpi:update", "data": {}, "target": { "organization_id": "org-1" }, "priority": "loud" }),
        json!({ "event": "kpi:update", "data": {}, "target": { "organization_id": "org-1" }, "requires_ack": "no" }),
        whole("connect"),
        whole("message"),
        whole("error"),
        whole("client:ping"),
        whole("kpi:unknown"),
        whole(""),
    ] {
        let reply = send(server.call(Method::POST, "/broadcast").json(&body)).await;
        assert_error(&reply, 400, "INVALID_MESSAGE");
    }
}

#[tokio::test]
async fn a_request_that_is_no_json_is_refused() {
    let server = TestServer::start(|_| {}).await;
    for path in ["/broadcast", "/broadcast/kpi", "/broadcast/alert"] {
        for body in ["", "{", "{\"event\":}", "[1,2", "nonsense", "{} {}", "\u{0}"] {
            let reply = send(server.call(Method::POST, path).raw_json(body)).await;
            assert_error(&reply, 400, "INVALID_MESSAGE");
        }
        let untyped = send(server.call(Method::POST, path).body("{}")).await;
        assert_error(&untyped, 415, "INVALID_MESSAGE");
        let text = send(server.call(Method::POST, path).text("{}")).await;
        assert_error(&text, 415, "INVALID_MESSAGE");
    }
}

#[tokio::test]
async fn json_with_a_charset_is_json() {
    let server = TestServer::start(|_| {}).await;
    let call = server.call(Method::POST, "/broadcast/kpi").body(r#"{"organization_id":"org-1"}"#);
    assert_eq!(send(call.header("content-type", "application/json; charset=utf-8")).await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let server = TestServer::start(|config| config.limits.max_message_size_bytes = 10_000).await;
    let fitting = json!({ "organization_id": "org-1", "pad": "x".repeat(9_000) });
    assert_eq!(server.publish("/broadcast/kpi", fitting).await.0, 200);
    let body = json!({ "organization_id": "org-1", "pad": "x".repeat(50_000) });
    for path in ["/broadcast/kpi", "/broadcast"] {
        let reply = send(server.call(Method::POST, path).json(&body)).await;
        assert_error(&reply, 413, "MESSAGE_TOO_LARGE");
    }
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let server = TestServer::start(|_| {}).await;
    for path in ["/nothing", "", "/broadcast/unknown", "/connections/a/b"] {
        let reply = send(server.call(Method::GET, path)).await;
        assert!([404, 405].contains(&reply.status), "{path}: {}", reply.status);
        assert_shape("http-error", &reply.json());
    }
}

#[tokio::test]
async fn the_shortcuts_publish_their_event() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    for (path, event, message) in [
        ("/broadcast/kpi", "kpi:update", "KPI update broadcasted"),
        ("/broadcast/backlog", "backlog:update", "Backlog update broadcasted"),
        ("/broadcast/attendance", "attendance:update", "Attendance update broadcasted"),
        ("/broadcast/alert", "alert:triggered", "Alert broadcasted"),
    ] {
        let body = json!({ "organization_id": "org-1", "department_id": "d", "extra": path });
        let (status, answer) = server.publish(path, body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        assert_shape("broadcast", &answer);
        assert_eq!((&answer["message"], &answer["recipients_count"]), (&json!(message), &json!(1)));
        let received = agent.next_event().await;
        assert_eq!((received.name.as_str(), received.payload()), (event, &body));
    }
}

#[tokio::test]
async fn a_shortcut_without_an_organization_is_refused() {
    let server = TestServer::start(|_| {}).await;
    for path in ["/broadcast/kpi", "/broadcast/backlog", "/broadcast/attendance", "/broadcast/alert"] {
        for body in [json!({}), json!({ "department_id": "d" }), json!([]), json!({ "organization_id": 7 })] {
            let reply = send(server.call(Method::POST, path).json(&body)).await;
            assert_error(&reply, 400, "INVALID_MESSAGE");
        }
    }
}

#[tokio::test]
async fn the_status_of_an_alert_picks_the_event() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    for (status, event) in [
        (json!("pending"), "alert:triggered"),
        (json!("active"), "alert:triggered"),
        (json!("acknowledged"), "alert:acknowledged"),
        (json!("resolved"), "alert:resolved"),
        (json!("something else"), "alert:triggered"),
        (json!(null), "alert:triggered"),
    ] {
        let body = json!({ "organization_id": "org-1", "alert_id": "a", "status": status });
        assert_eq!(server.publish("/broadcast/alert", body).await.0, 200);
        assert_eq!(agent.next_event().await.name, event, "{status}");
    }
}

/// The bodies stand as the original's documentation prints them, but for its ellipsis in `utilization`.
#[tokio::test]
async fn the_documented_requests_work_as_written() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org_123").await;
    agent.subscribe(json!({ "channels": ["kpi"], "organization_id": "org_123", "queue_name": "support" })).await;
    let kpi = r#"{
    "organization_id": "org_123",
    "queue_name": "support",
    "timestamp": "2024-01-15T10:30:00Z",
    "utilization": {"current_utilization": 0.82},
    "health_score": 85
  }"#;
    let reply = send(server.call(Method::POST, "/broadcast/kpi").raw_json(kpi)).await;
    assert_eq!(reply.status, 200, "a KPI without sla_risk: {}", reply.text);
    assert_eq!(agent.next_event().await.payload()["health_score"], 85);
    let notification = r#"{
  "event": "system:notification",
  "data": {
    "message": "System maintenance in 10 minutes"
  },
  "target": {
    "organization_id": "org_123"
  },
  "priority": "urgent",
  "requires_ack": true
}"#;
    let reply = send(server.call(Method::POST, "/broadcast").raw_json(notification)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let event = agent.next_event().await;
    assert_eq!((event.name.as_str(), event.ack.is_some()), ("system:notification", true));
    assert_eq!(server.get("/stats").await.0, 200);
    assert_eq!(server.get("/connections?organization_id=org_123").await.1["total_count"], 1);
}

#[tokio::test]
async fn health_is_told_to_everyone() {
    let server = TestServer::start(|_| {}).await;
    let _agent = server.agent("org-1").await;
    let (status, answer) = server.get("/health").await;
    assert_eq!(status, 200);
    assert_shape("health", &answer);
    assert_eq!(answer["active_connections"], 1);
    for path in ["/livez", "/readyz"] {
        let reply = server.request(Call::get(&server.url(path))).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_browser_of_an_allowed_origin_may_read_answers_and_errors() {
    let server = TestServer::start(|_| {}).await;
    let origin = "http://localhost:3000";
    for path in ["/ws/?EIO=4&transport=polling", "/ws/?EIO=4&transport=nonsense", "/socket.io/?EIO=4&transport=none"] {
        let reply = server.request(Call::get(&server.url(path)).header("origin", origin)).await;
        assert_eq!(reply.header("access-control-allow-origin"), origin, "{path}: {}", reply.text);
        assert_eq!(reply.header("access-control-allow-credentials"), "true");
        if let Some(open) = reply.text.strip_prefix('0') {
            let open: Value = serde_json::from_str(open).unwrap();
            let url = server.url(&format!("{path}&sid={}", open["sid"].as_str().unwrap()));
            server.request(Call::post(&url).text("1")).await;
        }
    }
    let preflight = Call::new(Method::OPTIONS, &server.url("/ws/?EIO=4&transport=polling"))
        .header("origin", origin)
        .header("access-control-request-method", "POST");
    let reply = server.request(preflight).await;
    assert!([200, 204].contains(&reply.status), "{}", reply.status);
    assert_eq!(reply.header("access-control-allow-origin"), origin);
}

#[tokio::test]
async fn every_path_of_the_socket_io_door_opens() {
    let server = TestServer::start(|_| {}).await;
    for path in ["/ws", "/ws/", "/socket.io", "/socket.io/"] {
        for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
            let options = ConnectOptions { path: path.into(), ..ConnectOptions::named() }.transport(transport);
            server.connect_with(options).await.settle().await;
        }
    }
}

#[tokio::test]
async fn open_tells_the_heartbeat_and_the_largest_message() {
    let server = TestServer::start(|_| {}).await;
    let client = server.connect("/").await;
    let open = &client.wire.open;
    assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&json!(25_000), &json!(60_000)));
    assert_eq!(open["maxPayload"], 1_048_576);
}

#[tokio::test]
async fn a_name_that_is_misspelt_is_refused_and_does_not_widen_the_target() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let body = |target: Value| json!({ "event": "kpi:update", "data": {}, "target": target });
    let (status, answer) =
        server.publish("/broadcast", body(json!({ "organization_id": "org-1", "user_id": "u" }))).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("unknown field `user_id`"), "{answer}");
    let (status, answer) = server.publish("/broadcast?wait=acks", body(json!({ "organization_id": "org-1" }))).await;
    assert_eq!((status, &answer["code"]), (400, &json!("INVALID_MESSAGE")), "{answer}");
    agent.expect_silence(&server).await;
}

#[tokio::test]
async fn a_path_that_is_no_text_is_refused_like_everything_else() {
    let server = TestServer::start(|_| {}).await;
    for path in ["/api/ws/messages/%ff", "/api/ws/rooms/%c3%28/messages", "/api/ws/connections/%80"] {
        let reply = server.request(Call::get(&server.url(path))).await;
        assert_eq!((reply.status, reply.json()["code"].as_str()), (400, Some("INVALID_MESSAGE")), "{}", reply.text);
    }
}
