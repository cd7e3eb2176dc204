//! Users without a connection: what waits for them, when they are told, and what a session is given back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;
use tiercast::config::{self, Config, LogStore};
use tiercast::events::{Catalogue, Facts, Priority};
use tiercast::log::{Audience, Draft, Log, Targets};
use tiercast::rooms::{Id, Scope};

use crate::kit::{Client, ConnectOptions, Event, TestServer, Transport, copy, eventually};

fn on_disk(folder: &TempDir, name: &str) -> impl Fn(&mut Config) {
    let path = folder.path().join(name).to_str().expect("a path of ours").to_owned();
    move |config| {
        config.log.store = LogStore::Disk;
        config.log.path = path.clone();
    }
}

fn to_users(users: &[&str], n: u64) -> Value {
    json!({ "event": "system:notification", "data": { "n": n }, "target": { "organization_id": "org-1", "user_ids": users } })
}

fn to_acknowledge(scope: Value, n: u64) -> Value {
    json!({ "event": "alert:triggered", "data": { "n": n, "severity": "info" }, "target": scope, "requires_ack": true, "ack_timeout_ms": 60_000 })
}

async fn publish(server: &TestServer, body: Value) -> Value {
    let (status, answer) = server.publish("/broadcast", body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn receipts(server: &TestServer, answer: &Value) -> Value {
    let (status, receipts) =
        server.get(&format!("/messages/{}/receipts", answer["message_id"].as_str().unwrap())).await;
    assert_eq!(status, 200, "{receipts}");
    receipts
}

async fn user(server: &TestServer, user: &str, transport: Transport) -> Client {
    server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate_as(user, "org-1").await
}

async fn gone(server: &TestServer, client: Client) {
    let left = server.census().sockets - 1;
    client.disconnect().await;
    server.count("it has left", |census| census.sockets == left).await;
}

fn number(event: &Event) -> Option<u64> {
    event.data()["n"].as_u64()
}

async fn numbers(server: &TestServer, client: &mut Client) -> Vec<u64> {
    client.drain(server).await.iter().filter_map(number).collect()
}

#[tokio::test]
async fn an_event_that_names_an_absent_user_comes_first_in_order_and_once() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let name = format!("user on {transport:?}");
        for n in 0..150 {
            // Others of the organization are not concerned, and other organizations not either.
            publish(&server, to_users(&[&name, "somebody else"], n)).await;
            server.broadcast("kpi:update", json!({ "n": 1_000 }), json!({ "organization_id": "org-1" })).await;
        }
        let foreign = server.connect_with(ConnectOptions::named()).await.authenticate_as(&name, "org-2").await;
        let mut other = user(&server, "another", Transport::WebSocket).await;
        let mut client = user(&server, &name, transport).await;
        publish(&server, to_users(&[&name], 150)).await;
        // The oldest of too many are gone.
        assert_eq!(numbers(&server, &mut client).await, (50..=150).collect::<Vec<u64>>(), "{transport:?}");
        assert!(numbers(&server, &mut other).await.is_empty());
        gone(&server, client).await;
        let mut again = user(&server, &name, transport).await;
        assert!(numbers(&server, &mut again).await.is_empty(), "{transport:?}");
        for client in [again, other, foreign] {
            gone(&server, client).await;
        }
    }
}

#[tokio::test]
async fn the_handshake_and_a_namespace_are_ways_to_come_back_too() {
    let server = TestServer::start(|_| {}).await;
    for namespace in ["/", "/org/org-1", "/org/org-1/dept/d"] {
        for forms in ["named", "both"] {
            let name = format!("user of {namespace} {forms}");
            publish(&server, to_users(&[&name], 1)).await;
            publish(&server, to_users(&[&name], 2)).await;
            let auth = json!({ "user_id": name, "organization_id": "org-1", "forms": forms });
            let options = ConnectOptions { forms: None, ..ConnectOptions::default() };
            let mut client = server.connect_with(options.namespace(namespace).auth(auth)).await;
            client.organization = "org-1".into();
            let expected: &[u64] = if forms == "named" { &[1, 2] } else { &[1, 1, 2, 2] };
            for n in expected {
                assert_eq!(number(&client.next_event().await), Some(*n), "{namespace} {forms}");
            }
            gone(&server, client).await;
        }
    }
}

