//! Nodes that share a log on Redis: one order for all of them, and what becomes of it when Redis fails.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tiercast::config::{Config, Freshness, OnRedisLoss, RedisTopology};

use crate::kit::{
    CA, Call, Client, ConnectOptions, Event, Proxy, RedisCluster, RedisOptions, RedisServer, Sentinel, TestServer,
    eventually, nodes, nodes_with, on_redis,
};

fn kpi(n: u64) -> Value {
    json!({ "event": "kpi:update", "data": { "n": n }, "target": { "organization_id": "org-1" } })
}

fn number(event: &Event) -> u64 {
    event.data()["n"].as_u64().expect("a number")
}

async fn publish(server: &TestServer, body: Value) -> Value {
    let (status, answer) = server.publish("/broadcast", body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn user(server: &TestServer, name: &str) -> Client {
    server.connect_with(ConnectOptions::named()).await.authenticate_as(name, "org-1").await
}

async fn listeners(nodes: &[TestServer]) -> Vec<Client> {
    let listener = async |node: &TestServer| node.subscriber("org-1", json!({ "channels": ["kpi"] })).await;
    join_all(nodes.iter().map(listener)).await
}

/// What each is told next, which is this.
async fn each_hears(clients: &mut [Client], n: u64) {
    for client in clients {
        assert_eq!(number(&client.next_named("kpi:update").await), n);
    }
}

#[tokio::test]
async fn all_nodes_deliver_in_one_order() {
    const EACH: u64 = 100;
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 3).await;
    let mut clients = listeners(&nodes).await;
    let publishing = nodes.iter().enumerate().map(async |(node, server)| {
        for n in 0..EACH {
            publish(server, kpi(node as u64 * EACH + n)).await;
        }
    });
    join_all(publishing).await;
    let mut heard = Vec::new();
    for client in &mut clients {
        let mut numbers = Vec::new();
        for _ in 0..3 * EACH {
            numbers.push(number(&client.next_named("kpi:update").await));
        }
        heard.push(numbers);
    }
    assert!(heard.iter().all(|numbers| *numbers == heard[0]), "each node has its own order");
    for node in 0..3 {
        let of_node = heard[0].iter().filter(|n| **n / EACH == node).copied();
        assert!(of_node.eq(node * EACH..(node + 1) * EACH), "a publisher's own order is another");
    }
}

#[tokio::test]
async fn what_is_acknowledged_on_one_node_is_known_on_all() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 3).await;
    let mut clients = [user(&nodes[0], "a").await, user(&nodes[1], "b").await];
    let mut body = kpi(1);
    (body["requires_ack"], body["ack_timeout_ms"]) = (json!(true), json!(60_000));
    let answer = publish(&nodes[2], body).await;
    let path = format!("/messages/{}/receipts", answer["message_id"].as_str().expect("an id"));
    let users = |list: &Value| {
        let list = list.as_array().expect("a list");
        let mut users: Vec<_> = list.iter().map(|one| one["user_id"].as_str().expect("a user").to_owned()).collect();
        users.sort_unstable();
        users
    };
    for (client, acks) in clients.iter_mut().zip([false, true]) {
        let event = client.next_named("kpi:update").await;
        acks.then(|| client.ack(&event, json!(null)));
    }
    for node in &nodes {
        eventually("the node knows who has acknowledged", async || {
            let (_, receipts) = node.get(&path).await;
            users(&receipts["acknowledged"]) == ["b"] && users(&receipts["pending"]) == ["a"]
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_acknowledged_while_redis_is_away_is_known_on_all_when_it_is_back() {
    let mut redis = RedisServer::with(RedisOptions::durable());
    let nodes = nodes(&redis, 2).await;
    let mut client = user(&nodes[1], "there").await;
    let mut body = kpi(1);
    (body["requires_ack"], body["ack_timeout_ms"]) = (json!(true), json!(60_000));
    let answer = publish(&nodes[0], body).await;
    let event = client.next_named("kpi:update").await;
    redis.stop();
    client.ack(&event, json!(null));
    client.settle().await;
    let path = format!("/messages/{}/receipts", answer["message_id"].as_str().expect("an id"));
    let acknowledged =
        async |node: &TestServer| node.get(&path).await.1["acknowledged"][0]["user_id"].as_str() == Some("there");
    assert_eq!((acknowledged(&nodes[0]).await, acknowledged(&nodes[1]).await), (false, true));
    redis.start_again();
    eventually("the other node knows it too", async || acknowledged(&nodes[0]).await).await;
    client.expect_silence(&nodes[1]).await;
}

#[tokio::test]
async fn what_waits_for_a_user_is_told_once_on_whatever_node() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 3).await;
    let here = user(&nodes[0], "here").await;
    let body = json!({
        "event": "system:notification",
        "data": { "n": 7 },
        "target": { "organization_id": "org-1", "user_ids": ["away", "here"] },
    });
    publish(&nodes[1], body).await;
    let mut here = here;
    assert_eq!(number(&here.next_named("system:notification").await), 7);
    for (node, hears) in [(&nodes[2], true), (&nodes[0], false), (&nodes[1], false)] {
        let mut away = user(node, "away").await;
        if hears {
            assert_eq!(number(&away.next_named("system:notification").await), 7);
        }
        away.expect_silence(node).await;
        away.disconnect().await;
        // That it was told is known to the others by then.
        let mark = kpi(1);
        publish(node, mark).await;
    }
    user(&nodes[2], "here").await.expect_silence(&nodes[2]).await;
}

#[tokio::test]
async fn while_redis_is_away_sockets_stay_and_publishers_are_refused() {
    let mut redis = RedisServer::with(RedisOptions::durable());
    let nodes = nodes(&redis, 2).await;
    let mut clients = listeners(&nodes).await;
    publish(&nodes[0], kpi(1)).await;
    each_hears(&mut clients, 1).await;
    redis.stop();
    for node in &nodes {
        eventually("it is refused", async || node.publish("/broadcast", kpi(0)).await.0 == 503).await;
        let call = node.call(reqwest::Method::POST, "/broadcast").json(&kpi(0));
        let refused = node.request(call).await;
        assert_eq!((refused.status, !refused.header("retry-after").is_empty()), (503, true), "{}", refused.text);
    }
    redis.start_again();
    for node in &nodes {
        eventually("it is taken", async || node.publish("/broadcast", kpi(2)).await.0 == 200).await;
    }
    for client in &mut clients {
        assert_eq!(number(&client.next_named("kpi:update").await), 2);
        assert_eq!(number(&client.next_named("kpi:update").await), 2);
    }
}

#[tokio::test]
async fn what_may_wait_for_redis_is_published_once_when_it_answers_again() {
    let redis = RedisServer::start();
    let nodes = nodes_with(&redis, 2, |_, config| {
        config.cluster.on_redis_loss = OnRedisLoss::Buffer;
        config.cluster.buffer_entries = 4;
        config.cluster.redis_timeout_ms = 300;
    })
    .await;
    let mut clients = listeners(&nodes).await;
    redis.pause();
    let mut publishing: FuturesUnordered<_> =
        (1..=5).map(async |n| (n, nodes[0].publish("/broadcast", kpi(n)).await)).collect();
    let (refused, (status, answer)) = publishing.next().await.expect("five answers");
    assert_eq!(status, 503, "there is no place for a fifth: {answer}");
    redis.resume();
    while let Some((_, (status, answer))) = publishing.next().await {
        assert_eq!(status, 200, "{answer}");
    }
    publish(&nodes[1], kpi(9)).await;
    for client in &mut clients {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&9) {
            numbers.push(number(&client.next_named("kpi:update").await));
        }
        numbers.sort_unstable();
        let expected: Vec<u64> = (1..=5).filter(|n| *n != refused).chain([9]).collect();
        assert_eq!(numbers, expected, "each once");
    }
}

