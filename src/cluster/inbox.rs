//! The inbox of a node: what other nodes ask it, and what they answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::streams::{StreamId, StreamReadReply};
use redis::{FromRedisValue, RedisResult, Value};

use super::beat::LOOK;
use super::member::Member;
use super::node::NodeId;
use crate::redis::Connection;

/// Messages that are read in one go.
const PAGE: usize = 64;

/// Time until a connection that was lost is opened again.
const AGAIN: Duration = Duration::from_millis(100);

/// How long nothing may come before the connection is tried.
const LONGEST: Duration = Duration::from_secs(5);

/// Before everything in a stream.
const FIRST: &str = "0-0";

impl Member {
    /// Reads the inbox until the server stops.
    pub(super) async fn read_inbox(self: Arc<Self>) {
        let inbox = self.inbox_of(&self.me.node);
        let mut last = FIRST.to_owned();
        let reading = async {
            loop {
                let Err(error) = self.read_while_connected(&inbox, &mut last).await;
                tracing::debug!(%error, "the inbox of this node is read on a new connection");
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = reading => {}
        }
    }

    async fn read_while_connected(self: &Arc<Self>, inbox: &str, last: &mut String) -> RedisResult<Never> {
        let blocks_for = self.settings.heartbeat.min(LONGEST);
        let mut connection = self.home().open(blocks_for).await?;
        // What expired, or was lost with everything else in Redis, begins anew.
        if !redis::cmd("EXISTS").arg(inbox).query_async::<bool>(&mut connection).await? {
            FIRST.clone_into(last);
        }
        loop {
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(PAGE).arg("BLOCK").arg(blocks_for.as_millis() as u64);
            read.arg("STREAMS").arg(inbox).arg(&*last);
            let found: Option<StreamReadReply> = read.query_async(&mut connection).await?;
            let messages: Vec<StreamId> =
                found.into_iter().flat_map(|found| found.keys).flat_map(|stream| stream.ids).collect();
            let Some(newest) = messages.last() else { continue };
            last.clone_from(&newest.id);
            remove(&mut connection, inbox, &messages).await?;
            for message in messages {
                self.take(message);
            }
        }
    }

    fn take(self: &Arc<Self>, message: StreamId) {
        let StreamId { id, map, .. } = message;
        let body = || field::<Vec<u8>>(&map, "body");
        if let (Some(number), Some(node)) = (field(&map, "answers"), field::<String>(&map, "node")) {
            return self.waiting.arrived(number, (NodeId::new(&node), body()));
        }
        let (Some(kind), Some(number), Some(from), Some(timeout)) = (
            field::<String>(&map, "kind"),
            field::<u64>(&map, "number"),
            field::<String>(&map, "from"),
            field::<u64>(&map, "timeout"),
        ) else {
            return;
        };
        if kind == LOOK {
            return self.sooner.notify_one();
        }
        // Both times are of Redis.
        let asked_at = id.split_once('-').and_then(|(ms, _)| ms.parse::<i64>().ok());
        let age = self.standing.redis_now().zip(asked_at).map_or(0, |(now, asked_at)| now - asked_at);
        let left = timeout.saturating_sub(u64::try_from(age).unwrap_or_default());
        let Ok(turn) = self.turns.clone().try_acquire_owned() else { return };
        if left == 0 {
            return;
        }
        let answering = self.handlers.answer(&kind, &body().unwrap_or_default());
        let member = self.clone();
        self.tasks.spawn(async move {
            let answering = async {
                let body = match answering {
                    Some(answering) => Some(answering.await),
                    None => None,
                };
                if number > 0 {
                    member.reply(&from, number, body.as_deref()).await;
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(Duration::from_millis(left), answering) => {}
                () = member.stopping.cancelled() => {}
            }
            drop(turn);
        });
    }
}

/// What never comes.
type Never = std::convert::Infallible;

async fn remove(connection: &mut Connection, inbox: &str, messages: &[StreamId]) -> RedisResult<()> {
    let mut removal = redis::cmd("XDEL");
    removal.arg(inbox);
    for message in messages {
        removal.arg(&message.id);
    }
    removal.query_async(connection).await
}

fn field<T: FromRedisValue>(map: &HashMap<String, Value>, name: &str) -> Option<T> {
    T::from_redis_value(map.get(name)?.clone()).ok()
}
