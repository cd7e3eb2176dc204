//! The ingress stream: what other services add to it is published in its order, each entry once.
//!
//! The node that leads takes one entry after another, and takes it out of the
//! stream when its publication is in the log. So of at most one entry, the
//! first, it can be unknown whether it is published; then the log tells.

use std::sync::Arc;
use std::time::Duration;

use super::publish::publish;
use super::queue::{Queue, Waiting};
use crate::doors::http::body::object;
use crate::doors::http::broadcast::{Body, Options};
use crate::doors::http::idempotency::{check, hash};
use crate::doors::state::Doors;
use crate::hub::Publication;
use crate::log::Call;
use crate::redis::Redis;

/// Who publishes, in the audit log.
const WHO: &str = "ingress";

/// Before Redis is tried again: the first pause, which doubles, and the longest.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why an entry is not published.
enum Failure {
    /// It never will be.
    Refused(String),
    /// It cannot be at this moment; it may be published all the same.
    Later(String),
}

/// What an entry asks for.
struct Asked {
    publication: Publication,
    /// What tells it from others.
    call: [u8; 32],
    /// Whether it may come again, as another entry.
    may_repeat: bool,
}

/// Publishes what is in the stream whenever this node leads, until the server stops.
pub(super) async fn run(doors: Arc<Doors>, redis: Arc<Redis>) {
    let mut queue = Queue::new(redis, doors.config.cluster.ingress_max_entries);
    let mut leading = doors.cluster.leading();
    let reading = async {
        while leading.wait_for(|leads| *leads).await.is_ok() {
            tokio::select! {
                () = lead(&doors, &mut queue) => {}
                _ = leading.wait_for(|leads| !*leads) => {}
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = doors.stopped() => {}
    }
}

/// Publishes entry after entry.
async fn lead(doors: &Arc<Doors>, queue: &mut Queue) {
    // Whoever led before may have published the first one.
    let mut is_doubtful = true;
    loop {
        match queue.next().await {
            Ok(entries) => {
                for entry in entries {
                    settle(doors, queue, &entry, is_doubtful).await;
                    is_doubtful = false;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the ingress stream cannot be read");
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
        }
    }
}

/// Publishes an entry or puts it aside, however often that has to be tried: what is behind it waits.
async fn settle(doors: &Arc<Doors>, queue: &Queue, entry: &Waiting, mut is_doubtful: bool) {
    let mut pause = PAUSE;
    loop {
        let failure = match try_to_settle(doors, queue, entry, is_doubtful).await {
            Ok(()) => return,
            Err(Failure::Later(why)) => why,
            Err(Failure::Refused(reason)) => {
                tracing::warn!(id = entry.id, reason, "an entry of the ingress stream is refused");
                let max_bytes = doors.config.limits.max_message_size_bytes;
                match queue.refuse(entry, &reason, max_bytes).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                }
            }
        };
        tracing::debug!(id = entry.id, failure, "an entry of the ingress stream has to wait");
        is_doubtful = true;
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

async fn try_to_settle(doors: &Arc<Doors>, queue: &Queue, entry: &Waiting, is_doubtful: bool) -> Result<(), Failure> {
    let away = |error: redis::RedisError| Failure::Later(error.to_string());
    let Asked { publication, call, may_repeat } = read(doors, entry).map_err(Failure::Refused)?;
    let mut draft = doors.hub.draft(publication).map_err(|error| Failure::Refused(error.to_string()))?;
    draft.call = Some(Call { id: call, asked: call, message: String::new() });
    let was_published = match is_doubtful {
        true => doors.hub.was_called(call, entry.at_ms()).await,
        false => Some(false),
    };
    let was_published = was_published.ok_or_else(|| Failure::Later("the log is not read yet".to_owned()))?;
    let is_there = was_published || (may_repeat && queue.is_done(&call).await.map_err(away)?);
    if !is_there {
        publish(doors, WHO, draft).await.map_err(|error| Failure::Later(error.to_string()))?;
    }
    let remembered = may_repeat.then_some((call, doors.config.api.idempotency_window_ms));
    queue.done(entry, remembered).await.map_err(away)
}

/// What an entry asks for: its field `body` is what `POST /broadcast` takes.
fn read(doors: &Doors, entry: &Waiting) -> Result<Asked, String> {
    let text = entry.field("body").ok_or("it has no field \"body\"; give one with the JSON of POST /broadcast")?;
    let limit = doors.config.limits.max_message_size_bytes;
    if text.len() > limit {
        return Err(format!("its body has {} bytes; limits.max_message_size_bytes is {limit}", text.len()));
    }
    let body: Body = object(text).map_err(|error| error.message().to_owned())?;
    let message_id = body.message_id.clone();
    if let Some(message_id) = &message_id {
        check(message_id).map_err(|error| error.message().to_owned())?;
    }
    let call = match &message_id {
        Some(message_id) => hash(&[WHO.as_bytes(), b"message", message_id.as_bytes()]),
        None => hash(&[WHO.as_bytes(), entry.id.as_bytes()]),
    };
    let publication = body.publication(&Options::default(), &doors.config);
    let publication = publication.map_err(|error| error.message().to_owned())?;
    Ok(Asked { publication, call, may_repeat: message_id.is_some() })
}
