//! Events that are declared as not kept: in order for who is there, and nothing for who comes later.

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tiercast::config::{Config, CustomEvent, LogStore};
use tiercast::events::Priority;

use crate::kit::{Client, ConnectOptions, Event, TestServer, Transport};

fn cursor(name: &str, history: bool) -> CustomEvent {
    CustomEvent {
        name: name.into(),
        channel: "cursors".into(),
        priority: Priority::Medium,
        entity: None,
        conflated: false,
        history,
    }
}

async fn start(store: LogStore, folder: &TempDir) -> TestServer {
    let path = folder.path().join("data").to_str().expect("a path of ours").to_owned();
    TestServer::start(|config: &mut Config| {
        config.events.custom = vec![cursor("cursor:moved", false), cursor("cursor:set", true)];
        (config.log.store, config.log.path) = (store, path);
    })
    .await
}

/// Publishes numbers, of which only the even ones are kept; the position of the last.
async fn publish(server: &TestServer, numbers: std::ops::Range<u64>) -> String {
    let mut position = Value::Null;
    for n in numbers {
        let event = if n % 2 == 0 { "cursor:set" } else { "cursor:moved" };
        let answer = server.broadcast(event, json!({ "n": n }), json!({ "organization_id": "org-1" })).await;
        position = answer["position"].clone();
    }
    position.as_str().expect("a position").to_owned()
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().filter_map(|event| event.data()["n"].as_u64()).collect()
}

async fn drained(server: &TestServer, client: &mut Client) -> Vec<u64> {
    numbers(&client.drain(server).await)
}

const STORES: [LogStore; 2] = [LogStore::Memory, LogStore::Disk];

#[tokio::test]
async fn it_is_delivered_in_order_and_in_no_history() {
    for store in STORES {
        let folder = tempfile::tempdir().expect("a folder");
        let server = start(store, &folder).await;
        let mut client = server.subscriber("org-1", json!({ "channels": ["cursors"] })).await;
        let first = publish(&server, 0..1).await;
        publish(&server, 1..10).await;
        let events = client.drain(&server).await;
        assert_eq!(numbers(&events), (0..10).collect::<Vec<_>>());
        let offsets: Vec<u64> = events.iter().map(offset).collect();
        assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
        for (query, expected) in
            [(String::new(), vec![0, 2, 4, 6, 8]), (format!("?since={first}&limit=3"), vec![2, 4, 6])]
        {
            let path = format!("/rooms/cursors:org:org-1/messages{query}");
            let history = server.call(Method::GET, &path).send().await.expect("an answer").json();
            let told = history["messages"].as_array().expect("messages").iter();
            let told: Vec<_> = told.filter_map(|message| message["data"]["n"].as_u64()).collect();
            assert_eq!((told, &history["complete"]), (expected, &json!(true)), "{store:?} {query}");
        }
        drop(client);
        server.finish().await;
    }
}

#[tokio::test]
async fn who_subscribes_later_is_not_told() {
    for store in STORES {
        let folder = tempfile::tempdir().expect("a folder");
        let server = start(store, &folder).await;
        let since = publish(&server, 1..2).await;
        publish(&server, 2..8).await;
        let mut client = server.agent("org-1").await.without_implicit().await;
        let ack = client.subscribe(json!({ "channels": ["cursors"], "since": since })).await;
        assert_eq!((&ack["replayed"], &ack["complete"]), (&json!(3), &json!(true)), "{store:?} {ack}");
        publish(&server, 8..10).await;
        assert_eq!(drained(&server, &mut client).await, [2, 4, 6, 8, 9], "{store:?}");
        drop(client);
        server.finish().await;
    }
}

fn offset(event: &Event) -> u64 {
    let position = event.args.last().and_then(Value::as_str).expect("a frame ends with its position");
    position.split('.').nth(1).and_then(|offset| offset.parse().ok()).expect("an offset")
}

#[tokio::test]
async fn who_comes_back_is_not_told_but_receives_what_is_new() {
    for store in STORES {
        let folder = tempfile::tempdir().expect("a folder");
        let server = start(store, &folder).await;
        for transport in [Transport::WebSocket, Transport::Polling] {
            let options = || ConnectOptions::named().transport(transport);
            let mut client = server.connect_with(options()).await.authenticate("org-1").await;
            // The last that it has read is one that is not kept.
            publish(&server, 0..2).await;
            let events = client.drain(&server).await;
            assert_eq!(numbers(&events), [0, 1]);
            let last = events.last().and_then(|event| event.args.last()).expect("a position");
            let auth = json!({ "pid": client.connected["pid"], "offset": last });
            client.wire.crash();
            if transport == Transport::WebSocket {
                server.count("the connection is gone", |census| census.sockets == 0).await;
            }

            publish(&server, 2..300).await;
            let mut client = server.connect_with(options().auth(auth)).await;
            assert_eq!(client.next_named("connected").await.payload()["recovered"], true, "{store:?} {transport:?}");
            client.organization = "org-1".into();
            // Whether or not what was missed is still on its way.
            publish(&server, 300..320).await;
            let missed = (2..300).filter(|n| n % 2 == 0);
            let expected: Vec<u64> = missed.chain(300..320).collect();
            assert_eq!(drained(&server, &mut client).await, expected, "{store:?} {transport:?}");
            client.disconnect().await;
        }
        server.finish().await;
    }
}

#[tokio::test]
async fn what_is_not_acknowledged_of_it_does_not_come_again_in_the_next_process_either() {
    let folder = tempfile::tempdir().expect("a folder");
    let authenticated = async |server: &TestServer| {
        server.connect_with(ConnectOptions::named()).await.authenticate_as("u", "org-1").await
    };
    let mut server = start(LogStore::Disk, &folder).await;
    let mut client = authenticated(&server).await;
    for (n, event) in ["cursor:moved", "cursor:set"].into_iter().enumerate() {
        let target = json!({ "organization_id": "org-1", "user_ids": ["u"] });
        let body = json!({ "event": event, "data": { "n": n }, "target": target, "requires_ack": true });
        assert_eq!(server.publish("/broadcast", body).await.0, 200);
    }
    assert_eq!(drained(&server, &mut client).await, [0, 1]);
    client.disconnect().await;
    for process in ["the same", "the next"] {
        let mut client = authenticated(&server).await;
        assert_eq!(drained(&server, &mut client).await, [1], "{process}");
        client.disconnect().await;
        server.stop().await;
        drop(server);
        server = start(LogStore::Disk, &folder).await;
    }
}