#[tokio::test]
async fn what_has_to_be_acknowledged_waits_for_who_would_have_received_it() {
    let server = TestServer::start(|_| {}).await;
    let all = user(&server, "all", Transport::WebSocket).await;
    let mut queue = user(&server, "queue", Transport::WebSocket).await.without_implicit().await;
    queue.subscribe(json!({ "channels": ["alerts"], "queue_name": "q" })).await;
    let mut filtered = user(&server, "filtered", Transport::WebSocket).await.without_implicit().await;
    filtered.subscribe(json!({ "channels": ["alerts"], "filters": { "min_severity": "critical" } })).await;
    let mut kpi = user(&server, "kpi", Transport::WebSocket).await.without_implicit().await;
    kpi.subscribe(json!({ "channels": ["kpi"] })).await;
    let mut there = user(&server, "there", Transport::WebSocket).await;
    for client in [all, queue, filtered, kpi] {
        gone(&server, client).await;
    }
    let answer = publish(&server, to_acknowledge(json!({ "organization_id": "org-1", "queue_name": "q" }), 1)).await;
    publish(&server, to_acknowledge(json!({ "organization_id": "org-2" }), 2)).await;
    assert_eq!(answer["recipients_count"], 1);
    let pending = receipts(&server, &answer).await["pending"].clone();
    let whom: Vec<&str> = pending.as_array().unwrap().iter().map(|one| one["user_id"].as_str().unwrap()).collect();
    assert_eq!(whom, ["there", "all", "queue"]);
    assert_eq!(pending[1], json!({ "user_id": "all", "state": "queued" }));
    assert_eq!(numbers(&server, &mut there).await, [1]);
    for (name, expected) in [("all", &[1][..]), ("queue", &[1]), ("filtered", &[]), ("kpi", &[]), ("stranger", &[])] {
        let mut client = user(&server, name, Transport::WebSocket).await;
        assert_eq!(numbers(&server, &mut client).await, expected, "{name}");
        gone(&server, client).await;
    }
}

#[tokio::test]
async fn what_is_not_acknowledged_is_sent_again_to_the_next_session() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling] {
        let name = format!("user on {transport:?}");
        let mut client = user(&server, &name, transport).await;
        let answers = [
            publish(&server, to_acknowledge(json!({ "organization_id": "org-1", "user_ids": [name] }), 1)).await,
            publish(&server, to_acknowledge(json!({ "organization_id": "org-1", "user_ids": [name] }), 2)).await,
        ];
        for n in 1..=2 {
            assert_eq!(number(&client.next_event().await), Some(n));
        }
        gone(&server, client).await;

        let mut client = user(&server, &name, transport).await;
        let first = client.next_event().await;
        assert_eq!((number(&first), number(&client.next_event().await)), (Some(1), Some(2)), "{transport:?}");
        client.ack(&first, json!({}));
        client.settle().await;
        assert_eq!(receipts(&server, &answers[0]).await["acknowledged"][0]["socket_id"], client.socket_id);
        assert_eq!(receipts(&server, &answers[0]).await["pending"], json!([]), "the socket has the other's place");
        gone(&server, client).await;

        let mut client = user(&server, &name, transport).await;
        let second = client.next_event().await;
        assert_eq!(number(&second), Some(2), "{transport:?}");
        client.send("ack", json!({ "message_id": answers[1]["message_id"] }));
        client.settle().await;
        gone(&server, client).await;
        let mut client = user(&server, &name, transport).await;
        assert!(numbers(&server, &mut client).await.is_empty());
        gone(&server, client).await;
    }
}

