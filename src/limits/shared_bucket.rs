//! A token bucket that the nodes of a cluster share, in Redis.
//!
//! A node takes a few tokens at a time, so that most calls cost no round trip:
//! together the nodes never pass more than the rate and one second's burst, and
//! each may hold a twentieth of a second's tokens that it does not use for up to
//! a second. While Redis is away each node limits by itself.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::Script;

use super::bucket::{Bucket, Rate};
use crate::redis::Redis;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take.lua")));

/// A lease is this part of a second's tokens.
const LEASES: u32 = 20;

/// How long the tokens of a lease may be used.
const LEASED_FOR: Duration = Duration::from_secs(1);

/// A bucket of one second's tokens.
#[derive(Debug)]
pub struct SharedBucket {
    redis: Arc<Redis>,
    shard: usize,
    key: String,
    per_second: u32,
    /// While Redis is away.
    rate: Rate,
    own: Bucket,
    lease: Mutex<Lease>,
    /// Held by who fetches the next lease.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Lease {
    tokens: u32,
    until: Instant,
    /// Whether there was none left.
    is_refused: bool,
}

impl SharedBucket {
    /// The bucket of this name, in the shard of what it is about.
    pub fn new(redis: &Arc<Redis>, about: &str, name: &str, per_second: u32) -> Self {
        let shard = redis.keys.shard_of(about.as_bytes());
        Self {
            redis: redis.clone(),
            shard,
            key: redis.keys.of(shard, format_args!("rate:{name}")),
            per_second: per_second.max(1),
            rate: Rate::new(per_second, per_second),
            own: Bucket::default(),
            lease: Mutex::new(Lease { tokens: 0, until: Instant::now(), is_refused: false }),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Takes a token if there is one.
    pub async fn take(&self) -> bool {
        if let Some(taken) = self.take_leased() {
            return taken;
        }
        let _turn = self.turn.lock().await;
        if let Some(taken) = self.take_leased() {
            return taken;
        }
        let server = self.redis.server_of(self.shard);
        if !server.is_there() {
            return self.rate.take(&self.own);
        }
        let wanted = (self.per_second / LEASES).max(1);
        let mut take = TAKE.prepare_invoke();
        take.key(&self.key).arg(self.per_second).arg(wanted);
        match server.script::<u32>(&take).await {
            Ok(granted) => {
                let is_refused = granted == 0;
                // A token comes back no sooner.
                let again = Duration::from_secs(1) / self.per_second;
                let until = Instant::now() + if is_refused { again } else { LEASED_FOR };
                *self.lock() = Lease { tokens: granted.saturating_sub(1), until, is_refused };
                !is_refused
            }
            Err(error) => {
                tracing::debug!(%error, "a rate holds for this node only");
                self.rate.take(&self.own)
            }
        }
    }

    /// Takes a token out of the lease; none if another one is to be fetched.
    fn take_leased(&self) -> Option<bool> {
        let mut lease = self.lock();
        if Instant::now() >= lease.until {
            return None;
        }
        if lease.is_refused {
            return Some(false);
        }
        lease.tokens = lease.tokens.checked_sub(1)?;
        Some(true)
    }

    fn lock(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
