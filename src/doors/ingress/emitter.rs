//! Listens for `@socket.io/redis-emitter`.
//!
//! Pub/sub has no memory: what is sent while no node listens is gone. So every
//! node listens, and the one that leads publishes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::Msg;
use redis::aio::PubSub;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::emitted::publications;
use super::publish::publish;
use crate::doors::state::Doors;
use crate::redis::{Redis, Server};

/// Who publishes, in the audit log.
const WHO: &str = "emitter";

/// Messages that may wait.
const MOST: usize = 1_000;

/// How often it is asked whether Redis is still there, and before it is tried again.
const PING: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);

/// Publishes what emitters send, until the server stops.
pub(super) async fn run(doors: Arc<Doors>, redis: Arc<Redis>) {
    let key = &doors.config.cluster.emitter_key;
    let escaped: String = key
        .chars()
        .flat_map(|letter| [Some('\\').filter(|_| "*?[]^-\\".contains(letter)), Some(letter)])
        .flatten()
        .collect();
    let patterns = [format!("{escaped}#*"), format!("{escaped}-request#*")];
    let (heard, queue) = channel(MOST);
    let listening = redis.servers().iter().map(|server| listen(&doors, server, &patterns, &heard));
    tokio::select! {
        _ = join_all(listening) => {}
        () = publish_all(&doors, queue) => {}
        () = doors.stopped() => {}
    }
}

/// Listens at one server, whenever it is there.
async fn listen(doors: &Doors, server: &Server, patterns: &[String], heard: &Sender<Msg>) {
    loop {
        match server.subscribe(patterns).await {
            Ok(subscription) => hear(doors, subscription, heard).await,
            Err(error) => tracing::debug!(%error, server = server.label(), "emitters cannot be heard"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Hears what is sent, until the connection breaks.
async fn hear(doors: &Doors, subscription: PubSub, heard: &Sender<Msg>) {
    let timeout = Duration::from_millis(doors.config.cluster.redis_timeout_ms);
    let leading = doors.cluster.leading();
    let (mut sink, mut messages) = subscription.split();
    loop {
        match tokio::time::timeout(PING, messages.next()).await {
            Ok(None) => return,
            Ok(Some(message)) if *leading.borrow() => {
                if heard.try_send(message).is_err() {
                    tracing::error!("an event of an emitter is lost, since too many wait");
                }
            }
            Ok(Some(_)) => {}
            Err(_) => {
                if !matches!(tokio::time::timeout(timeout, sink.ping::<redis::Value>()).await, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

/// Publishes one after another, in the order heard.
async fn publish_all(doors: &Arc<Doors>, mut queue: Receiver<Msg>) {
    while let Some(message) = queue.recv().await {
        if let Err(reason) = publish_one(doors, &message).await {
            let channel = String::from_utf8_lossy(message.get_channel_name().as_bytes()).into_owned();
            tracing::warn!(channel, reason, "what an emitter sent is refused");
        }
    }
}

async fn publish_one(doors: &Arc<Doors>, message: &Msg) -> Result<(), String> {
    let requests = format!("{}-request#", doors.config.cluster.emitter_key);
    if message.get_channel_name().starts_with(&requests) {
        return Err("only events are taken; sockets are not joined, moved or disconnected by an emitter".to_owned());
    }
    let max_bytes = doors.config.limits.max_message_size_bytes;
    for publication in publications(message.get_payload_bytes(), max_bytes)?.into_iter().flatten() {
        let draft = doors.hub.draft(publication).map_err(|error| error.to_string())?;
        publish(doors, WHO, draft).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