#[tokio::test]
async fn a_receipt_tells_how_far_a_message_has_come() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Polling] {
        let name = format!("user on {transport:?}");
        let scope = json!({ "organization_id": "org-1", "user_ids": [name] });
        let mut body = to_acknowledge(scope, 1);
        body["ack_timeout_ms"] = json!(60_000);
        let answer = publish(&server, body).await;
        let state = async || receipts(&server, &answer).await["pending"][0]["state"].clone();
        assert_eq!(state().await, "queued");
        let mut client = user(&server, &name, transport).await;
        let event = client.next_event().await;
        eventually("it is written", async || state().await == "written").await;
        client.ack(&event, json!({}));
        client.settle().await;
        let receipts = receipts(&server, &answer).await;
        assert_eq!(receipts["acknowledged"][0]["state"], "acknowledged");
        assert_eq!(receipts["acknowledged"][0]["user_id"], name);

        let mut body = to_acknowledge(json!({ "organization_id": "org-1", "user_ids": [name] }), 2);
        body["ack_timeout_ms"] = json!(1);
        let answer = publish(&server, body).await;
        let late = async || self::receipts(&server, &answer).await["pending"][0]["state"] == "timed_out";
        eventually("its time is up", late).await;
        let event = client.next_event().await;
        client.ack(&event, json!({}));
        client.settle().await;
        assert_eq!(self::receipts(&server, &answer).await["pending"], json!([]), "late is better than never");
        gone(&server, client).await;
    }
}

#[tokio::test]
async fn a_page_that_is_loaded_anew_is_told_and_a_session_that_is_taken_up_again_too() {
    let server = TestServer::start(|_| {}).await;
    let mut first = user(&server, "u", Transport::WebSocket).await;
    server.broadcast("kpi:update", json!({ "n": 0 }), json!({ "organization_id": "org-1" })).await;
    let last = first.drain(&server).await.pop().expect("an event");
    let auth = json!({ "pid": first.connected["pid"], "offset": last.args[1] });
    first.wire.crash();
    server.count("it is gone", |census| census.sockets == 0).await;
    publish(&server, to_users(&["u"], 1)).await;
    let answer = publish(&server, to_acknowledge(json!({ "organization_id": "org-1" }), 2)).await;

    let mut second = user(&server, "u", Transport::WebSocket).await;
    assert_eq!(numbers(&server, &mut second).await, [1, 2]);
    let mut first = server.connect_with(ConnectOptions::named().auth(auth)).await;
    assert_eq!(first.next_named("connected").await.payload()["recovered"], true);
    first.organization = "org-1".into();
    let events = first.drain(&server).await;
    assert_eq!(events.iter().filter_map(number).collect::<Vec<_>>(), [1, 2]);
    first.ack(events.last().expect("the alert"), json!({}));
    first.settle().await;
    let acknowledged = receipts(&server, &answer).await["acknowledged"].clone();
    assert_eq!(acknowledged[0]["socket_id"], first.socket_id, "what was replayed is in the receipt");
    let mut third = user(&server, "u", Transport::WebSocket).await;
    assert!(numbers(&server, &mut third).await.is_empty(), "one of the user's sockets is enough");
}

#[tokio::test]
async fn a_session_that_breaks_before_its_first_event_is_taken_up_again() {
    let server = TestServer::start(|_| {}).await;
    for transport in [Transport::WebSocket, Transport::Upgrade] {
        let client = user(&server, "u", transport).await;
        let (pid, id) = (client.connected["pid"].clone(), client.socket_id.clone());
        client.wire.crash();
        server.count("it is gone", |census| census.sockets == 0).await;
        server.broadcast("kpi:update", json!({ "n": 1 }), json!({ "organization_id": "org-1" })).await;
        let mut client = server.connect_with(ConnectOptions::named().auth(json!({ "pid": pid }))).await;
        assert_eq!(client.next_named("connected").await.payload()["recovered"], true);
        assert_eq!(client.socket_id, id);
        client.organization = "org-1".into();
        assert_eq!(numbers(&server, &mut client).await, [1], "{transport:?}");
        gone(&server, client).await;
    }
    // One that was nobody yet begins anew.
    let client = server.connect_with(ConnectOptions::named()).await;
    let pid = client.connected["pid"].clone();
    client.wire.crash();
    server.count("it is gone", |census| census.sockets == 0).await;
    let mut client = server.connect_with(ConnectOptions::named().auth(json!({ "pid": pid }))).await;
    assert_eq!(client.next_named("connected").await.payload()["recovered"], false);
}

