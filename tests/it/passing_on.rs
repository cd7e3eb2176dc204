//! A session on polling lives on one node, and what comes for it to another is passed on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use reqwest::Method;
use serde_json::json;

use crate::kit::{
    Call, ConnectOptions, Endpoint, Protocol, Raw, RedisServer, Refused, TestServer, Transport, eventually, nodes_with,
};

/// Nodes that tell each other how they are reached.
async fn nodes(redis: &RedisServer, count: usize) -> Vec<TestServer> {
    let nodes = nodes_with(redis, count, |_, config| {
        config.cluster.node_url = format!("http://127.0.0.1:{}", free_port());
        config.limits.max_unauthenticated_message_bytes = 2_000;
        config.limits.max_message_size_bytes = 100_000;
    });
    let nodes = nodes.await;
    for node in &nodes {
        eventually("all nodes know each other", async || {
            node.get("/nodes").await.1["nodes"].as_array().is_some_and(|all| all.len() == count)
        })
        .await;
    }
    nodes
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A client whose session begins on one node, and who comes to the other with everything behind that.
fn astray(transport: Transport, protocol: Protocol, other: &TestServer) -> ConnectOptions {
    ConnectOptions { transport, protocol, elsewhere: Some(other.address), ..ConnectOptions::named() }
}

fn endpoint(node: &TestServer) -> Endpoint {
    let url = reqwest::Url::parse(&node.url("/ws/")).expect("a URL");
    Endpoint { url, headers: Vec::new(), protocol: Protocol::V4, receive_buffer: None, elsewhere: None }
}

/// A session that begins on a node, by a handshake only.
async fn begin(node: &TestServer) -> String {
    let open = endpoint(node).poll(None).send().await.expect("an OPEN packet");
    let open: serde_json::Value = serde_json::from_str(&open.text[1..]).expect("JSON");
    open["sid"].as_str().expect("a session id").to_owned()
}

#[tokio::test]
async fn a_client_may_come_to_any_node() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 2).await;
    for (transport, protocol) in [
        (Transport::Polling, Protocol::V4),
        (Transport::Polling, Protocol::V3),
        (Transport::Upgrade, Protocol::V4),
        (Transport::Upgrade, Protocol::V3),
    ] {
        let options = astray(transport, protocol, &nodes[1]);
        let mut client = nodes[0].connect_with(options).await.authenticate("org-1").await;
        assert_eq!((nodes[0].census().sockets, nodes[1].census().sockets), (1, 0), "{transport:?}");
        for n in 0..20 {
            nodes[0].broadcast("kpi:update", json!({ "n": n }), json!({ "organization_id": "org-1" })).await;
        }
        for n in 0..20 {
            assert_eq!(client.next_named("kpi:update").await.payload()["n"], n);
        }
        let large = "x".repeat(60_000);
        let answer = client.emit("client:ping", json!({ "large": large })).await;
        assert_eq!(answer["pong"], true);
        if transport == Transport::Upgrade {
            nodes[1].count("the WebSocket is there", |census| census.tcp_connections == 1).await;
            assert_eq!(nodes[0].census().tcp_connections, 0);
        }
        client.wire.close();
        nodes[0].count("the session ends with its client", |census| census.connections == 0).await;
        nodes[1].count("nothing is left at the other node", |census| census.tcp_connections == 0).await;
    }
}

#[tokio::test]
async fn a_session_that_nobody_holds_is_unknown() {
    let redis = RedisServer::start();
    let mut nodes = nodes(&redis, 3).await;
    let sid = begin(&nodes[2]).await;
    let (node, bare) = sid.split_once('.').expect("the node and the id");
    let strangers = [
        bare.to_owned(),
        format!("{node}.AAAAAAAAAAAAAAAA"),
        format!("somebodyelse.{bare}"),
        format!("{node}.{node}.{bare}"),
        format!("{node}.{bare}%26EIO=3"),
        ".".to_owned(),
    ];
    let assert_unknown = async |sid: &str| {
        for call in [endpoint(&nodes[0]).poll(Some(sid)), endpoint(&nodes[0]).post(sid, "3")] {
            let reply = call.send().await.expect("an answer");
            assert_eq!((reply.status, reply.json()["code"].as_u64()), (400, Some(1)), "{}", reply.text);
        }
        let Err(Refused::Http(reply)) = endpoint(&nodes[0]).websocket(Some(sid)).await else { panic!("it was let in") };
        assert_eq!((reply.status, reply.json()["code"].as_u64()), (400, Some(1)), "{}", reply.text);
    };
    for stranger in strangers {
        assert_unknown(&stranger).await;
    }
    let post = endpoint(&nodes[0]).post(&sid, "40").send().await.expect("an answer");
    assert_eq!((post.status, post.text.as_str()), (200, "ok"));
    nodes[2].stop().await;
    nodes.truncate(2);
}

