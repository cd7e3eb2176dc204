//! What no honest client sends: the contract's error comes back, and the socket and the server stay.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Call, Client, ConnectOptions, Kind, Protocol, Reply, TestServer, Transport};

/// Asserts that the request is refused as invalid in its ack and as an event, and that the socket stays.
async fn assert_invalid(agent: &mut Client, event: &str, args: &[Value]) {
    let id = agent.emit_unanswered(event, args);
    let ack = agent.answer(id).await;
    let shown: String = format!("{event} {args:?}").chars().take(200).collect();
    assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("INVALID_MESSAGE")), "{shown}: {ack}");
    assert!(ack["message"].is_string(), "{shown}: {ack}");
    assert!(ack.to_string().len() < 2_000, "{shown} comes back whole");
    agent.next_error("INVALID_MESSAGE").await;
}

#[tokio::test]
async fn an_unknown_event_is_refused() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling] {
        let mut agent =
            server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org-1").await;
        for event in ["nonsense", "kpi:update", "disconnect", "connect", "connected", "", "a\u{0}b", "client:pong"] {
            assert_invalid(&mut agent, event, &[json!({})]).await;
        }
        assert_invalid(&mut agent, "no-arguments", &[]).await;
        agent.send("nonsense", json!({}));
        agent.next_error("INVALID_MESSAGE").await;
        agent.settle().await;
    }
}

#[tokio::test]
async fn wrong_types_are_refused() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    for request in [
        json!(null),
        json!(5),
        json!("kpi"),
        json!([]),
        json!(["kpi"]),
        json!({}),
        json!({ "channels": null }),
        json!({ "channels": "kpi" }),
        json!({ "channels": 5 }),
        json!({ "channels": {} }),
        json!({ "channels": [5] }),
        json!({ "channels": [["kpi"]] }),
        json!({ "channels": ["kpi", null] }),
        json!({ "channels": ["kpi"], "organization_id": 5 }),
        json!({ "channels": ["kpi"], "department_id": {} }),
        json!({ "channels": ["kpi"], "queue_name": ["q"] }),
        json!({ "channels": ["kpi"], "queue_name": true }),
        json!({ "channels": ["kpi"], "filters": [] }),
        json!({ "channels": ["kpi"], "batch_ms": "soon" }),
    ] {
        assert_invalid(&mut agent, "subscribe", &[request]).await;
    }
    assert_invalid(&mut agent, "subscribe", &[]).await;
    for request in [json!(5), json!({ "channels": "kpi" }), json!({ "subscription_id": 5 })] {
        assert_invalid(&mut agent, "unsubscribe", &[request]).await;
    }
    agent.settle().await;
}

#[tokio::test]
async fn further_arguments_and_unknown_fields_do_no_harm() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let id = agent.emit_unanswered("subscribe", &[json!({ "channels": ["kpi"], "new": [1] }), json!(2), json!(null)]);
    assert_eq!(agent.answer(id).await["success"], true);
    for args in [vec![], vec![json!(null)], vec![json!("hello")], vec![json!({ "timestamp": [1, { "a": 2 }] })]] {
        let id = agent.emit_unanswered("client:ping", &args);
        assert_eq!(agent.answer(id).await["pong"], true, "{args:?}");
    }
}

#[tokio::test]
async fn huge_ids_and_lists_are_refused() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    let huge = "x".repeat(10_000);
    for request in [
        json!({ "channels": ["kpi"], "queue_name": huge }),
        json!({ "channels": ["kpi"], "department_id": "é".repeat(5_000) }),
        json!({ "channels": [huge] }),
        json!({ "channels": vec!["weather"; 10_000] }),
        json!({ "channels": ["kpi"], "filters": { "min_severity": huge } }),
    ] {
        assert_invalid(&mut agent, "subscribe", &[request]).await;
    }
    assert_invalid(&mut agent, &huge, &[json!({})]).await;
    let ack = agent.emit("unsubscribe", json!({ "subscription_id": huge })).await;
    assert_eq!(ack["success"], false);
    agent.send("ack", json!({ "message_id": huge }));
    agent.settle().await;
}

#[tokio::test]
async fn the_same_channel_a_thousand_times_is_one() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await.without_implicit().await;
    let ack = agent.emit("subscribe", json!({ "channels": vec!["kpi"; 1_000] })).await;
    if ack["success"] == true {
        assert_eq!(ack["subscribed_channels"], json!(["kpi"]));
        assert_eq!(ack["rooms"], json!(["kpi:org:org-1"]));
    } else {
        assert_eq!(ack["code"], "INVALID_MESSAGE");
    }
}

