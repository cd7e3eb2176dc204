//! The forms of an event: named, envelope, or both, with the payload as it was published.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::kit::{ConnectOptions, Event, Forms, Protocol, TestServer, assert_shape};

async fn publish(server: &TestServer) {
    server.broadcast("kpi:update", json!({ "organization_id": "org-1", "queue_name": "q" }), json!({})).await;
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[tokio::test]
async fn both_come_by_default_named_first() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.connect("/").await.authenticate("org-1").await;
    publish(&server).await;
    publish(&server).await;
    let events = agent.drain(&server).await;
    assert_eq!(names(&events), ["kpi:update", "message", "kpi:update", "message"]);
    assert_eq!(events[0].payload(), events[1].data());
}

#[tokio::test]
async fn the_envelope_tells_where_an_event_belongs() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.connect("/").await.authenticate("org-1").await;
    let data = json!({ "organization_id": "org-1", "department_id": "d", "queue_name": "q" });
    let answer = server.broadcast("kpi:update", data.clone(), json!({})).await;
    let envelope = agent.next_named("message").await;
    assert_shape("envelope", envelope.payload());
    assert_eq!(envelope.args[1..], [json!(format!("{}.1", answer["position"].as_str().unwrap()))]);
    for field in ["organization_id", "department_id", "queue_name"] {
        assert_eq!(envelope.payload()[field], data[field]);
    }
    assert_eq!(envelope.payload()["message_id"], answer["message_id"]);
    assert_eq!(envelope.payload()["position"], answer["position"]);
    assert_eq!(envelope.payload()["event"], "kpi:update");
    agent.next_event().await;
}

#[tokio::test]
async fn the_named_form_has_one_argument_and_its_position() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let answer = server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
    let event = agent.next_event().await;
    assert_eq!(event.args[1..], [json!(format!("{}.0", answer["position"].as_str().unwrap()))], "{}", event.raw);
}

#[tokio::test]
async fn without_recovery_and_for_old_clients_there_are_neither_secrets_nor_positions() {
    for (enabled, protocol) in [(false, Protocol::V4), (true, Protocol::V3)] {
        let server = TestServer::start(|config| config.recovery.enabled = enabled).await;
        let options = ConnectOptions { protocol, ..ConnectOptions::named() };
        let mut agent = server.connect_with(options).await.authenticate("org-1").await;
        publish(&server).await;
        let event = agent.next_event().await;
        assert_eq!(event.args.len(), 1, "{}", event.raw);
        assert_eq!(agent.connected.get("pid"), None);
    }
}

