//! Freshness: who listens to a channel is told when a scope falls silent on it, and when it is live again.

use serde_json::{Value, json};
use tempfile::TempDir;
use tiercast::config::{Config, CustomEvent, Freshness, LogStore};
use tiercast::events::Priority;

use crate::kit::{Client, ConnectOptions, Event, Forms, TestServer, Transport, assert_shape};

const NOTICE: &str = "system:notification";

fn watches(config: &mut Config, channel: &str, expected_interval_ms: u64) {
    config.events.freshness.push(Freshness { channel: channel.into(), expected_interval_ms });
}

/// A server on which something new is expected on `kpi` every 150 ms.
async fn start() -> TestServer {
    TestServer::start(|config| watches(config, "kpi", 150)).await
}

async fn publish(server: &TestServer, event: &str, target: Value) -> Value {
    server.broadcast(event, json!({ "n": 1 }), target).await
}

fn org(organization: &str) -> Value {
    json!({ "organization_id": organization })
}

/// The next notice that a socket gets.
async fn notice(client: &mut Client) -> Value {
    let notice = client.next_named(NOTICE).await.payload().clone();
    assert_shape("freshness", &notice);
    notice
}

fn notices(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| event.entry() == NOTICE).collect()
}

#[tokio::test]
async fn who_listens_is_told_once_of_silence_and_once_of_its_end() {
    let server = start().await;
    let mut client = server.agent("org-1").await;
    publish(&server, "kpi:update", org("org-1")).await;
    let stale = notice(&mut client).await;
    assert_eq!((&stale["stale"], &stale["channel"], &stale["scope"]), (&json!(true), &json!("kpi"), &org("org-1")));
    let age = stale["age_ms"].as_u64().expect("an age");
    assert!(age >= 150, "{stale}");
    another_silence(&server, &mut client).await;
    publish(&server, "kpi:update", org("org-1")).await;
    let live = notice(&mut client).await;
    assert_eq!((&live["stale"], &live["channel"], &live["scope"]), (&json!(false), &json!("kpi"), &org("org-1")));
    assert!(live["age_ms"].as_u64().expect("an age") >= age + 150, "{live}");
    let again = notice(&mut client).await;
    assert_eq!((&again["stale"], &again["scope"]), (&json!(true), &org("org-1")), "silent again");
    let names = client.drain_names(&server).await;
    assert_eq!(names, ["kpi:update"; 3], "nothing was told twice");
}

/// Waits for the silence of another scope, which takes an interval: what is announced again and again would come first.
async fn another_silence(server: &TestServer, client: &mut Client) {
    let other = json!({ "organization_id": "org-1", "department_id": "another" });
    publish(server, "kpi:update", other.clone()).await;
    let stale = notice(client).await;
    assert_eq!((&stale["stale"], &stale["scope"]), (&json!(true), &other));
}

#[tokio::test]
async fn live_again_follows_what_is_new() {
    let server = start().await;
    let mut client = server.agent("org-1").await;
    publish(&server, "kpi:update", org("org-1")).await;
    notice(&mut client).await;
    assert_eq!(client.next_event().await.name, "kpi:update");
    publish(&server, "kpi:computed", org("org-1")).await;
    assert_eq!(client.next_event().await.name, "kpi:computed");
    let live = client.next_event().await;
    assert_eq!((live.name.as_str(), &live.payload()["stale"]), (NOTICE, &json!(false)));
}

