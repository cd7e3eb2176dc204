//! The HTTP API over the nodes of a cluster: whatever node is asked, all of them answer, or are named.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tiercast::config::{Config, Right};
use tiercast::server::Server;
use tokio::net::TcpListener;

use crate::kit::{
    Call, Client, ConnectOptions, Proxy, RedisServer, TestServer, eventually, key, know, nodes, nodes_with, on_redis,
};

/// How long a question to other nodes waits here.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(700);

fn quick(config: &mut Config) {
    config.cluster.request_timeout_ms = REQUEST_TIMEOUT.as_millis() as u64;
}

/// So many nodes, of which the way of the last one to Redis can be cut.
async fn last_behind(redis: &RedisServer, count: usize) -> (Vec<TestServer>, Proxy) {
    let way = Proxy::to(redis.address()).await;
    let nodes = nodes_with(redis, count, |node, config| {
        quick(config);
        if node + 1 == count {
            on_redis(config, &redis.url_at(way.address), node);
            // Nobody counts as gone while a test looks.
            config.cluster.node_timeout_ms = 60_000;
        }
    })
    .await;
    (nodes, way)
}

/// Two nodes of this kind.
async fn two(redis: &RedisServer) -> (TestServer, TestServer, Proxy) {
    let (nodes, way) = last_behind(redis, 2).await;
    let [first, last] = nodes.try_into().ok().expect("two");
    (first, last, way)
}

async fn get(node: &TestServer, path: &str) -> Value {
    let (status, answer) = node.get(path).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

async fn delete(node: &TestServer, path: &str) -> (u16, Value) {
    let reply = node.call(Method::DELETE, path).send().await.expect("an answer");
    (reply.status, reply.json())
}

fn ids<'a>(listed: &'a Value, key: &str) -> Vec<&'a str> {
    listed.as_array().expect("a list").iter().map(|item| item[key].as_str().expect("an id")).collect()
}

async fn user(node: &TestServer, name: &str) -> Client {
    node.connect_with(ConnectOptions::named()).await.authenticate_as(name, "org-1").await
}

