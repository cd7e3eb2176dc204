//! Nodes of one cluster in this process, on one Redis.

use tiercast::config::{Config, LogStore};

use super::{RedisServer, TestServer, eventually};

/// Makes a server a node of the cluster on that Redis, and what nodes tell each other come soon.
pub fn on_redis(config: &mut Config, url: &str, node: usize) {
    config.log.store = LogStore::Redis;
    let cluster = &mut config.cluster;
    cluster.redis_urls = vec![url.to_owned().into()];
    cluster.node_id = format!("node-{node}");
    cluster.redis_timeout_ms = 1_000;
    (cluster.heartbeat_ms, cluster.node_timeout_ms) = (100, 1_000);
}

/// So many nodes, `node-0` and on, which differ in nothing and know each other.
pub async fn nodes(redis: &RedisServer, count: usize) -> Vec<TestServer> {
    nodes_with(redis, count, |_, _| {}).await
}

/// The same, of which each is configured further.
pub async fn nodes_with(redis: &RedisServer, count: usize, configure: impl Fn(usize, &mut Config)) -> Vec<TestServer> {
    let mut nodes = Vec::new();
    for number in 0..count {
        let start = TestServer::start(|config| {
            on_redis(config, &redis.url(), number);
            configure(number, config);
        });
        nodes.push(start.await);
    }
    for node in &nodes {
        eventually("nodes know each other", async || {
            let (status, listed) = node.get("/nodes").await;
            // Who wants a key for that is asked by the test that has one.
            status == 401 || listed["total_count"].as_u64() >= Some(count as u64)
        })
        .await;
    }
    nodes
}

/// Waits until a node knows so many, itself among them.
pub async fn know(node: &TestServer, count: usize) {
    eventually("all nodes are known", async || node.get("/nodes").await.1["total_count"] == count).await;
}