#[tokio::test]
async fn only_who_listens_to_the_channel_there_is_told() {
    let server = start().await;
    let queue = |queue: &str, channel: &str| json!({ "channels": [channel], "queue_name": queue });
    let mut told = vec![
        ("the queue", server.subscriber("org-1", queue("q", "kpi")).await),
        ("the organization", server.subscriber("org-1", json!({ "channels": ["kpi"] })).await),
        ("all channels", server.subscriber("org-1", json!({ "channels": ["all"] })).await),
        ("implicitly", server.agent("org-1").await),
        ("a namespace", server.member("org-1", "/org/org-1").await),
        (
            "a filter",
            server.subscriber("org-1", json!({ "channels": ["kpi"], "filters": { "min_severity": "warning" } })).await,
        ),
    ];
    let mut others = vec![
        ("another organization", server.subscriber("org-2", json!({ "channels": ["all"] })).await),
        ("another queue", server.subscriber("org-1", queue("other", "kpi")).await),
        ("another channel", server.subscriber("org-1", json!({ "channels": ["backlog", "notifications"] })).await),
        ("another channel there", server.subscriber("org-1", queue("q", "backlog")).await),
        ("no channel", server.agent("org-1").await.without_implicit().await),
    ];
    publish(&server, "kpi:update", json!({ "organization_id": "org-1", "queue_name": "q" })).await;
    for (who, client) in &mut told {
        let notice = notice(client).await;
        assert_eq!((&notice["stale"], &notice["queue_name"]), (&json!(true), &json!("q")), "{who}");
        assert_eq!(notice["scope"], json!({ "organization_id": "org-1", "queue_name": "q" }));
    }
    for (who, client) in &mut others {
        assert!(client.drain(&server).await.is_empty(), "{who}");
    }
}

#[tokio::test]
async fn only_data_on_its_own_channels_is_a_sign_of_life() {
    let cursor = CustomEvent {
        name: "cursor:moved".into(),
        channel: "cursors".into(),
        priority: Priority::Medium,
        entity: None,
        conflated: false,
        history: true,
    };
    let server = TestServer::start(|config| {
        config.events.custom = vec![cursor];
        watches(config, "notifications", 50);
        watches(config, "alerts", 50);
        watches(config, "cursors", 50);
    })
    .await;
    let mut client = server.agent("org-1").await;
    for (event, target) in [
        ("kpi:update", json!({ "organization_id": "org-1", "channels": ["alerts"] })),
        ("system:notification", org("org-1")),
        ("alert:triggered", json!({ "organization_id": "org-1", "user_ids": [client.user] })),
        ("system:broadcast", json!({})),
        // These two count.
        ("kpi:alert", json!({ "organization_id": "org-1", "department_id": "d" })),
        ("cursor:moved", json!({ "organization_id": "org-1", "queue_name": "q" })),
    ] {
        publish(&server, event, target).await;
    }
    let mut told = Vec::new();
    while told.len() < 2 {
        let notice = client.next_named(NOTICE).await.payload().clone();
        if notice["stale"] == true {
            told.push((notice["channel"].clone(), notice["scope"].clone()));
        }
    }
    told.sort_by_key(|(channel, _)| channel.to_string());
    let expected = [
        (json!("alerts"), json!({ "organization_id": "org-1", "department_id": "d" })),
        (json!("cursors"), json!({ "organization_id": "org-1", "queue_name": "q" })),
    ];
    assert_eq!(told, expected);
    // All deadlines are over by now.
    assert!(notices(&client.drain(&server).await).is_empty());
}

#[tokio::test]
async fn it_is_in_the_log_and_on_sockets_with_a_position() {
    let server = start().await;
    let mut client = server.agent("org-1").await;
    publish(&server, "kpi:update", org("org-1")).await;
    let told = client.next_named(NOTICE).await;
    assert_eq!(told.args.len(), 2, "a payload and a position: {}", told.raw);
    let auth = json!({ "pid": client.connected["pid"], "offset": told.args[1] });
    client.wire.crash();
    server.count("the connection is gone", |census| census.sockets == 0).await;
    publish(&server, "kpi:update", org("org-1")).await;
    let mut client = server.connect_with(ConnectOptions::named().auth(auth)).await;
    assert_eq!(client.next_named("connected").await.payload()["recovered"], true);
    assert_eq!(client.next_event().await.name, "kpi:update");
    assert_eq!(notice(&mut client).await["stale"], false);
    let history = server.get("/rooms/kpi:org:org-1/messages").await.1;
    let events: Vec<_> = history["messages"].as_array().expect("messages").iter().map(|m| &m["event"]).collect();
    assert_eq!(events[..4], ["kpi:update", NOTICE, "kpi:update", NOTICE]);
}

