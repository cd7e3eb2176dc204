//! Clients that mean harm: what they do is bounded and counted, others notice nothing, and nothing of it stays.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::kit::{Client, ConnectOptions, Hostile, Kind, TestServer, Transport, eventually, part};

/// An address that floods; honest clients come from 127.0.0.1.
const FLOOD: u8 = 66;

const HANDSHAKE: &str = "GET /ws/?EIO=4&transport=polling HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";

fn post(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// How often something of a kind was over its bound.
async fn refused(server: &TestServer, kind: &str) -> u64 {
    server.get("/stats").await.1["stats"]["refused"][kind].as_u64().expect("a count")
}

/// A session on polling that has entered no namespace, by its id and the connection that it was opened on.
async fn half_open(server: &TestServer, from: u8) -> (Hostile, String) {
    let mut raw = Hostile::ask(server.address, from, HANDSHAKE).await;
    let answer = raw.answer_with("}").await;
    let sid = answer.split_once("\"sid\":\"").expect("a session").1.split_once('"').expect("an id").0.to_owned();
    (raw, sid)
}

fn polling(sid: &str) -> String {
    format!("/ws/?EIO=4&transport=polling&sid={sid}")
}

#[tokio::test]
async fn a_head_in_drips_is_cut_at_every_door() {
    let server = TestServer::start(|config| config.server.header_timeout_ms = 300).await;
    for line in ["GET /ws/?EIO=4&transport=polling", "GET /ws", "POST /api/ws/broadcast", "GET /"] {
        let begun = Instant::now();
        let mut raw = Hostile::ask(server.address, 1, &format!("{line} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-drip: ")).await;
        raw.drip(b'x').await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{line}: {:?}", begun.elapsed());
    }
    assert_eq!(refused(&server, "slow_heads").await, 4);
}

#[tokio::test]
async fn who_asks_for_nothing_or_for_nothing_more_is_cut() {
    let server = TestServer::start(|config| config.server.header_timeout_ms = 200).await;
    let mut silent = Hostile::open(server.address, 1).await;
    assert_eq!(silent.ended().await, "");
    let mut idle = Hostile::ask(server.address, 1, "GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    assert!(idle.ended().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_in_drips_is_cut_at_every_door() {
    let server = TestServer::start(|config| config.server.body_timeout_ms = 300).await;
    let client = server.connect_with(ConnectOptions::named().transport(Transport::Polling)).await;
    let mut client = client.authenticate("org-1").await;
    let doors = [polling(client.wire.sid()), "/api/ws/broadcast".into(), "/api/ws/broadcast/batch".into()];
    for door in doors {
        let begun = Instant::now();
        let mut raw = Hostile::ask(server.address, 1, &post(&door, 10_000)).await;
        let answer = raw.drip(b' ').await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{door}: {answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{door}: {:?}", begun.elapsed());
    }
    client.settle().await;
    assert_eq!(refused(&server, "slow_bodies").await, 3);
}

#[tokio::test]
async fn silent_connections_make_room_for_others() {
    let server = TestServer::start(|config| config.limits.max_half_open_connections = 10).await;
    let mut flood = Vec::new();
    for _ in 0..10 {
        flood.push(Hostile::open(server.address, FLOOD).await);
    }
    server.count("all are there", |census| census.tcp_connections == 10).await;
    let agent = server.agent("org-1").await;
    assert_eq!(flood[0].ended().await, "", "the oldest goes");
    let refused_now = refused(&server, "silent_connections").await;
    assert!((1..=5).contains(&refused_now), "{refused_now}");
    agent.disconnect().await;
}

#[tokio::test]
async fn one_address_has_so_many_connections_from_first_to_last() {
    let server = TestServer::start(|config| config.limits.max_connections_per_address = 3).await;
    let (_one, _) = half_open(&server, FLOOD).await;
    let upgrade = "GET /ws/?EIO=4&transport=websocket HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\n\
                   upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n";
    let mut websocket = Hostile::ask(server.address, FLOOD, upgrade).await;
    websocket.answer_with("\"sid\"").await;
    let _three = Hostile::open(server.address, FLOOD).await;
    server.count("three are there", |census| census.tcp_connections == 3).await;
    assert_eq!(Hostile::open(server.address, FLOOD).await.ended().await, "");
    let agent = server.agent("org-1").await;
    assert_eq!(refused(&server, "address_connections").await, 1);
    drop(websocket);
    eventually("there is room again", async || {
        let mut raw = Hostile::open(server.address, FLOOD).await;
        raw.send("GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").await;
        raw.ended().await.starts_with("HTTP/1.1 200")
    })
    .await;
    agent.disconnect().await;
}

#[tokio::test]
async fn a_flood_of_handshakes_delays_only_itself() {
    let server = TestServer::start(|config| config.limits.max_connects_per_second = 20).await;
    let mut flood = Vec::new();
    for _ in 0..120 {
        flood.push(Hostile::ask(server.address, FLOOD, HANDSHAKE).await);
    }
    server.count("they wait", |census| census.handshakes > 80).await;
    let begun = Instant::now();
    let agent = server.agent("org-1").await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}; a hundred wait for five seconds", begun.elapsed());
    assert!(server.census().handshakes > 40, "the flood waits on");
    flood.clear();
    server.count("who has gone does not wait", |census| census.handshakes == 0).await;
    agent.disconnect().await;
}

#[tokio::test]
async fn more_handshakes_than_may_wait_are_told_to_come_later() {
    let server = TestServer::start(|config| {
        config.limits.max_connects_per_second = 1;
        config.limits.max_connections_total = 5;
    })
    .await;
    let mut flood = Vec::new();
    for _ in 0..12 {
        flood.push(Hostile::ask(server.address, FLOOD, HANDSHAKE).await);
    }
    server.count("as many wait as may", |census| census.handshakes == 5).await;
    let mut late = Hostile::ask(server.address, FLOOD, HANDSHAKE).await;
    let answer = late.answer_with("CONNECTION_LIMIT").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 2"), "{answer}");
    assert!(refused(&server, "handshakes").await > 0);
}

#[tokio::test]
async fn the_unauthenticated_have_a_share_of_the_seats() {
    let server = TestServer::start(|config| {
        config.limits.max_connections_total = 10;
        config.limits.max_unauthenticated_percent = 50;
        config.limits.connect_timeout_ms = 5_000;
    })
    .await;
    let mut flood = Vec::new();
    for _ in 0..5 {
        flood.push(half_open(&server, FLOOD).await);
    }
    assert_eq!(server.census().unauthenticated, 5);
    let mut sixth = Hostile::ask(server.address, FLOOD, HANDSHAKE).await;
    let answer = sixth.answer_with("CONNECTION_LIMIT").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 2"), "{answer}");
    let mut agents = Vec::new();
    for _ in 0..8 {
        agents.push(server.agent("org-1").await);
    }
    let census = server.census();
    assert!(census.sessions_authenticated == 8 && census.unauthenticated <= 2, "{census:?}");
    assert!(refused(&server, "unauthenticated").await >= 3 && refused(&server, "seats").await == 1);
    let (raw, sid) = &mut flood[0];
    raw.send(format!("GET {} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", polling(sid))).await;
    raw.answer_with("\r\n\r\n1").await;
    for agent in &mut agents {
        agent.settle().await;
    }
    for (_, sid) in flood {
        let close = format!("{}1", post(&polling(&sid), 1));
        Hostile::ask(server.address, FLOOD, &close).await.answer_with("HTTP/1.1").await;
    }
}

#[tokio::test]
async fn one_address_has_so_many_that_are_unauthenticated() {
    let server = TestServer::start(|config| {
        config.limits.max_unauthenticated_per_address = 2;
        config.auth.auth_timeout_ms = 2_000;
    })
    .await;
    let mut agents = Vec::new();
    for _ in 0..4 {
        agents.push(server.agent("org-1").await);
    }
    let (first, second) = (server.connect("/").await, server.connect("/").await);
    let third = server.try_connect(ConnectOptions::named()).await.err().expect("a refusal");
    assert_eq!(third.reply().status, 503);
    // Those who do not say who they are go when their time is over, and make room.
    for mut client in [first, second] {
        assert!(client.closed().await.terminal);
    }
    server.count("there is room", |census| census.unauthenticated == 0).await;
    drop(server.connect("/").await);
    assert_eq!(refused(&server, "authentication_timeouts").await, 2);
}

#[tokio::test]
async fn where_nobody_has_to_authenticate_nobody_is_counted() {
    let server = TestServer::start(|config| {
        config.auth.auth_required = false;
        config.limits.max_connections_total = 4;
        config.limits.max_unauthenticated_percent = 1;
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(server.connect("/").await);
    }
    assert_eq!((server.census().connections, server.census().unauthenticated), (4, 0));
}

#[tokio::test]
async fn heads_and_queries_are_bounded() {
    let server = TestServer::start(|_| {}).await;
    let large = "x".repeat(20_000);
    let long = "x".repeat(9_000);
    let many: String = (0..150).map(|n| format!("x-{n}: y\r\n")).collect();
    for (status, request) in [
        (431, format!("GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nx-large: {large}\r\n\r\n")),
        (414, format!("GET /livez?{long} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")),
        (
            414,
            format!(
                "GET /ws/?EIO=4&transport=polling&x={long} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
            ),
        ),
        (431, format!("GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n{many}\r\n")),
    ] {
        let answer = Hostile::ask(server.address, 1, &request).await.ended().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer:?}");
    }
    eventually("all are counted", async || refused(&server, "large_heads").await == 4).await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let server = TestServer::start(|config| config.outbox.write_stall_timeout_ms = 500).await;
    let pad = "x".repeat(900_000);
    for _ in 0..4 {
        server.broadcast("alert:triggered", json!({ "pad": pad }), json!({ "organization_id": "org-1" })).await;
    }
    let request = "GET /api/ws/rooms/alerts:org:org-1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    let _reader = Hostile::ask(server.address, 1, request).await;
    server.count("it is there", |census| census.tcp_connections == 1).await;
    let begun = Instant::now();
    server.count("it is given up", |census| census.tcp_connections == 0).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_poll_whose_answer_nobody_reads_is_given_up() {
    let server = TestServer::start(|config| {
        config.outbox.write_stall_timeout_ms = 500;
        config.heartbeat.ping_interval_ms = 1_000;
        config.heartbeat.ping_timeout_ms = 1_000;
    })
    .await;
    let (open, sid) = half_open(&server, FLOOD).await;
    let connect = r#"40{"user_id":"ann","organization_id":"org-1"}"#;
    let mut post =
        Hostile::ask(server.address, FLOOD, &format!("{}{connect}", post(&polling(&sid), connect.len()))).await;
    post.answer_with("200 OK").await;
    let poll = format!("GET {} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", polling(&sid));
    let mut reader = Hostile::ask(server.address, FLOOD, &poll).await;
    reader.answer_with("\"connected\"").await;
    let pad = "x".repeat(900_000);
    server.broadcast("alert:triggered", json!({ "pad": pad }), json!({ "organization_id": "org-1" })).await;
    drop((open, post));
    assert!(reader.send(&poll).await);
    server.count("its session ends", |census| census.connections == 0 && census.seats == 0).await;
    server.count("and its answer is given up", |census| census.tcp_connections == 0).await;
}

#[tokio::test]
async fn a_session_has_one_poll_and_one_post_at_a_time() {
    let server = TestServer::start(|_| {}).await;
    let (_open, sid) = half_open(&server, 1).await;
    eventually("a second body is refused, and the first is taken", async || {
        let mut slow = Hostile::ask(server.address, 1, &post(&polling(&sid), 100)).await;
        let mut second = Hostile::ask(server.address, 1, &format!("{}3", post(&polling(&sid), 1))).await;
        // Either may come first, and then the other is the second.
        let is_second = second.answer_with("HTTP/1.1").await.starts_with("HTTP/1.1 400");
        slow.send(format!("40{}", " ".repeat(98))).await;
        slow.answer_with("HTTP/1.1").await.starts_with("HTTP/1.1 200") && is_second
    })
    .await;
    assert!(refused(&server, "overlapping_polls").await > 0);
    let poll = format!("GET {} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", polling(&sid));
    eventually("nothing is left to fetch, and the second of two polls ends the session", async || {
        let _first = Hostile::ask(server.address, 1, &poll).await;
        let _second = Hostile::ask(server.address, 1, &poll).await;
        server.census().connections == 0
    })
    .await;
}

#[tokio::test]
async fn attachments_are_few_and_have_to_follow() {
    let server = TestServer::start(|config| {
        config.heartbeat.ping_interval_ms = 100;
        config.server.body_timeout_ms = 300;
    })
    .await;
    for transport in [Transport::WebSocket, Transport::Polling] {
        for packet in [r#"451000000-["x"]"#, r#"4565-["x"]"#, r#"4599999999999999999999-["x"]"#, r#"4665-1[]"#] {
            let options = ConnectOptions::named().transport(transport);
            let mut agent = server.connect_with(options).await.authenticate("org-1").await;
            agent.wire.send(packet);
            let closure = agent.closed().await;
            let code = (transport == Transport::WebSocket).then(|| CloseCode::Size.into());
            assert_eq!((closure.terminal, closure.code), (false, code), "{packet} by {transport:?}");
        }
        let mut agent =
            server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org-1").await;
        agent.wire.send(r#"452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#);
        assert!(!agent.closed().await.terminal, "the second never comes");
    }
    assert_eq!(refused(&server, "attachments").await, 10);
}

#[tokio::test]
async fn a_user_has_so_many_connections() {
    let server = TestServer::start(|config| config.limits.max_connections_per_user = 2).await;
    let first = server.connect("/").await.authenticate_as("ann", "org-1").await;
    let mut second = server.connect("/").await.authenticate_as("ann", "org-1").await;
    let auth = json!({ "user_id": "ann", "organization_id": "org-1" });
    second.enter("/org/org-1", Some(&auth)).await.expect("another socket of the same connection");
    let mut third = server.connect("/").await;
    let ack = third.try_authenticate("ann", "org-1").await;
    assert_eq!(ack["code"], "CONNECTION_LIMIT", "{ack}");
    let options = ConnectOptions::named().auth(auth);
    let refusal = server.try_connect(options).await.err().expect("a refusal");
    assert!(refusal.message().starts_with("CONNECTION_LIMIT"), "{refusal:?}");
    let census = server.census();
    assert_eq!((census.user_seats, census.seats), (2, 2), "a refused user takes no seat of the organization");
    let _elsewhere = server.connect("/").await.authenticate_as("ann", "org-2").await;
    let _other = server.connect("/").await.authenticate_as("bob", "org-1").await;
    first.disconnect().await;
    server.count("a seat is free", |census| census.user_seats == 3).await;
    third.authenticate_as("ann", "org-1").await;
    assert_eq!(refused(&server, "user_connections").await, 2);
}

#[tokio::test]
async fn bytes_have_a_rate_of_their_own() {
    let server = TestServer::start(|config| {
        config.limits.rate_limit_bytes_per_second = 20_000;
        config.limits.max_message_size_bytes = 50_000;
    })
    .await;
    for transport in [Transport::WebSocket, Transport::Polling] {
        let options = ConnectOptions::named().transport(transport);
        let mut agent = server.connect_with(options).await.authenticate("org-1").await;
        let pad = "x".repeat(40_000);
        assert_eq!(agent.emit("client:ping", json!({ "pad": pad })).await["pong"], true, "one always passes");
        let ack = agent.emit("client:ping", json!({ "pad": pad })).await;
        assert_eq!(ack["code"], "RATE_LIMIT_EXCEEDED", "{ack}");
        agent.settle().await;
    }
    assert_eq!(refused(&server, "messages").await, 2);
}

#[tokio::test]
async fn what_waits_for_a_slow_service_is_bounded_in_bytes() {
    // Nobody accepts, so whoever asks waits for an answer.
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", service.local_addr().expect("an address"));
    let server = TestServer::start(|config| {
        config.limits.max_queued_bytes = 50_000;
        let ask = json!({ "event": "ask", "action": "forward", "url": url, "timeout_ms": 2_000 });
        config.client_events = vec![part(ask)];
    })
    .await;
    let mut agent = server.agent("org-1").await;
    agent.send("ask", json!({}));
    for _ in 0..3 {
        agent.send("client:ping", json!({ "pad": "x".repeat(20_000) }));
    }
    let error = agent.next_error("RATE_LIMIT_EXCEEDED").await;
    assert!(error["message"].as_str().expect("text").contains("2 events of this socket are waiting"), "{error}");
    drop(agent);
}

#[tokio::test]
async fn strangers_send_little_at_a_time() {
    let server = TestServer::start(|_| {}).await;
    let large = json!({ "pad": "x".repeat(200_000) });
    let mut stranger = server.connect("/").await;
    stranger.send("client:ping", large.clone());
    assert_eq!(stranger.closed().await.code, Some(CloseCode::Size.into()));
    let (_open, sid) = half_open(&server, 1).await;
    let mut body = Hostile::ask(server.address, 1, &post(&polling(&sid), 200_000)).await;
    body.send("x".repeat(200_000)).await;
    assert!(body.answer_with("HTTP/1.1").await.starts_with("HTTP/1.1 413"));
    // Who says who it is may go on at once.
    let mut client = server.connect("/").await;
    let id = client.emit_unanswered("authenticate", &[json!({ "user_id": "ann", "organization_id": "org-1" })]);
    let ping = client.emit_unanswered("client:ping", &[large]);
    assert_eq!(client.answer(id).await["success"], true);
    assert_eq!(client.answer(ping).await["pong"], true);
    assert_eq!(refused(&server, "large_messages").await, 2);
    let close = format!("{}1", post(&polling(&sid), 1));
    Hostile::ask(server.address, 1, &close).await.answer_with("200 OK").await;
}

#[tokio::test]
async fn a_stranger_that_reads_nothing_holds_little() {
    let server = TestServer::start(|config| config.outbox.write_stall_timeout_ms = 600_000).await;
    let mut options = ConnectOptions::named();
    options.receive_buffer = Some(4_096);
    let stranger = server.connect_with(options).await;
    stranger.wire.hold().await;
    let ping = json!({ "timestamp": "x".repeat(60_000) });
    eventually("it is cut", async || {
        stranger.send("client:ping", ping.clone());
        server.census().connections == 0
    })
    .await;
    let (_, stats) = server.get("/stats").await;
    assert_eq!(stats["stats"]["connections_cut"]["overflow"], 1);
}

/// Floods a connection until it is ended for good.
async fn flood(server: &TestServer, kind: &str, packet: &str) {
    let mut agent = server.agent("org-1").await;
    for _ in 0..3_000 {
        agent.wire.send(packet);
    }
    assert!(agent.closed().await.terminal, "{packet}");
    assert!(refused(server, kind).await > 0 && refused(server, "abuse").await > 0, "{packet}");
}

#[tokio::test]
async fn who_floods_with_anything_is_cut_for_good() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 10).await;
    flood(&server, "packets", r#"431099511627777[]"#).await;
    flood(&server, "packets", "3").await;
    flood(&server, "packets", "41/org/nowhere,").await;
    flood(&server, "connects", "40/org/nowhere,").await;
    flood(&server, "messages", r#"42["subscribe",{"channels":["kpi"]}]"#).await;
    let lines: Value = server.get("/stats").await.1["stats"]["refused"].clone();
    assert!(lines["abuse"].as_u64().expect("a count") >= 5, "{lines}");
}

#[tokio::test]
async fn who_floods_on_polling_is_nowhere_any_more_when_it_hears_of_its_end() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 10).await;
    let polling = ConnectOptions::named().transport(Transport::Polling);
    let mut agent = server.connect_with(polling).await.authenticate("org-1").await;
    for _ in 0..3_000 {
        agent.wire.send(r#"431099511627777[]"#);
    }
    agent.take(|packet| packet.kind == Kind::Disconnect).await;
    let census = server.census();
    assert_eq!((census.sockets, census.rooms, census.seats), (0, 0, 0));
}

#[tokio::test]
async fn who_is_ended_for_good_and_reads_nothing_is_not_waited_for() {
    let server = TestServer::start(|config| config.outbox.write_stall_timeout_ms = 600_000).await;
    let mut options = ConnectOptions::named();
    options.receive_buffer = Some(4_096);
    let agent = server.connect_with(options).await.authenticate("org-1").await;
    agent.wire.hold().await;
    for n in 0..50 {
        let data = json!({ "n": n, "pad": "x".repeat(100_000) });
        server.broadcast("attendance:checkin", data, json!({ "organization_id": "org-1" })).await;
    }
    let call = server.call(Method::DELETE, &format!("/connections/{}", agent.socket_id));
    assert_eq!(call.send().await.expect("an answer").status, 200);
    server.count("its connection is gone", |census| census.connections == 0).await;
}

#[tokio::test]
async fn honest_clients_come_in_beside_a_flood_from_their_own_address() {
    let server = TestServer::start(|config| {
        config.limits.max_half_open_connections = 50;
        config.limits.max_connections_total = 60;
    })
    .await;
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(Hostile::ask(server.address, 1, "GET /ws/?EIO=4").await);
    }
    let mut agents: Vec<Client> = Vec::new();
    for _ in 0..10 {
        agents.push(server.agent("org-1").await);
    }
    server.count("the flood is bounded", |census| census.tcp_connections <= 50 + 10).await;
    for agent in &mut agents {
        agent.settle().await;
    }
}
