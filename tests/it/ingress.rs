//! What other services publish without HTTP: entries of a stream in Redis.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tiercast::config::{Config, RedisTopology};

use crate::kit::{Client, RedisOptions, RedisServer, TestServer, eventually, nodes_with};

const STREAM: &str = "{tiercast:0}:ingress";
const REFUSED: &str = "{tiercast:0}:ingress:refused";

fn with_ingress(_: usize, config: &mut Config) {
    config.cluster.ingress = true;
}

fn kpi(n: u64) -> Value {
    json!({ "event": "kpi:update", "data": { "n": n }, "target": { "organization_id": "org-1" } })
}

/// Adds an entry as a service does; its id.
fn add(redis: &RedisServer, body: &Value) -> String {
    redis.run(&format!("xadd {STREAM} * body {body}"))
}

fn waiting(redis: &RedisServer) -> u64 {
    redis.run(&format!("xlen {STREAM}"))
}

async fn all_is_taken(redis: &RedisServer) {
    eventually("everything is taken out of the stream", async || waiting(redis) == 0).await;
}

async fn listener(node: &TestServer) -> Client {
    node.subscriber("org-1", json!({ "channels": ["kpi"] })).await
}

async fn hears(client: &mut Client, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        assert_eq!(client.next_named("kpi:update").await.data()["n"], n);
    }
}

async fn leader(nodes: &[TestServer]) -> usize {
    let mut leader = None;
    eventually("somebody leads", async || {
        let (_, listed) = nodes[0].get("/nodes").await;
        let listed = listed["nodes"].as_array().expect("a list");
        leader = listed.iter().position(|node| node["leader"] == true);
        leader.is_some()
    })
    .await;
    leader.expect("a leader")
}

#[tokio::test]
async fn what_is_added_to_the_stream_is_published_in_its_order_on_all_nodes() {
    let redis = RedisServer::start();
    let nodes = nodes_with(&redis, 2, with_ingress).await;
    let mut clients = join_all(nodes.iter().map(listener)).await;
    for n in 0..200 {
        add(&redis, &kpi(n));
    }
    for client in &mut clients {
        hears(client, 0..200).await;
    }
    all_is_taken(&redis).await;
}

#[tokio::test]
async fn an_entry_may_ask_for_all_that_a_call_may() {
    let redis = RedisServer::start();
    let nodes = nodes_with(&redis, 1, with_ingress).await;
    let mut client = listener(&nodes[0]).await;
    let mut body = kpi(1);
    (body["requires_ack"], body["priority"]) = (json!(true), json!("urgent"));
    add(&redis, &body);
    let event = client.next_named("kpi:update").await;
    client.ack(&event, json!(null));
    let (_, listed) = nodes[0].get("/rooms/kpi:org:org-1/messages").await;
    let message = &listed["messages"][0];
    assert_eq!((&message["priority"], &message["requires_ack"]), (&json!("urgent"), &json!(true)), "{message}");
    let path =
        format!("/messages/{}/receipts", message["message_id"].as_str().or(message["id"].as_str()).expect("an id"));
    eventually("it is acknowledged", async || nodes[0].get(&path).await.1["acknowledged"][0].is_object()).await;
}

