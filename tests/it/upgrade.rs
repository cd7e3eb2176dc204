//! Upgrades from polling to WebSocket, by hand: a probe that goes wrong costs nothing, one that goes right loses
//! nothing.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

use crate::kit::{Client, ConnectOptions, Endpoint, Event, Kind, Probe, Protocol, TestServer, Transport};

/// Probes that a session may have under way.
const MOST: usize = 4;

/// Sockets that go over while events are published, and events of each publisher: so many that the last socket goes
/// over before the last event.
const SOCKETS: usize = 30;
const EVENTS: usize = 80;

fn target() -> Value {
    json!({ "organization_id": "org-1" })
}

async fn polling(server: &TestServer) -> Client {
    server.connect_with(ConnectOptions::named().transport(Transport::Polling)).await.authenticate("org-1").await
}

/// Asserts that the socket is the one it was, is listed with this transport, receives and is answered.
async fn assert_works(server: &TestServer, client: &mut Client, transport: &str) {
    client.settle().await;
    // Whatever was said on the transport before has been heard.
    client.settle().await;
    let (status, answer) = server.get(&format!("/connections/{}", client.socket_id)).await;
    assert_eq!((status, &answer["connection"]["transport"]), (200, &json!(transport)));
    let answer = server.broadcast("kpi:update", json!({}), target()).await;
    assert_eq!(answer["recipients_count"], 1);
    assert_eq!(client.next_event().await.name, "kpi:update");
}

#[tokio::test]
async fn a_probe_that_is_given_up_costs_the_session_nothing() {
    let server = TestServer::start(|_| {}).await;
    let mut client = polling(&server).await;
    for (answered, orderly) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut probe = client.wire.probe().await;
        if answered {
            probe.ask().await;
            assert_works(&server, &mut client, "polling").await;
        }
        if orderly {
            probe.send([Message::Close(None)]).await;
            assert_eq!(probe.hear().await, None);
        }
        drop(probe);
        assert_works(&server, &mut client, "polling").await;
    }
    client.wire.upgrade().await;
    assert_works(&server, &mut client, "websocket").await;
}

#[tokio::test]
async fn a_probe_that_says_something_else_is_closed_and_the_session_lives_on() {
    let server = TestServer::start(|_| {}).await;
    let mut client = polling(&server).await;
    let ping = r#"42["client:ping",{}]"#;
    for wrong in [
        Message::text(""),
        Message::text("3probe"),
        Message::text("2"),
        Message::text("nonsense \u{0}"),
        Message::text(ping),
        Message::text("x".repeat(100_000)),
        Message::binary(b"2probe".to_vec()),
        Message::binary(vec![0xff; 1_000]),
    ] {
        for answered in [false, true] {
            let mut probe = client.wire.probe().await;
            if answered {
                probe.ask().await;
            }
            probe.send([wrong.clone()]).await;
            assert_eq!(probe.hear().await, None, "{wrong:?}");
            assert_works(&server, &mut client, "polling").await;
        }
    }
    let mut unasked = client.wire.probe().await;
    unasked.say(&["5"]).await;
    assert_eq!(unasked.hear().await, None);
    let mut twice = client.wire.probe().await;
    twice.ask().await;
    twice.say(&["2probe"]).await;
    assert_eq!(twice.hear().await, None);
    for garbage in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 100], vec![0x81, 0x01, b'5']] {
        let mut probe = client.wire.probe().await;
        probe.ask().await;
        probe.send_raw(&garbage).await;
        assert_eq!(probe.hear().await, None, "{garbage:?}");
    }
    assert_works(&server, &mut client, "polling").await;
    client.wire.upgrade().await;
    assert_works(&server, &mut client, "websocket").await;
}

#[tokio::test]
async fn a_poll_that_waits_comes_back_empty_when_a_probe_is_answered() {
    let server = TestServer::start(|_| {}).await;
    let url = server.url("/ws/").parse().expect("a URL");
    let endpoint = Endpoint { url, headers: Vec::new(), protocol: Protocol::V4, receive_buffer: None, elsewhere: None };
    let open = endpoint.poll(None).send().await.expect("an answer").text;
    let open: Value = serde_json::from_str(&open[1..]).expect("an OPEN packet");
    let sid = open["sid"].as_str().expect("a sid");
    endpoint.post(sid, "40").send().await;
    let poll = async || endpoint.poll(Some(sid)).send().await.expect("an answer").text;
    let mut told = String::new();
    while !told.contains("connected") {
        told = poll().await;
    }
    for _ in 0..3 {
        let mut probe = Probe { socket: endpoint.websocket(Some(sid)).await.expect("a WebSocket") };
        let (polled, ()) = tokio::join!(poll(), probe.ask());
        assert_eq!(polled, "6");
        assert_eq!(poll().await, "6", "also one that comes later");
    }
    endpoint.post(sid, "1").send().await;
}

#[tokio::test]
async fn a_session_has_so_many_probes_at_once_and_only_one_succeeds() {
    let server = TestServer::start(|_| {}).await;
    let mut client = polling(&server).await;
    let mut probes = Vec::new();
    for _ in 0..MOST {
        let mut probe = client.wire.probe().await;
        probe.ask().await;
        probes.push(probe);
    }
    assert_eq!(client.wire.probe().await.hear().await, None, "one too many");
    assert_works(&server, &mut client, "polling").await;
    let mut finished = probes.remove(1);
    client.wire.pause().await;
    finished.say(&["5"]).await;
    client.wire.go_over(finished);
    client.settle().await;
    for mut probe in probes {
        probe.say(&["5"]).await;
        assert_eq!(probe.hear().await, None, "too late");
    }
    assert_works(&server, &mut client, "websocket").await;
}