#[tokio::test]
async fn a_session_that_breaks_while_it_is_told_is_told_the_rest() {
    let server = TestServer::start(|_| {}).await;
    for read in 0..=4 {
        let name = format!("user {read}");
        for n in 1..=3 {
            publish(&server, to_users(&[&name], n)).await;
        }
        let options = || ConnectOptions { forms: Some(crate::kit::Forms::Both), ..ConnectOptions::default() };
        let mut client = server.connect_with(options()).await.authenticate_as(&name, "org-1").await;
        let mut offset = Value::Null;
        for _ in 0..read {
            offset = client.next_event().await.args[1].clone();
        }
        // Everything was written, and so much of it read.
        client.settle().await;
        let mut auth = json!({ "pid": client.connected["pid"] });
        if read > 0 {
            auth["offset"] = offset;
        }
        client.wire.crash();
        server.count("it is gone", |census| census.sockets == 0).await;
        server.broadcast("kpi:update", json!({ "n": 4 }), json!({ "organization_id": "org-1" })).await;
        let mut client = server.connect_with(options().auth(auth)).await;
        assert_eq!(client.next_named("connected").await.payload()["recovered"], true);
        client.organization = "org-1".into();
        let came: Vec<String> = client
            .drain(&server)
            .await
            .iter()
            .map(|event| format!("{} {}", event.name, number(event).unwrap()))
            .collect();
        let all = [
            "system:notification 1",
            "message 1",
            "system:notification 2",
            "message 2",
            "system:notification 3",
            "message 3",
            "kpi:update 4",
            "message 4",
        ];
        assert_eq!(came, all[read..], "{read} frames were read");
        gone(&server, client).await;
    }
}

#[tokio::test]
async fn what_waits_is_there_in_the_next_process_also_after_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = TestServer::start(on_disk(&folder, "data")).await;
    let known = user(&server, "known", Transport::WebSocket).await;
    gone(&server, known).await;
    let mut told = user(&server, "told", Transport::WebSocket).await;
    let answers = [
        publish(&server, to_users(&["away", "told"], 1)).await,
        publish(&server, to_acknowledge(json!({ "organization_id": "org-1" }), 2)).await,
        publish(&server, to_users(&["back"], 3)).await,
    ];
    let events = told.drain(&server).await;
    told.ack(&events[1], json!({}));
    told.settle().await;
    let mut back = user(&server, "back", Transport::WebSocket).await;
    assert_eq!(numbers(&server, &mut back).await, [3]);
    let read = async |server: &TestServer, name: &str| {
        let mut client = user(server, name, Transport::WebSocket).await;
        let came = numbers(server, &mut client).await;
        gone(server, client).await;
        came
    };
    // What is noted is written before a publisher is answered.
    publish(&server, to_users(&["nobody"], 0)).await;
    copy(&folder.path().join("data"), &folder.path().join("crashed"));
    server.stop().await;
    drop((told, back, server));
    for (data, of_known) in [("data", &[2][..]), ("crashed", &[2])] {
        let server = TestServer::start(on_disk(&folder, data)).await;
        assert_eq!(receipts(&server, &answers[1]).await["acknowledged"][0]["user_id"], "told", "{data}");
        for (name, expected) in [("away", &[1][..]), ("known", of_known), ("told", &[]), ("back", &[])] {
            assert_eq!(read(&server, name).await, expected, "{name} in {data}");
        }
        assert!(read(&server, "away").await.is_empty());
        // Who has left before the stop is known afterwards, which a crash forgets.
        let answer = publish(&server, to_acknowledge(json!({ "organization_id": "org-1" }), 4)).await;
        let pending = receipts(&server, &answer).await["pending"].as_array().unwrap().len();
        assert_eq!(pending, 4, "{data}: those who have just left");
        server.finish().await;
    }
}

#[tokio::test]
async fn what_waits_too_long_is_gone_and_nothing_waits_where_that_is_off() {
    for (enabled, ttl_ms) in [(true, 1_000), (false, 60_000)] {
        let server = TestServer::start(|config| {
            config.offline.enabled = enabled;
            config.offline.ttl_ms = ttl_ms;
        })
        .await;
        let answer = publish(&server, to_users(&["u"], 1)).await;
        let sent = answer["sent_at"].as_str().unwrap().to_owned();
        if enabled {
            let waited = async || {
                let now = server.get("/health").await.1["timestamp"].as_str().unwrap().to_owned();
                let seconds = |at: &str| at[17..23].parse::<f64>().unwrap();
                (seconds(&now) - seconds(&sent)).rem_euclid(60.0) > 1.0
            };
            eventually("its time is over", waited).await;
        }
        let mut client = user(&server, "u", Transport::WebSocket).await;
        assert!(numbers(&server, &mut client).await.is_empty(), "{enabled}");
    }
}

