//! What the nodes of a cluster decide together: who is revoked, what is done once, and how much may be published.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tiercast::config::{AuthMode, Config, Right};

use crate::kit::{
    Client, ConnectOptions, Proxy, RedisServer, Reply, SECRET, TestServer, eventually, key, nodes, nodes_with,
    on_redis, token,
};

fn with_tokens(config: &mut Config) {
    config.auth.mode = AuthMode::Jwt;
    config.auth.jwt.secret = SECRET.to_owned().into();
}

async fn enter(node: &TestServer, token: &str) -> Client {
    let mut client = node.connect_with(ConnectOptions::named().auth(json!({ "token": token }))).await;
    client.organization = "org-1".into();
    client
}

fn of(user: &str) -> String {
    token(json!({ "sub": user, "organization_id": "org-1" }))
}

async fn revoke(node: &TestServer, user: &str) -> (u16, Value) {
    node.publish("/revocations", json!({ "organization_id": "org-1", "user_id": user })).await
}

async fn is_refused(node: &TestServer, token: &str) -> bool {
    node.try_connect(ConnectOptions::named().auth(json!({ "token": token }))).await.is_err()
}

#[tokio::test]
async fn a_revocation_holds_on_all_nodes_and_on_those_to_come() {
    let redis = RedisServer::start();
    let nodes = nodes_with(&redis, 2, |_, config| with_tokens(config)).await;
    let (ann, bob) = (of("ann"), of("bob"));
    let mut revoked = enter(&nodes[1], &ann).await;
    let mut stays = enter(&nodes[1], &bob).await;
    let (status, answer) = revoke(&nodes[0], "ann").await;
    assert_eq!((status, &answer["disconnected"]), (200, &json!(1)), "{answer}");
    assert!(revoked.closed().await.terminal);
    stays.settle().await;
    for node in &nodes {
        assert!(is_refused(node, &ann).await);
    }
    let later = TestServer::start(|config| {
        on_redis(config, &redis.url(), 2);
        with_tokens(config);
    })
    .await;
    assert!(is_refused(&later, &ann).await, "a node that comes later knows too");
    stays.disconnect().await;
}

#[tokio::test]
async fn a_node_that_was_away_learns_of_revocations_when_it_is_back() {
    let mut redis = RedisServer::start();
    let way = Proxy::to(redis.address()).await;
    let url = redis.url_at(way.address);
    let nodes = nodes_with(&redis, 2, |number, config| {
        with_tokens(config);
        if number == 1 {
            config.cluster.redis_urls = vec![url.clone().into()];
        }
    })
    .await;
    let (ann, bob) = (of("ann"), of("bob"));
    let mut revoked = enter(&nodes[1], &ann).await;
    way.cut();
    let (status, answer) = revoke(&nodes[0], "ann").await;
    assert_eq!(status, 200, "{answer}");
    way.mend();
    assert!(revoked.closed().await.terminal);
    assert!(is_refused(&nodes[1], &ann).await);
    // A Redis that forgets is told again.
    redis.restart_empty();
    eventually("the revocation is there again", async || redis.run::<u64>("xlen {tiercast:0}:revocations") > 0).await;
    let later = TestServer::start(|config| {
        on_redis(config, &redis.url(), 2);
        with_tokens(config);
    })
    .await;
    assert!(is_refused(&later, &ann).await);
    assert!(!is_refused(&later, &bob).await);
    later.count("nobody", |census| census.sockets == 0).await;
}

fn body(n: u64) -> Value {
    json!({ "event": "kpi:update", "data": { "n": n }, "target": { "organization_id": "org-1" } })
}

async fn post(node: &TestServer, key: &str, n: u64) -> Reply {
    let call = node.call(Method::POST, "/broadcast").header("idempotency-key", key).json(&body(n));
    call.send().await.expect("an answer")
}

