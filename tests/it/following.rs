//! A node waits in Redis for the shards it has sockets in; of the others it knows what is there when it is asked.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::{Client, ConnectOptions, RedisServer, TestServer, eventually, nodes};

/// One organization for each of the eight shards.
const ORGANIZATIONS: [&str; 8] = ["org-1", "org-2", "org-3", "org-4", "org-5", "org-6", "org-7", "org-12"];

fn kpi(organization: &str, n: u64) -> Value {
    json!({ "event": "kpi:update", "data": { "n": n }, "target": { "organization_id": organization } })
}

async fn publish(node: &TestServer, body: Value) -> Value {
    let (status, answer) = node.publish("/broadcast", body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Three nodes, of which the first one leads.
async fn led(redis: &RedisServer) -> [TestServer; 3] {
    let mut nodes = nodes(redis, 3).await;
    let mut leader = None;
    eventually("one leads", async || {
        let (_, answer) = nodes[2].get("/nodes").await;
        leader = answer["nodes"].as_array().and_then(|nodes| nodes.iter().position(|node| node["leader"] == true));
        leader.is_some()
    })
    .await;
    nodes.swap(0, leader.expect("a leader"));
    nodes.try_into().ok().expect("three nodes")
}

/// The most readers that wait in Redis for something new at a time, of those that look anew twice a second.
async fn waiting(redis: &RedisServer) -> usize {
    let (began, mut most) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(600) {
        let clients: String = redis.run("client list");
        let is_one = |client: &&str| client.contains(" cmd=xread ") && client.contains(" flags=b ");
        most = most.max(clients.lines().filter(is_one).count());
        tokio::task::yield_now().await;
    }
    most
}

async fn comes_to_wait(redis: &RedisServer, count: usize) {
    eventually(&format!("{count} readers wait"), async || waiting(redis).await == count).await;
}

#[tokio::test]
async fn a_node_waits_only_for_shards_that_it_has_sockets_in() {
    let redis = RedisServer::start();
    let [leader, second, third] = led(&redis).await;
    // The leader waits for all shards, and each for messages of the others and for revocations.
    let at_rest = 8 + 2 * 3;
    comes_to_wait(&redis, at_rest).await;
    let member = |organization: &str| {
        let auth = json!({ "user_id": "u", "organization_id": organization });
        ConnectOptions::named().auth(auth)
    };
    let mut clients = vec![second.connect_with(member("org-1")).await];
    comes_to_wait(&redis, at_rest + 1).await;
    // One is of the same organization, one of another in the same shard, and the leader waits for all shards anyway.
    for (node, organization) in [(&second, "org-1"), (&second, "org-18"), (&leader, "org-2")] {
        clients.push(node.connect_with(member(organization)).await);
    }
    clients.push(second.connect_with(member("org-3")).await);
    clients.push(third.connect_with(member("org-1")).await);
    comes_to_wait(&redis, at_rest + 3).await;
    publish(&third, kpi("org-1", 1)).await;
    for (client, hears) in clients.iter_mut().zip([true, true, false, false, false, true]) {
        if hears {
            assert_eq!(client.next_named("kpi:update").await.data()["n"], 1);
        }
    }
    for client in clients {
        client.disconnect().await;
    }
}

/// How a socket becomes somebody.
#[derive(Debug, Clone, Copy)]
enum Way {
    Handshake,
    Event,
    Namespace,
}

async fn comes(node: &TestServer, organization: &str, way: Way) -> Client {
    let options = ConnectOptions::named();
    let auth = json!({ "user_id": "u", "organization_id": organization });
    match way {
        Way::Handshake => node.connect_with(options.auth(auth)).await,
        Way::Event => node.connect_with(options).await.authenticate_as("u", organization).await,
        Way::Namespace => {
            let options = options.namespace(&format!("/org/{organization}")).auth(auth);
            let mut client = node.connect_with(options).await;
            client.subscribe(json!({ "channels": ["kpi"] })).await;
            client
        }
    }
}

#[tokio::test]
async fn who_comes_hears_nothing_that_was_published_before() {
    for way in [Way::Handshake, Way::Event, Way::Namespace] {
        let redis = RedisServer::start();
        let [leader, node, _] = led(&redis).await;
        for organization in ORGANIZATIONS {
            publish(&leader, kpi(organization, 1)).await;
            let mut client = comes(&node, organization, way).await;
            publish(&leader, kpi(organization, 2)).await;
            assert_eq!(client.next_named("kpi:update").await.data()["n"], 2, "{way:?}, {organization}");
            client.disconnect().await;
        }
    }
}

#[tokio::test]
async fn whatever_node_is_asked_knows_what_was_published_before() {
    let redis = RedisServer::start();
    let [leader, second, third] = led(&redis).await;
    for organization in ORGANIZATIONS {
        let published = publish(&leader, kpi(organization, 1)).await;
        let (_, history) = second.get(&format!("/rooms/kpi:org:{organization}/messages")).await;
        assert_eq!(history["messages"].as_array().map(Vec::len), Some(1), "{history}");
        assert_eq!(history["position"], published["position"], "{history}");
    }
    let mut body = kpi("org-1", 2);
    (body["requires_ack"], body["target"]["user_ids"]) = (json!(true), json!(["away"]));
    let answer = publish(&leader, body).await;
    let (status, answer) =
        third.get(&format!("/messages/{}/receipts", answer["message_id"].as_str().expect("an id"))).await;
    assert_eq!(status, 200, "{answer}");
}
