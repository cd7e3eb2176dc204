//! What a client may use, what it is told beyond that, and that a seat comes back on every path.

use std::time::{Duration, Instant};

use serde_json::json;
use tiercast::server::Census;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::kit::{Call, Client, ConnectOptions, TestServer, Transport, assert_shape, eventually};

const BOTH: [Transport; 2] = [Transport::WebSocket, Transport::Polling];

#[tokio::test]
async fn a_full_server_refuses_the_handshake() {
    let server = TestServer::start(|config| config.limits.max_connections_total = 2).await;
    let first = server.connect("/").await;
    let polling = ConnectOptions::named().transport(Transport::Polling);
    let _second = server.connect_with(polling).await;
    for transport in BOTH {
        let options = ConnectOptions::named().transport(transport).header("origin", "http://localhost:3000");
        let refused = server.try_connect(options).await.err().expect("a refusal");
        let reply = refused.reply();
        assert_eq!(reply.status, 503, "{transport:?}");
        assert!(reply.header("retry-after").parse::<u64>().is_ok(), "{transport:?}: {:?}", reply.headers);
        assert_eq!(reply.header("access-control-allow-origin"), "http://localhost:3000");
    }
    drop(first);
    eventually("there is room again", async || server.try_connect(ConnectOptions::named()).await.is_ok()).await;
}

