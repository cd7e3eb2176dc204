//! A client that reads too slowly: what overtakes, what is merged and what is dropped, and that nothing else is.

mod property;

use serde_json::{Value, json};
use tiercast::config::Config;

use crate::kit::{Client, ConnectOptions, Event, Forms, TestServer};

/// Bytes that may wait before things are lost on purpose.
const SOFT: usize = 128 * 1_024;

/// An event that nothing else here is about, to fill what the kernel keeps; a few in a row that are dropped show
/// that it takes no more.
const FILLER: &str = "presence:update";
const FILLER_BYTES: usize = 32 * 1_024;
const ENOUGH: u64 = 8;

fn pressed(config: &mut Config) {
    config.outbox.soft_limit_bytes = SOFT;
}

fn target() -> Value {
    json!({ "organization_id": "org-1" })
}

/// A client that has stopped reading, with little room of its own.
async fn stopped(server: &TestServer, forms: Forms) -> Client {
    let options = ConnectOptions { forms: Some(forms), receive_buffer: Some(4_096), ..ConnectOptions::default() };
    let client = server.connect_with(options).await.authenticate("org-1").await;
    client.wire.hold().await;
    client
}

/// Sends to a stopped client until all room before its outbox is taken; returns how much that was.
async fn fill(server: &TestServer, client: &Client) -> u64 {
    let target = json!({ "organization_id": "org-1", "socket_ids": [client.socket_id] });
    let pad = "x".repeat(FILLER_BYTES);
    let mut published = 0;
    while lost(server, FILLER).await.dropped < ENOUGH {
        let body = json!({ "event": FILLER, "data": { "pad": pad }, "target": target, "priority": "low" });
        assert_eq!(server.publish("/broadcast", body).await.0, 200);
        published += 1;
        assert!(published < 1_000, "the kernel takes whatever comes");
    }
    published
}

/// What the server says a client did not get.
#[derive(Debug, Default, PartialEq)]
struct Lost {
    conflated: u64,
    dropped: u64,
}

async fn lost(server: &TestServer, event: &str) -> Lost {
    let (_, answer) = server.get("/stats").await;
    let lost = &answer["stats"]["messages_lost"][event];
    let count = |name: &str| lost[name].as_u64().unwrap_or_default();
    Lost { conflated: count("conflated"), dropped: count("dropped") }
}

async fn publish(server: &TestServer, event: &str, data: Value, priority: &str) {
    let body = json!({ "event": event, "data": data, "target": target(), "priority": priority });
    let (status, answer) = server.publish("/broadcast", body).await;
    assert_eq!(status, 200, "{answer}");
}

/// The next so many frames of a client that reads on, and that there is nothing behind them; what filled the kernel
/// is left out.
async fn read_on(server: &TestServer, client: &mut Client, count: usize) -> Vec<Event> {
    client.wire.read(usize::MAX);
    let mut events = Vec::new();
    while events.len() < count {
        events.push(client.next_event().await);
        events.retain(|event| event.entry() != FILLER);
    }
    let rest = client.drain(server).await;
    assert!(rest.iter().all(|event| event.entry() == FILLER), "more than {count}: {rest:#?}");
    events
}

