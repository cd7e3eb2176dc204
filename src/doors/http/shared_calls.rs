//! Calls that may be repeated on any node of a cluster: one node does them, and all answer the same.
//!
//! A call is a hash in the shard of its organization: what it asks for, the
//! node that is at it, and the answer. Should that node die, the log tells
//! whether it has published.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{RedisError, Script};
use serde_json::Value;

use super::error::ApiError;
use super::idempotency::{Id, answer_of};
use crate::cluster::Cluster;
use crate::hub::Hub;
use crate::redis::Redis;
use crate::rooms;
use crate::wire::{WireError, to_hex};

static BEGIN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("begin_call.lua")));
static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("end_call.lua")));

/// Delays before it is asked again whether another node has answered.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(500);

/// How far the clocks of nodes may be apart, in milliseconds.
const SLACK_MS: i64 = 5_000;

/// The calls of a cluster.
#[derive(Debug)]
pub(super) struct SharedCalls {
    cluster: Arc<Cluster>,
    redis: Arc<Redis>,
    me: String,
    window_ms: u64,
}

/// What is to be done about a call.
#[derive(Debug)]
enum Turn {
    /// It is done here.
    First,
    /// It is done here, if the node that was at it, since then in milliseconds since the epoch, has not published.
    Again(i64),
    /// This node is at it.
    Wait(String),
    /// It has been answered.
    Answered(Value),
    /// Its key stands for another call.
    Reused,
}

impl SharedCalls {
    /// None for a server alone; calls are remembered for so long.
    pub(super) fn of(cluster: &Arc<Cluster>, window: Duration) -> Option<Self> {
        let redis = cluster.redis()?.clone();
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1);
        Some(Self { redis, me: cluster.me().incarnation, window_ms, cluster: cluster.clone() })
    }

    /// Does a call, unless it is or was done on another node; its answer. `organization` is empty for what is for
    /// everyone.
    ///
    /// # Errors
    /// What doing it gives, or if its key stands for another call.
    pub(super) async fn once(
        &self,
        hub: &Arc<Hub>,
        organization: &str,
        id: Id,
        asked: Id,
        publishing: impl Future<Output = Result<Value, ApiError>>,
    ) -> Result<Value, ApiError> {
        let (mut dead, mut delay) = (String::new(), FIRST);
        loop {
            match self.begin(organization, &id, &asked, &dead).await {
                Ok(Turn::First) => break,
                Ok(Turn::Again(began_at_ms)) => {
                    if let Some(answer) = published(hub, organization, id, began_at_ms).await? {
                        self.end(organization, &id, Some(&answer)).await;
                        return Ok(answer);
                    }
                    break;
                }
                Ok(Turn::Wait(owner)) => {
                    if !self.cluster.nodes().iter().any(|node| node.incarnation == owner) {
                        dead = owner;
                        continue;
                    }
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LONGEST);
                }
                Ok(Turn::Answered(answer)) => return Ok(answer),
                Ok(Turn::Reused) => return Err(ApiError::reused_key()),
                // Whether it can be published without Redis, the hub knows.
                Err(error) => {
                    tracing::debug!(%error, "nobody can tell whether another node does the same call");
                    break;
                }
            }
        }
        let outcome = publishing.await;
        self.end(organization, &id, outcome.as_ref().ok()).await;
        outcome
    }

    async fn begin(&self, organization: &str, id: &Id, asked: &Id, dead: &str) -> Result<Turn, RedisError> {
        let (shard, key) = self.place_of(organization, id);
        let mut begin = BEGIN.prepare_invoke();
        begin.key(key).arg(&self.me).arg(to_hex(asked)).arg(self.window_ms).arg(dead);
        let found: Vec<String> = self.redis.server_of(shard).script(&begin).await?;
        let second = found.get(1).map(String::as_str).unwrap_or_default();
        Ok(match found.first().map(String::as_str) {
            Some("first") => Turn::First,
            Some("wait") => Turn::Wait(second.to_owned()),
            Some("reused") => Turn::Reused,
            Some("answered") if let Ok(answer) = serde_json::from_str(second) => Turn::Answered(answer),
            // Written as Lua writes a large number.
            _ => Turn::Again(second.parse::<f64>().unwrap_or_default() as i64),
        })
    }

    /// Tells the others what came of a call; if that is lost, the log still tells whether it was published.
    async fn end(&self, organization: &str, id: &Id, answer: Option<&Value>) {
        let (shard, key) = self.place_of(organization, id);
        let mut end = END.prepare_invoke();
        end.key(key).arg(&self.me).arg(answer.map(Value::to_string).unwrap_or_default()).arg(self.window_ms);
        if let Err(error) = self.redis.server_of(shard).script::<()>(&end).await {
            tracing::debug!(%error, "the other nodes are not told how a call was answered");
        }
    }

    fn place_of(&self, organization: &str, id: &Id) -> (usize, String) {
        let keys = &self.redis.keys;
        let shard = if organization.is_empty() { 0 } else { keys.shard_of(organization.as_bytes()) };
        (shard, keys.of(shard, format_args!("call:{}", to_hex(id))))
    }
}

/// The answer to a call that was published since a time, as far as the log tells.
async fn published(hub: &Arc<Hub>, organization: &str, id: Id, since_ms: i64) -> Result<Option<Value>, ApiError> {
    let _follower = hub.up_to_date(rooms::Id::parse(organization).ok().as_ref()).await;
    let hub = hub.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let entries = hub.repeatable_since(since_ms - SLACK_MS);
        let entry = entries.iter().find(|entry| entry.draft.call.as_ref().is_some_and(|call| call.id == id));
        entry.and_then(|entry| answer_of(entry))
    });
    looking.await.map_err(|_| WireError::Internal.into())
}
