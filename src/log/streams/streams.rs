//! All shards in Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::streams::StreamRangeReply;
use redis::{RedisError, Value, cmd};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::StreamError;
use super::reader::Reader;
use super::scripts;
use super::shard::{Known, Shard, TIME, time_of};
use super::tail::{BEGINNING, Tail};
use super::writer::{self, Append};
use crate::log::error::StoreError;
use crate::log::journal::Page;
use crate::log::store::Store;
use crate::redis::Redis;
use crate::wire::random_letters;

/// Records read at a time while a page is filled.
const PORTION: usize = 64;

/// Notes of a shard that are kept.
const MAX_NOTES: usize = 100_000;

/// Notes read at a time.
const NOTES: usize = 1_000;

/// How much a store in Redis keeps, and how long it waits.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// Records kept per shard.
    pub max_entries: u64,
    /// Bytes kept per shard, about.
    pub max_bytes: u64,
    /// Age at which a record goes, in milliseconds.
    pub max_age_ms: u64,
    /// Records that wait for Redis at a time.
    pub buffer_entries: usize,
    /// Whether records wait for Redis to come back; else no longer than it may take to answer.
    pub buffers: bool,
    /// How long Redis may take to answer.
    pub timeout: Duration,
}

/// The store in Redis.
#[derive(Debug)]
pub struct Streams {
    settings: StreamSettings,
    shards: Vec<Arc<Shard>>,
    queues: Vec<UnboundedSender<Append>>,
    places: Arc<Semaphore>,
    reader: Reader,
    /// Who notes something.
    name: String,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Streams {
    /// Finds the shards in Redis, or begins them.
    ///
    /// # Errors
    /// If Redis does not answer, or refuses.
    pub async fn start(
        redis: &Arc<Redis>,
        settings: StreamSettings,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Result<Arc<Self>, StreamError> {
        agree_on_shards(redis).await?;
        let name = random_letters(12);
        let (mut shards, mut queues) = (Vec::new(), Vec::new());
        for number in 0..redis.keys.shards() {
            let shard = Arc::new(Shard::new(redis, number, &name, settings.max_entries));
            let begun = async {
                let life = shard.begin(None).await?;
                let look = shard.look(life, 0).await?;
                let begins_at = life * scripts::OFFSETS_PER_MS;
                let (last, first) = look.map_or((begins_at, begins_at + 1), |look| (look.last.1, look.first_of(life)));
                *shard.known() = Known { life, first, head: last };
                Ok::<_, RedisError>(())
            };
            begun.await.map_err(|error| shard.error(&error))?;
            let (queue, queued) = unbounded_channel();
            tasks.spawn(writer::run(shard.clone(), settings.max_bytes, queued, stopping.clone()));
            shards.push(shard);
            queues.push(queue);
        }
        let reader = Reader::start(2 * settings.timeout).map_err(|error| StreamError::Refused {
            server: redis.servers()[0].label().to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Arc::new(Self {
            places: Arc::new(Semaphore::new(settings.buffer_entries)),
            settings,
            shards,
            queues,
            reader,
            name,
            tasks: tasks.clone(),
            stopping: stopping.clone(),
        }))
    }

    /// Who this node is in notes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Appends a record to a shard, and tells its epoch and offset when Redis has it.
    ///
    /// # Errors
    /// If Redis is away, or does not take it; if it is away the record may be there all the same.
    pub async fn append(&self, shard: usize, at_ms: i64, parts: &[&[u8]]) -> Result<(String, u64), StreamError> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| StreamError::Full(self.settings.buffer_entries))?;
        let server = self.shards[shard].server();
        if !self.settings.buffers && !server.is_there() {
            return Err(StreamError::Away(server.label().to_owned()));
        }
        let mut record = Vec::with_capacity(TIME + parts.iter().map(|part| part.len()).sum::<usize>());
        record.extend(at_ms.to_le_bytes());
        parts.iter().for_each(|part| record.extend(*part));
        let until = (!self.settings.buffers).then(|| Instant::now() + self.settings.timeout);
        let (done, answered) = oneshot::channel();
        let append = Append { record, until, done: Some(done), _place: place };
        self.queues[shard].send(append).map_err(|_| StreamError::Stopping)?;
        let (life, offset) = tokio::select! {
            biased;
            answer = answered => answer.map_err(|_| StreamError::Stopping)??,
            () = self.stopping.cancelled() => return Err(StreamError::Stopping),
        };
        Ok((scripts::epoch(life, shard), offset))
    }

    /// Reads what comes after the newest record and after a note.
    pub fn tail(&self, shard: usize, noted: String) -> Tail {
        let known = *self.shards[shard].known();
        Tail::new(self.shards[shard].clone(), known.life, known.head, noted)
    }

    /// Whether the Redis of a shard answers.
    pub fn is_there(&self, shard: usize) -> bool {
        self.shards[shard].server().is_there()
    }

    /// Epoch and offset of the newest record in Redis, whether or not this node has read it.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn newest(&self, shard: usize) -> Result<(String, u64), StreamError> {
        let shard = &self.shards[shard];
        let look = shard.look(0, 0).await.map_err(|error| shard.error(&error))?;
        let (life, offset) = look.map_or((0, 0), |look| look.last);
        Ok((scripts::epoch(life, shard.number), offset))
    }

