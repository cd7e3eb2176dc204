//! Records of sessions in Redis, where every node finds them.
//!
//! A record is a hash under the hash of the session's secret: the node that has
//! it, its state, and the session as JSON. Only the node that has it writes it,
//! and taking it is one step, so that no two nodes open the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use redis::{RedisError, Script};

use super::changes::Changes;
use super::records::{Key, Records};
use crate::redis::Redis;
use crate::wire::to_hex;

static KEEP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("keep.lua")));
static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));

/// Records written in one step, during which Redis does nothing else.
const AT_ONCE: usize = 64;

/// The records of a cluster, as one node sees them.
#[derive(Debug)]
pub(super) struct Shared {
    redis: Arc<Redis>,
    /// This process among all that ever were.
    pub(super) me: Box<str>,
    /// How long a session whose client is gone can be taken up again.
    kept_for_ms: u64,
    /// What is yet to be written.
    pub(super) changes: Arc<Changes>,
    /// Sessions that are being fetched, and how often.
    fetched: Mutex<HashMap<Key, usize>>,
}

/// While there is one, its session is being fetched.
pub(super) struct Fetching<'a> {
    shared: &'a Shared,
    records: &'a Records,
    key: Key,
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        let is_last = match self.shared.fetched().entry(self.key) {
            Entry::Occupied(count) if *count.get() == 1 => count.remove() == 1,
            Entry::Occupied(mut count) => {
                *count.get_mut() -= 1;
                false
            }
            Entry::Vacant(_) => false,
        };
        // If it has come here and got no client, it is to be had again.
        if is_last && self.records.look(&self.key, |record| record.is_some()) == Some(true) {
            self.shared.changes.of_key(self.key);
        }
    }
}

/// What a record says of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has a client, who has read everything up to what it has read last.
    Live,
    /// It has a client, and what that one has read only its node can tell.
    Overtaking,
    /// Its client is gone, and the record says all that is known.
    Gone,
}

/// What becomes of a record.
#[derive(Debug)]
pub(super) enum Deed {
    /// It is written anew.
    Write(State, Vec<u8>),
    /// It is kept for longer.
    Renew,
    /// It is no more.
    Forget,
}

/// What came of a deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Another node has the session by now.
    Lost,
    Done,
    /// There is nothing to be kept for longer.
    Absent,
    /// Redis did not answer, and may have done it or not.
    Unknown,
}

/// What came of claiming a session.
#[derive(Debug)]
pub(super) struct Claimed {
    /// Whether it is this node's by now.
    pub(super) is_mine: bool,
    /// Who had it before.
    pub(super) owner: String,
    pub(super) state: State,
    pub(super) record: Vec<u8>,
    /// How often it had been claimed before.
    pub(super) claims: u64,
}

impl Shared {
    pub(super) fn new(redis: &Arc<Redis>, me: &str, kept_for: Duration) -> Self {
        let kept_for_ms = u64::try_from(kept_for.as_millis()).unwrap_or(u64::MAX).max(1);
        Self { redis: redis.clone(), me: me.into(), kept_for_ms, changes: Arc::default(), fetched: Mutex::default() }
    }

    /// Takes note that a session is being fetched.
    pub(super) fn fetching<'a>(&'a self, records: &'a Records, key: Key) -> Fetching<'a> {
        *self.fetched().entry(key).or_default() += 1;
        Fetching { shared: self, records, key }
    }

    /// How often a session is being fetched.
    pub(super) fn fetches_of(&self, key: &Key) -> usize {
        self.fetched().get(key).copied().unwrap_or_default()
    }

