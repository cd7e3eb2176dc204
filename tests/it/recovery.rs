//! Recovery: a client that lost its connection goes on where it was, or is told that it cannot.

use serde_json::{Value, json};
use tiercast::config::{Config, Implicit};

use crate::kit::{Client, ConnectOptions, Event, TestServer, Transport};

const TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Polling, Transport::Upgrade];

/// What a client keeps of a session, as stock clients do.
#[derive(Debug, Clone)]
struct Kept {
    pid: String,
    offset: String,
    socket_id: String,
}

/// Makes what a client keeps wrong.
type Spoil = fn(&mut Kept);

/// The position at the end of a frame.
fn offset(event: &Event) -> String {
    event.args.last().and_then(Value::as_str).expect("a frame ends with its position").to_owned()
}

fn kept(client: &Client, last: &Event) -> Kept {
    let pid = client.connected["pid"].as_str().expect("a session has a secret").to_owned();
    Kept { pid, offset: offset(last), socket_id: client.socket_id.clone() }
}

async fn publish(server: &TestServer, n: u64) {
    server.broadcast("kpi:update", json!({ "n": n }), json!({ "organization_id": "org-1" })).await;
}

/// An agent that has read the event 0, and what it keeps.
async fn reader(server: &TestServer, options: ConnectOptions) -> (Client, Kept) {
    let mut client = server.connect_with(options).await.authenticate("org-1").await;
    publish(server, 0).await;
    let last = client.drain(server).await.pop().expect("an event");
    let kept = kept(&client, &last);
    (client, kept)
}

/// The connection breaks; over a WebSocket the server notices it.
async fn lose(server: &TestServer, client: Client, transport: Transport) {
    client.wire.crash();
    if transport != Transport::Polling {
        server.count("the connection is gone", |census| census.sockets == 0).await;
    }
}

async fn back(server: &TestServer, options: ConnectOptions, kept: &Kept) -> Client {
    server.connect_with(options.auth(json!({ "pid": kept.pid, "offset": kept.offset }))).await
}

async fn is_recovered(client: &mut Client) -> bool {
    client.next_named("connected").await.payload()["recovered"] == true
}

/// The numbers of the events that come until nothing more does.
async fn numbers(server: &TestServer, client: &mut Client) -> Vec<u64> {
    client.organization = "org-1".into();
    client.drain(server).await.iter().filter_map(|event| event.data()["n"].as_u64()).collect()
}

#[tokio::test]
async fn a_client_that_comes_back_is_who_it_was_and_misses_nothing() {
    let server = TestServer::start(|_| {}).await;
    for transport in TRANSPORTS {
        let options = || ConnectOptions::named().transport(transport);
        let mut client = server.connect_with(options()).await.authenticate("org-1").await;
        client.subscribe(json!({ "channels": ["kpi"], "queue_name": "q" })).await;
        publish(&server, 0).await;
        server
            .broadcast("kpi:update", json!({ "n": 1 }), json!({ "organization_id": "org-1", "queue_name": "q" }))
            .await;
        let last = client.drain(&server).await.pop().expect("an event");
        assert_eq!(last.payload()["n"], 1);
        let kept = kept(&client, &last);
        lose(&server, client, transport).await;

        for n in 2..12 {
            publish(&server, 100 + n).await;
            server
                .broadcast("kpi:update", json!({ "n": n }), json!({ "organization_id": "org-1", "queue_name": "q" }))
                .await;
        }
        let mut client = back(&server, options(), &kept).await;
        assert!(is_recovered(&mut client).await);
        assert_eq!((&client.socket_id, client.connected["pid"].as_str()), (&kept.socket_id, Some(&*kept.pid)));
        server
            .broadcast("kpi:update", json!({ "n": 12 }), json!({ "organization_id": "org-1", "queue_name": "q" }))
            .await;
        assert_eq!(numbers(&server, &mut client).await, (2..=12).collect::<Vec<_>>(), "{transport:?}");
        assert_eq!(server.census().seats, 1);
        client.disconnect().await;
        server.count("it has left", |census| census.sockets == 0).await;
    }
}