    /// Writes notes of shards down, in order.
    ///
    /// # Errors
    /// If Redis is away, or does not take them; some may be there all the same.
    pub async fn note(&self, notes: &[(usize, Vec<u8>)]) -> Result<(), StreamError> {
        for shard in &self.shards {
            let mut commands = redis::pipe();
            for (_, note) in notes.iter().filter(|(number, _)| *number == shard.number) {
                let command = commands.cmd("XADD").arg(&shard.notes).arg("MAXLEN").arg("~").arg(MAX_NOTES);
                command.arg("*").arg("n").arg(note).ignore();
            }
            if !commands.is_empty() {
                shard.server().pipe::<()>(&commands).await.map_err(|error| shard.error(&error))?;
            }
        }
        Ok(())
    }

    /// [`note`](Self::note), on a thread that may wait.
    ///
    /// # Errors
    /// As there.
    pub fn note_now(self: &Arc<Self>, notes: Vec<(usize, Vec<u8>)>) -> Result<(), StreamError> {
        let streams = self.clone();
        self.wait(async move { streams.note(&notes).await })
    }

    /// All notes of a shard in order, and the id of the last one.
    ///
    /// # Errors
    /// If Redis is away.
    pub async fn notes(&self, shard: usize) -> Result<(Vec<Bytes>, String), StreamError> {
        let shard = &self.shards[shard];
        let (mut notes, mut last) = (Vec::new(), BEGINNING.to_owned());
        loop {
            let mut command = cmd("XRANGE");
            command.arg(&shard.notes).arg(format!("({last}")).arg("+").arg("COUNT").arg(NOTES);
            let page: Result<StreamRangeReply, _> = shard.server().query(&command).await;
            let page = page.map_err(|error| shard.error(&error))?;
            let Some(newest) = page.ids.last() else { return Ok((notes, last)) };
            last.clone_from(&newest.id);
            for mut id in page.ids {
                if let Some(Value::BulkString(note)) = id.map.remove("n") {
                    notes.push(note.into());
                }
            }
        }
    }

    fn wait<T: Send + 'static>(
        &self,
        asking: impl Future<Output = Result<T, StreamError>> + Send + 'static,
    ) -> Result<T, StreamError> {
        let away = || Err(StreamError::Away(self.shards[0].server().label().to_owned()));
        self.reader.wait(asking).unwrap_or_else(away)
    }
}