#[tokio::test]
async fn equal_calls_on_two_nodes_at_once_publish_once() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 2).await;
    let mut agent = nodes[0].agent("org-1").await;
    for round in 0..10 {
        let key = format!("order {round}");
        let calls = (0..8).map(|call| post(&nodes[call % 2], &key, round));
        let answers = join_all(calls).await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{:?}", answers[0].text);
        let id = |answer: &Reply| answer.json()["message_id"].clone();
        assert!(answers.iter().all(|answer| id(answer) == id(&answers[0])), "{round}");
        assert_eq!(post(&nodes[1], &key, 1_000).await.status, 409, "the key stands for another call");
    }
    let numbers: Vec<_> = agent.drain(&nodes[0]).await.iter().map(|event| event.data()["n"].clone()).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<u64>>());
    agent.disconnect().await;
}

#[tokio::test]
async fn a_call_whose_node_died_is_done_by_another_and_never_twice() {
    let redis = RedisServer::start();
    let nodes = nodes(&redis, 1).await;
    let mut agent = nodes[0].agent("org-1").await;
    // A node has begun both calls, and died; one of them it had published.
    let published = post(&nodes[0], "published", 1).await;
    let keys: Vec<String> = redis.run("keys *:call:*");
    assert_eq!(keys.len(), 1);
    redis.run::<()>(&format!("hset {} owner dead", keys[0]));
    redis.run::<()>(&format!("hdel {} answer", keys[0]));
    let other = TestServer::start(|config| on_redis(config, &redis.url(), 1)).await;
    let again = post(&other, "published", 1).await;
    assert_eq!((again.status, &again.json()["message_id"]), (200, &published.json()["message_id"]));
    // The other one it had not.
    let hash = |parts: &[&[u8]]| {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let place = keys[0].rsplit_once(':').expect("a name").0;
    let id = hash(&[b"keyless", b"org-1", b"unpublished"]);
    let asked = hash(&[b"", body(2).to_string().as_bytes()]);
    redis.run::<()>(&format!("hset {place}:{id} owner dead began 1 asked {asked}"));
    assert_eq!(post(&other, "unpublished", 2).await.status, 200);
    assert_eq!(redis.run::<String>(&format!("hget {place}:{id} owner")).len(), 12, "it is the other node's");
    let numbers: Vec<_> = agent.drain(&nodes[0]).await.iter().map(|event| event.data()["n"].clone()).collect();
    assert_eq!(numbers, [1, 2]);
    agent.disconnect().await;
}

#[tokio::test]
async fn nodes_count_publications_together_and_alone_while_redis_is_away() {
    const RATE: u32 = 40;
    let mut redis = RedisServer::start();
    let mut nodes = Vec::new();
    for number in 0..2 {
        let node = TestServer::start(|config| {
            on_redis(config, &redis.url(), number);
            config.cluster.on_redis_loss = tiercast::config::OnRedisLoss::Buffer;
            config.api.keys = vec![key("one", &[Right::Publish], None)];
            config.api.keys[0].publishes_per_second = Some(RATE);
        });
        nodes.push(node.await.with_key("one"));
    }
    let body = json!({ "event": "kpi:update", "data": {}, "target": { "organization_id": "org-1" } });
    let publish = async |node: usize| nodes[node].publish("/broadcast", body.clone()).await.0;
    let began = Instant::now();
    let mut passed = 0;
    while began.elapsed() < Duration::from_secs(2) {
        let round = join_all((0..8).map(|call| publish(call % 2))).await;
        assert!(round.iter().all(|status| [200, 429].contains(status)), "{round:?}");
        passed += round.iter().filter(|status| **status == 200).count();
    }
    let most = f64::from(RATE) * (began.elapsed().as_secs_f64() + 1.0) + 1.0;
    let least = f64::from(RATE) * 2.0;
    assert!((least..=most).contains(&(passed as f64)), "{passed} passed, of {least} to {most}");
    redis.stop();
}