#[tokio::test]
async fn when_many_come_at_once_each_waits_for_its_turn_and_none_is_refused() {
    let server = TestServer::start(|config| config.limits.max_connects_per_second = 40).await;
    let begun = Instant::now();
    let coming = (0..50).map(|n| {
        let transport = if n % 2 == 0 { Transport::WebSocket } else { Transport::Upgrade };
        server.try_connect(ConnectOptions::named().transport(transport))
    });
    let clients = futures_util::future::join_all(coming).await;
    assert!(clients.iter().all(Result::is_ok));
    // All but those that have a turn at once, which are a quarter of a second's and one.
    assert!(begun.elapsed() >= Duration::from_secs(38) / 40, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_upgrade_needs_no_second_place() {
    let server = TestServer::start(|config| config.limits.max_connections_total = 1).await;
    let mut client = server.connect_with(ConnectOptions::named().transport(Transport::Upgrade)).await;
    client.settle().await;
    assert_eq!(server.census().connections, 1);
}

#[tokio::test]
async fn a_full_organization_refuses_to_authenticate() {
    let server = TestServer::start(|config| config.limits.max_connections_per_org = 1).await;
    let first = server.agent("org-1").await;
    let mut second = server.connect("/").await;
    let ack = second.try_authenticate("bob", "org-1").await;
    assert_shape("authenticate-refused", &ack);
    assert_eq!(ack["code"], "CONNECTION_LIMIT");
    second.next_error("CONNECTION_LIMIT").await;
    let _elsewhere = server.agent("org-2").await;
    first.disconnect().await;
    server.count("a seat is free", |census| census.seats == 1).await;
    second.authenticate_as("bob", "org-1").await;
}

#[tokio::test]
async fn a_refused_handshake_takes_no_seat() {
    let server = TestServer::start(|config| config.limits.max_connections_per_org = 1).await;
    let _first = server.agent("org-1").await;
    let auth = json!({ "user_id": "bob", "organization_id": "org-1" });
    for namespace in ["/", "/org/org-1"] {
        let options = ConnectOptions::named().namespace(namespace).auth(auth.clone());
        let refused = server.try_connect(options).await.err().expect("a refusal");
        assert!(refused.message().starts_with("CONNECTION_LIMIT"), "{refused:?}");
    }
    assert_eq!(server.census().seats, 1);
}

/// With one seat, each way of ending has to give it back before the next client can have it.
#[tokio::test]
async fn a_seat_comes_back_whatever_ends_the_connection() {
    let server = TestServer::start(|config| {
        config.limits.max_connections_per_org = 1;
        config.heartbeat.ping_interval_ms = 100;
        config.heartbeat.ping_timeout_ms = 1_000;
    })
    .await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        for ending in ["disconnects", "leaves", "crashes", "freezes", "is deleted", "authenticated twice"] {
            let options = ConnectOptions::named().transport(transport);
            let mut client = server.connect_with(options).await.authenticate_as("ann", "org-1").await;
            match ending {
                "disconnects" => client.disconnect().await,
                "leaves" => {
                    client.leave();
                    server.count("the seat of one that left", |census| census.seats == 0).await;
                    drop(client);
                }
                "crashes" => client.wire.crash(),
                "freezes" => {
                    client.wire.freeze();
                    server.count("the seat of one that froze", |census| census.seats == 0).await;
                    drop(client);
                }
                "is deleted" => {
                    let call = server.call(reqwest::Method::DELETE, &format!("/connections/{}", client.socket_id));
                    assert_eq!(call.send().await.unwrap().status, 200);
                    drop(client);
                }
                _ => {
                    let ack = client.emit("authenticate", json!({ "user_id": "x", "organization_id": "org-1" })).await;
                    assert_eq!(ack["success"], false);
                    let ack =
                        client.emit("authenticate", json!({ "user_id": "ann", "organization_id": "org-1" })).await;
                    assert_eq!(ack["success"], true);
                    assert_eq!(server.census().seats, 1);
                    drop(client);
                }
            }
            let free = |census: &Census| census.connections == 0 && census.seats == 0;
            server.count(&format!("one that {ending} by {transport:?}"), free).await;
        }
    }
}

#[tokio::test]
async fn an_authentication_timeout_takes_no_seat() {
    let server = TestServer::start(|config| {
        config.auth.auth_timeout_ms = 100;
        config.limits.max_connections_total = 1;
    })
    .await;
    for _ in 0..3 {
        let mut client = server.connect("/").await;
        client.closed().await;
        server.count("the place is free", |census| census.connections == 0).await;
    }
}

#[tokio::test]
async fn who_enters_no_namespace_is_cut() {
    let server = TestServer::start(|config| config.limits.connect_timeout_ms = 200).await;
    for transport in BOTH {
        let mut client = Client::open(server.address, &ConnectOptions::named().transport(transport)).await.unwrap();
        client.closed().await;
    }
    server.count("nothing is left", |census| census.connections == 0).await;
}

#[tokio::test]
async fn a_handshake_that_never_goes_on_is_forgotten() {
    let server = TestServer::start(|config| {
        config.limits.connect_timeout_ms = 200;
        config.heartbeat.ping_interval_ms = 100;
        config.heartbeat.ping_timeout_ms = 100;
    })
    .await;
    for _ in 0..20 {
        let reply = server.request(Call::get(&server.url("/ws/?EIO=4&transport=polling"))).await;
        assert_eq!(reply.status, 200);
    }
    server.count("nothing is left", |census| census.connections == 0).await;
}

#[tokio::test]
async fn a_message_of_one_mebibyte_passes_on_both_transports() {
    let server = TestServer::start(|_| {}).await;
    for transport in BOTH {
        let mut agent =
            server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org-1").await;
        let pong = agent.emit("client:ping", json!({ "pad": "x".repeat(1_048_000) })).await;
        assert_eq!(pong["pong"], true);
        let pad = "y".repeat(1_000_000);
        server.broadcast("kpi:update", json!({ "pad": pad }), json!({ "organization_id": "org-1" })).await;
        assert_eq!(agent.next_event().await.payload()["pad"], pad);
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_told_and_the_socket_stays() {
    let server = TestServer::start(|config| config.limits.max_message_size_bytes = 10_000).await;
    let mut agent = server.agent("org-1").await;
    agent.send("client:ping", json!({ "pad": "x".repeat(20_000) }));
    agent.next_error("MESSAGE_TOO_LARGE").await;
    agent.settle().await;
}

#[tokio::test]
async fn a_frame_beyond_the_hard_limit_closes() {
    let server = TestServer::start(|config| config.limits.max_message_size_bytes = 10_000).await;
    let mut agent = server.agent("org-1").await;
    agent.send("client:ping", json!({ "pad": "x".repeat(100_000) }));
    let closure = agent.closed().await;
    assert_eq!((closure.terminal, closure.code), (false, Some(CloseCode::Size.into())));
}

#[tokio::test]
async fn a_polling_body_that_is_too_large_is_refused() {
    let server = TestServer::start(|config| config.limits.max_message_size_bytes = 10_000).await;
    let client = server.connect_with(ConnectOptions::named().transport(Transport::Polling)).await;
    let url = server.url(&format!("/ws/?EIO=4&transport=polling&sid={}", client.wire.sid()));
    let reply = server.request(Call::post(&url).text(&format!("42[\"x\",\"{}\"]", "x".repeat(100_000)))).await;
    assert_eq!(reply.status, 413);
}

#[tokio::test]
async fn too_many_messages_are_refused_for_a_while() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 20).await;
    for transport in BOTH {
        let mut agent =
            server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org-1").await;
        let ids: Vec<_> = (0..30).map(|_| agent.emit_unanswered("client:ping", &[json!({})])).collect();
        agent.send("client:ping", json!({}));
        let mut refused = 0;
        for id in ids {
            let ack = agent.answer(id).await;
            if ack["pong"] != true {
                assert_eq!((&ack["success"], &ack["code"]), (&json!(false), &json!("RATE_LIMIT_EXCEEDED")));
                refused += 1;
            }
        }
        assert!((5..=15).contains(&refused), "{refused} of 30 were refused at 20 a second");
        agent.next_error("RATE_LIMIT_EXCEEDED").await;
        eventually("the time of the refusal is over", async || {
            agent.emit("client:ping", json!({})).await["pong"] == true
        })
        .await;
    }
}

#[tokio::test]
async fn who_keeps_on_sending_is_cut_for_good() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 10).await;
    let mut agent = server.agent("org-1").await;
    for _ in 0..5_000 {
        agent.send("client:ping", json!({}));
    }
    assert!(agent.closed().await.terminal);
}

