//! The cluster: nodes that find Redis and each other.

use std::net::SocketAddr;

use super::Findings;
use crate::config::{Config, LogStore, RedisTopology};

/// Longest prefix of keys, and longest name of a node.
const MAX_NAME: usize = 64;

/// Everything about the cluster that cannot be meant; what is in files, and whether Redis is there, is for `redis`.
pub(super) fn check(config: &Config, found: &mut Findings) {
    let cluster = &config.cluster;
    let is_shared = config.log.store == LogStore::Redis;
    if is_shared && cluster.redis_urls.is_empty() {
        let message = "\"redis\" needs to know where Redis is; set cluster.redis_urls".to_owned();
        found.contradiction(&["log.store", "cluster.redis_urls"], message);
    }
    if !is_shared && !cluster.redis_urls.is_empty() {
        let message = "Redis is used by log.store = \"redis\" only; set it, or leave redis_urls away".to_owned();
        found.contradiction(&["cluster.redis_urls", "log.store"], message);
    }
    for (key, is_on) in [("cluster.ingress", cluster.ingress), ("cluster.emitter", cluster.emitter)] {
        if is_on && !is_shared {
            let message = "only nodes of a cluster read it; set log.store = \"redis\", or leave it off".to_owned();
            found.contradiction(&[key, "log.store"], message);
        }
    }
    let key = &cluster.emitter_key;
    if key.is_empty() || key.len() > MAX_NAME || key.contains('#') || key.chars().any(char::is_control) {
        let message = format!("expected 1 to {MAX_NAME} bytes without \"#\" and control characters, found {key:?}");
        found.add("cluster.emitter_key", message);
    }
    for (index, url) in cluster.redis_urls.iter().enumerate() {
        if redis::parse_redis_url(url.reveal()).is_none_or(|url| !["redis", "rediss"].contains(&url.scheme())) {
            // It may hold a password.
            found.add(
                format!("cluster.redis_urls[{index}]"),
                "expected a URL such as redis://user:password@host:6379/0",
            );
        }
    }
    if cluster.redis_topology == RedisTopology::Sentinel && cluster.sentinel_masters.is_empty() {
        found.add("cluster.sentinel_masters", "expected the name of a master, such as \"mymaster\"");
    }
    for (key, name) in [("cluster.prefix", &cluster.prefix), ("cluster.node_id", &cluster.node_id)] {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let may_be_empty = key == "cluster.node_id";
        if name.len() > MAX_NAME || !name.bytes().all(is_plain) || (name.is_empty() && !may_be_empty) {
            let message = format!("expected 1 to {MAX_NAME} letters, digits, \"-\", \"_\" and \".\", found {name:?}");
            found.add(key, message);
        }
    }
    let is_url =
        |url: &str| url.parse::<http::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.path() == "/");
    if !cluster.node_url.is_empty() && !is_url(&cluster.node_url) {
        let message = format!("expected a URL such as http://10.0.0.5:5001, found {:?}", cluster.node_url);
        found.add("cluster.node_url", message);
    }
    if !cluster.node_listen.is_empty() {
        if cluster.node_listen.parse::<SocketAddr>().is_err() {
            let message =
                format!("expected an address and a port such as 0.0.0.0:5001, found {:?}", cluster.node_listen);
            found.add("cluster.node_listen", message);
        }
        if cluster.node_url.is_empty() {
            let message = "the other nodes are not told where they reach this one; set cluster.node_url".to_owned();
            found.contradiction(&["cluster.node_listen", "cluster.node_url"], message);
        }
    }
    if cluster.node_timeout_ms < 2 * cluster.heartbeat_ms {
        let message = format!(
            "a node that lives would count as gone: {} ms is less than two of its signs of life, {} ms each",
            cluster.node_timeout_ms, cluster.heartbeat_ms
        );
        found.contradiction(&["cluster.node_timeout_ms", "cluster.heartbeat_ms"], message);
    }
}