/// Two nodes that wait 300 ms for Redis, of which the second lets publications wait, and their way there.
async fn by_way(redis: &RedisServer) -> (Vec<TestServer>, Proxy) {
    let way = Proxy::to(redis.address()).await;
    let nodes = nodes_with(redis, 2, |node, config| {
        on_redis(config, &redis.url_at(way.address), node);
        config.cluster.redis_timeout_ms = 1_000;
        config.cluster.on_redis_loss = if node == 1 { OnRedisLoss::Buffer } else { OnRedisLoss::Refuse };
    });
    (nodes.await, way)
}

async fn status(node: &TestServer, path: &str) -> u16 {
    Call::get(&node.url(path)).send().await.expect("an answer").status
}

#[tokio::test]
async fn a_redis_that_is_too_slow_is_as_one_that_is_away_and_nothing_comes_twice() {
    let redis = RedisServer::start();
    let (nodes, way) = by_way(&redis).await;
    let mut clients = listeners(&nodes).await;
    publish(&nodes[0], kpi(1)).await;
    each_hears(&mut clients, 1).await;
    way.slow_down(Duration::from_secs(2));
    let being_slow = async {
        // It is in the log, of which nobody hears in time.
        let refused = nodes[0].request(nodes[0].call(reqwest::Method::POST, "/broadcast").json(&kpi(2))).await;
        assert_eq!((refused.status, !refused.header("retry-after").is_empty()), (503, true), "{}", refused.text);
        for node in &nodes {
            eventually("it is not ready", async || status(node, "/readyz").await == 503).await;
            assert_eq!(status(node, "/livez").await, 200);
        }
        let asked = Instant::now();
        assert_eq!(nodes[0].publish("/broadcast", kpi(0)).await.0, 503);
        assert!(asked.elapsed() < Duration::from_millis(900), "it is known, and took {:?}", asked.elapsed());
        way.mend();
    };
    let ((status_of_buffered, answer), ()) = tokio::join!(nodes[1].publish("/broadcast", kpi(3)), being_slow);
    assert_eq!(status_of_buffered, 200, "{answer}");
    for node in &nodes {
        eventually("it is ready", async || status(node, "/readyz").await == 200).await;
    }
    publish(&nodes[0], kpi(4)).await;
    for client in &mut clients {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&4) {
            numbers.push(number(&client.next_named("kpi:update").await));
        }
        numbers.sort_unstable();
        assert!(numbers == [2, 3, 4] || numbers == [3, 4], "each once: {numbers:?}");
    }
}