#[tokio::test]
async fn the_second_form_of_an_event_comes_alone_if_the_first_was_read() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.connect_with(ConnectOptions::default()).await.authenticate("org-1").await;
    publish(&server, 0).await;
    let named = client.next_event().await;
    let kept = kept(&client, &named);
    lose(&server, client, Transport::WebSocket).await;
    publish(&server, 1).await;
    let mut client = back(&server, ConnectOptions::default(), &kept).await;
    assert!(is_recovered(&mut client).await);
    client.organization = "org-1".into();
    let names: Vec<_> =
        client.drain(&server).await.into_iter().map(|event| (event.name.clone(), event.data()["n"].clone())).collect();
    let expected = [("message", 0), ("kpi:update", 1), ("message", 1)];
    assert_eq!(names, expected.map(|(name, n)| (name.to_owned(), json!(n))));
}

#[tokio::test]
async fn a_namespace_is_recovered_with_its_channels() {
    let server = TestServer::start(|_| {}).await;
    let auth = json!({ "user_id": "ann", "organization_id": "org-1", "channels": ["kpi"] });
    let options = || ConnectOptions::named().namespace("/org/org-1");
    let mut client = server.connect_with(options().auth(auth.clone())).await;
    publish(&server, 0).await;
    let last = client.drain(&server).await.pop().expect("an event");
    let kept = kept(&client, &last);
    lose(&server, client, Transport::WebSocket).await;
    publish(&server, 1).await;
    server.broadcast("backlog:update", json!({ "n": 2 }), json!({ "organization_id": "org-1" })).await;
    let mut auth = auth;
    (auth["pid"], auth["offset"]) = (json!(kept.pid), json!(kept.offset));
    let mut client = server.connect_with(options().auth(auth)).await;
    assert!(is_recovered(&mut client).await);
    assert_eq!(numbers(&server, &mut client).await, [1]);
}

/// Asserts that a client that says this begins anew and is told nothing that it missed.
async fn begins_anew(server: &TestServer, why: &str, options: ConnectOptions, kept: &Kept) {
    let mut client = back(server, options, kept).await;
    assert!(!is_recovered(&mut client).await, "{why}");
    assert_ne!(client.socket_id, kept.socket_id, "{why}");
    assert_ne!(client.connected["pid"], kept.pid, "{why}");
    let mut client = client.authenticate("org-1").await;
    assert!(client.drain(server).await.is_empty(), "{why}");
    client.disconnect().await;
    server.count("it has left", |census| census.sockets == 0).await;
}

#[tokio::test]
async fn what_cannot_be_proven_is_not_recovered() {
    let server = TestServer::start(|_| {}).await;
    let spoil: [(&str, Spoil); 7] = [
        ("a guessed secret", |kept| kept.pid = "x".repeat(20)),
        ("a position of another epoch", |kept| {
            kept.offset = kept.offset.replacen(|letter: char| letter != '.', "!", 1);
        }),
        ("a position of the future", |kept| {
            kept.offset = format!("{}.999999.0", kept.offset.split('.').next().unwrap());
        }),
        ("no position at all", |kept| kept.offset.clear()),
        ("garbage", |kept| kept.offset = "\u{0}..\u{1f600}".into()),
        ("a form that there is not", |kept| kept.offset = format!("{}.7", kept.offset.rsplit_once('.').unwrap().0)),
        ("a number that is none", |kept| kept.offset = kept.offset.replace('.', ".-")),
    ];
    for (why, spoil) in spoil {
        let (client, mut kept) = reader(&server, ConnectOptions::named()).await;
        lose(&server, client, Transport::WebSocket).await;
        publish(&server, 1).await;
        spoil(&mut kept);
        begins_anew(&server, why, ConnectOptions::named(), &kept).await;
    }
}

