//! Moves shards to other Redis servers, while no node lives: what a change of `cluster.redis_urls` asks for.
//!
//! Of a shard its log is copied last, so that a shard whose log is there is there as a whole, and whoever is
//! interrupted begins again.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{RedisError, cmd};

use super::copying::{Shards, copy, is_same_place, newest, remove, shards};
use crate::config::{Config, LogStore, RedisTopology};
use crate::redis::{Redis, Server};

/// An answer of Redis may take so long, in milliseconds, since the log of a shard is one value.
const PATIENCE_MS: u64 = 30_000;

/// Shards whose home is another one by another configuration.
#[derive(Debug)]
pub struct Move {
    old: Arc<Redis>,
    new: Arc<Redis>,
    shards: Vec<usize>,
    /// Whether keys can be listed where they go to.
    lists_new: bool,
}

/// What became of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The shard.
    pub shard: usize,
    /// The server that it was on.
    pub from: String,
    /// The server that it is on.
    pub to: String,
    /// Its keys at the server that it was on.
    pub keys: usize,
    /// What was done.
    pub outcome: Outcome,
}

/// What is done with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was copied, and compared.
    Copied,
    /// It had been copied before, and nodes may have gone on with it.
    There,
    /// Both names lead to the same server.
    Same,
    /// There was nothing of it.
    Nothing,
    /// What was left of it at the old server was deleted.
    Deleted,
}

impl Move {
    /// What has to move between two configurations; nothing is connected yet.
    ///
    /// # Errors
    /// If that cannot be done by moving.
    pub fn plan(old: &Config, new: &Config) -> Result<Self, String> {
        if [old, new].iter().any(|config| config.log.store != LogStore::Redis) {
            return Err("both configurations need log.store = \"redis\"".to_owned());
        }
        let differs = |key: &str, old: &dyn std::fmt::Display, new: &dyn std::fmt::Display| {
            Err(format!("{key} is {old} in one configuration and {new} in the other; it has to be the same"))
        };
        if old.log.shards != new.log.shards {
            return differs("log.shards", &old.log.shards, &new.log.shards);
        }
        if old.cluster.prefix != new.cluster.prefix {
            return differs("cluster.prefix", &old.cluster.prefix, &new.cluster.prefix);
        }
        if old.cluster.redis_topology == RedisTopology::Cluster {
            return Err("a Redis Cluster moves its slots by itself: `redis-cli --cluster reshard`".to_owned());
        }
        let open = |config: &Config| {
            let mut cluster = config.cluster.clone();
            cluster.redis_timeout_ms = cluster.redis_timeout_ms.max(PATIENCE_MS);
            Redis::open(&cluster, usize::from(config.log.shards))
        };
        let (from, to) = (open(old)?, open(new)?);
        let moves = |shard: &usize| from.server_of(*shard).label() != to.server_of(*shard).label();
        let shards = (0..usize::from(old.log.shards)).filter(moves).collect();
        let lists_new = new.cluster.redis_topology != RedisTopology::Cluster;
        Ok(Self { old: from, new: to, shards, lists_new })
    }

    /// Copies what has to move and compares it; then it deletes it at the old servers, if `deletes`. Each shard that is
    /// done with is told.
    ///
    /// # Errors
    /// If a node lives, a server cannot be used, or a new one has a shard with a history of its own.
    pub async fn run(&self, deletes: bool, mut tell: impl FnMut(&Moved)) -> Result<(), String> {
        self.nobody_lives().await?;
        let (left, mut there) = (self.listed(&self.old).await?, HashMap::new());
        if self.lists_new {
            there = self.listed(&self.new).await?;
        }
        let keys = |of: &HashMap<String, Shards>, server: &Server, shard| {
            of.get(server.label()).and_then(|shards| shards.get(&shard)).cloned().unwrap_or_default()
        };
        let mut moved = Vec::new();
        for &shard in &self.shards {
            let (from, to) = (self.old.server_of(shard), self.new.server_of(shard));
            let own = keys(&left, from, shard);
            let outcome = self.move_shard(shard, &own, &keys(&there, to, shard)).await?;
            let (keys, from, to) = (own.len(), from.label().to_owned(), to.label().to_owned());
            moved.push((Moved { shard, from, to, keys, outcome }, own));
            tell(&moved[moved.len() - 1].0);
        }
        if !deletes {
            return Ok(());
        }
        self.nobody_lives().await?;
        for (mut moved, keys) in moved {
            if matches!(moved.outcome, Outcome::Copied | Outcome::There) && !keys.is_empty() {
                let server = self.old.server_of(moved.shard);
                remove(server, &keys).await.map_err(|error| failed(server, &error))?;
                moved.outcome = Outcome::Deleted;
                tell(&moved);
            }
        }
        Ok(())
    }

    async fn move_shard(&self, shard: usize, keys: &[Vec<u8>], there: &[Vec<u8>]) -> Result<Outcome, String> {
        let (from, to) = (self.old.server_of(shard), self.new.server_of(shard));
        if is_same_place(from, to, &self.old.keys.of(shard, "moving")).await? {
            return Ok(Outcome::Same);
        }
        let log = self.old.keys.of(shard, "log");
        let here = newest(from, &log).await.map_err(|error| failed(from, &error))?;
        if let Some((life, offset)) = newest(to, &log).await.map_err(|error| failed(to, &error))? {
            match here {
                Some(here) if here.0 != life && here < (life, offset) => {
                    return Err(format!(
                        "shard {shard} has a history of its own at {}, where nodes have begun without the one at {}; \
                         delete the keys {:?} there if that history may go, and move again",
                        to.label(),
                        from.label(),
                        self.old.keys.of(shard, "*")
                    ));
                }
                // What is there is an older copy.
                Some(here) if here > (life, offset) => {}
                _ => return Ok(Outcome::There),
            }
        }
        if keys.is_empty() {
            return Ok(Outcome::Nothing);
        }
        remove(to, there).await.map_err(|error| failed(to, &error))?;
        let (last, others): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(|key| *key == log.as_bytes());
        copy(from, to, &others).await?;
        copy(from, to, &last).await?;
        Ok(Outcome::Copied)
    }

    /// The keys of shards that move, by the labels of the servers that they are on.
    async fn listed(&self, redis: &Redis) -> Result<HashMap<String, Shards>, String> {
        let mut listed = HashMap::new();
        for server in redis.servers() {
            let found = shards(server, &redis.keys, &self.shards).await.map_err(|error| failed(server, &error))?;
            listed.insert(server.label().to_owned(), found);
        }
        Ok(listed)
    }

    async fn nobody_lives(&self) -> Result<(), String> {
        for redis in [&self.old, &self.new] {
            let server = redis.server_of(0);
            let living = living(server, &redis.keys.of(0, "nodes")).await.map_err(|error| failed(server, &error))?;
            if !living.is_empty() {
                let nodes = living.join(", ");
                return Err(format!("these nodes live, says {}: {nodes}; stop all nodes first", server.label()));
            }
        }
        Ok(())
    }
}

/// The nodes that do not count as gone, by the clock of Redis.
async fn living(server: &Server, nodes: &str) -> Result<Vec<String>, RedisError> {
    let (seconds, micros): (u64, u64) = server.query(&cmd("TIME")).await?;
    let now_ms = seconds * 1_000 + micros / 1_000;
    server.query(cmd("ZRANGEBYSCORE").arg(nodes).arg(format!("({now_ms}")).arg("+inf")).await
}

/// What failed where.
pub(super) fn failed(server: &Server, error: &RedisError) -> String {
    format!("Redis ({}) cannot be used: {error}", server.label())
}