#[tokio::test]
async fn a_redis_that_is_slow_is_waited_for() {
    let redis = RedisServer::start();
    let (nodes, way) = by_way(&redis).await;
    let mut clients = listeners(&nodes).await;
    let by = Duration::from_millis(100);
    way.slow_down(by);
    for n in 0..3 {
        for node in &nodes {
            let asked = Instant::now();
            publish(node, kpi(n)).await;
            assert!(asked.elapsed() >= by, "{:?}", asked.elapsed());
            each_hears(&mut clients, n).await;
            assert_eq!(status(node, "/readyz").await, 200);
        }
    }
    clients.push(user(&nodes[0], "late").await);
    let (_, listed) = nodes[1].get("/connections").await;
    assert_eq!((&listed["total_count"], &listed["unanswered_nodes"]), (&json!(3), &Value::Null), "{listed}");
    way.mend();
    publish(&nodes[1], kpi(9)).await;
    each_hears(&mut clients, 9).await;
}

#[tokio::test]
async fn an_emptied_redis_begins_another_life() {
    let mut redis = RedisServer::start();
    let nodes = nodes(&redis, 2).await;
    let mut clients = listeners(&nodes).await;
    let before = publish(&nodes[0], kpi(1)).await;
    each_hears(&mut clients, 1).await;
    for round in 2..4 {
        if round == 2 {
            redis.restart_empty();
        } else {
            redis.run::<()>("flushall");
        }
        let mut after = Value::Null;
        eventually("it is taken", async || {
            let (status, answer) = nodes[1].publish("/broadcast", kpi(round)).await;
            after = answer;
            status == 200
        })
        .await;
        each_hears(&mut clients, round).await;
        let epoch = |answer: &Value| {
            answer["position"].as_str().expect("a position").split_once('.').expect("two parts").0.to_owned()
        };
        assert_ne!(epoch(&before), epoch(&after));
    }
    let (status, history) = nodes[0].get("/rooms/kpi:org:org-1/messages").await;
    assert_eq!((status, history["messages"].as_array().map(Vec::len)), (200, Some(1)), "{history}");
}