#[tokio::test]
async fn binary_where_json_is_expected_is_refused() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling] {
        let mut agent =
            server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org-1").await;
        for frame in [
            r#"451-900["subscribe",{"_placeholder":true,"num":0}]"#,
            r#"451-901["subscribe",{"channels":[{"_placeholder":true,"num":0}]}]"#,
            r#"451-902["authenticate",{"user_id":{"_placeholder":true,"num":0},"organization_id":"org-1"}]"#,
        ] {
            agent.wire.send(frame);
            agent.wire.send_binary(vec![0, 159, 146, 150]);
            let ack = agent.take(|packet| matches!(packet.kind, Kind::Ack | Kind::BinaryAck)).await;
            assert_eq!(ack.data[0]["success"], false, "{frame}: {}", ack.raw);
            agent.next_named("error").await;
        }
        agent.settle().await;
    }
}

#[tokio::test]
async fn deep_json_is_refused() {
    let server = TestServer::start(|_| {}).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let object = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    for nested in [&deep, &object] {
        let mut agent = server.agent("org-1").await;
        agent.wire.send(format!(r#"42["subscribe",{{"channels":{nested}}}]"#));
        agent.next_error("INVALID_MESSAGE").await;
        agent.wire.send(format!(r#"42["nonsense",{nested}]"#));
        agent.next_error("INVALID_MESSAGE").await;
        agent.settle().await;
    }
}

#[tokio::test]
async fn deep_json_does_not_harm_the_handshake_or_the_api() {
    let server = TestServer::start(|_| {}).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let client = Client::open(server.address, &ConnectOptions::named()).await.unwrap();
    client.wire.send(format!(r#"40{{"user_id":{deep}}}"#));
    client.wire.written().await;
    let client = Client::open(server.address, &ConnectOptions::named()).await.unwrap();
    client.wire.send(format!("40/org/org-1,{deep}"));
    client.wire.written().await;
    for body in [
        deep.clone(),
        format!(r#"{{"event":{deep}}}"#),
        format!(r#"{{"event":"kpi:update","data":{deep},"target":{{"organization_id":"org-1"}}}}"#),
        format!(r#"{{"event":"kpi:update","data":{{}},"target":{deep}}}"#),
    ] {
        let call = server.call(reqwest::Method::POST, "/broadcast").raw_json(body);
        let Reply { status, text, .. } = call.send().await.expect("an answer");
        assert!([200, 400].contains(&status), "{status}: {text}");
    }
    server.agent("org-1").await.settle().await;
}

#[tokio::test]
async fn an_ack_that_never_comes_holds_nothing() {
    let server = TestServer::start(|_| {}).await;
    let mut agent = server.agent("org-1").await;
    for _ in 0..50 {
        let body = json!({
            "event": "alert:triggered",
            "data": {},
            "target": { "organization_id": "org-1" },
            "requires_ack": true,
            "ack_timeout_ms": 10,
        });
        assert_eq!(server.publish("/broadcast", body).await.0, 200);
    }
    assert_eq!(agent.drain(&server).await.len(), 50);
    agent.settle().await;
}

#[tokio::test]
async fn thousands_of_connects_on_one_connection_are_answered_or_ignored() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 1_000_000).await;
    let mut bystander = server.agent("org-1").await;
    let mut agent = server.agent("org-1").await;
    for _ in 0..5_000 {
        agent.wire.send("40");
    }
    agent.settle().await;
    bystander.settle().await;
    let census = server.census();
    assert_eq!((census.connections, census.sockets), (2, 2));
}

#[tokio::test]
async fn thousands_of_namespaces_on_one_connection_are_bounded() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 1_000_000).await;
    let mut bystander = server.agent("org-1").await;
    let mut agent = server.agent("org-1").await;
    for n in 0..5_000 {
        let auth = json!({ "user_id": agent.user, "organization_id": "org-1" });
        agent.wire.send(format!("40/org/org-1/queue/q{n},{auth}"));
    }
    agent.settle().await;
    bystander.settle().await;
    let census = server.census();
    assert!(census.namespaces <= 16, "{} namespaces", census.namespaces);
    assert!(census.sockets <= 17, "{} sockets", census.sockets);
    assert_eq!(census.seats, 2);
}

#[tokio::test]
async fn garbage_frames_harm_nobody_else() {
    let server = TestServer::start(|_| {}).await;
    let mut bystander = server.agent("org-1").await;
    let long = format!("42{}", "9".repeat(100_000));
    for transport in [Transport::WebSocket, Transport::Polling] {
        for frame in [
            "",
            "9",
            "x",
            "4",
            "44",
            "47",
            "4x",
            "42",
            "42[",
            "42[]",
            "42{}",
            "42[5]",
            "42[null]",
            "42\"x\"",
            "42[\"a\"",
            "42[\"a\"]]",
            "421[\"a\"",
            "42/",
            "42/,",
            "42/org/org-1,[\"subscribe\",{}]",
            "43",
            "43[]",
            "43x",
            "45",
            "450-",
            "45999999-[\"a\"]",
            "451-[\"a\"]",
            "46",
            "461-0[]",
            "41/nowhere",
            "0",
            "1x",
            "2",
            "2probe",
            "3",
            "3probe",
            "5",
            "6",
            "\u{1e}",
            "4\u{1e}4",
            "42[\"\u{1F600}\"]",
            "b",
            "bAAAA",
            "b!!!",
            long.as_str(),
        ] {
            let options = ConnectOptions::named().transport(transport);
            let client = server.connect_with(options).await.authenticate("org-1").await;
            client.wire.send(frame);
            // Something valid after it: whatever became of the frame, the reader must have got past it.
            client.send("client:ping", json!({}));
            client.wire.written().await;
        }
        let options = ConnectOptions::named().transport(transport);
        let client = server.connect_with(options).await.authenticate("org-1").await;
        client.wire.send_binary(vec![0xff; 1_000]);
        client.wire.written().await;
    }
    bystander.settle().await;
    server.count("only the bystander is left", |census| census.connections == 1 && census.seats == 1).await;
    bystander.expect_silence(&server).await;
}

#[tokio::test]
async fn odd_requests_to_the_door_are_refused() {
    let server = TestServer::start(|_| {}).await;
    for query in [
        "EIO=5&transport=polling",
        "EIO=&transport=polling",
        "transport=polling",
        "EIO=4",
        "EIO=4&transport=",
        "EIO=4&transport=carrier-pigeon",
        "EIO=4&transport=polling&sid=unknown",
        "EIO=4&transport=polling&sid=%00%FF",
        "EIO=4&transport=websocket",
    ] {
        let call = Call::get(&server.url(&format!("/ws/?{query}")));
        let reply = tokio::time::timeout(Duration::from_secs(10), server.request(call)).await.expect("an answer");
        assert!((400..500).contains(&reply.status), "{query}: {} {}", reply.status, reply.text);
    }
    server.count("nothing remains", |census| census.connections == 0).await;
}

#[tokio::test]
async fn a_length_that_does_not_fit_its_payload_is_refused() {
    let server = TestServer::start(|_| {}).await;
    let mut bystander = server.agent("org-1").await;
    let options = ConnectOptions { protocol: Protocol::V3, ..ConnectOptions::named() }.transport(Transport::Polling);
    let mut client = server.connect_with(options).await.authenticate("org-1").await;
    let url = server.url(&format!("/ws/?EIO=3&transport=polling&sid={}", client.wire.sid()));
    // Lengths count UTF-16 units: the first cuts a character.
    for payload in ["2:4\u{1F600}x", "1:", "3:42", "-1:4", "x:4", "4", ":", "18446744073709551616:4", "1:6:"] {
        let call = server.request(Call::post(&url).text(payload));
        let reply = tokio::time::timeout(Duration::from_secs(10), call).await.expect("an answer");
        assert_eq!(reply.status, 400, "{payload:?}: {}", reply.text);
        client.settle().await;
    }
    bystander.settle().await;
}

#[tokio::test]
async fn a_request_of_another_version_than_its_session_is_refused() {
    let server = TestServer::start(|_| {}).await;
    for (protocol, other) in [(Protocol::V3, 4), (Protocol::V4, 3)] {
        let options = ConnectOptions { protocol, ..ConnectOptions::named() }.transport(Transport::Polling);
        let mut client = server.connect_with(options).await.authenticate("org-1").await;
        let url = server.url(&format!("/ws/?EIO={other}&transport=polling&sid={}", client.wire.sid()));
        for call in [Call::get(&url), Call::post(&url).text("1:6"), Call::post(&url).text("2:4\u{1F600}x")] {
            let reply = tokio::time::timeout(Duration::from_secs(10), server.request(call)).await.expect("an answer");
            assert_eq!(reply.status, 400, "{protocol:?}: {}", reply.text);
        }
        client.settle().await;
    }
}