#[tokio::test]
async fn connections_are_listed_found_and_ended_on_whatever_node_they_are() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 3).await;
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(node.agent("org-1").await);
    }
    let foreign = nodes[1].agent("org-2").await;
    let mut sockets: Vec<String> = clients.iter().map(|client| client.socket_id.clone()).collect();
    sockets.sort();

    let page = get(&nodes[0], "/connections?organization_id=org-1&limit=2").await;
    assert_eq!(
        (ids(&page["connections"], "socket_id"), &page["total_count"]),
        (vec![&*sockets[0], &sockets[1]], &json!(3))
    );
    assert_eq!(page["next_cursor"], sockets[1]);
    let rest = get(&nodes[2], &format!("/connections?organization_id=org-1&limit=2&cursor={}", sockets[1])).await;
    assert_eq!((ids(&rest["connections"], "socket_id"), &rest["next_cursor"]), (vec![&*sockets[2]], &Value::Null));
    let all = get(&nodes[1], "/connections").await;
    assert_eq!((&all["total_count"], &all["unanswered_nodes"]), (&json!(4), &Value::Null));

    let path = format!("/connections/{}", clients[2].socket_id);
    let one = get(&nodes[0], &path).await;
    assert_eq!(one["connection"]["user_id"], clients[2].user);
    assert_eq!(one, get(&nodes[2], &path).await, "as its own node answers");
    assert_eq!(delete(&nodes[0], &path).await.0, 200);
    assert!(clients.pop().expect("a client").closed().await.terminal, "its client stays away");
    assert_eq!(delete(&nodes[0], &path).await.0, 404);
    assert_eq!(nodes[0].get(&path).await.0, 404);

    for client in clients.into_iter().chain([foreign]) {
        client.disconnect().await;
    }
    for node in nodes {
        node.finish().await;
    }
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named_within_the_deadline() {
    let redis = RedisServer::start();
    let (one, frozen, way) = two(&redis).await;
    let (here, there) = (user(&one, "here").await, user(&frozen, "there").await);
    assert_eq!(get(&one, "/connections").await["total_count"], 2);
    way.freeze();
    for path in ["/connections", "/rooms", "/stats", "/presence?organization_id=org-1"] {
        let asked = Instant::now();
        let answer = get(&one, path).await;
        assert_eq!(answer["unanswered_nodes"], json!(["node-1"]), "{path}: {answer}");
        assert!(asked.elapsed() < 3 * REQUEST_TIMEOUT, "{path} took {:?}", asked.elapsed());
    }
    assert_eq!(ids(&get(&one, "/connections").await["connections"], "socket_id"), [&here.socket_id]);
    assert_eq!(ids(&get(&one, "/presence?organization_id=org-1").await["users"], "user_id"), ["here"]);
    // What it has here it knows without the other.
    assert_eq!(get(&one, &format!("/connections/{}", here.socket_id)).await["unanswered_nodes"], Value::Null);
    for method in [Method::GET, Method::DELETE] {
        let call = one.call(method, &format!("/connections/{}", there.socket_id));
        let reply = call.send().await.expect("an answer");
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (503, "1"),
            "it may be on the frozen node: {}",
            reply.text
        );
        assert_eq!(reply.json()["unanswered_nodes"], json!(["node-1"]));
    }
    let cluster = &get(&one, "/stats").await["stats"]["cluster"];
    assert!(cluster["questions_unanswered"].as_u64() >= Some(6), "{cluster}");
    way.mend();
    eventually("it answers", async || {
        get(&one, "/connections").await["connections"].as_array().map(Vec::len) == Some(2)
    })
    .await;
    for client in [here, there] {
        client.disconnect().await;
    }
    one.finish().await;
    frozen.finish().await;
}

#[tokio::test]
async fn who_waits_for_acknowledgements_is_told_which_of_three_nodes_does_not_answer() {
    let redis = RedisServer::start();
    let (nodes, way) = last_behind(&redis, 3).await;
    let (mut a, mut b, mut c) = (user(&nodes[0], "a").await, user(&nodes[1], "b").await, user(&nodes[2], "c").await);
    way.freeze();
    let body = json!({
        "event": "system:notification", "data": {}, "target": { "organization_id": "org-1" },
        "requires_ack": true, "ack_timeout_ms": REQUEST_TIMEOUT.as_millis() as u64 / 2,
    });
    let asked = Instant::now();
    let acknowledging = async {
        let event = a.next_named("system:notification").await;
        a.ack(&event, json!(null));
    };
    let ((status, answer), ()) = tokio::join!(nodes[0].publish("/broadcast?wait=ack", body), acknowledging);
    assert_eq!((status, &answer["unanswered_nodes"]), (200, &json!(["node-2"])), "{answer}");
    assert!(asked.elapsed() < 3 * REQUEST_TIMEOUT, "it took {:?}", asked.elapsed());
    assert_eq!((ids(&answer["acknowledged"], "user_id"), ids(&answer["pending"], "user_id")), (vec!["a"], vec!["b"]));
    let listed = get(&nodes[0], "/connections").await;
    assert_eq!((&listed["total_count"], &listed["unanswered_nodes"]), (&json!(2), &json!(["node-2"])));
    // Late is better than never.
    way.mend();
    for client in [&mut b, &mut c] {
        let event = client.next_named("system:notification").await;
        client.ack(&event, json!(null));
    }
    let path = format!("/messages/{}/receipts", answer["message_id"].as_str().expect("an id"));
    for node in &nodes {
        eventually("the receipt is whole", async || {
            let receipts = get(node, &path).await;
            let mut acknowledged = ids(&receipts["acknowledged"], "user_id");
            acknowledged.sort_unstable();
            acknowledged == ["a", "b", "c"]
                && receipts["pending"] == json!([])
                && receipts["unanswered_nodes"].is_null()
        })
        .await;
    }
    eventually("all are listed", async || get(&nodes[0], "/connections").await["total_count"] == 3).await;
    for client in [a, b, c] {
        client.disconnect().await;
    }
    for node in nodes {
        node.finish().await;
    }
}