#[tokio::test]
async fn a_node_that_comes_later_knows_what_was_published() {
    let redis = RedisServer::start();
    let first = nodes(&redis, 1).await;
    for n in 0..5 {
        publish(&first[0], kpi(n)).await;
    }
    let later = nodes_with(&redis, 1, |_, config| config.cluster.node_id = "later".into()).await;
    let (status, history) = later[0].get("/rooms/kpi:org:org-1/messages").await;
    assert_eq!((status, history["messages"].as_array().map(Vec::len)), (200, Some(5)), "{history}");
    let mut clients = listeners(&first).await;
    clients.extend(listeners(&later).await);
    publish(&later[0], kpi(6)).await;
    each_hears(&mut clients, 6).await;
}

#[tokio::test]
async fn silence_is_announced_once_by_the_node_that_leads() {
    let redis = RedisServer::start();
    let mut nodes = nodes_with(&redis, 2, |_, config| {
        config.events.freshness = vec![Freshness { channel: "kpi".into(), expected_interval_ms: 300 }];
    })
    .await;
    let mut clients = listeners(&nodes).await;
    let leader = async |nodes: &[TestServer]| {
        let (_, answer) = nodes[0].get("/nodes").await;
        let nodes = answer["nodes"].as_array().expect("nodes").clone();
        nodes.iter().find(|node| node["leader"] == true).map(|node| node["id"].clone())
    };
    for n in 0..3 {
        publish(&nodes[0], kpi(n)).await;
        each_hears(&mut clients, n).await;
        for client in &mut clients {
            // Whatever is between two notices of silence is one of life.
            if n > 0 {
                assert_eq!(client.next_named("system:notification").await.data()["stale"], false);
            }
            assert_eq!(client.next_named("system:notification").await.data()["stale"], true);
        }
    }
    assert!(leader(&nodes).await.is_some(), "nobody leads");
    for client in clients {
        client.disconnect().await;
    }
    // The other one leads when the first has gone.
    nodes.remove(0).finish().await;
    let mut clients = listeners(&nodes).await;
    publish(&nodes[0], kpi(3)).await;
    each_hears(&mut clients, 3).await;
    let stale = [false, true].map(|stale| json!(stale));
    let mut told = Vec::new();
    while !told.ends_with(&stale) {
        told.push(clients[0].next_named("system:notification").await.data()["stale"].clone());
    }
    clients[0].expect_silence(&nodes[0]).await;
}

#[tokio::test]
async fn silence_is_announced_once_though_the_node_that_leads_hears_nothing_of_it() {
    let redis = RedisServer::start();
    let ways = [Proxy::to(redis.address()).await, Proxy::to(redis.address()).await];
    let freshness = |channel: &str, expected_interval_ms| Freshness { channel: channel.into(), expected_interval_ms };
    let nodes = nodes_with(&redis, 2, |node, config| {
        on_redis(config, &redis.url_at(ways[node].address), node);
        // The second falls silent after what is tried again has come, which it does within 5 s.
        config.events.freshness = vec![freshness("kpi", 200), freshness("alerts", 8_000)];
        config.cluster.redis_timeout_ms = 300;
    })
    .await;
    let leader = async |node: &TestServer| {
        let (_, answer) = node.get("/nodes").await;
        answer["nodes"].as_array().expect("nodes").iter().position(|node| node["leader"] == true)
    };
    eventually("one leads", async || leader(&nodes[0]).await.is_some()).await;
    let leads = leader(&nodes[0]).await.expect("a leader");
    let listener = async |node: &TestServer| node.subscriber("org-1", json!({ "channels": ["kpi", "alerts"] })).await;
    let mut clients = join_all(nodes.iter().map(listener)).await;
    nodes[0].broadcast("alert:triggered", json!({}), json!({ "organization_id": "org-1" })).await;
    publish(&nodes[0], kpi(1)).await;
    each_hears(&mut clients, 1).await;
    ways[leads].slow_down(Duration::from_secs(60));
    eventually("it knows no more that it leads", async || leader(&nodes[leads]).await.is_none()).await;
    ways[leads].mend();
    for client in &mut clients {
        for channel in ["kpi", "alerts"] {
            let notice = client.next_named("system:notification").await;
            assert_eq!((&notice.data()["channel"], &notice.data()["stale"]), (&json!(channel), &json!(true)));
        }
    }
}