/// All nodes have the same number of shards, or an organization would be in one here and in another there.
async fn agree_on_shards(redis: &Redis) -> Result<(), StreamError> {
    let (key, own, server) = (redis.keys.of(0, "shards"), redis.keys.shards(), redis.server_of(0));
    let refused = |reason: String| StreamError::Refused { server: server.label().to_owned(), reason };
    let mut agreeing = redis::pipe();
    agreeing.cmd("SET").arg(&key).arg(own).arg("NX").ignore().cmd("GET").arg(&key);
    let (agreed,): (usize,) = server.pipe(&agreeing).await.map_err(|error| refused(error.to_string()))?;
    if agreed != own {
        return Err(refused(format!(
            "this cluster has log.shards = {agreed}, and this node {own}; set {agreed}, or another cluster.prefix"
        )));
    }
    Ok(())
}

/// A page of about so many records and bytes, but of one at least if there is one.
async fn page(shard: Arc<Shard>, mut after: u64, limit: usize, max_bytes: usize) -> Result<Page, StreamError> {
    let (asked, mut bytes) = (after, 0);
    let mut records: Vec<(u64, Bytes)> = Vec::new();
    while records.len() < limit && bytes < max_bytes {
        let portion = shard.read(after, PORTION.min(limit - records.len())).await;
        let portion = portion.map_err(|error| shard.error(&error))?;
        let Some((last, _)) = portion.last() else { break };
        after = *last;
        for (offset, record) in portion {
            let record = record.slice(TIME..);
            bytes += record.len();
            if records.is_empty() || bytes <= max_bytes {
                records.push((offset, record));
            }
        }
    }
    let known = *shard.known();
    let begins_at = known.life * scripts::OFFSETS_PER_MS;
    let gap = match records.first() {
        // Nothing was ever where a life begins.
        Some((first, _)) => *first > asked.max(begins_at) + 1,
        None => asked < known.head && known.head > begins_at,
    };
    Ok(Page { records, gap })
}

/// Drops what was published before a time.
async fn trim(shard: Arc<Shard>, before_ms: i64) -> Result<(), RedisError> {
    let mut after = 0;
    loop {
        let portion = shard.read(after, PORTION).await?;
        let old = portion.iter().take_while(|(_, record)| time_of(record) < before_ms);
        let Some((last, _)) = old.last() else { return Ok(()) };
        after = *last;
        shard.drop_before(after + 1).await?;
    }
}

impl Store for Streams {
    fn epoch(&self, shard: usize) -> String {
        scripts::epoch(self.shards[shard].known().life, shard)
    }

    fn head(&self, shard: usize) -> u64 {
        self.shards[shard].known().head
    }

    fn read(&self, shard: usize, after: u64, limit: usize, max_bytes: usize) -> Result<Page, StoreError> {
        let shard = self.shards[shard].clone();
        if !shard.server().is_there() {
            // Whoever reads on and on would wait each time.
            return Err(StreamError::Away(shard.server().label().to_owned()).into());
        }
        Ok(self.wait(page(shard, after, limit, max_bytes))?)
    }

    fn back(&self, shard: usize, count: usize) -> u64 {
        let known = *self.shards[shard].known();
        known.head.saturating_sub(count as u64).max(known.first.saturating_sub(1))
    }

    fn resumable_from(&self, shard: usize, offset: u64) -> bool {
        let known = *self.shards[shard].known();
        // Nothing was ever before a life begins, so whoever has read nothing has read up to there.
        let begins_at = known.life * scripts::OFFSETS_PER_MS;
        offset <= known.head && offset.max(begins_at) + 1 >= known.first
    }

    fn trim(&self, now_ms: i64) {
        let before_ms = now_ms.saturating_sub_unsigned(self.settings.max_age_ms);
        for shard in &self.shards {
            let shard = shard.clone();
            self.tasks.spawn(async move {
                let number = shard.number;
                if let Err(error) = trim(shard, before_ms).await {
                    tracing::warn!(%error, shard = number, "what is too old stays in the log");
                }
            });
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