#[tokio::test]
async fn a_user_comes_and_goes_and_misses_nothing_that_has_to_be_acknowledged() {
    let server = TestServer::start(|config| {
        config.limits.rate_limit_messages_per_second = 10_000;
        config.offline.max_events_per_user = 1_000;
    })
    .await;
    const EVENTS: u64 = 300;
    let publishing = async {
        for n in 0..EVENTS {
            publish(&server, to_acknowledge(json!({ "organization_id": "org-1", "user_ids": ["u"] }), n)).await;
        }
    };
    let reading = async {
        let mut came: BTreeMap<u64, u32> = BTreeMap::new();
        let mut session = 0;
        while came.len() < EVENTS as usize {
            session += 1;
            let transport = if session % 5 == 0 { Transport::Polling } else { Transport::WebSocket };
            let mut client = user(&server, "u", transport).await;
            let mut last = None;
            for _ in 0..session % 7 + 1 {
                if came.len() == EVENTS as usize {
                    break;
                }
                let event = client.next_event().await;
                let n = number(&event).expect("a number");
                assert!(last.is_none_or(|last| last < n), "in order");
                last = Some(n);
                *came.entry(n).or_default() += 1;
                client.ack(&event, json!({}));
            }
            client.settle().await;
            if session % 3 == 0 && transport == Transport::WebSocket {
                client.wire.crash();
            } else {
                client.disconnect().await;
            }
        }
        came
    };
    let ((), came) = tokio::join!(publishing, reading);
    assert_eq!(came.len(), EVENTS as usize);
    assert!(came.values().all(|times| *times == 1), "what is acknowledged does not come again: {came:?}");
}

#[tokio::test]
async fn a_session_id_brings_back_the_subscriptions_of_its_last_session() {
    let server = TestServer::start(|_| {}).await;
    let authenticate = async |client: &mut Client, name: &str, session: Value| {
        let request = json!({ "user_id": name, "organization_id": "org-1", "session_id": session });
        let ack = client.emit("authenticate", request).await;
        crate::kit::assert_shape("authenticate-ack", &ack);
        (client.user, client.organization) = (name.into(), "org-1".into());
        ack
    };
    let subscriptions = async |client: &Client| {
        server.get(&format!("/connections/{}", client.socket_id)).await.1["connection"]["subscriptions"].clone()
    };
    let mut client = server.connect_with(ConnectOptions::named()).await;
    let ack = authenticate(&mut client, "u", json!("s")).await;
    assert_eq!(ack["restored_subscriptions"], Value::Null);
    let subscribed = client.subscribe(json!({ "channels": ["kpi"], "queue_name": "q" })).await;
    gone(&server, client).await;

    // Nobody else's, and not without being asked for.
    for (name, session) in [("u", json!("t")), ("u", Value::Null), ("v", json!("s")), ("u", json!(7))] {
        let mut client = server.connect_with(ConnectOptions::named()).await;
        authenticate(&mut client, name, session).await;
        assert_eq!(subscriptions(&client).await, json!([]));
        client.disconnect().await;
    }
    // In the handshake as well.
    let auth = json!({ "user_id": "u", "organization_id": "org-1", "session_id": "s" });
    let client = server.connect_with(ConnectOptions::named().auth(auth)).await;
    assert_eq!(subscriptions(&client).await, json!(["kpi:org:org-1:queue:q"]));
    gone(&server, client).await;

    let mut client = server.connect_with(ConnectOptions::named()).await;
    let ack = authenticate(&mut client, "u", json!("s")).await;
    assert_eq!(ack["restored_subscriptions"], json!([subscribed["subscription_id"]]));
    assert_eq!(subscriptions(&client).await, json!(["kpi:org:org-1:queue:q"]));
    server.broadcast("kpi:update", json!({ "n": 1 }), json!({ "organization_id": "org-1" })).await;
    server.broadcast("kpi:update", json!({ "n": 2 }), json!({ "organization_id": "org-1", "queue_name": "q" })).await;
    server.broadcast("backlog:update", json!({ "n": 3 }), json!({ "organization_id": "org-1" })).await;
    assert_eq!(numbers(&server, &mut client).await, [2, 3], "what was implicit is so again");

    // The server may still believe the earlier connection alive.
    client.wire.hold().await;
    let mut second = server.connect_with(ConnectOptions::named()).await;
    authenticate(&mut second, "u", json!("s")).await;
    assert_eq!(subscriptions(&second).await, json!(["kpi:org:org-1:queue:q"]));
    client.wire.crash();
    server.count("one is gone", |census| census.sockets == 1).await;

    // What an operator has ended is over.
    let (status, _) = delete(&server, &second).await;
    assert_eq!(status, 200);
    assert!(second.closed().await.terminal);
    server.count("both are gone", |census| census.sockets == 0).await;
    let mut client = server.connect_with(ConnectOptions::named()).await;
    authenticate(&mut client, "u", json!("s")).await;
    assert_eq!(subscriptions(&client).await, json!([]));
}

