//! Keys of `[cluster]`.

use serde::Deserialize;

use super::Secret;

/// `[cluster]`: several servers, called nodes, that share one log on Redis; it counts with `log.store = "redis"`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// `redis://` and `rediss://` URLs with user and password, if needed: servers over which the shards are spread,
    /// or with another topology the sentinels, or some nodes of one Redis Cluster. Defaults to none.
    pub redis_urls: Vec<Secret>,
    /// What the URLs are of. Defaults to `servers`.
    pub redis_topology: RedisTopology,
    /// With sentinels: the names of the masters over which the shards are spread. Defaults to `["mymaster"]`.
    pub sentinel_masters: Vec<String>,
    /// With sentinels: the user at the masters; the default user if it is empty, as it is by default.
    pub redis_username: String,
    /// With sentinels: the password at the masters; none if it is empty, as it is by default.
    pub redis_password: Secret,
    /// PEM file of the authorities that may have signed the certificates of `rediss://` servers; those of the system
    /// if it is empty, as it is by default.
    pub redis_ca_file: String,
    /// How long an answer of Redis may take. Defaults to 2,000.
    pub redis_timeout_ms: u64,
    /// What every key in Redis begins with; clusters of different prefixes do not see each other. Defaults to `tiercast`.
    pub prefix: String,
    /// Name of this node in answers and logs; the host's name and some letters if it is empty, as it is by default.
    pub node_id: String,
    /// `http://` URL at which the other nodes reach this one, for clients on polling that come to the wrong node; they
    /// are refused if it is empty, as it is by default.
    pub node_url: String,
    /// Address and port that the URL leads to, where it is none of this machine; those of the URL if it is empty, as
    /// it is by default.
    pub node_listen: String,
    /// What becomes of a publication while Redis is away. Defaults to `refuse`.
    pub on_redis_loss: OnRedisLoss,
    /// Publications that wait for Redis at a time. Defaults to 10,000.
    pub buffer_entries: usize,
    /// How often a node says that it lives. Defaults to 1,000.
    pub heartbeat_ms: u64,
    /// After how long without that it counts as gone. Defaults to 5,000.
    pub node_timeout_ms: u64,
    /// How long a question to all nodes waits for its answers. Defaults to 1,000.
    pub request_timeout_ms: u64,
    /// Whether what others add to the stream `{<prefix>:0}:ingress` is published: whoever may write to Redis may then
    /// publish to everybody. Defaults to false.
    pub ingress: bool,
    /// Entries of that stream that may wait; beyond, the oldest go unpublished. Defaults to 100,000.
    pub ingress_max_entries: usize,
    /// Whether what `@socket.io/redis-emitter` sends is published: whoever may publish in Redis may then publish to
    /// everybody. Defaults to false.
    pub emitter: bool,
    /// What the emitter calls its `key`. Defaults to `socket.io`.
    pub emitter_key: String,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            redis_urls: Vec::new(),
            redis_topology: RedisTopology::Servers,
            sentinel_masters: vec!["mymaster".into()],
            redis_username: String::new(),
            redis_password: Secret::default(),
            redis_ca_file: String::new(),
            redis_timeout_ms: 2_000,
            prefix: "tiercast".into(),
            node_id: String::new(),
            node_url: String::new(),
            node_listen: String::new(),
            on_redis_loss: OnRedisLoss::Refuse,
            buffer_entries: 10_000,
            heartbeat_ms: 1_000,
            node_timeout_ms: 5_000,
            request_timeout_ms: 1_000,
            ingress: false,
            ingress_max_entries: 100_000,
            emitter: false,
            emitter_key: "socket.io".into(),
        }
    }
}

/// What `redis_urls` are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisTopology {
    /// Servers of their own, one or several.
    Servers,
    /// Sentinels, which know where the masters are.
    Sentinel,
    /// Nodes of one Redis Cluster.
    Cluster,
}

/// What becomes of a publication while Redis is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRedisLoss {
    /// It is refused with 503, and may be tried again.
    Refuse,
    /// It waits for Redis, if not too many do.
    Buffer,
}
