//! `since` on `subscribe`: what a subscription missed comes first, once, and what is new follows.

use serde_json::{Value, json};
use tiercast::config::Implicit;

use crate::kit::{Client, ConnectOptions, TestServer, Transport};

async fn publish(server: &TestServer, event: &str, n: u64, scope: Value) -> String {
    let answer = server.broadcast(event, json!({ "n": n }), scope).await;
    answer["position"].as_str().expect("a position").to_owned()
}

fn org() -> Value {
    json!({ "organization_id": "org-1" })
}

async fn silent(server: &TestServer, transport: Transport) -> Client {
    server
        .connect_with(ConnectOptions::named().transport(transport))
        .await
        .authenticate("org-1")
        .await
        .without_implicit()
        .await
}

async fn numbers(server: &TestServer, client: &mut Client) -> Vec<u64> {
    client.drain(server).await.iter().filter_map(|event| event.data()["n"].as_u64()).collect()
}

#[tokio::test]
async fn what_came_after_a_position_comes_first() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let mut client = silent(&server, transport).await;
        publish(&server, "kpi:update", 0, org()).await;
        let since = publish(&server, "kpi:update", 1, org()).await;
        for n in 2..8 {
            publish(&server, "kpi:update", n, org()).await;
            publish(&server, "backlog:update", 100 + n, org()).await;
        }
        let ack = client.subscribe(json!({ "channels": ["kpi"], "since": since })).await;
        assert_eq!((&ack["replayed"], &ack["complete"]), (&json!(6), &json!(true)), "{ack}");
        publish(&server, "kpi:update", 8, org()).await;
        assert_eq!(numbers(&server, &mut client).await, (2..=8).collect::<Vec<_>>(), "{transport:?}");
        client.disconnect().await;
    }
}