async fn delete(server: &TestServer, client: &Client) -> (u16, Value) {
    let path = format!("/connections/{}", client.socket_id);
    let reply = server.call(reqwest::Method::DELETE, &path).send().await.expect("an answer");
    (reply.status, reply.json())
}

#[tokio::test]
async fn whatever_a_publisher_was_answered_during_a_stop_waits_in_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let many = |config: &mut Config| {
        on_disk(&folder, "data")(config);
        config.offline.max_events_per_user = 10_000;
    };
    for round in 0..6 {
        let name = format!("user {round}");
        let mut server = TestServer::start(many).await;
        let url = server.url("/api/ws/broadcast");
        let (under_way, mut begun) = tokio::sync::mpsc::unbounded_channel();
        let publishing = tokio::spawn({
            let name = name.clone();
            async move {
                let client = reqwest::Client::builder().tls_built_in_root_certs(false).build().expect("a client");
                let mut answered = Vec::new();
                for n in 0.. {
                    let sent = client.post(&url).json(&to_users(&[&name], n)).send().await;
                    let Ok(reply) = sent else { return answered };
                    if reply.status() == 200 && reply.text().await.is_ok() {
                        answered.push(n);
                    }
                    under_way.send(n).ok();
                }
                answered
            }
        });
        for _ in 0..=5 * round {
            begun.recv().await.expect("it publishes");
        }
        server.stop().await;
        let answered = publishing.await.expect("it ends");
        drop(server);
        let server = TestServer::start(many).await;
        let mut client = user(&server, &name, Transport::WebSocket).await;
        let came = numbers(&server, &mut client).await;
        assert!(came.is_sorted_by(|one, next| one < next), "once and in order: {came:?}");
        let missing: Vec<_> = answered.iter().filter(|n| !came.contains(n)).collect();
        assert!(missing.is_empty(), "{missing:?} of {}", answered.len());
        gone(&server, client).await;
        server.finish().await;
    }
}

#[tokio::test]
async fn what_was_stored_and_not_delivered_when_the_process_was_killed_waits_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(on_disk(&folder, "data")).await;
    publish(&server, to_users(&["away"], 1)).await;
    server.finish().await;
    // What a process leaves that is killed between the two.
    let path = folder.path().join("data").to_str().expect("a path of ours").to_owned();
    let catalogue = Arc::new(Catalogue::new(&[]));
    let log = Log::open(&config::Log { path, ..config::Log::default() }, &catalogue).expect("the log opens");
    let organization = Id::parse("org-1").expect("an id");
    let shard = log.shard_of(Some(&organization));
    let user = Id::parse("away").expect("an id");
    let event = catalogue.event("alert:triggered").expect("an event").clone();
    let draft = |n: u64, ack| Draft {
        message_id: format!("msg_{n}"),
        channels: event.channels,
        event: event.clone(),
        audience: Audience::Scope {
            scope: Scope::organization(organization.clone()),
            targets: Some(Targets { users: vec![user.clone()], ..Targets::default() }),
        },
        except: Vec::new(),
        priority: Priority::Medium,
        ack,
        payload: RawValue::from_string(format!("{{\"n\":{n}}}")).expect("JSON"),
        facts: Facts::default(),
        published_at_ms: 1_000 * i64::try_from(now_seconds()).expect("a time"),
        fleeting: false,
        explains: false,
        call: None,
        started: std::time::Instant::now(),
    };
    for draft in [draft(2, None), draft(3, Some((1 << 42, 60_000)))] {
        log.append(shard..shard + 1, draft, vec![tokio::sync::oneshot::channel().0]).expect("it is stored");
    }
    drop(log);
    let server = TestServer::start(on_disk(&folder, "data")).await;
    let (_, receipts) = server.get("/messages/msg_3/receipts").await;
    assert_eq!(receipts["pending"], json!([{ "user_id": "away", "state": "queued" }]));
    let mut client = self::user(&server, "away", Transport::WebSocket).await;
    assert_eq!(numbers(&server, &mut client).await, [1, 2, 3]);
    gone(&server, client).await;
    let mut client = self::user(&server, "away", Transport::WebSocket).await;
    assert_eq!(numbers(&server, &mut client).await, [3], "what is not acknowledged");
}