#[tokio::test]
async fn rooms_and_counters_are_those_of_all_nodes() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 2).await;
    let queue = json!({ "channels": ["kpi"], "queue_name": "q" });
    let clients = [
        nodes[0].subscriber("org-1", json!({ "channels": ["kpi"] })).await,
        nodes[1].subscriber("org-1", json!({ "channels": ["kpi"] })).await,
        nodes[1].subscriber("org-1", queue).await,
    ];
    let mut stats = Vec::new();
    for node in &nodes {
        let answer = get(node, "/rooms").await;
        let rooms = answer["rooms"].as_array().expect("rooms");
        let room = rooms.iter().find(|room| room["room_id"] == "kpi:org:org-1").expect("the room of both");
        let mut members = room["member_socket_ids"].as_array().expect("ids").clone();
        let mut expected = vec![json!(clients[0].socket_id), json!(clients[1].socket_id)];
        members.sort_by_key(ToString::to_string);
        expected.sort_by_key(ToString::to_string);
        assert_eq!((members, &room["member_count"]), (expected, &json!(2)));
        let names = ids(&answer["rooms"], "room_id");
        assert!(names.is_sorted() && names.contains(&"kpi:org:org-1:queue:q"), "{names:?}");
        assert_eq!(answer["total_count"], names.len());
        let told = get(node, "/stats").await;
        stats.push((told["stats"].clone(), names.len()));
    }
    for (stats, rooms) in &stats {
        assert_eq!((&stats["active_connections"], &stats["total_connections"]), (&json!(3), &json!(3)));
        assert_eq!((&stats["connections_by_org"], &stats["active_rooms"]), (&json!({ "org-1": 3 }), &json!(rooms)));
        let of = |node: &Value| (node["node"].clone(), node["active_connections"].clone());
        let each: Vec<_> = stats["nodes"].as_array().expect("nodes").iter().map(of).collect();
        assert_eq!(each, [(json!("node-0"), json!(1)), (json!("node-1"), json!(2))]);
        assert_eq!(
            (&stats["cluster"]["nodes_living"], &stats["cluster"]["redis"][0]["answers"]),
            (&json!(2), &json!(true))
        );
    }
    for client in clients {
        client.disconnect().await;
    }
    for node in nodes {
        node.finish().await;
    }
}

#[tokio::test]
async fn a_user_is_there_as_long_as_on_any_node() {
    let redis = RedisServer::start();
    let nodes = nodes_with(&redis, 2, |_, config| config.presence.grace_ms = 0).await;
    let (mut both_0, mut both_1) = (user(&nodes[0], "both").await, user(&nodes[1], "both").await);
    both_0.subscribe(json!({ "channels": ["kpi"] })).await;
    both_1.subscribe(json!({ "channels": ["backlog"] })).await;
    assert_eq!(both_1.emit("presence", json!({ "status": "busy" })).await["success"], true);
    let (one, two) = (user(&nodes[0], "zero").await, user(&nodes[1], "one").await);
    let listed = get(&nodes[0], "/presence?organization_id=org-1").await;
    assert_eq!((ids(&listed["users"], "user_id"), &listed["total_count"]), (vec!["both", "one", "zero"], &json!(3)));
    let both = &listed["users"][0];
    assert_eq!((&both["status"], &both["sockets"]), (&json!("busy"), &json!(2)));
    assert_eq!(both["channels"], json!(["kpi", "backlog"]));
    // Pages and filters are those of all nodes, and who is listed for one socket is told with all of them.
    let page = get(&nodes[1], "/presence?organization_id=org-1&limit=1&cursor=both").await;
    assert_eq!((ids(&page["users"], "user_id"), &page["next_cursor"]), (vec!["one"], &json!("one")));
    let without = both_0.without_implicit().await;
    let listed = get(&nodes[0], "/presence?organization_id=org-1&channel=backlog").await;
    assert_eq!(
        (ids(&listed["users"], "user_id"), &listed["users"][0]["sockets"]),
        (vec!["both", "one", "zero"], &json!(2))
    );
    both_1.disconnect().await;
    eventually("one socket is left", async || {
        let listed = get(&nodes[1], "/presence?organization_id=org-1&user_id=both").await;
        (&listed["users"][0]["status"], &listed["users"][0]["sockets"]) == (&json!("online"), &json!(1))
    })
    .await;
    for client in [without, one, two] {
        client.disconnect().await;
    }
    for node in nodes {
        node.finish().await;
    }
}