#[tokio::test]
async fn what_the_socket_had_before_does_not_come_twice() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.agent("org-1").await;
    let since = publish(&server, "kpi:update", 0, org()).await;
    for n in 1..4 {
        publish(&server, "kpi:update", n, org()).await;
    }
    let ack = client.subscribe(json!({ "channels": ["kpi"], "since": since })).await;
    assert_eq!((&ack["replayed"], &ack["complete"]), (&json!(0), &json!(true)));
    assert_eq!(numbers(&server, &mut client).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn last_gives_the_newest_value_of_each_tile() {
    let server = TestServer::start(|_| {}).await;
    let at = |queue: &str| json!({ "organization_id": "org-1", "queue_name": queue });
    for n in 0..5 {
        publish(&server, "kpi:update", n, at("a")).await;
        publish(&server, "kpi:update", 10 + n, at("b")).await;
        // No value of anything: only tiles have a newest.
        publish(&server, "kpi:computed", 20 + n, at("a")).await;
    }
    publish(&server, "backlog:update", 30, at("a")).await;
    let mut client = silent(&server, Transport::WebSocket).await;
    let ack = client.subscribe(json!({ "channels": ["kpi"], "since": "last" })).await;
    assert_eq!((&ack["replayed"], &ack["complete"]), (&json!(2), &json!(true)));
    assert_eq!(numbers(&server, &mut client).await, [4, 14]);
}

#[tokio::test]
async fn a_gap_is_admitted() {
    let server = TestServer::start(|config| config.log.max_entries = 3).await;
    let since = publish(&server, "kpi:update", 0, org()).await;
    for n in 1..6 {
        publish(&server, "kpi:update", n, org()).await;
    }
    let mut client = silent(&server, Transport::WebSocket).await;
    let ack = client.subscribe(json!({ "channels": ["kpi"], "since": since })).await;
    assert_eq!((&ack["replayed"], &ack["complete"]), (&json!(3), &json!(false)));
    let ack = client.subscribe(json!({ "channels": ["backlog"], "since": "otherlog.1" })).await;
    assert_eq!((&ack["replayed"], &ack["complete"]), (&json!(0), &json!(false)));
    assert_eq!(numbers(&server, &mut client).await, [3, 4, 5]);
}

#[tokio::test]
async fn too_many_leave_the_oldest_out_and_say_so() {
    let server = TestServer::start(|_| {}).await;
    let since = publish(&server, "kpi:update", 0, org()).await;
    for n in 1..=1_500 {
        publish(&server, "kpi:update", n, org()).await;
    }
    let mut client = silent(&server, Transport::WebSocket).await;
    let ack = client.subscribe(json!({ "channels": ["kpi"], "since": since })).await;
    let replayed = ack["replayed"].as_u64().expect("a number");
    assert_eq!(ack["complete"], false);
    assert!((100..=1_000).contains(&replayed), "{ack}");
    assert_eq!(numbers(&server, &mut client).await, (1_501 - replayed..=1_500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_since_that_is_none_is_refused_and_the_socket_goes_on() {
    let server = TestServer::start(|_| {}).await;
    let mut client = silent(&server, Transport::WebSocket).await;
    for since in [json!("nonsense"), json!(7), json!("a.b"), json!("")] {
        let ack = client.emit("subscribe", json!({ "channels": ["kpi"], "since": since })).await;
        assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("INVALID_MESSAGE")), "{since}: {ack}");
    }
    // What is refused for another reason must not keep the socket from what is new.
    let ack = client.emit("subscribe", json!({ "channels": ["weather"], "since": "last" })).await;
    assert_eq!(ack["success"], false);
    client.subscribe(json!({ "channels": ["kpi"] })).await;
    publish(&server, "kpi:update", 1, org()).await;
    assert_eq!(numbers(&server, &mut client).await, [1]);
}

#[tokio::test]
async fn subscriptions_in_a_row_get_everything_once_while_it_is_published() {
    const EVENTS: u64 = 600;
    const CHANNELS: [(&str, &str); 3] =
        [("kpi", "kpi:computed"), ("backlog", "backlog:alert"), ("attendance", "attendance:checkin")];
    // What comes without having been asked for would come a second time to who asks for it.
    let server = TestServer::start(|config| config.subscriptions.implicit = Implicit::None).await;
    let since = publish(&server, "system:notification", 0, org()).await;
    let mut clients = Vec::new();
    let publishing = async {
        for n in 0..EVENTS {
            for (channel, event) in CHANNELS {
                server.broadcast(event, json!({ "n": n, "of": channel }), org()).await;
            }
        }
    };
    let subscribing = async {
        for round in 0..12 {
            let transport = [Transport::WebSocket, Transport::Upgrade][round % 2];
            let options = ConnectOptions::named().transport(transport);
            let mut client = server.connect_with(options).await.authenticate("org-1").await;
            let ids = CHANNELS.map(|(channel, _)| {
                client.emit_unanswered("subscribe", &[json!({ "channels": [channel], "since": since })])
            });
            for id in ids {
                let ack = client.answer(id).await;
                assert_eq!((&ack["success"], &ack["complete"]), (&json!(true), &json!(true)), "{ack}");
            }
            clients.push(client);
        }
    };
    tokio::join!(publishing, subscribing);
    for client in &mut clients {
        let events = client.drain(&server).await;
        for (channel, _) in CHANNELS {
            let own = events.iter().filter(|event| event.data()["of"] == channel);
            let numbers: Vec<_> = own.filter_map(|event| event.data()["n"].as_u64()).collect();
            assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>(), "{channel}");
        }
    }
}

#[tokio::test]
async fn a_subscription_is_told_what_it_is_to_and_nothing_twice() {
    let server = TestServer::start(|_| {}).await;
    let since = publish(&server, "kpi:update", 0, org()).await;
    for n in 1..4 {
        publish(&server, "kpi:update", n, org()).await;
    }
    publish(&server, "backlog:update", 4, org()).await;
    // It receives everything without asking, but only from here on.
    let mut client = server.agent("org-1").await;
    for (channels, replayed) in [(["alerts"], 0), (["kpi"], 3), (["kpi"], 0), (["backlog"], 1)] {
        let ack = client.subscribe(json!({ "channels": channels, "since": since })).await;
        assert_eq!((&ack["replayed"], &ack["complete"]), (&json!(replayed), &json!(true)), "{channels:?}: {ack}");
    }
    assert_eq!(numbers(&server, &mut client).await, [1, 2, 3, 4]);
}