#[tokio::test]
async fn a_session_is_recovered_by_its_own_user_in_its_own_namespace_only() {
    let server = TestServer::start(|_| {}).await;
    for (why, namespace, organization) in
        [("another organization", "/", "org-2"), ("another namespace", "/org/org-1", "org-1")]
    {
        let (client, kept) = reader(&server, ConnectOptions::named()).await;
        lose(&server, client, Transport::WebSocket).await;
        publish(&server, 1).await;
        let auth = json!({ "pid": kept.pid, "offset": kept.offset, "user_id": "eve", "organization_id": organization });
        let mut thief = server.connect_with(ConnectOptions::named().namespace(namespace).auth(auth)).await;
        assert!(!is_recovered(&mut thief).await, "{why}");
        assert_ne!(thief.socket_id, kept.socket_id, "{why}");
        thief.disconnect().await;
        server.count("it has left", |census| census.sockets == 0).await;
    }
}

#[tokio::test]
async fn what_the_log_no_longer_has_is_not_recovered() {
    let server = TestServer::start(|config| config.log.max_entries = 3).await;
    let (client, kept) = reader(&server, ConnectOptions::named()).await;
    lose(&server, client, Transport::WebSocket).await;
    for n in 0..6 {
        publish(&server, n).await;
    }
    begins_anew(&server, "too much was published", ConnectOptions::named(), &kept).await;
}

#[tokio::test]
async fn a_session_that_its_client_or_the_server_ended_is_not_recovered() {
    let server = TestServer::start(|_| {}).await;
    let (client, kept) = reader(&server, ConnectOptions::named()).await;
    client.disconnect().await;
    server.count("it has left", |census| census.sockets == 0).await;
    begins_anew(&server, "the client left", ConnectOptions::named(), &kept).await;

    let (mut client, kept) = reader(&server, ConnectOptions::named()).await;
    let path = format!("/connections/{}", kept.socket_id);
    assert_eq!(server.call(reqwest::Method::DELETE, &path).send().await.expect("an answer").status, 200);
    assert!(client.closed().await.terminal);
    begins_anew(&server, "it was dismissed", ConnectOptions::named(), &kept).await;
}

#[tokio::test]
async fn a_session_waits_only_so_long() {
    let server = TestServer::start(|config| config.recovery.max_disconnection_ms = 1).await;
    let (client, kept) = reader(&server, ConnectOptions::named()).await;
    lose(&server, client, Transport::WebSocket).await;
    // A moment later its time is over.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    begins_anew(&server, "its time is over", ConnectOptions::named(), &kept).await;
}

#[tokio::test]
async fn a_connection_that_the_server_believes_alive_is_taken_over() {
    let server = TestServer::start(|_| {}).await;
    for transport in TRANSPORTS {
        let options = || ConnectOptions::named().transport(transport);
        let (mut old, kept) = reader(&server, options()).await;
        publish(&server, 1).await;
        let mut new = back(&server, options(), &kept).await;
        assert!(is_recovered(&mut new).await, "{transport:?}");
        assert_eq!(new.socket_id, kept.socket_id);
        assert!(old.closed().await.terminal, "whoever is still there stays away");
        publish(&server, 2).await;
        assert_eq!(numbers(&server, &mut new).await, [1, 2], "{transport:?}");
        new.disconnect().await;
        server.count("both are gone", |census| census.sockets == 0 && census.seats == 0).await;
    }
}

#[tokio::test]
async fn a_long_replay_and_what_is_published_meanwhile_meet_without_a_gap() {
    let generous = |config: &mut Config| config.outbox.polling_queue_packets = 1_024;
    let server = TestServer::start(generous).await;
    for transport in [Transport::WebSocket, Transport::Polling] {
        let options = || ConnectOptions::named().transport(transport);
        let (client, kept) = reader(&server, options()).await;
        lose(&server, client, transport).await;
        let data = |n: u64| json!({ "n": n, "pad": "x".repeat(2_000) });
        let target = || json!({ "organization_id": "org-1" });
        for n in 1..=1_500 {
            server.broadcast("attendance:checkin", data(n), target()).await;
        }
        let mut client = back(&server, options(), &kept).await;
        assert!(is_recovered(&mut client).await);
        for n in 1_501..=1_700 {
            server.broadcast("attendance:checkin", data(n), target()).await;
        }
        assert_eq!(numbers(&server, &mut client).await, (1..=1_700).collect::<Vec<_>>(), "{transport:?}");
        client.disconnect().await;
        server.count("it has left", |census| census.sockets == 0).await;
    }
}

