//! The ingress stream as a queue: what is done with is taken out of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::streams::{StreamId, StreamReadReply};
use redis::{RedisError, Value, cmd, pipe};

use crate::redis::{Connection, Redis, Server};
use crate::wire::to_hex;

/// Entries read at a time, and how long one waits for the first.
const PAGE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(5);

/// Refused entries that are kept.
const MAX_REFUSED: usize = 1_000;

/// The ingress stream of a cluster.
#[derive(Debug)]
pub(super) struct Queue {
    redis: Arc<Redis>,
    key: String,
    refused: String,
    max_entries: usize,
    /// For the command that waits.
    connection: Option<Connection>,
}

/// An entry of the stream.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Its id in the stream.
    pub(super) id: String,
    fields: Vec<(String, Vec<u8>)>,
}

impl Waiting {
    fn of(entry: StreamId) -> Self {
        let text = |value| match value {
            Value::BulkString(text) => text,
            _ => Vec::new(),
        };
        Self { id: entry.id, fields: entry.map.into_iter().map(|(name, value)| (name, text(value))).collect() }
    }

    /// What a field says.
    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice())
    }

    /// When Redis has got it, in milliseconds since the epoch.
    pub(super) fn at_ms(&self) -> i64 {
        self.id.split_once('-').and_then(|(ms, _)| ms.parse().ok()).unwrap_or_default()
    }
}

impl Queue {
    /// The stream in which so many entries may wait.
    pub(super) fn new(redis: Arc<Redis>, max_entries: usize) -> Self {
        let [key, refused] = ["ingress", "ingress:refused"].map(|rest| redis.keys.of(0, rest));
        tracing::info!(key, server = redis.server_of(0).label(), "other services may publish by the ingress stream");
        Self { key, refused, redis, max_entries, connection: None }
    }

    /// The next entries, in order; none if none came for a while.
    pub(super) async fn next(&mut self) -> Result<Vec<Waiting>, RedisError> {
        let mut trim = cmd("XTRIM");
        let lost: u64 = self.server().query(trim.arg(&self.key).arg("MAXLEN").arg(self.max_entries)).await?;
        if lost > 0 {
            tracing::error!(lost, "more waits in the ingress stream than cluster.ingress_max_entries");
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.server().open(PATIENCE).await?,
        };
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(PAGE).arg("BLOCK").arg(PATIENCE.as_millis() as u64);
        let began = Instant::now();
        let read = read.arg("STREAMS").arg(&self.key).arg("0-0").query_async(&mut connection).await;
        self.server().heed(began, read.as_ref().err());
        let page: Option<StreamReadReply> = read?;
        self.connection = Some(connection);
        Ok(page.into_iter().flat_map(|page| page.keys).flat_map(|key| key.ids).map(Waiting::of).collect())
    }

    /// Whether an entry with this call was published and taken out lately.
    pub(super) async fn is_done(&self, call: &[u8; 32]) -> Result<bool, RedisError> {
        self.server().query(cmd("EXISTS").arg(self.mark(call))).await
    }

    /// Takes out what is published, and remembers its call for so many milliseconds, if that may come again.
    pub(super) async fn done(&self, entry: &Waiting, call: Option<([u8; 32], u64)>) -> Result<(), RedisError> {
        let mut commands = pipe();
        commands.atomic().cmd("XDEL").arg(&self.key).arg(&entry.id).ignore();
        if let Some((call, window_ms)) = call {
            commands.cmd("SET").arg(self.mark(&call)).arg("").arg("PX").arg(window_ms.max(1)).ignore();
        }
        self.server().pipe(&commands).await
    }

    /// Puts aside what cannot be published, with the reason; its fields go too, unless they are over a size.
    pub(super) async fn refuse(&self, entry: &Waiting, reason: &str, max_bytes: usize) -> Result<(), RedisError> {
        let mut commands = pipe();
        let add = commands.atomic().cmd("XADD").arg(&self.refused).arg("MAXLEN").arg(MAX_REFUSED).arg("*");
        add.arg("id").arg(&entry.id).arg("reason").arg(reason);
        for (name, value) in entry.fields.iter().filter(|(name, value)| name.len() + value.len() <= max_bytes) {
            add.arg(name).arg(value);
        }
        add.ignore().cmd("XDEL").arg(&self.key).arg(&entry.id).ignore();
        self.server().pipe(&commands).await
    }

    fn mark(&self, call: &[u8; 32]) -> String {
        self.redis.keys.of(0, format_args!("ingress:done:{}", to_hex(call)))
    }

    fn server(&self) -> &Arc<Server> {
        self.redis.server_of(0)
    }
}