    fn fetched(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time between two renewals of a record: it outlives one that fails.
    pub(super) fn renewed_every(&self) -> Duration {
        Duration::from_millis(self.kept_for_ms)
    }

    /// For how long Redis has not answered who asked for something that lives beside this key; none if it does.
    pub(super) fn away_for(&self, key: &Key) -> Option<Duration> {
        self.redis.server_of(self.redis.keys.shard_of(key)).away_for()
    }

    /// Makes the session under a key this node's own, if nobody is on it, or if nobody has claimed it since it was
    /// `given_up` by who had it then; none if there is none.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub(super) async fn claim(&self, key: &Key, given_up: Option<&Claimed>) -> Result<Option<Claimed>, RedisError> {
        let (shard, name) = self.place_of(key);
        let mut claim = CLAIM.prepare_invoke();
        claim.key(name).arg(&*self.me);
        if let Some(Claimed { owner, claims, .. }) = given_up {
            claim.arg(owner).arg(claims);
        }
        let found: Option<(bool, String, String, Vec<u8>, u64)> = self.redis.server_of(shard).script(&claim).await?;
        let claimed = |(is_mine, owner, state, record, claims): (_, _, String, _, _)| {
            let state = State::of(&state);
            Claimed { is_mine, owner, state, record, claims }
        };
        Ok(found.map(claimed))
    }

    /// Does something to many records; what came of each, in the same order.
    pub(super) async fn keep(&self, deeds: &[(Key, Deed)]) -> Vec<Outcome> {
        let mut by_shard: Vec<Vec<usize>> = vec![Vec::new(); self.redis.keys.shards()];
        for (index, (key, _)) in deeds.iter().enumerate() {
            by_shard[self.redis.keys.shard_of(key)].push(index);
        }
        let portions = by_shard.iter().enumerate().filter(|(_, indices)| !indices.is_empty());
        let outcomes = join_all(portions.map(|(shard, indices)| self.keep_in(shard, indices, deeds))).await;
        let mut all = vec![Outcome::Unknown; deeds.len()];
        for (index, done) in outcomes.into_iter().flatten() {
            all[index] = done;
        }
        all
    }

    async fn keep_in(&self, shard: usize, indices: &[usize], deeds: &[(Key, Deed)]) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(indices.len());
        for portion in indices.chunks(AT_ONCE) {
            let mut keep = KEEP.prepare_invoke();
            keep.arg(&*self.me);
            for index in portion {
                let (key, deed) = &deeds[*index];
                keep.key(self.place_of(key).1);
                // One that has a client is renewed before it is over.
                let held_for_ms = self.kept_for_ms.saturating_mul(2);
                match deed {
                    Deed::Write(State::Gone, record) => {
                        keep.arg("write").arg(self.kept_for_ms).arg(State::Gone.name()).arg(&record[..])
                    }
                    Deed::Write(state, record) => keep.arg("write").arg(held_for_ms).arg(state.name()).arg(&record[..]),
                    Deed::Renew => keep.arg("renew").arg(held_for_ms).arg("").arg(""),
                    Deed::Forget => keep.arg("forget").arg(0).arg("").arg(""),
                };
            }
            match self.redis.server_of(shard).script::<Vec<u8>>(&keep).await {
                Ok(answers) => outcomes.extend(portion.iter().copied().zip(answers.into_iter().map(Outcome::of))),
                Err(error) => {
                    tracing::debug!(%error, shard, "sessions are not written to Redis");
                    break;
                }
            }
        }
        outcomes
    }

    fn place_of(&self, key: &Key) -> (usize, String) {
        let shard = self.redis.keys.shard_of(key);
        (shard, self.redis.keys.of(shard, format_args!("session:{}", to_hex(key))))
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Overtaking => "overtaking",
            Self::Gone => "gone",
        }
    }

    /// What cannot be read tells nothing of what the client has read.
    fn of(name: &str) -> Self {
        match name {
            "live" => Self::Live,
            "gone" => Self::Gone,
            _ => Self::Overtaking,
        }
    }
}

impl Outcome {
    fn of(answer: u8) -> Self {
        match answer {
            0 => Self::Lost,
            1 => Self::Done,
            _ => Self::Absent,
        }
    }
}
