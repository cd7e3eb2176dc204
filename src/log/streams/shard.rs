//! One shard in Redis: its keys, and what this node knows of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use redis::streams::StreamRangeReply;
use redis::{RedisError, Value, cmd};

use super::error::StreamError;
use super::scripts::{self, APPEND, BEGIN, LOOK};
use crate::redis::{Redis, Server};

/// For how long Redis remembers the last batch of a writer, in milliseconds.
const WRITER_MS: u64 = 3_600_000;

/// Bytes of the time in front of a record.
pub(super) const TIME: usize = 8;

/// One shard in Redis.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) number: usize,
    redis: Arc<Redis>,
    life_key: String,
    pub(super) stream: String,
    pub(super) notes: String,
    writer: String,
    known: Mutex<Known>,
    /// Records that are kept.
    pub(super) most: AtomicU64,
}

/// What this node knows of a shard.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) life: u64,
    /// The oldest offset that is there, as far as this node knows.
    pub(super) first: u64,
    /// The newest that this node has read.
    pub(super) head: u64,
}

/// What Redis says of a shard.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) life: u64,
    /// The newest id that was ever given out.
    pub(super) last: (u64, u64),
    /// The oldest that is there.
    pub(super) first: Option<(u64, u64)>,
    /// The record that was asked for.
    pub(super) record: Vec<u8>,
}

impl Look {
    /// The oldest offset of a life that is there; one more than the newest if there is none.
    pub(super) fn first_of(&self, life: u64) -> u64 {
        match self.first {
            Some((of, first)) if of == life => first,
            // What is of lives before is older than all of this one, so nothing of this one has gone.
            Some((before, _)) if before < life => life * scripts::OFFSETS_PER_MS + 1,
            _ => self.last.1 + 1,
        }
    }
}

/// What came of a batch.
#[derive(Debug)]
pub(super) enum Batch {
    /// It is there, its first record with this life and offset.
    There(u64, u64),
    /// The shard has another life by now.
    OtherLife,
    /// The stream has lost records that this node has read.
    Lost(u64),
}

impl Shard {
    pub(super) fn new(redis: &Arc<Redis>, number: usize, writer: &str, most: u64) -> Self {
        let key = |rest: &str| redis.keys.of(number, rest);
        Self {
            number,
            life_key: key("life"),
            stream: key("log"),
            notes: key("notes"),
            writer: key(&format!("writer:{writer}")),
            known: Mutex::default(),
            most: AtomicU64::new(most),
            redis: redis.clone(),
        }
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        self.redis.server_of(self.number)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the shard in Redis; one begins if there is none, or if it is the one that is `over`.
    pub(super) async fn begin(&self, over: Option<u64>) -> Result<u64, RedisError> {
        let Known { life, head, .. } = *self.known();
        let mut script = BEGIN.key(&self.life_key);
        script.key(&self.stream).arg(over.map(|life| life.to_string()).unwrap_or_default());
        script.arg(life).arg(head / scripts::OFFSETS_PER_MS + 1);
        self.server().script(&script).await
    }

    /// Takes note of a life that this node has read nothing of.
    pub(super) fn begins(&self, life: u64) {
        let mut known = self.known();
        if life > known.life {
            let begins_at = life * scripts::OFFSETS_PER_MS;
            *known = Known { life, first: begins_at + 1, head: begins_at };
        }
    }

    /// Takes note of how far this node has read in a life.
    pub(super) fn has_read(&self, life: u64, offset: u64) {
        let mut known = self.known();
        if life == known.life {
            known.head = offset;
        }
    }

    /// What Redis says of the shard, and the record at an offset; none if the shard has no life.
    pub(super) async fn look(&self, life: u64, offset: u64) -> Result<Option<Look>, RedisError> {
        let mut script = LOOK.key(&self.life_key);
        script.key(&self.stream).arg(format!("{life}-{offset}"));
        let (Some(life), last, first, record) = self.server().script::<LookReply>(&script).await?.parts() else {
            return Ok(None);
        };
        let last = scripts::parse(&last).unwrap_or((life, life * scripts::OFFSETS_PER_MS));
        Ok(Some(Look { life, last, first: scripts::parse(&first), record }))
    }

    /// Appends a batch; one that is there already is not appended again.
    pub(super) async fn append<'a>(
        &self,
        number: u64,
        records: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Batch, RedisError> {
        let Known { life, head, .. } = *self.known();
        let mut script = APPEND.key(&self.life_key);
        script.key(&self.stream).key(&self.writer).arg(life).arg(number);
        script.arg(self.most.load(Ordering::Relaxed)).arg(WRITER_MS).arg(head);
        for record in records {
            script.arg(record);
        }
        match self.server().script::<u64>(&script).await {
            Ok(first) => Ok(Batch::There(life, first)),
            Err(error) if error.code() == Some("LIFE") => Ok(Batch::OtherLife),
            Err(error) if error.code() == Some("LOST") => Ok(Batch::Lost(life)),
            Err(error) => Err(error),
        }
    }

    /// Records after an offset of this life, with their offsets; about `limit`, and without what marks the beginning.
    pub(super) async fn read(&self, after: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, RedisError> {
        let life = self.known().life;
        let mut command = cmd("XRANGE");
        command
            .arg(&self.stream)
            .arg(format!("{life}-{}", after.saturating_add(1)))
            .arg(format!("{life}-{}", u64::MAX));
        command.arg("COUNT").arg(limit);
        let reply: StreamRangeReply = self.server().query(&command).await?;
        let record = |id: redis::streams::StreamId| {
            let (_, offset) = scripts::parse(&id.id)?;
            Some((offset, Bytes::from(record_of(id)?)))
        };
        Ok(reply.ids.into_iter().filter_map(record).collect())
    }

    /// Drops what is before an offset.
    pub(super) async fn drop_before(&self, offset: u64) -> Result<(), RedisError> {
        let life = self.known().life;
        let mut command = cmd("XTRIM");
        command.arg(&self.stream).arg("MINID").arg(format!("{life}-{offset}"));
        self.server().query::<u64>(&command).await.map(drop)
    }

    /// An error as others are told it.
    pub(super) fn error(&self, error: &RedisError) -> StreamError {
        let server = self.server().label().to_owned();
        if error.is_io_error() || error.is_timeout() || !self.server().is_there() {
            return StreamError::Away(server);
        }
        StreamError::Refused { server, reason: error.to_string() }
    }
}

/// The record of a stream's entry; none if it is not a record.
pub(super) fn record_of(mut id: redis::streams::StreamId) -> Option<Vec<u8>> {
    match id.map.remove("r")? {
        Value::BulkString(record) if record.len() >= TIME => Some(record),
        _ => None,
    }
}

/// When a record was published, in milliseconds since the epoch.
pub(super) fn time_of(record: &[u8]) -> i64 {
    record.first_chunk::<TIME>().map_or(0, |time| i64::from_le_bytes(*time))
}

/// What `LOOK` answers.
struct LookReply(Vec<Vec<u8>>);

impl redis::FromRedisValue for LookReply {
    fn from_redis_value(value: Value) -> Result<Self, redis::ParsingError> {
        <Vec<Vec<u8>>>::from_redis_value(value).map(Self)
    }
}

impl LookReply {
    fn parts(self) -> (Option<u64>, String, String, Vec<u8>) {
        let mut parts = self.0.into_iter();
        let mut text = || String::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
        let (life, last, first) = (text().parse().ok(), text(), text());
        (life, last, first, parts.next().unwrap_or_default())
    }
}
