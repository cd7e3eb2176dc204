//! What nodes know of each other.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config;
use crate::wire::{now_ms, random_letters};

/// Longest part of a host's name that a node's name has.
const HOST: usize = 48;

/// Name of a node, in answers and log lines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// A node of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The configured name, or the host's and some letters.
    pub(super) fn of(config: &config::Cluster) -> Self {
        if !config.node_id.is_empty() {
            return Self::new(&config.node_id);
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        let host: String = host.chars().filter(|letter| is_plain(*letter)).take(HOST).collect();
        Self(format!("{host}-{}", random_letters(6)).into())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node, as it has described itself with its last sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// What tells it from an earlier process of the same name.
    pub incarnation: String,
    /// Where other nodes reach it, such as `http://10.0.0.5:5000`; empty if they do not.
    pub url: String,
    /// Its version.
    pub version: String,
    /// When it started by its own clock, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Whether it lets nobody new in.
    pub draining: bool,
    /// Its sockets.
    pub sockets: usize,
    /// By which names it finds the shards; see [`Redis::layout`](crate::redis::Redis::layout).
    pub layout: String,
}

impl Node {
    /// This process.
    pub(super) fn starting(id: NodeId, url: &str, layout: String) -> Self {
        Self {
            id,
            incarnation: random_letters(12),
            url: url.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms: now_ms(),
            draining: false,
            sockets: 0,
            layout,
        }
    }

    /// Whether it is the same process, in the same state but for its figures.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        (&self.id, &self.incarnation, self.draining) == (&other.id, &other.incarnation, other.draining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_name_has_the_hosts_and_some_letters() {
        let mut config = config::Cluster::default();
        let (one, other) = (NodeId::of(&config), NodeId::of(&config));
        assert_ne!(one, other);
        assert!(one.as_str().len() <= 64, "{one}");
        config.node_id = "n1".into();
        assert_eq!(NodeId::of(&config).as_str(), "n1");
    }
}