#[tokio::test]
async fn a_position_of_another_shard_means_nothing() {
    let server = TestServer::start(|config| config.log.shards = 4).await;
    // Somebody who is nobody yet reads what is for everyone, in a shard that may not be the organization's.
    for organization in ["org-1", "org-2", "org-3", "org-4", "org-5", "org-6"] {
        let mut client = server.connect_with(ConnectOptions::named()).await;
        server.broadcast("system:broadcast", json!({}), json!({})).await;
        let last = client.next_event().await;
        let kept = kept(&client, &last);
        let client = client.authenticate(organization).await;
        lose(&server, client, Transport::WebSocket).await;
        for n in 0..20 {
            server.broadcast("kpi:update", json!({ "n": n }), json!({ "organization_id": organization })).await;
        }
        let mut client = back(&server, ConnectOptions::named(), &kept).await;
        if is_recovered(&mut client).await {
            client.organization = organization.into();
            let numbers: Vec<_> =
                client.drain(&server).await.iter().filter_map(|event| event.data()["n"].as_u64()).collect();
            assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "{organization}");
        }
        client.disconnect().await;
        server.count("it has left", |census| census.sockets == 0).await;
    }
}

#[tokio::test]
async fn what_was_published_before_a_subscription_was_not_missed() {
    let server = TestServer::start(|config| config.subscriptions.implicit = Implicit::None).await;
    let mut client = server.connect_with(ConnectOptions::named()).await.authenticate("org-1").await;
    client.subscribe(json!({ "channels": ["backlog"] })).await;
    server.broadcast("backlog:update", json!({ "n": 0 }), json!({ "organization_id": "org-1" })).await;
    let last = client.next_event().await;
    let kept = kept(&client, &last);
    for n in 1..4 {
        publish(&server, n).await;
    }
    client.subscribe(json!({ "channels": ["kpi"] })).await;
    lose(&server, client, Transport::WebSocket).await;
    publish(&server, 4).await;
    let mut client = back(&server, ConnectOptions::named(), &kept).await;
    assert!(is_recovered(&mut client).await);
    assert_eq!(numbers(&server, &mut client).await, [4]);
}

#[tokio::test]
async fn the_first_position_of_all_is_one_like_others() {
    let server = TestServer::start(|_| {}).await;
    let (client, mut kept) = reader(&server, ConnectOptions::named()).await;
    lose(&server, client, Transport::WebSocket).await;
    kept.offset = format!("{}.0.0", kept.offset.split('.').next().expect("an epoch"));
    let mut client = back(&server, ConnectOptions::named(), &kept).await;
    assert!(is_recovered(&mut client).await);
    publish(&server, 1).await;
    assert_eq!(numbers(&server, &mut client).await, [0, 1]);
}

#[tokio::test]
async fn an_earlier_attempt_that_comes_late_takes_nothing() {
    let server = TestServer::start(|_| {}).await;
    let (client, kept) = reader(&server, ConnectOptions::named()).await;
    let mut early = Client::open(server.address, &ConnectOptions::named()).await.expect("a connection");
    lose(&server, client, Transport::WebSocket).await;
    let mut late = back(&server, ConnectOptions::named(), &kept).await;
    assert!(is_recovered(&mut late).await);
    early.enter("/", Some(&json!({ "pid": kept.pid, "offset": kept.offset }))).await.expect("a fresh session");
    assert!(!is_recovered(&mut early).await);
    publish(&server, 1).await;
    assert_eq!(numbers(&server, &mut late).await, [1]);
}

#[tokio::test]
async fn a_session_that_cannot_be_let_in_now_is_let_in_later() {
    let server = TestServer::start(|config| config.limits.max_connections_per_org = 1).await;
    let (client, kept) = reader(&server, ConnectOptions::named()).await;
    lose(&server, client, Transport::WebSocket).await;
    let other = server.agent("org-1").await;
    publish(&server, 1).await;
    let auth = json!({ "pid": kept.pid, "offset": kept.offset });
    let refused = server.try_connect(ConnectOptions::named().auth(auth)).await.err().expect("no place");
    assert!(refused.message().starts_with("CONNECTION_LIMIT"), "{refused:?}");
    other.disconnect().await;
    server.count("there is a place", |census| census.seats == 0).await;
    let mut client = back(&server, ConnectOptions::named(), &kept).await;
    assert!(is_recovered(&mut client).await);
    assert_eq!(numbers(&server, &mut client).await, [1]);
}