#[tokio::test]
async fn a_poll_that_is_given_up_is_given_up_at_the_other_node() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 2).await;
    let sid = begin(&nodes[0]).await;
    let path = format!("/ws/?EIO=4&transport=polling&sid={sid}");
    let mut poll = Raw::connect(nodes[1].address).await;
    poll.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await;
    eventually("the poll is passed on", async || nodes[0].node_connections() == 1).await;
    drop(poll);
    eventually("it is given up", async || nodes[0].node_connections() == 0).await;
    // Nothing is lost in the first one, and Engine.IO bears no second poll beside it.
    let entering = endpoint(&nodes[1]).post(&sid, "40").send().await.expect("an answer");
    assert_eq!(entering.status, 200);
    let reply = endpoint(&nodes[1]).poll(Some(&sid)).send().await.expect("an answer");
    assert!(reply.text.starts_with("40"), "{}: {}", reply.status, reply.text);
    assert_eq!(endpoint(&nodes[1]).post(&sid, "1").send().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn bounds_hold_for_what_is_passed_on() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 2).await;
    let sid = begin(&nodes[0]).await;
    let post = |body: String| endpoint(&nodes[1]).post(&sid, &body).send();
    let reply = post(format!("4{}", "x".repeat(1_000_000))).await.expect("an answer");
    assert_eq!(reply.status, 413, "{}", reply.text);
    let reply = post("1".to_owned()).await.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn a_browser_of_another_origin_is_refused_where_it_comes_to() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 2).await;
    let sid = begin(&nodes[0]).await;
    let poll = |origin: &str| endpoint(&nodes[1]).post(&sid, "40").header("origin", origin).send();
    let reply = poll("https://elsewhere.example").await.expect("an answer");
    assert_eq!((reply.status, reply.json()["code"].as_u64()), (403, Some(4)), "{}", reply.text);
    let reply = poll("http://localhost:3000").await.expect("an answer");
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, "http://localhost:3000"));
    assert_eq!(reply.headers.get_all("access-control-allow-origin").iter().count(), 1);
    assert_eq!(reply.headers.get_all("vary").iter().filter(|value| *value == "origin").count(), 1);
    assert_eq!(endpoint(&nodes[1]).post(&sid, "1").send().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn the_listener_for_nodes_serves_nobody_else() {
    let redis = RedisServer::start();
    let port = free_port();
    let nodes = nodes_with(&redis, 1, |_, config| config.cluster.node_url = format!("http://127.0.0.1:{port}")).await;
    let sid = begin(&nodes[0]).await;
    let (_, bare) = sid.split_once('.').expect("the node and the id");
    let target = format!("/session?EIO=4&transport=polling&sid={bare}");
    let at = |target: &str| format!("http://{}{target}", SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let secret = redis.run::<String>("get {tiercast:0}:secret");
    for proof in ["", "00", &secret, &"0".repeat(64)] {
        let reply = Call::get(&at(&target)).header("x-tiercast-proof", proof).send().await.expect("an answer");
        assert_eq!(reply.status, 403, "{}", reply.text);
    }
    for (method, path) in [(Method::GET, "/ws/?EIO=4&transport=polling"), (Method::GET, "/api/ws/stats")] {
        let reply = Call::new(method, &at(path)).send().await.expect("an answer");
        assert_eq!(reply.status, 404, "{path}");
    }
    assert_eq!(endpoint(&nodes[0]).post(&sid, "1").send().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_server_alone_tells_no_node() {
    let server = TestServer::start(|_| {}).await;
    let sid = begin(&server).await;
    assert!(!sid.contains('.'), "the id is Engine.IO's own");
    assert_eq!(endpoint(&server).post(&sid, "1").send().await.expect("an answer").status, 200);
    let reply = endpoint(&server).poll(Some("node.AAAAAAAAAAAAAAAA")).send().await.expect("an answer");
    assert_eq!((reply.status, reply.json()["code"].as_u64()), (400, Some(1)));
}