#[tokio::test]
async fn what_is_sent_right_behind_the_upgrade_is_handled() {
    let server = TestServer::start(|_| {}).await;
    let mut client = polling(&server).await;
    let mut probe = client.wire.probe().await;
    probe.ask().await;
    client.wire.pause().await;
    let auth = json!({ "user_id": client.user, "organization_id": "org-1" });
    let mut packets = vec!["5".to_owned()];
    packets.extend((0..50).map(|n| format!(r#"42{}["client:ping",{{"timestamp":{n}}}]"#, 1_000 + n)));
    packets.push(format!("40/org/org-1,{auth}"));
    packets.push(r#"42/org/org-1,1050["client:ping",{}]"#.into());
    packets.push(r#"421051["subscribe",{"channels":["kpi"]}]"#.into());
    probe.say(&packets.iter().map(String::as_str).collect::<Vec<_>>()).await;
    client.wire.go_over(probe);
    for n in 0..50 {
        let answer = client.take(|packet| packet.kind == Kind::Ack).await;
        assert_eq!((answer.ack, &answer.data[0]["timestamp"]), (Some(1_000 + n), &json!(n)));
    }
    assert_eq!(client.answer(1_051).await["success"], true);
    client.namespace = "/org/org-1".into();
    assert!(client.take(|packet| packet.kind == Kind::Connect).await.data["sid"].is_string());
    assert_eq!(client.answer(1_050).await["pong"], true);
}

#[tokio::test]
async fn a_session_deleted_while_it_probes_is_ended_for_good_and_on_polling() {
    let server = TestServer::start(|_| {}).await;
    for has_polled in [true, false] {
        let mut client = polling(&server).await;
        let mut probe = client.wire.probe().await;
        probe.ask().await;
        if !has_polled {
            client.wire.pause().await;
        }
        let call = server.call(Method::DELETE, &format!("/connections/{}", client.socket_id));
        assert_eq!(call.send().await.expect("an answer").status, 200);
        if has_polled {
            assert!(client.closed().await.terminal);
            assert_eq!(probe.hear().await, None, "there is nothing to go over with");
        } else {
            probe.say(&["5"]).await;
            assert_eq!(probe.hear().await, None);
            client.wire.poll_again();
            assert!(client.closed().await.terminal);
        }
        server.count("it is gone", |census| census.connections == 0 && census.seats == 0).await;
    }
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_a_probe() {
    let mut server = TestServer::start(|config| config.server.shutdown_grace_ms = 60_000).await;
    let mut clients = vec![polling(&server).await, polling(&server).await];
    let mut silent = clients[0].wire.probe().await;
    let mut answered = clients[1].wire.probe().await;
    answered.ask().await;
    let since = Instant::now();
    server.stop().await;
    assert!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());
    assert_eq!((silent.hear().await, answered.hear().await), (None, None));
    for client in &mut clients {
        client.next_named("system:maintenance").await;
        assert!(!client.closed().await.terminal);
    }
}

#[tokio::test]
async fn a_client_of_version_3_goes_over_too() {
    let server = TestServer::start(|_| {}).await;
    let options = ConnectOptions { protocol: Protocol::V3, ..ConnectOptions::named() };
    let mut client = server.connect_with(options.transport(Transport::Polling)).await.authenticate("org-1").await;
    let mut given_up = client.wire.probe().await;
    given_up.ask().await;
    drop(given_up);
    assert_works(&server, &mut client, "polling").await;
    client.wire.upgrade().await;
    assert_works(&server, &mut client, "websocket").await;
    client.wire.send("40/org/org-1");
    client.namespace = "/org/org-1".into();
    client.take(|packet| packet.kind == Kind::ConnectError).await;
    client.namespace = "/".into();
    client.leave();
    client.wire.send("40");
    client.take(|packet| packet.kind == Kind::Connect).await;
    client.settle().await;
}

/// What tells events apart: publishers of the test below do not wait for each other.
fn told(events: &[Event]) -> Vec<(Value, Value)> {
    events.iter().map(|event| (event.data()["publisher"].clone(), event.data()["n"].clone())).collect()
}

#[tokio::test]
async fn what_is_published_while_sockets_go_over_arrives_in_order() {
    let server = TestServer::start(|_| {}).await;
    let mut witness = server.agent("org-1").await;
    let mut clients = Vec::new();
    for n in 0..SOCKETS {
        let protocol = [Protocol::V4, Protocol::V3][usize::from(n % 5 == 0)];
        let options = ConnectOptions { protocol, ..ConnectOptions::named() }.transport(Transport::Polling);
        clients.push(server.connect_with(options).await.authenticate("org-1").await);
    }
    let (count, counted) = watch::channel(0);
    let publisher = async |publisher: usize| {
        for n in 0..EVENTS {
            server.broadcast("kpi:computed", json!({ "publisher": publisher, "n": n }), target()).await;
            count.send_modify(|count| *count += 1);
        }
    };
    let go_over = async |(place, client): (usize, &mut Client)| {
        let mut counted = counted.clone();
        let mut until = async |events| *counted.wait_for(|count| *count >= events).await.expect("a publisher");
        let begun = until(place * 5).await;
        let mut probe = client.wire.probe().await;
        probe.ask().await;
        client.wire.pause().await;
        // What is published now waits to be fetched, and goes over with the client.
        until(begun + place).await;
        probe.say(&["5"]).await;
        client.wire.go_over(probe);
    };
    let going_over = join_all(clients.iter_mut().enumerate().map(go_over));
    tokio::join!(publisher(0), publisher(1), publisher(2), going_over);
    let expected = told(&witness.drain(&server).await);
    assert_eq!(expected.len(), 3 * EVENTS);
    for client in &mut clients {
        assert_eq!(told(&client.drain(&server).await), expected);
    }
}