fn numbers(events: &[Event], name: &str) -> Vec<u64> {
    let named = events.iter().filter(|event| event.name == name);
    named.map(|event| event.data()["n"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn an_urgent_alert_overtakes_a_backlog_and_alerts_keep_their_order() {
    let server = TestServer::start(pressed).await;
    let mut slow = stopped(&server, Forms::Named).await;
    fill(&server, &slow).await;
    let alert = async |event: &str, id: &str, severity: &str| {
        server.broadcast(event, json!({ "alert_id": id, "severity": severity }), target()).await;
    };
    server.broadcast("backlog:snapshot", json!({ "pad": "x".repeat(1_000_000) }), target()).await;
    for n in 0..1_000 {
        server.broadcast("attendance:checkin", json!({ "n": n }), target()).await;
    }
    for (event, severity) in
        [("alert:triggered", "critical"), ("alert:acknowledged", "error"), ("alert:resolved", "info")]
    {
        alert(event, "falling", severity).await;
    }
    for (event, severity) in
        [("alert:triggered", "info"), ("alert:acknowledged", "error"), ("alert:resolved", "critical")]
    {
        alert(event, "rising", severity).await;
    }
    let events = read_on(&server, &mut slow, 1_007).await;
    let told: Vec<_> = events
        .iter()
        .map(|event| match event.data()["alert_id"].as_str() {
            Some(id) => format!("{id} {}", event.name),
            None => event.name.clone(),
        })
        .collect();
    let urgent = ["falling alert:triggered", "rising alert:triggered", "rising alert:acknowledged"];
    assert_eq!(told[..3], urgent);
    assert_eq!(told[3..6], ["rising alert:resolved", "falling alert:acknowledged", "backlog:snapshot"]);
    assert_eq!(numbers(&events[6..1_006], "attendance:checkin"), (0..1_000).collect::<Vec<_>>());
    assert_eq!(told[1_006..], ["falling alert:resolved"]);
}

#[tokio::test]
async fn an_urgent_alert_comes_right_behind_what_was_being_written_to_a_client_that_stopped_reading() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.connect_with(ConnectOptions::named()).await.authenticate("org-1").await;
    client.wire.hold().await;
    server.broadcast("backlog:snapshot", json!({ "pad": "x".repeat(1_000_000) }), target()).await;
    for n in 0..1_000 {
        server.broadcast("attendance:checkin", json!({ "n": n, "pad": "x".repeat(300) }), target()).await;
    }
    server.broadcast("alert:triggered", json!({ "alert_id": "a", "severity": "critical" }), target()).await;
    client.wire.read(usize::MAX);
    let told: Vec<_> = client.drain(&server).await.into_iter().map(|event| event.name).collect();
    assert_eq!(told.len(), 1_002);
    assert_eq!(told[..2], ["backlog:snapshot", "alert:triggered"]);
}

#[tokio::test]
async fn a_tile_shows_its_newest_value_and_what_was_merged_is_counted() {
    let server = TestServer::start(pressed).await;
    let mut slow = stopped(&server, Forms::Named).await;
    fill(&server, &slow).await;
    // Everything after this goes to both.
    let mut fast = server.agent("org-1").await;
    for n in 0..400 {
        let event = ["kpi:update", "kpi:update", "kpi:computed", "alert:triggered"][n % 4];
        server.broadcast(event, json!({ "n": n, "pad": "x".repeat(2_000) }), target()).await;
    }
    let everything = fast.drain(&server).await;
    assert_eq!(
        everything.iter().map(|event| event.data()["n"].clone()).collect::<Vec<_>>(),
        (0..400).collect::<Vec<_>>()
    );

    let Lost { conflated, dropped } = lost(&server, "kpi:update").await;
    assert!((1..199).contains(&conflated), "{conflated} of 200 values were merged, and the first ones had room");
    let events = read_on(&server, &mut slow, 400 - conflated as usize).await;
    let tile = numbers(&events, "kpi:update");
    assert_eq!((tile.last(), tile.len() as u64), (Some(&397), 200 - conflated), "the newest value, and none twice");
    assert_eq!(dropped, 0);
    for event in ["kpi:computed", "alert:triggered"] {
        assert_eq!(numbers(&events, event), numbers(&everything, event));
        assert_eq!(lost(&server, event).await, Lost::default());
    }
    // They are about the same thing, so neither overtakes the other.
    let about = events.iter().filter(|event| event.name.starts_with("kpi:"));
    assert!(about.map(|event| event.data()["n"].as_u64()).is_sorted());
}

#[tokio::test]
async fn without_pressure_nothing_is_merged_or_dropped() {
    let server = TestServer::start(|config| {
        config.outbox.soft_limit_bytes = 1 << 29;
        config.outbox.hard_limit_bytes = 1 << 30;
    })
    .await;
    let mut slow = stopped(&server, Forms::Named).await;
    // Twice what loopback sockets buffer by themselves.
    let pad = "x".repeat(FILLER_BYTES);
    for n in 0..256 {
        server.broadcast("attendance:checkout", json!({ "n": n, "pad": pad }), target()).await;
    }
    for n in 0..100 {
        publish(&server, "kpi:update", json!({ "n": n }), "medium").await;
        publish(&server, "kpi:alert", json!({ "n": n }), "low").await;
    }
    publish(&server, "alert:triggered", json!({ "n": 0 }), "urgent").await;
    let events = read_on(&server, &mut slow, 457).await;
    let at = |name: &str| events.iter().position(|event| event.name == name);
    assert!(at("alert:triggered") < at("kpi:update"), "nothing waited, so nothing was tried");
    for (event, count) in [("attendance:checkout", 256), ("kpi:update", 100), ("kpi:alert", 100)] {
        assert_eq!(numbers(&events, event), (0..count).collect::<Vec<_>>());
    }
    let (_, answer) = server.get("/stats").await;
    assert_eq!(answer["stats"]["messages_lost"], json!({}));
}

#[tokio::test]
async fn what_is_of_low_priority_is_dropped_unless_it_is_to_be_acknowledged() {
    let server = TestServer::start(pressed).await;
    let mut slow = stopped(&server, Forms::Named).await;
    fill(&server, &slow).await;
    // More than may wait, so that the filler goes and every further event is one too many.
    server.broadcast("backlog:alert", json!({ "pad": "x".repeat(2 * SOFT) }), target()).await;
    for n in 0..50 {
        publish(&server, "attendance:checkin", json!({ "n": n }), "low").await;
        let body = json!({
            "event": "attendance:checkin",
            "data": { "n": 100 + n },
            "target": target(),
            "priority": "low",
            "requires_ack": true,
        });
        assert_eq!(server.publish("/broadcast", body).await.0, 200);
    }
    let events = read_on(&server, &mut slow, 51).await;
    assert_eq!(numbers(&events, "attendance:checkin"), (100..150).collect::<Vec<_>>());
    assert!(events[1..].iter().all(|event| event.ack.is_some()), "somebody waits for each of them");
    assert_eq!(lost(&server, "attendance:checkin").await, Lost { conflated: 0, dropped: 50 });
}

#[tokio::test]
async fn the_forms_of_an_event_stay_together_in_a_backlog() {
    let server = TestServer::start(pressed).await;
    let mut slow = stopped(&server, Forms::Both).await;
    fill(&server, &slow).await;
    for n in 0..150 {
        let event = ["alert:triggered", "kpi:computed", "attendance:checkout", "system:notification"][n % 4];
        let priority = ["medium", "urgent", "high"][n % 3];
        publish(&server, event, json!({ "n": n, "alert_id": n % 7 }), priority).await;
    }
    let events = read_on(&server, &mut slow, 300).await;
    let overtaken = events.windows(2).filter(|pair| pair[0].data()["n"].as_u64() > pair[1].data()["n"].as_u64());
    assert!(overtaken.count() > 0, "nothing waited, so nothing was tried");
    let (named, enveloped): (Vec<_>, Vec<_>) = events.chunks(2).map(|pair| (&pair[0], &pair[1])).unzip();
    for (named, enveloped) in named.into_iter().zip(enveloped) {
        assert_eq!(enveloped.name, "message");
        assert_eq!((named.name.as_str(), named.data()), (enveloped.entry(), enveloped.data()));
    }
}

/// A bound on what may wait is none on what may be sent.
#[tokio::test]
async fn an_event_larger_than_the_soft_limit_reaches_a_client_for_whom_nothing_waits() {
    let server = TestServer::start(|config| config.outbox.soft_limit_bytes = 1_024).await;
    let mut agent = server.agent("org-1").await;
    for n in 0..3 {
        publish(&server, "kpi:alert", json!({ "n": n, "pad": "x".repeat(2_000) }), "low").await;
        agent.settle().await;
    }
    assert_eq!(numbers(&agent.drain(&server).await, "kpi:alert"), [0, 1, 2]);
    assert_eq!(lost(&server, "kpi:alert").await, Lost::default());
}
