//! Order: what one client sends is handled as sent, and what is published arrives as published.

use serde_json::{Value, json};

use crate::kit::{ConnectOptions, Forms, Kind, TestServer, Transport};

const EVENTS: u64 = 20_000;

#[tokio::test]
async fn the_events_of_one_client_are_handled_in_order() {
    let server = TestServer::start(|config| {
        config.limits.rate_limit_messages_per_second = 1_000_000;
        config.limits.max_queued_events = 50_000;
        config.outbox.polling_queue_packets = 50_000;
        config.auth.auth_required = false;
    })
    .await;
    for transport in [Transport::WebSocket, Transport::Polling] {
        let mut client = server.connect_with(ConnectOptions::named().transport(transport)).await;
        for n in 0..EVENTS {
            let id = client.emit_unanswered("client:ping", &[json!({ "timestamp": n })]);
            assert_eq!(id, n);
        }
        for n in 0..EVENTS {
            let ack = client.take(|packet| packet.kind == Kind::Ack).await;
            assert_eq!((ack.ack, &ack.data[0]["timestamp"]), (Some(n), &json!(n)), "{}", ack.raw);
        }
    }
}

#[tokio::test]
async fn a_change_of_subscription_takes_its_place_among_other_events() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 1_000_000).await;
    let mut agent = server.agent("org-1").await.without_implicit().await;
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(agent.emit_unanswered("subscribe", &[json!({ "channels": ["kpi"] })]));
        ids.push(agent.emit_unanswered("unsubscribe", &[json!({ "channels": ["kpi"] })]));
    }
    for id in ids {
        assert_eq!(agent.answer(id).await["success"], true);
    }
    server.broadcast("kpi:update", json!({}), json!({ "organization_id": "org-1" })).await;
    agent.expect_silence(&server).await;
}

#[tokio::test]
async fn published_events_arrive_in_order_on_every_socket() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        clients
            .push(server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org-1").await);
    }
    for n in 0..500 {
        let event = ["kpi:computed", "alert:triggered", "backlog:update", "system:notification"][n % 4];
        server.broadcast(event, json!({ "n": n }), json!({ "organization_id": "org-1" })).await;
    }
    for client in &mut clients {
        let numbers: Vec<_> = client.drain(&server).await.iter().map(|event| event.payload()["n"].clone()).collect();
        assert_eq!(numbers, (0..500).map(|n| json!(n)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn publishers_at_once_are_seen_in_one_order_by_all() {
    let server = TestServer::start(|_| {}).await;
    let mut clients = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling, Transport::WebSocket] {
        let options = ConnectOptions { forms: Some(Forms::Envelope), ..ConnectOptions::default() };
        clients.push(server.connect_with(options.transport(transport)).await.authenticate("org-1").await);
    }
    let publisher = async |name: usize| {
        for n in 0..100 {
            let data = json!({ "publisher": name, "n": n });
            server.broadcast("kpi:computed", data, json!({ "organization_id": "org-1" })).await;
        }
    };
    tokio::join!(publisher(0), publisher(1), publisher(2), publisher(3));
    let mut seen: Vec<Vec<Value>> = Vec::new();
    for client in &mut clients {
        let events = client.drain(&server).await;
        seen.push(events.iter().map(|event| event.payload()["position"].clone()).collect());
        for name in 0..4 {
            let of_one = events.iter().filter(|event| event.data()["publisher"] == name);
            let numbers: Vec<_> = of_one.map(|event| event.data()["n"].clone()).collect();
            assert_eq!(numbers, (0..100).map(|n| json!(n)).collect::<Vec<_>>());
        }
    }
    assert_eq!(seen[0].len(), 400);
    assert!(seen.iter().all(|positions| *positions == seen[0]), "the sockets disagree");
    let offsets: Vec<u64> =
        seen[0].iter().map(|at| at.as_str().unwrap().rsplit_once('.').unwrap().1.parse().unwrap()).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b), "positions grow");
}

#[tokio::test]
async fn the_switch_to_websocket_loses_and_reorders_nothing() {
    let server = TestServer::start(|_| {}).await;
    for _ in 0..20 {
        let options = ConnectOptions::named().transport(Transport::Polling);
        let mut client = server.connect_with(options).await.authenticate("org-1").await;
        let publishing = async {
            for n in 0..60 {
                server.broadcast("kpi:computed", json!({ "n": n }), json!({ "organization_id": "org-1" })).await;
            }
        };
        tokio::join!(publishing, client.wire.upgrade());
        let numbers: Vec<_> = client.drain(&server).await.iter().map(|event| event.payload()["n"].clone()).collect();
        assert_eq!(numbers, (0..60).map(|n| json!(n)).collect::<Vec<_>>());
    }
}

/// Large events are prepared by their publishers, at the same time; the log still says which comes first.
#[tokio::test]
async fn large_and_small_events_of_several_publishers_arrive_in_the_order_of_the_log() {
    const PUBLISHERS: usize = 4;
    const EVENTS: usize = 30;
    let server = TestServer::start(|_| {}).await;
    let mut clients = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling] {
        let options = ConnectOptions { forms: Some(Forms::Envelope), ..ConnectOptions::named() };
        clients.push(server.connect_with(options.transport(transport)).await.authenticate("org-1").await);
    }
    let publish = |publisher: usize| {
        let server = &server;
        async move {
            for n in 0..EVENTS {
                let pad = "x".repeat([1, 2_000, 200_000][(publisher + n) % 3]);
                server.broadcast("kpi:computed", json!({ "pad": pad }), json!({ "organization_id": "org-1" })).await;
            }
        }
    };
    tokio::join!(publish(0), publish(1), publish(2), publish(3));
    for client in &mut clients {
        let offset = |event: &crate::kit::Event| {
            let position = event.payload()["position"].as_str().expect("a position").to_owned();
            position.rsplit('.').next().and_then(|offset| offset.parse::<u64>().ok()).expect("an offset")
        };
        let offsets: Vec<u64> = client.drain(&server).await.iter().map(offset).collect();
        assert_eq!(offsets.len(), PUBLISHERS * EVENTS);
        assert!(offsets.is_sorted(), "{offsets:?}");
    }
}