#[tokio::test]
async fn who_subscribes_anew_on_coming_back_misses_nothing_for_it() {
    let server = TestServer::start(|config| config.log.max_entries = 10_000).await;
    let subscription = || json!({ "channels": ["kpi"] });
    let mut client = server.connect_with(ConnectOptions::named()).await.authenticate("org-1").await;
    client.subscribe(subscription()).await;
    publish(&server, 0).await;
    let last = client.drain(&server).await.pop().expect("an event");
    let kept = kept(&client, &last);
    lose(&server, client, Transport::WebSocket).await;
    let missed: Vec<Value> =
        (1..=600).map(|n| json!({ "event": "kpi:update", "data": { "organization_id": "org-1", "n": n } })).collect();
    assert_eq!(server.publish("/broadcast/batch", json!(missed)).await.0, 200);
    let mut client = Client::open(server.address, &ConnectOptions::named()).await.expect("a connection");
    // Right behind the CONNECT, before anything is told.
    client.wire.send(format!("40{}", json!({ "pid": kept.pid, "offset": kept.offset })));
    client.wire.send(format!("42{}", json!(["subscribe", subscription()])));
    assert!(is_recovered(&mut client).await);
    let mut seen = Vec::new();
    while seen.len() < 600 {
        seen.extend(client.next_named("kpi:update").await.payload()["n"].as_u64());
    }
    assert_eq!(seen, (1..=600).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_came_in_batches_does_not_come_again() {
    let server = TestServer::start(|_| {}).await;
    let mut client = server.connect_with(ConnectOptions::named()).await.authenticate("org-1").await;
    client.subscribe(json!({ "channels": ["kpi", "backlog"], "batch_ms": 50 })).await;
    let event = |event: &str, n: u64, priority: &str| json!({ "event": event, "data": { "organization_id": "org-1", "n": n }, "priority": priority });
    let events: Vec<Value> = (0..18)
        .map(|n| match n % 6 {
            0 | 4 => event("backlog:update", n, "medium"),
            3 => event("kpi:update", n, "urgent"),
            _ => event("kpi:update", n, "high"),
        })
        .collect();
    assert_eq!(server.publish("/broadcast/batch", json!(events)).await.0, 200);
    let (mut seen, mut offset) = (Vec::new(), String::new());
    while seen.len() < 18 {
        let event = client.next_event().await;
        let Some(position) = event.args.get(1).and_then(Value::as_str) else { continue };
        offset = position.to_owned();
        match event.name.as_str() {
            "batch" => {
                let batches = event.args[0]["batches"].as_object().expect("groups").clone();
                let mut batch: Vec<u64> = batches
                    .values()
                    .flat_map(|list| list.as_array().expect("a list").iter())
                    .map(|one| one["n"].as_u64().expect("n"))
                    .collect();
                batch.sort_unstable();
                seen.extend(batch);
            }
            _ => seen.extend(event.args[0]["n"].as_u64()),
        }
    }
    assert_eq!(seen, (0..18).collect::<Vec<_>>());
    let pid = client.connected["pid"].as_str().expect("a secret").to_owned();
    let kept = Kept { pid, offset, socket_id: client.socket_id.clone() };
    lose(&server, client, Transport::WebSocket).await;
    let mut client = back(&server, ConnectOptions::named(), &kept).await;
    assert!(is_recovered(&mut client).await);
    // It is in batches as before.
    let more: Vec<Value> = (18..20).map(|n| event("kpi:update", n, "medium")).collect();
    assert_eq!(server.publish("/broadcast/batch", json!(more)).await.0, 200);
    let batch = client.next_event().await;
    assert_eq!((batch.name.as_str(), &batch.args[0]["batches"]["kpi:update"][1]["n"]), ("batch", &json!(19)));
}