/// Two nodes on whatever Redis this configures deliver what either is told.
async fn deliver_on(configure: impl Fn(&mut Config)) -> Vec<TestServer> {
    let mut nodes = Vec::new();
    for number in 0..2 {
        let start = TestServer::start(|config| {
            on_redis(config, "redis://127.0.0.1:1", number);
            configure(config);
        });
        nodes.push(start.await);
    }
    let mut clients = listeners(&nodes).await;
    for (n, node) in (1..).zip(&nodes) {
        publish(node, kpi(n)).await;
        each_hears(&mut clients, n).await;
    }
    for client in clients {
        client.disconnect().await;
    }
    nodes
}

#[tokio::test]
async fn nodes_share_a_redis_cluster() {
    let redis = RedisCluster::start();
    deliver_on(|config| {
        config.cluster.redis_topology = RedisTopology::Cluster;
        config.cluster.redis_urls = redis.urls().into_iter().map(Into::into).collect();
    })
    .await;
}

#[tokio::test]
async fn nodes_share_several_servers_with_passwords_and_tls() {
    let options = || RedisOptions::default().user("nodes", "secret").tls();
    let servers = [RedisServer::with(options()), RedisServer::with(options())];
    let folder = tempfile::tempdir().expect("a folder");
    let authorities = folder.path().join("ca.pem");
    std::fs::write(&authorities, CA.pem()).expect("a file");
    deliver_on(|config| {
        config.cluster.redis_urls = servers.iter().map(|server| server.url().into()).collect();
        config.cluster.redis_ca_file = authorities.to_str().expect("a path").to_owned();
    })
    .await;
    for server in &servers {
        assert!(server.run::<u64>("dbsize") > 0, "one server has everything");
    }
}

#[tokio::test]
async fn nodes_follow_sentinels_to_another_master() {
    let mut sentinel = Sentinel::start();
    let nodes = deliver_on(|config| {
        config.cluster.redis_topology = RedisTopology::Sentinel;
        config.cluster.redis_urls = vec![sentinel.url().into()];
    })
    .await;
    let mut clients = listeners(&nodes).await;
    sentinel.master.stop();
    for node in &nodes {
        eventually("it is taken", async || node.publish("/broadcast", kpi(7)).await.0 == 200).await;
    }
    publish(&nodes[0], kpi(8)).await;
    for client in &mut clients {
        while number(&client.next_named("kpi:update").await) != 8 {}
    }
}

#[tokio::test]
async fn a_publisher_that_waits_hears_who_acknowledges_on_other_nodes() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 3).await;
    let mut client = user(&nodes[1], "there").await;
    let mut body = kpi(1);
    (body["requires_ack"], body["ack_timeout_ms"]) = (json!(true), json!(10_000));
    let acknowledging = async {
        let event = client.next_named("kpi:update").await;
        client.ack(&event, json!(null));
    };
    let ((status, answer), ()) = tokio::join!(nodes[0].publish("/broadcast?wait=ack", body), acknowledging);
    assert_eq!((status, answer["pending"].as_array().map(Vec::len)), (200, Some(0)), "{answer}");
    assert_eq!(answer["acknowledged"][0]["user_id"], "there", "{answer}");
}
