//! The servers that a cluster shares, and which of them each shard lives on.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::dial::Dial;
use super::keys::Keys;
use super::server::Server;
use crate::config;

/// The Redis servers of one cluster.
#[derive(Debug)]
pub struct Redis {
    /// Names of the keys in them.
    pub keys: Keys,
    servers: Vec<Arc<Server>>,
    /// Which server each shard lives on.
    homes: Vec<usize>,
}

impl Redis {
    /// The servers that a configuration names; nothing is connected yet.
    ///
    /// # Errors
    /// If a URL or a file cannot be used.
    pub fn open(config: &config::Cluster, shards: usize) -> Result<Arc<Self>, String> {
        let servers: Vec<_> = Dial::all(config)?.into_iter().map(|dial| Arc::new(Server::new(dial))).collect();
        let labels: Vec<&str> = servers.iter().map(|server| server.label()).collect();
        let homes = (0..shards).map(|shard| home(shard, &labels)).collect();
        Ok(Arc::new(Self { keys: Keys::new(&config.prefix, shards), servers, homes }))
    }

    /// The server that a shard lives on.
    pub fn server_of(&self, shard: usize) -> &Arc<Server> {
        &self.servers[self.homes[shard]]
    }

    /// All servers.
    pub fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }

    /// The servers' names in order, by which shards are found; nothing if one has them all, whatever it is called.
    pub fn layout(&self) -> String {
        let mut labels: Vec<&str> = self.servers.iter().map(|server| server.label()).collect();
        labels.sort_unstable();
        if labels.len() > 1 { labels.join(", ") } else { String::new() }
    }

    /// Closes the connections that everybody shares, and with them ends the tasks of the client library; for the end.
    pub async fn close(&self) {
        for server in &self.servers {
            server.close().await;
        }
    }

    /// Whether every server has answered the last time it was asked.
    pub fn is_there(&self) -> bool {
        self.servers.iter().all(|server| server.is_there())
    }
}

/// The server of a shard by rendezvous hashing: another server takes its share of the shards from the others and moves
/// none between them. <https://en.wikipedia.org/wiki/Rendezvous_hashing>
fn home(shard: usize, labels: &[&str]) -> usize {
    let weight = |label: &str| Sha256::new().chain_update(label).chain_update([0]).chain_update(shard.to_string());
    let best = labels.iter().enumerate().max_by_key(|(_, label)| weight(label).finalize());
    best.map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_only_takes() {
        let (few, more) = (["a:1/0", "b:1/0", "c:1/0"], ["a:1/0", "b:1/0", "c:1/0", "d:1/0"]);
        let homes = |labels: &[&str]| (0..1_000).map(|shard| home(shard, labels)).collect::<Vec<_>>();
        let (before, after) = (homes(&few), homes(&more));
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(_, after)| *after == 3), "a shard went from one old server to another");
        assert!((200..300).contains(&moved.count()), "the new server has its share");
        assert!((0..3).all(|server| before.iter().filter(|home| **home == server).count() > 250));
    }
}