#[tokio::test]
async fn acknowledgements_have_a_bound_of_their_own() {
    let server = TestServer::start(|config| config.limits.rate_limit_messages_per_second = 10).await;
    let mut agent = server.agent("org-1").await;
    for _ in 0..30 {
        agent.send("ack", json!({ "message_id": "msg_0_unknown" }));
    }
    agent.settle().await;
}

#[tokio::test]
async fn a_full_room_refuses() {
    let server = TestServer::start(|config| config.limits.room_max_size = 1).await;
    // Three sockets in the organization's own room: only subscription rooms have a size.
    let mut first = server.agent("org-1").await.without_implicit().await;
    let mut second = server.agent("org-1").await.without_implicit().await;
    let _third = server.agent("org-1").await;
    first.subscribe(json!({ "channels": ["kpi"] })).await;
    let ack = second.emit("subscribe", json!({ "channels": ["kpi"] })).await;
    assert_shape("subscribe-refused", &ack);
    assert_eq!(ack["code"], "ROOM_FULL");
    second.next_error("ROOM_FULL").await;
    second.subscribe(json!({ "channels": ["kpi"], "queue_name": "q" })).await;
    first.subscribe(json!({ "channels": ["kpi"] })).await;
    first.disconnect().await;
    eventually("there is room", async || {
        second.emit("subscribe", json!({ "channels": ["kpi"] })).await["success"] == true
    })
    .await;
}

#[tokio::test]
async fn a_refused_subscription_joins_no_room() {
    let server = TestServer::start(|config| config.limits.room_max_size = 1).await;
    let _first = server.subscriber("org-1", json!({ "channels": ["kpi"] })).await;
    let mut second = server.agent("org-1").await.without_implicit().await;
    let ack = second.emit("subscribe", json!({ "channels": ["backlog", "kpi"] })).await;
    assert_eq!(ack["code"], "ROOM_FULL");
    server.broadcast("backlog:update", json!({}), json!({ "organization_id": "org-1" })).await;
    second.expect_silence(&server).await;
}

#[tokio::test]
async fn a_socket_can_hold_so_many_subscriptions() {
    let server = TestServer::start(|config| config.limits.max_subscriptions_per_socket = 3).await;
    let mut agent = server.agent("org-1").await;
    for queue in ["a", "b", "c"] {
        agent.subscribe(json!({ "channels": ["kpi"], "queue_name": queue })).await;
    }
    let ack = agent.emit("subscribe", json!({ "channels": ["kpi"], "queue_name": "d" })).await;
    assert_shape("subscribe-refused", &ack);
    assert_eq!(ack["code"], "SUBSCRIPTION_FAILED");
    agent.subscribe(json!({ "channels": ["kpi"], "queue_name": "a" })).await;
}

#[tokio::test]
async fn an_idle_socket_is_cut_where_that_is_set() {
    let server = TestServer::start(|config| config.limits.idle_timeout_ms = 200).await;
    let mut agent = server.agent("org-1").await;
    agent.closed().await;
    server.count("it is gone", |census| census.connections == 0).await;
}

#[tokio::test]
async fn a_dead_connection_is_noticed_by_its_heartbeat() {
    let server = TestServer::start(|config| {
        config.heartbeat.ping_interval_ms = 100;
        config.heartbeat.ping_timeout_ms = 100;
    })
    .await;
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let client =
            server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org-1").await;
        client.wire.freeze();
        server.count("the dead one is gone", |census| census.connections == 0 && census.seats == 0).await;
    }
}

#[tokio::test]
async fn a_live_connection_outlasts_many_heartbeats() {
    let server = TestServer::start(|config| {
        config.heartbeat.ping_interval_ms = 30;
        config.heartbeat.ping_timeout_ms = 1_000;
    })
    .await;
    let mut clients = Vec::new();
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        clients
            .push(server.connect_with(ConnectOptions::named().transport(transport)).await.authenticate("org-1").await);
    }
    let dead = server.agent("org-1").await;
    dead.wire.freeze();
    server.count("the dead one is gone", |census| census.connections == 3).await;
    for client in &mut clients {
        client.settle().await;
    }
}