#[tokio::test]
async fn what_cannot_be_published_is_put_aside_with_the_reason_and_blocks_nobody() {
    let redis = RedisServer::start();
    let nodes = nodes_with(&redis, 1, |number, config| {
        with_ingress(number, config);
        config.limits.max_message_size_bytes = 1_024;
    })
    .await;
    let mut client = listener(&nodes[0]).await;
    let target = json!({ "organization_id": "org-1" });
    let bad = [
        (r#"body {"event":"#.to_owned(), "not valid"),
        ("body 7".to_owned(), "JSON object"),
        ("data 7".to_owned(), "no field \"body\""),
        (format!("body {}", json!({ "data": 1, "target": target })), "event is required"),
        (format!("body {}", json!({ "event": "kpi:nothing", "data": 1, "target": target })), "kpi:nothing"),
        (format!("body {}", json!({ "event": "kpi:update", "data": 1 })), "target"),
        (format!("body {}", json!({ "event": "kpi:update", "data": 1, "target": { "org": "org-1" } })), "org"),
        (format!("body {}", json!({ "event": "kpi:update", "data": "x".repeat(2_000), "target": target })), "2"),
    ];
    for (fields, _) in &bad {
        redis.run::<String>(&format!("xadd {STREAM} * {fields}"));
    }
    add(&redis, &kpi(1));
    hears(&mut client, [1]).await;
    all_is_taken(&redis).await;
    let refused: redis::streams::StreamRangeReply = redis.run(&format!("xrange {REFUSED} - +"));
    assert_eq!(refused.ids.len(), bad.len());
    for ((fields, why), entry) in bad.iter().zip(refused.ids) {
        let reason = entry.get::<String>("reason").expect("a reason");
        assert!(reason.contains(why), "{fields}: {reason}");
        let body = entry.get::<String>("body").map(|body| format!("body {body}"));
        let is_kept = fields.starts_with("body") && fields.len() < 1_024;
        assert_eq!(body.as_ref(), Some(fields).filter(|_| is_kept));
    }
}

#[tokio::test]
async fn a_message_id_that_comes_again_is_published_once() {
    let redis = RedisServer::start();
    let nodes = nodes_with(&redis, 1, with_ingress).await;
    let mut client = listener(&nodes[0]).await;
    for (n, id) in [(1, "a"), (1, "a"), (2, "b"), (1, "a"), (3, "c")] {
        let mut body = kpi(n);
        body["message_id"] = json!(id);
        add(&redis, &body);
    }
    hears(&mut client, 1..=3).await;
    all_is_taken(&redis).await;
}

#[tokio::test]
async fn what_a_node_has_published_before_it_died_is_not_published_again() {
    let redis = RedisServer::start();
    let before = nodes_with(&redis, 1, with_ingress).await;
    let mut client = listener(&before[0]).await;
    let first = add(&redis, &kpi(1));
    hears(&mut client, [1]).await;
    all_is_taken(&redis).await;
    client.disconnect().await;
    drop(before);
    // As it is when the node dies behind the publication.
    redis.run::<()>(&format!("del {STREAM}"));
    redis.run::<String>(&format!("xadd {STREAM} {first} body {}", kpi(1)));
    add(&redis, &kpi(2));
    let after = nodes_with(&redis, 1, |number, config| {
        with_ingress(number, config);
        config.cluster.node_id = "after".into();
    })
    .await;
    all_is_taken(&redis).await;
    let (_, listed) = after[0].get("/rooms/kpi:org:org-1/messages").await;
    let messages = listed["messages"].as_array().expect("a list");
    let numbers: Vec<_> = messages.iter().map(|message| message["data"]["n"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test]
async fn another_node_goes_on_where_the_one_that_leads_stops() {
    let redis = RedisServer::start();
    let mut nodes = nodes_with(&redis, 2, with_ingress).await;
    let leader = leader(&nodes).await;
    let mut client = listener(&nodes[1 - leader]).await;
    for n in 0..400 {
        add(&redis, &kpi(n));
    }
    hears(&mut client, 0..50).await;
    drop(nodes.remove(leader));
    add(&redis, &kpi(400));
    hears(&mut client, 50..=400).await;
    all_is_taken(&redis).await;
}

#[tokio::test]
async fn it_goes_on_where_it_stopped_when_redis_comes_back() {
    let mut redis = RedisServer::with(RedisOptions::durable());
    let nodes = nodes_with(&redis, 2, with_ingress).await;
    let mut client = listener(&nodes[1]).await;
    for n in 1..=300 {
        add(&redis, &kpi(n));
    }
    hears(&mut client, 1..=20).await;
    redis.stop();
    redis.start_again();
    add(&redis, &kpi(301));
    hears(&mut client, 21..=301).await;
    all_is_taken(&redis).await;
}

/// What comes of what was added, up to this one; what was asked for by HTTP may have been published too.
async fn added_until(client: &mut Client, last: u64) -> Vec<u64> {
    let mut heard = Vec::new();
    while heard.last() != Some(&last) {
        let n = client.next_named("kpi:update").await.data()["n"].as_u64().expect("a number");
        heard.extend(Some(n).filter(|n| *n != 0));
    }
    heard
}

#[tokio::test]
async fn what_redis_carries_out_behind_a_nodes_back_is_published_once() {
    const ROUNDS: u64 = 6;
    let redis = RedisServer::start();
    let nodes = nodes_with(&redis, 1, |number, config| {
        with_ingress(number, config);
        config.cluster.redis_timeout_ms = 200;
        config.cluster.node_timeout_ms = 5_000;
    })
    .await;
    let mut client = listener(&nodes[0]).await;
    leader(&nodes).await;
    let mut numbers = 1..;
    for _ in 0..ROUNDS {
        let round: Vec<u64> = numbers.by_ref().take(200).collect();
        for n in &round {
            add(&redis, &kpi(*n));
        }
        assert_eq!(added_until(&mut client, round[19]).await, round[..20]);
        redis.pause();
        eventually("Redis is missed", async || nodes[0].publish("/broadcast", kpi(0)).await.0 == 503).await;
        redis.resume();
        assert_eq!(added_until(&mut client, round[199]).await, round[20..]);
    }
    all_is_taken(&redis).await;
}

/// Sends an event as `@socket.io/redis-emitter` does.
fn emit(redis: &RedisServer, room: &str, n: u64) {
    let map = |fields: Vec<(&str, rmpv::Value)>| {
        rmpv::Value::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
    };
    let data = vec!["kpi:update".into(), map(vec![("n", n.into())])];
    let packet = map(vec![("type", 2.into()), ("data", rmpv::Value::Array(data)), ("nsp", "/".into())]);
    let options = map(vec![("rooms", rmpv::Value::Array(vec![room.into()]))]);
    let mut message = Vec::new();
    let value = rmpv::Value::Array(vec!["emitter".into(), packet, options]);
    rmpv::encode::write_value(&mut message, &value).expect("a message");
    let client = redis::Client::open(redis.url()).expect("a client");
    let mut connection = client.get_connection().expect("a connection");
    let channel = format!("socket.io#/#{room}#");
    redis::cmd("PUBLISH").arg(channel).arg(message).query::<()>(&mut connection).expect("it is sent");
}

async fn hear_emitters(redis: &RedisServer, nodes: usize) {
    let listening = || redis.run::<String>("client list type pubsub").lines().count();
    eventually("the nodes listen", async || listening() == nodes).await;
}

#[tokio::test]
async fn what_an_emitter_sends_is_heard_by_all_nodes_and_published_by_the_one_that_leads() {
    let redis = RedisServer::start();
    let mut nodes = nodes_with(&redis, 2, |_, config| config.cluster.emitter = true).await;
    let mut clients = join_all(nodes.iter().map(listener)).await;
    hear_emitters(&redis, 2).await;
    let first = leader(&nodes).await;
    (1..=20).for_each(|n| emit(&redis, "org:org-1", n));
    for (client, node) in clients.iter_mut().zip(&nodes) {
        hears(client, 1..=20).await;
        client.expect_silence(node).await;
    }
    clients.remove(first).disconnect().await;
    drop(nodes.remove(first));
    leader(&nodes).await;
    emit(&redis, "org:org-1", 21);
    hears(&mut clients[0], [21]).await;
}

#[tokio::test]
async fn both_ways_lead_through_a_redis_cluster_too() {
    let redis = RedisServer::with(RedisOptions::default().setting("cluster-enabled yes"));
    redis.run::<()>("cluster addslotsrange 0 16383");
    eventually("it takes keys", async || redis.run::<String>("cluster info").contains("cluster_state:ok")).await;
    let nodes = nodes_with(&redis, 1, |number, config| {
        with_ingress(number, config);
        config.cluster.emitter = true;
        config.cluster.redis_topology = RedisTopology::Cluster;
    })
    .await;
    let mut client = listener(&nodes[0]).await;
    hear_emitters(&redis, 1).await;
    leader(&nodes).await;
    add(&redis, &kpi(1));
    hears(&mut client, [1]).await;
    redis.run::<String>(&format!("xadd {STREAM} * none none"));
    all_is_taken(&redis).await;
    assert_eq!(redis.run::<u64>(&format!("xlen {REFUSED}")), 1);
    emit(&redis, "org:org-1", 2);
    hears(&mut client, [2]).await;
}

#[tokio::test]
async fn more_than_may_wait_does_not() {
    let redis = RedisServer::start();
    for n in 0..10 {
        add(&redis, &kpi(n));
    }
    let nodes = nodes_with(&redis, 1, |number, config| {
        with_ingress(number, config);
        config.cluster.ingress_max_entries = 3;
    })
    .await;
    all_is_taken(&redis).await;
    let (_, listed) = nodes[0].get("/rooms/kpi:org:org-1/messages").await;
    let messages = listed["messages"].as_array().expect("a list");
    let numbers: Vec<_> = messages.iter().map(|message| message["data"]["n"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, [7, 8, 9]);
}

#[tokio::test]
async fn nobody_reads_it_unless_told_to() {
    let redis = RedisServer::start();
    let nodes = nodes_with(&redis, 1, |_, _| {}).await;
    let mut client = listener(&nodes[0]).await;
    leader(&nodes).await;
    add(&redis, &kpi(1));
    client.expect_silence(&nodes[0]).await;
    assert_eq!(waiting(&redis), 1);
}