/// Makes `kpi` of the organization stale, as one that listens is told.
async fn fall_silent(server: &TestServer) {
    let mut witness = server.agent("org-1").await;
    publish(server, "kpi:update", org("org-1")).await;
    assert_eq!(notice(&mut witness).await["stale"], true);
    witness.disconnect().await;
}

#[tokio::test]
async fn who_listens_later_is_told_behind_the_answer() {
    let server = start().await;
    fall_silent(&server).await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let options = || ConnectOptions::named().transport(transport);
        let mut client = server.connect_with(options()).await;
        let id = client.emit_unanswered("authenticate", &[json!({ "user_id": "u", "organization_id": "org-1" })]);
        let first = client.take(|packet| packet.ack == Some(id) || is_notice(packet)).await;
        assert_eq!(first.ack, Some(id), "the answer comes first");
        client.organization = "org-1".into();
        assert_eq!(notice(&mut client).await["stale"], true, "{transport:?}");
        for (request, expected) in [
            (json!({ "channels": ["backlog"] }), 0),
            (json!({ "channels": ["kpi"] }), 1),
            (json!({ "channels": ["all"], "queue_name": "q" }), 1),
            (json!({ "channels": ["kpi"], "since": "last" }), 1),
        ] {
            let id = client.emit_unanswered("subscribe", std::slice::from_ref(&request));
            let first = client.take(|packet| packet.ack == Some(id) || is_notice(packet)).await;
            assert_eq!(first.ack, Some(id), "the answer comes first");
            let events = client.drain(&server).await;
            let told = notices(&events);
            assert_eq!(told.len(), expected, "{request} {transport:?}");
            for event in told {
                assert_shape("freshness", event.payload());
                assert_eq!(event.args.len(), 1, "it is no entry, so it has no position");
            }
        }
        client.disconnect().await;
    }
}

fn is_notice(packet: &crate::kit::Packet) -> bool {
    packet.event().is_some_and(|event| event.name == NOTICE)
}

#[tokio::test]
async fn it_is_told_in_the_forms_the_socket_wants_and_to_nobody_else() {
    let server = start().await;
    fall_silent(&server).await;
    let mut other = server.connect_with(ConnectOptions::named()).await.authenticate("org-1").await;
    notice(&mut other).await;
    for (forms, names) in
        [(Forms::Named, vec![NOTICE]), (Forms::Envelope, vec!["message"]), (Forms::Both, vec![NOTICE, "message"])]
    {
        let auth = json!({ "user_id": "u", "organization_id": "org-1" });
        let options = ConnectOptions { forms: Some(forms), ..ConnectOptions::default() }.auth(auth);
        let mut client = server.connect_with(options).await;
        let events = client.drain(&server).await;
        assert_eq!(events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), names);
        for event in &events {
            assert_shape("freshness", event.data());
        }
        if forms != Forms::Named {
            let envelope = events.last().expect("an envelope").payload();
            assert_eq!((&envelope["event"], envelope.get("position")), (&json!(NOTICE), None));
        }
        client.disconnect().await;
    }
    assert!(other.drain(&server).await.is_empty());
    let mut foreign = server.agent("org-2").await;
    assert!(foreign.drain(&server).await.is_empty());
}

#[tokio::test]
async fn what_is_live_again_is_not_told_to_who_listens_later() {
    let server = TestServer::start(|config| {
        watches(config, "kpi", 1_500);
        watches(config, "backlog", 60_000);
    })
    .await;
    let mut client = server.subscriber("org-1", json!({ "channels": ["kpi"] })).await;
    publish(&server, "kpi:update", org("org-1")).await;
    publish(&server, "backlog:update", org("org-1")).await;
    assert_eq!(notice(&mut client).await["stale"], true);
    publish(&server, "kpi:update", org("org-1")).await;
    assert_eq!(notice(&mut client).await["stale"], false);
    let mut later = server.subscriber("org-1", json!({ "channels": ["kpi", "backlog"] })).await;
    assert!(later.drain(&server).await.is_empty());
}