#[tokio::test]
async fn a_revocation_cuts_on_every_node() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 2).await;
    let (mut here, mut there) = (user(&nodes[0], "u").await, user(&nodes[1], "u").await);
    let other = user(&nodes[1], "other").await;
    let revoke = json!({ "organization_id": "org-1", "user_id": "u" });
    let (status, answer) = nodes[0].publish("/revocations", revoke).await;
    assert_eq!((status, &answer["disconnected"], &answer["unanswered_nodes"]), (200, &json!(2), &Value::Null));
    assert!(here.closed().await.terminal && there.closed().await.terminal);
    other.disconnect().await;
    for node in nodes {
        node.finish().await;
    }
}

#[tokio::test]
async fn a_key_of_one_organization_names_its_sockets_on_every_node() {
    let redis = RedisServer::start();
    let rights = [Right::Publish, Right::Read, Right::Admin];
    let nodes = nodes_with(&redis, 2, |_, config| {
        config.api.keys = vec![key("any", &rights, None), key("bound", &rights, Some(&["org-1"]))];
    })
    .await;
    let nodes: Vec<_> = nodes.into_iter().map(|node| node.with_key("any")).collect();
    know(&nodes[0], 2).await;
    let (own, foreign) = (nodes[1].agent("org-1").await, nodes[1].agent("org-2").await);
    let call =
        |method, path: &str| -> Call { nodes[0].call(method, path).header("authorization", "Bearer bound-secret") };
    for (socket, status) in [(&own.socket_id, 200), (&foreign.socket_id, 403)] {
        let target = json!({ "organization_id": "org-1", "socket_ids": [socket] });
        let body = json!({ "event": "kpi:update", "data": {}, "target": target });
        let reply = call(Method::POST, "/broadcast").json(&body).send().await.expect("an answer");
        assert_eq!(reply.status, status, "{}", reply.text);
    }
    let listed = call(Method::GET, "/connections").send().await.expect("an answer").json();
    assert_eq!(ids(&listed["connections"], "socket_id"), [&own.socket_id]);
    for method in [Method::GET, Method::DELETE] {
        let reply = call(method, &format!("/connections/{}", foreign.socket_id)).send().await.expect("an answer");
        assert_eq!(reply.status, 404, "{}", reply.text);
    }
    let rooms = call(Method::GET, "/rooms").send().await.expect("an answer").json();
    assert!(rooms["rooms"].as_array().expect("rooms").iter().all(|room| room["organization_id"] == "org-1"), "{rooms}");
    let stats = call(Method::GET, "/stats").send().await.expect("an answer").json();
    assert_eq!(
        (&stats["stats"]["connections_by_org"], &stats["stats"]["cluster"]),
        (&json!({ "org-1": 1 }), &Value::Null)
    );
    for client in [own, foreign] {
        client.disconnect().await;
    }
    for node in nodes {
        node.finish().await;
    }
}