/// Seconds since the epoch.
fn now_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after the epoch").as_secs()
}

#[tokio::test]
async fn nothing_waits_for_who_is_not_meant() {
    let server = TestServer::start(|_| {}).await;
    // A room of another organization's user.
    let target = json!({ "organization_id": "org-1", "rooms": ["user:org-2:u"] });
    server.broadcast("kpi:update", json!({ "n": 1 }), target).await;
    // A user whose socket the publisher leaves out.
    let out = user(&server, "out", Transport::WebSocket).await;
    let mut body = to_users(&["out"], 2);
    body["target"]["except_socket_ids"] = json!([out.socket_id]);
    publish(&server, body).await;
    gone(&server, out).await;
    // A user who is here and wants something else now.
    let before = user(&server, "here", Transport::WebSocket).await;
    gone(&server, before).await;
    let mut here = user(&server, "here", Transport::WebSocket).await.without_implicit().await;
    here.subscribe(json!({ "channels": ["kpi"] })).await;
    let answer = publish(&server, to_acknowledge(json!({ "organization_id": "org-1" }), 3)).await;
    let pending = receipts(&server, &answer).await["pending"].clone();
    assert_eq!(pending, json!([{ "user_id": "out", "state": "queued" }]), "who left last would have received it");
    for (name, expected) in [("u", &[][..]), ("out", &[3]), ("here", &[])] {
        let mut client = user(&server, name, Transport::WebSocket).await;
        assert_eq!(numbers(&server, &mut client).await, expected, "{name}");
        gone(&server, client).await;
    }
}

#[tokio::test]
async fn what_a_client_makes_the_server_remember_is_bounded() {
    let server = TestServer::start(|config| config.limits.room_max_size = 1).await;
    let mut client = server.connect_with(ConnectOptions::named()).await;
    let long = json!({ "user_id": "u", "organization_id": "org-1", "session_id": "s".repeat(129) });
    let refused = client.emit("authenticate", long).await;
    assert_eq!((&refused["success"], &refused["code"]), (&json!(false), &json!("AUTH_FAILED")), "{refused}");
    let session = json!({ "user_id": "u", "organization_id": "org-1", "session_id": "s".repeat(128) });
    assert_eq!(client.emit("authenticate", session.clone()).await["success"], true);
    for filters in [json!({ "sources": vec!["s"; 65] }), json!({ "statuses": ["s".repeat(129)] })] {
        let refused = client.emit("subscribe", json!({ "channels": ["kpi"], "filters": filters })).await;
        assert_eq!(refused["code"], "INVALID_MESSAGE", "{refused}");
    }
    client.subscribe(json!({ "channels": ["kpi"] })).await;
    gone(&server, client).await;
    // A session comes back only into rooms that have a place for it.
    let other = server.subscriber("org-1", json!({ "channels": ["kpi"] })).await;
    let mut client = server.connect_with(ConnectOptions::named()).await;
    let ack = client.emit("authenticate", session).await;
    assert_eq!((&ack["success"], &ack["restored_subscriptions"]), (&json!(true), &Value::Null));
    drop(other);
}
