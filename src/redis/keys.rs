//! Names of keys: every key belongs to a shard, and says so, so that a shard can be moved as a whole.

/// Names of the keys of one cluster: `{<prefix>:<shard>}:<rest>`. What is in braces is the hash tag of Redis Cluster,
/// so the keys of a shard are in one slot: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: Box<str>,
    shards: usize,
}

impl Keys {
    /// Names under a prefix, for so many shards.
    pub fn new(prefix: &str, shards: usize) -> Self {
        Self { prefix: prefix.into(), shards: shards.max(1) }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// A key of a shard.
    pub fn of(&self, shard: usize, rest: impl std::fmt::Display) -> String {
        format!("{{{}:{shard}}}:{rest}", self.prefix)
    }

    /// A pattern of the keys of all shards.
    pub fn all(&self) -> String {
        // Nothing in a prefix means something in a pattern.
        format!("{{{}:*}}:*", self.prefix)
    }

    /// The shard in which something lives that belongs to no organization, such as a session by the hash of its secret.
    pub fn shard_of(&self, what: &[u8]) -> usize {
        crc32fast::hash(what) as usize % self.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_shard_in_the_hash_tag() {
        let keys = Keys::new("calls", 8);
        assert_eq!(keys.of(3, "log"), "{calls:3}:log");
        assert!((0..100u8).all(|what| keys.shard_of(&[what]) < 8));
    }
}