/// An event for an organization, explained.
async fn explain(node: &TestServer, target: Value) -> Value {
    let body = json!({ "event": "system:notification", "data": {}, "target": target });
    let (status, answer) = node.publish("/broadcast?explain=true", body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn an_explanation_is_that_of_all_nodes() {
    let redis = RedisServer::start();
    let (one, other, way) = two(&redis).await;
    let here = [user(&one, "a").await, user(&one, "b").await];
    let there = [user(&other, "c").await, user(&other, "d").await];
    let each = |a: usize, b: usize| json!([{ "node": "node-0", "sockets": a }, { "node": "node-1", "sockets": b }]);
    let except = json!({ "organization_id": "org-1", "except_socket_ids": [there[0].socket_id, here[0].socket_id] });
    let answer = explain(&one, except).await;
    let explanation = &answer["explanation"];
    assert_eq!((&explanation["nodes"], &explanation["excepted"]), (&each(1, 1), &json!(2)), "{explanation}");
    assert_eq!((&answer["recipients_count"], &answer["unanswered_nodes"]), (&json!(1), &Value::Null));
    let implicit = explanation["rooms"].as_array().expect("rooms").iter().map(|room| room["sockets"].clone());
    assert!(implicit.clone().any(|sockets| sockets == 4), "a room has the members of both: {explanation}");
    // A user is away who is on no node.
    let users = json!({ "organization_id": "org-1", "user_ids": ["a", "c", "nobody"] });
    let explanation = &explain(&other, users).await["explanation"];
    assert_eq!((&explanation["nodes"], &explanation["offline"]), (&each(1, 1), &json!(1)), "{explanation}");
    // What is for everyone is in every shard.
    let (status, answer) =
        one.publish("/broadcast?explain=true", json!({ "event": "system:broadcast", "data": {} })).await;
    assert_eq!((status, &answer["explanation"]["nodes"]), (200, &each(2, 2)), "{answer}");
    let stats = get(&one, "/stats").await;
    assert_eq!(stats["stats"]["total_messages"], 3, "an event counts once, on however many nodes: {stats}");
    way.freeze();
    let answer = explain(&one, json!({ "organization_id": "org-1" })).await;
    assert_eq!(answer["unanswered_nodes"], json!(["node-1"]));
    assert_eq!(answer["explanation"]["nodes"], json!([{ "node": "node-0", "sockets": 2 }]));
    way.mend();
    for client in here.into_iter().chain(there) {
        client.disconnect().await;
    }
    one.finish().await;
    other.finish().await;
}

#[tokio::test]
async fn a_receipt_knows_what_was_written_on_another_node() {
    let redis = RedisServer::start();
    let (one, other, way) = two(&redis).await;
    let (mut here, mut there) = (user(&one, "here").await, user(&other, "there").await);
    let body = json!({
        "event": "system:notification", "data": {}, "target": { "organization_id": "org-1" },
        "requires_ack": true, "ack_timeout_ms": 60_000,
    });
    let (status, answer) = one.publish("/broadcast", body).await;
    assert_eq!(status, 200, "{answer}");
    for client in [&mut here, &mut there] {
        client.next_named("system:notification").await;
    }
    let path = format!("/messages/{}/receipts", answer["message_id"].as_str().expect("an id"));
    eventually("both are written", async || {
        let receipts = get(&one, &path).await;
        let pending = receipts["pending"].as_array().expect("a list");
        pending.len() == 2 && pending.iter().all(|pending| pending["state"] == "written")
    })
    .await;
    assert_eq!(get(&one, &path).await["unanswered_nodes"], Value::Null);
    way.freeze();
    assert_eq!(get(&one, &path).await["unanswered_nodes"], json!(["node-1"]));
    way.mend();
    for client in [here, there] {
        client.disconnect().await;
    }
    one.finish().await;
    other.finish().await;
}

#[tokio::test]
async fn nodes_tell_who_they_are() {
    let redis = RedisServer::start();
    let url = |node: usize| format!("http://10.0.0.{node}:5000");
    let mut nodes = nodes_with(&redis, 2, |node, config| {
        config.cluster.node_url = url(node);
        config.cluster.node_listen = "127.0.0.1:0".into();
    })
    .await;
    let client = nodes[1].agent("org-1").await;
    eventually("one leads, and the connection is counted", async || {
        let answer = get(&nodes[0], "/nodes").await;
        let told = answer["nodes"].as_array().expect("nodes");
        told.len() == 2 && told.iter().filter(|node| node["leader"] == true).count() == 1 && told[1]["connections"] == 1
    })
    .await;
    let answer = get(&nodes[0], "/nodes").await;
    assert_eq!(ids(&answer["nodes"], "id"), ["node-0", "node-1"]);
    assert_eq!(ids(&answer["nodes"], "url"), [url(0), url(1)]);
    assert_eq!(answer["nodes"][0]["draining"], false);
    client.disconnect().await;
    nodes.pop().expect("a node").finish().await;
    know(&nodes[0], 1).await;
    nodes.pop().expect("a node").finish().await;
    let alone = TestServer::start(|_| {}).await;
    let answer = get(&alone, "/nodes").await;
    assert_eq!((&answer["nodes"][0]["id"], &answer["nodes"][0]["leader"]), (&json!("local"), &json!(true)));
}

#[tokio::test]
async fn a_node_is_not_ready_while_redis_is_away_and_keeps_its_sockets() {
    let mut redis = RedisServer::start();
    let node = nodes(&redis, 1).await.pop().expect("a node");
    let mut client = node.agent("org-1").await;
    let ready = async |path: &str| Call::get(&node.url(path)).send().await.expect("an answer");
    assert_eq!(ready("/readyz").await.status, 200);
    redis.stop();
    eventually("it is not ready", async || ready("/readyz").await.status == 503).await;
    assert!(ready("/readyz").await.text.contains("Redis"));
    assert_eq!(ready("/livez").await.status, 200);
    let health = ready("/api/ws/health").await;
    assert_eq!((health.status, &health.json()["redis"]), (503, &json!("does not answer")));
    assert_eq!(get(&node, "/stats").await["stats"]["cluster"]["redis"][0]["answers"], false);
    client.settle().await;
    redis.start_again();
    eventually("it is ready again", async || ready("/readyz").await.status == 200).await;
    client.settle().await;
    client.disconnect().await;
    node.finish().await;
}

/// Why a node of this number does not start.
async fn refused(redis: &RedisServer, node: usize, configure: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::default();
    config.logging.enable_logging = false;
    on_redis(&mut config, &redis.url(), node);
    configure(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    Server::start(config, listener).await.map(|_| ()).expect_err("it does not start").to_string()
}

#[tokio::test]
async fn a_server_does_not_start_under_the_name_of_another() {
    let redis = RedisServer::start();
    let node = nodes(&redis, 1).await.pop().expect("a node");
    let told = refused(&redis, 0, |_| {}).await;
    assert!(told.contains("\"node-0\"") && told.contains("cluster.node_id"), "{told}");
    node.finish().await;
}

#[tokio::test]
async fn a_server_does_not_start_with_another_number_of_shards() {
    let redis = RedisServer::start();
    let node = nodes_with(&redis, 1, |_, config| config.log.shards = 4).await.pop().expect("a node");
    for shards in [3, 5] {
        let told = refused(&redis, 1, |config| {
            config.log.shards = shards;
            config.cluster.node_timeout_ms = 60_000;
        })
        .await;
        let parts = ["log.shards = 4".to_owned(), format!("this node {shards}"), "set 4".to_owned()];
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        // It is no node, and nobody waits for it.
        know(&node, 1).await;
    }
    node.finish().await;
}