#[tokio::test]
async fn who_subscribes_amid_changes_ends_up_with_the_last_of_them() {
    const CLIENTS: usize = 40;
    let server = TestServer::start(|config| watches(config, "kpi", 10)).await;
    let mut witness = server.agent("org-1").await;
    let mut clients = Vec::new();
    let subscribing = async {
        for n in 0..CLIENTS {
            let mut client = server.agent("org-1").await;
            let since = if n % 2 == 0 { Value::Null } else { json!("last") };
            client.subscribe(json!({ "channels": ["kpi"], "since": since })).await;
            clients.push(client);
        }
    };
    let producing = async {
        // Each as soon as the silence after the one before is told, so that it changes all the time.
        for _ in 0..CLIENTS {
            publish(&server, "kpi:update", org("org-1")).await;
            while notice(&mut witness).await["stale"] == false {}
        }
    };
    tokio::join!(subscribing, producing);
    publish(&server, "kpi:update", org("org-1")).await;
    assert_eq!(notice(&mut witness).await["stale"], false);
    assert_eq!(notice(&mut witness).await["stale"], true);
    for client in &mut clients {
        let events = client.drain(&server).await;
        let last = notices(&events).last().map(|event| event.data()["stale"].clone());
        assert_eq!(last, Some(json!(true)), "{events:#?}");
        let mut entries = notices(&events).into_iter().filter(|event| event.args.len() == 2);
        let mut before = entries.next().map(|event| event.data()["stale"].clone());
        for entry in entries {
            assert_ne!(Some(&entry.data()["stale"]), before.as_ref(), "each change is told once");
            before = Some(entry.data()["stale"].clone());
        }
    }
}

// === Restarts ===

async fn on_disk(folder: &TempDir, interval: u64) -> TestServer {
    let path = folder.path().join("data").to_str().expect("a path of ours").to_owned();
    TestServer::start(|config| {
        (config.log.store, config.log.path) = (LogStore::Disk, path);
        watches(config, "kpi", interval);
    })
    .await
}

#[tokio::test]
async fn a_producer_that_does_not_outlive_a_restart_is_announced() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = on_disk(&folder, 60_000).await;
    publish(&server, "kpi:update", org("org-1")).await;
    publish(&server, "kpi:update", org("org-2")).await;
    server.stop().await;
    drop(server);
    let server = on_disk(&folder, 2_000).await;
    let mut clients = [server.agent("org-1").await, server.agent("org-2").await];
    publish(&server, "kpi:update", org("org-2")).await;
    let stale = notice(&mut clients[0]).await;
    assert_eq!((&stale["stale"], &stale["scope"]), (&json!(true), &org("org-1")));
    assert!(stale["age_ms"].as_u64().expect("an age") >= 2_000, "{stale}");
    let events = clients[1].drain(&server).await;
    assert_eq!(events[0].entry(), "kpi:update", "it had time to be heard again");
    assert!(notices(&events).iter().all(|event| event.data()["stale"] == true), "{events:?}");
    let [first, second] = clients;
    first.disconnect().await;
    second.disconnect().await;
    server.finish().await;
}

#[tokio::test]
async fn what_was_announced_before_a_restart_is_known_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = on_disk(&folder, 150).await;
    fall_silent(&server).await;
    server.stop().await;
    drop(server);
    let server = on_disk(&folder, 150).await;
    let mut client = server.agent("org-1").await;
    assert_eq!(notice(&mut client).await["stale"], true, "whoever listens later is told");
    another_silence(&server, &mut client).await;
    publish(&server, "kpi:update", org("org-1")).await;
    let live = notice(&mut client).await;
    assert_eq!(live["stale"], false);
    assert!(live["age_ms"].as_u64().expect("an age") >= 300, "{live}");
    client.disconnect().await;
    server.finish().await;
}