#[tokio::test]
async fn a_socket_narrows_its_forms_in_each_place() {
    let server = TestServer::start(|_| {}).await;
    for (forms, expected) in [("named", "kpi:update"), ("envelope", "message")] {
        let in_query = ConnectOptions::default().query("forms", forms);
        let in_auth =
            ConnectOptions::default().auth(json!({ "user_id": "ann", "organization_id": "org-1", "forms": forms }));
        let mut by_query = server.connect_with(in_query).await.authenticate("org-1").await;
        let mut by_auth = server.connect_with(in_auth).await;
        let mut by_event = server.connect("/").await;
        let request = json!({ "user_id": "bob", "organization_id": "org-1", "forms": forms });
        assert_eq!(by_event.emit("authenticate", request).await["success"], true);
        by_event.organization = "org-1".into();
        publish(&server).await;
        for client in [&mut by_query, &mut by_auth, &mut by_event] {
            client.forms = if forms == "named" { Forms::Named } else { Forms::Envelope };
            assert_eq!(names(&client.drain(&server).await), [expected]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_forms_hold_from_the_first_event_on() {
    let server = Arc::new(TestServer::start(|_| {}).await);
    let stop = CancellationToken::new();
    let publishers = [(); 4].map(|()| {
        let (server, stop) = (server.clone(), stop.clone());
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                publish(&server).await;
            }
        })
    });
    for n in 0..300 {
        let mut client = server.connect("/").await;
        let request = json!({ "user_id": format!("u{n}"), "organization_id": "org-1", "forms": "named" });
        client.emit("authenticate", request).await;
        client.forms = Forms::Named;
        (client.organization, client.user) = ("org-1".into(), format!("u{n}"));
        let events = client.drain(&server).await;
        assert!(!names(&events).contains(&"message"), "{n}: {:?}", names(&events));
        client.leave();
    }
    stop.cancel();
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_form_is_refused() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.connect("/").await;
    let request = json!({ "user_id": "bob", "organization_id": "org-1", "forms": "loud" });
    assert_eq!(client.emit("authenticate", request).await["success"], false);
    client.authenticate("org-1").await;
}

#[tokio::test]
async fn the_server_chooses_for_who_does_not() {
    let server = TestServer::start(|config| config.events.forms = serde_json::from_value(json!("envelope")).unwrap());
    let server = server.await;
    let mut client = server.connect("/").await;
    assert_eq!(client.next_named("connected").await.payload()["forms"], "envelope");
    let mut client = client.authenticate("org-1").await;
    client.forms = Forms::Envelope;
    publish(&server).await;
    assert_eq!(names(&client.drain(&server).await), ["message"]);
}

#[tokio::test]
async fn a_payload_passes_byte_for_byte() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.connect("/").await.authenticate("org-1").await;
    let payload = r#"{"z":1.0, "organization_id":"org-1","a":1e3,"big":123456789012345678901234567890,"é":"\u00e9\/","a":2,"unknown":{"deep":[null,true]}}"#;
    let body = format!(r#"{{"event":"kpi:update","data":{payload}}}"#);
    let reply = server.call(Method::POST, "/broadcast").raw_json(body).send().await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text);
    let named = agent.next_event().await;
    let whole = |raw: &str| raw.starts_with(&format!(r#"2["kpi:update",{payload},"#));
    assert!(whole(&named.raw), "{}", named.raw);
    let envelope = agent.next_event().await;
    assert!(envelope.raw.contains(payload), "{}", envelope.raw);
    let reply = server.call(Method::POST, "/broadcast/kpi").raw_json(payload).send().await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text);
    let named = agent.next_event().await;
    assert!(whole(&named.raw), "{}", named.raw);
    agent.next_event().await;
}

#[tokio::test]
async fn a_payload_raises_the_priority() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.connect("/").await.authenticate("org-1").await;
    agent.forms = Forms::Both;
    let cases: [(&str, Value, &str); 14] = [
        ("kpi:update", json!({}), "medium"),
        ("kpi:update", json!({ "sla_risk": { "risk_level": "high" } }), "medium"),
        ("kpi:update", json!({ "sla_risk": { "risk_level": "critical" } }), "urgent"),
        ("backlog:update", json!({ "backlog_trend": "stable" }), "medium"),
        ("backlog:update", json!({ "backlog_trend": "growing" }), "high"),
        ("attendance:update", json!({ "attendance_rate": 0.85 }), "medium"),
        ("attendance:update", json!({ "attendance_rate": 0.84 }), "high"),
        ("attendance:update", json!({ "attendance_rate": "low" }), "medium"),
        ("alert:triggered", json!({ "severity": "info" }), "medium"),
        ("alert:triggered", json!({ "severity": "error" }), "high"),
        ("alert:triggered", json!({ "severity": "critical" }), "urgent"),
        ("alert:resolved", json!({ "severity": "critical" }), "urgent"),
        ("kpi:update", json!(null), "medium"),
        ("kpi:update", json!([1, 2]), "medium"),
    ];
    for (event, data, priority) in cases {
        server.broadcast(event, data.clone(), json!({ "organization_id": "org-1" })).await;
        let envelope = agent.next_named("message").await;
        assert_eq!(envelope.payload()["priority"], priority, "{event} {data}");
        assert_eq!(envelope.payload()["data"], data);
    }
}

#[tokio::test]
async fn a_publisher_may_name_the_priority() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.connect("/").await.authenticate("org-1").await;
    for priority in ["low", "medium", "high", "urgent"] {
        let body = json!({
            "event": "kpi:computed",
            "data": {},
            "target": { "organization_id": "org-1" },
            "priority": priority
        });
        assert_eq!(server.publish("/broadcast", body).await.0, 200);
        assert_eq!(agent.next_named("message").await.payload()["priority"], priority);
    }
}
