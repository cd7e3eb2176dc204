//! Reading what is new in a shard, in order, whoever wrote it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::streams::StreamReadReply;
use redis::{RedisError, Value, cmd};

use super::scripts::{self, OFFSETS_PER_MS};
use super::shard::{Shard, TIME, record_of};
use crate::redis::Connection;

/// How long one reading waits for something new.
const WAIT: Duration = Duration::from_millis(500);

/// Records, and notes, of one reading, and about how many bytes, by the size of those before.
const COUNT: usize = 256;
const BYTES: usize = 4 * 1024 * 1024;

/// Before all notes.
pub(super) const BEGINNING: &str = "0-0";

/// How often it is looked what is kept.
const LOOK: Duration = Duration::from_secs(1);

/// The pause after Redis did not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// What is new in a shard.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// Records, with their offsets.
    Records(Vec<(u64, Bytes)>),
    /// What nodes have noted.
    Notes(Vec<Bytes>),
    /// What comes from here on follows this offset of another life.
    Life(u64),
    /// What comes from here on follows this offset, and what was before it is gone unread.
    Gap(u64),
}

/// What one reading gave.
#[derive(Debug)]
pub struct Portion {
    /// In order.
    pub news: Vec<News>,
    /// Whether that was all there was.
    pub is_end: bool,
}

/// Reads a shard.
#[derive(Debug)]
pub struct Tail {
    shard: Arc<Shard>,
    life: u64,
    offset: u64,
    /// The record at the offset, if it was read: another one there means that Redis has lost something.
    last: Option<Bytes>,
    /// Mean size of the records that were read together.
    size: usize,
    noted: String,
    connection: Option<Connection>,
    looked_at: Instant,
    /// What was found and not told yet.
    found: Vec<News>,
}

impl Tail {
    /// Reads what comes after an offset of a life, and notes after an id.
    pub(super) fn new(shard: Arc<Shard>, life: u64, offset: u64, noted: String) -> Self {
        Self {
            shard,
            life,
            offset,
            last: None,
            size: 0,
            noted,
            connection: None,
            looked_at: Instant::now(),
            found: Vec::new(),
        }
    }

    /// Reads a portion of what is new, and waits for it for a while if it `waits`; none if Redis did not answer, and it
    /// may be asked again.
    pub async fn read(&mut self, waits: bool) -> Option<Portion> {
        let began = Instant::now();
        let is_end = match self.find(began, waits).await {
            Ok(is_end) => is_end,
            Err(error) => {
                self.shard.server().heed(began, Some(&error));
                tracing::debug!(%error, shard = self.shard.number, "a shard cannot be read");
                self.connection = None;
                tokio::time::sleep(PAUSE).await;
                return None;
            }
        };
        Some(Portion { news: std::mem::take(&mut self.found), is_end })
    }

    /// Reads once; whether that was all there was.
    async fn find(&mut self, began: Instant, waits: bool) -> Result<bool, RedisError> {
        if self.connection.is_none() || self.looked_at.elapsed() >= LOOK {
            self.look().await?;
            self.looked_at = Instant::now();
            if !self.found.is_empty() {
                return Ok(false);
            }
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.shard.server().open(WAIT).await?),
        };
        let mut command = cmd("XREAD");
        let count = (BYTES / self.size.max(1)).clamp(1, COUNT);
        command.arg("COUNT").arg(count);
        if waits {
            command.arg("BLOCK").arg(WAIT.as_millis() as u64);
        }
        command.arg("STREAMS").arg(&self.shard.stream).arg(&self.shard.notes);
        command.arg(format!("{}-{}", self.life, self.offset)).arg(&self.noted);
        let reply: Option<StreamReadReply> = command.query_async(connection).await?;
        self.shard.server().heed(began, None);
        let (mut notes, life_before) = (Vec::new(), self.life);
        let (mut is_end, is_empty) = (true, reply.is_none());
        for key in reply.into_iter().flat_map(|reply| reply.keys) {
            is_end &= key.ids.len() < count;
            for mut id in key.ids {
                if key.key == self.shard.notes {
                    if self.life != life_before {
                        // They come again, from the beginning.
                        break;
                    }
                    self.noted.clone_from(&id.id);
                    if let Some(Value::BulkString(note)) = id.map.remove("n") {
                        notes.push(note.into());
                    }
                    continue;
                }
                let Some((life, offset)) = scripts::parse(&id.id) else { continue };
                if life != self.life {
                    self.begin(life, life * OFFSETS_PER_MS);
                }
                if offset > self.offset + 1 {
                    self.gap(offset - 1);
                }
                self.offset = offset;
                if let Some(record) = record_of(id) {
                    self.take(offset, record);
                }
            }
        }
        if let Some(News::Records(records)) = self.found.last() {
            self.size = records.iter().map(|(_, record)| record.len()).sum::<usize>() / records.len();
        } else if !is_empty {
            // The bound holds for notes too, which are small.
            self.size /= 2;
        }
        self.shard.has_read(self.life, self.offset);
        is_end &= self.life == life_before;
        if !notes.is_empty() {
            // Behind the entries that they are about.
            self.found.push(News::Notes(notes));
        }
        Ok(is_end)
    }

    fn take(&mut self, offset: u64, whole: Vec<u8>) {
        let whole = Bytes::from(whole);
        let record = whole.slice(TIME..);
        self.last = Some(whole);
        match self.found.last_mut() {
            Some(News::Records(records)) => records.push((offset, record)),
            _ => self.found.push(News::Records(vec![(offset, record)])),
        }
    }

    fn begin(&mut self, life: u64, offset: u64) {
        tracing::warn!(
            shard = self.shard.number,
            "the log in Redis begins anew: clients that come back begin anew too"
        );
        (self.life, self.offset, self.last) = (life, offset, None);
        // By the clock of another Redis its notes may come before what was read of the last one's.
        BEGINNING.clone_into(&mut self.noted);
        self.shard.begins(life);
        self.found.push(News::Life(offset));
    }

    /// Looks whether what was read is still the history of the shard, and what is kept of it.
    async fn look(&mut self) -> Result<(), RedisError> {
        let Some(look) = self.shard.look(self.life, self.offset).await? else {
            return self.begin_anew(None).await;
        };
        if look.life < self.life {
            return self.begin_anew(None).await;
        }
        if look.life > self.life {
            // What is left of this life is read first, and then what marks the beginning of the next.
            return Ok(());
        }
        let is_another = || self.last.as_ref().is_some_and(|last| !look.record.is_empty() && *last != look.record);
        if look.last < (self.life, self.offset) || is_another() {
            return self.begin_anew(Some(self.life)).await;
        }
        let first = look.first_of(self.life);
        self.shard.known().first = first;
        if first > self.offset + 1 {
            self.gap(first - 1);
        }
        Ok(())
    }

    /// What is up to here is gone unread.
    fn gap(&mut self, offset: u64) {
        tracing::error!(shard = self.shard.number, "Redis has dropped records that this node had not read");
        (self.offset, self.last) = (offset, None);
        self.shard.has_read(self.life, offset);
        self.found.push(News::Gap(offset));
    }

    async fn begin_anew(&mut self, over: Option<u64>) -> Result<(), RedisError> {
        let life = self.shard.begin(over).await?;
        if life != self.life {
            self.begin(life, life * OFFSETS_PER_MS);
        }
        Ok(())
    }
}
