//! Revocations that the nodes of a cluster share: a stream in Redis, which every node reads from its beginning.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use redis::{RedisError, cmd};
use tokio_util::sync::CancellationToken;

use super::revocations::Revocation;
use crate::redis::{Connection, Redis, Server};
use crate::wire::now_ms;

/// How long a command waits for news.
const PATIENCE: Duration = Duration::from_secs(5);

/// Delay before Redis is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// Revocations read at a time.
const PAGE: usize = 1_000;

/// What comes before everything in a stream.
const BEGINNING: &str = "0-0";

/// The revocations of a cluster.
#[derive(Debug)]
pub struct SharedRevocations {
    redis: Arc<Redis>,
    kept_for_ms: u64,
}

/// Who reads the stream, and up to where.
#[derive(Debug)]
pub struct Reading {
    shared: Arc<SharedRevocations>,
    last: String,
}

impl SharedRevocations {
    /// Those in this Redis; each is kept for so long.
    pub fn new(redis: &Arc<Redis>, kept_for_ms: u64) -> Arc<Self> {
        Arc::new(Self { redis: redis.clone(), kept_for_ms })
    }

    /// Tells all nodes, those too that are away.
    ///
    /// # Errors
    /// If Redis does not say that it has it.
    pub async fn send(&self, revocation: &Revocation) -> Result<(), RedisError> {
        let mut add = cmd("XADD");
        let oldest = now_ms().saturating_sub_unsigned(self.kept_for_ms).max(0);
        add.arg(self.key()).arg("MINID").arg("~").arg(oldest).arg("*");
        add.arg("revocation").arg(serde_json::to_string(revocation).unwrap_or_default());
        self.server().query(&add).await
    }

    /// Reads all that there are.
    ///
    /// # Errors
    /// If Redis does not tell.
    pub async fn read(self: &Arc<Self>) -> Result<(Reading, Vec<Revocation>), RedisError> {
        let mut reading = Reading { shared: self.clone(), last: BEGINNING.to_owned() };
        let all = reading.rest().await?;
        Ok((reading, all))
    }

    fn key(&self) -> String {
        self.redis.keys.of(0, "revocations")
    }

    fn server(&self) -> &Arc<Server> {
        self.redis.server_of(0)
    }
}

impl Reading {
    /// Has others learn what is new, until `stopping` is cancelled. Should Redis have forgotten, it is told again what
    /// it does not know of `all`.
    pub async fn follow(
        mut self,
        stopping: CancellationToken,
        learn: impl Fn(&Revocation) + Send,
        all: impl Fn() -> Vec<Revocation> + Send,
    ) {
        let following = async {
            loop {
                if let Err(error) = self.go_on(&learn, &all).await {
                    tracing::debug!(%error, "revocations cannot be read");
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        stopping.run_until_cancelled(following).await;
    }

    async fn go_on(
        &mut self,
        learn: &(impl Fn(&Revocation) + Send),
        all: &(impl Fn() -> Vec<Revocation> + Send),
    ) -> Result<(), RedisError> {
        let shared = self.shared.clone();
        let mut connection = shared.server().open(PATIENCE).await?;
        if !self.is_known().await? {
            self.last = BEGINNING.to_owned();
            let known = self.rest().await?;
            known.iter().for_each(learn);
            for revocation in all().iter().filter(|revocation| !known.contains(revocation)) {
                shared.send(revocation).await?;
            }
        }
        loop {
            let began = Instant::now();
            let read = self.next(&mut connection).await;
            shared.server().heed(began, read.as_ref().err());
            read?.iter().for_each(learn);
        }
    }

    /// Whether the stream still is the one that was read.
    async fn is_known(&self) -> Result<bool, RedisError> {
        let mut newest = cmd("XREVRANGE");
        newest.arg(self.shared.key()).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: StreamRangeReply = self.shared.server().query(&newest).await?;
        let place = |id: &str| {
            let (ms, number) = id.split_once('-')?;
            Some((ms.parse::<u64>().ok()?, number.parse::<u64>().ok()?))
        };
        Ok(newest.ids.first().map_or(Some((0, 0)), |newest| place(&newest.id)) >= place(&self.last))
    }

    /// Everything that there is already.
    async fn rest(&mut self) -> Result<Vec<Revocation>, RedisError> {
        let mut all = Vec::new();
        loop {
            let mut range = cmd("XRANGE");
            range.arg(self.shared.key()).arg(format!("({}", self.last)).arg("+").arg("COUNT").arg(PAGE);
            let page: StreamRangeReply = self.shared.server().query(&range).await?;
            if page.ids.is_empty() {
                return Ok(all);
            }
            all.extend(self.take(&page.ids));
        }
    }

    /// Waits for the next ones, for a while.
    async fn next(&mut self, connection: &mut Connection) -> Result<Vec<Revocation>, RedisError> {
        let mut read = cmd("XREAD");
        let patience = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        read.arg("COUNT").arg(PAGE).arg("BLOCK").arg(patience).arg("STREAMS").arg(self.shared.key()).arg(&self.last);
        let page: Option<StreamReadReply> = read.query_async(connection).await?;
        let ids = page.into_iter().flat_map(|page| page.keys).flat_map(|key| key.ids);
        Ok(self.take(&ids.collect::<Vec<_>>()))
    }

    /// What entries of the stream say; one that cannot be read is of a version to come.
    fn take(&mut self, ids: &[StreamId]) -> Vec<Revocation> {
        if let Some(last) = ids.last() {
            self.last.clone_from(&last.id);
        }
        let texts = ids.iter().filter_map(|id| id.get::<String>("revocation"));
        texts.filter_map(|text| serde_json::from_str(&text).ok()).collect()
    }
}
