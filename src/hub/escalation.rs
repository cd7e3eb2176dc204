//! Escalation: what happens when nobody acknowledges an urgent event in time.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::notes::Fact;
use super::publication::{Publication, Target};
use super::publish::Hub;
use super::receipts::Receipt;
use crate::backend::{Backend, CallError};
use crate::config;
use crate::events::Priority;
use crate::log::{Draft, Entry};
use crate::rooms::ScopeFields;
use crate::wire::{iso, now_iso, now_ms, with_field};

/// What is published.
const EVENT: &str = "alert:escalated";

/// Recipients that are named.
const NAMED: usize = 100;

/// How often a service is called, and the first pause, which doubles.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// How events escalate.
#[derive(Debug)]
pub(super) struct Escalation {
    config: config::Escalation,
    backend: Option<Backend>,
}

/// The pause after an escalation could not be published.
const AGAIN: Duration = Duration::from_secs(5);

/// What has happened of an escalation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    pub(super) published: bool,
    pub(super) called: bool,
    /// Whether what was published has come back in the shared log.
    heard: bool,
}

/// What a service is told.
#[derive(Serialize)]
struct Told<'a> {
    event: &'a str,
    data: &'a RawValue,
    timestamp: String,
}

impl Escalation {
    /// # Errors
    /// If there is a service to call, and none can be.
    pub(super) fn new(config: &config::Escalation) -> Result<Self, CallError> {
        let timeout = Duration::from_millis(config.timeout_ms);
        let backend = (!config.url.is_empty()).then(|| Backend::new(timeout)).transpose()?;
        Ok(Self { config: config.clone(), backend })
    }

    /// Whether something happens if nobody acknowledges an entry.
    pub(super) fn concerns(&self, draft: &Draft) -> bool {
        self.config.is_on() && draft.ack.is_some() && draft.priority == Priority::Urgent
    }
}

impl Hub {
    /// Waits for the first acknowledgement of an entry, and sees to it that somebody hears if there is none: the node
    /// that leads does, or the next one that does.
    pub(super) fn watch(self: &Arc<Self>, receipt: Arc<Receipt>, entry: Arc<Entry>, done: Done) {
        let (hub, stopping) = (self.clone(), self.stopping.clone());
        *receipt.done() = done;
        self.tasks.spawn(async move {
            let mut wait = receipt.time_left();
            loop {
                let late = async {
                    tokio::time::sleep(wait).await;
                    hub.leading().await;
                };
                tokio::select! {
                    () = receipt.first() => return,
                    // Another node has done it.
                    () = receipt.is_escalated() => return,
                    // The next process goes on.
                    () = stopping.cancelled() => return,
                    () = late => {}
                }
                if hub.escalate(&receipt, &entry).await {
                    return;
                }
                wait = AGAIN;
            }
        });
    }

    /// Does what is yet to be done; false if some of it has to be tried again.
    async fn escalate(self: &Arc<Self>, receipt: &Receipt, entry: &Entry) -> bool {
        let done = *receipt.done();
        // What could not be stored was refused.
        if entry.is_void() || (done.published && done.called) {
            return true;
        }
        let ack_id = receipt.ack_id;
        let shard = self.log.shard_of(receipt.organization.as_ref());
        let body = self.body(entry, receipt);
        tracing::warn!(message_id = %entry.draft.message_id, event = %entry.draft.event.name, "nobody has acknowledged");
        if !done.published && self.publish_escalation(entry, &body).await {
            receipt.done().published = true;
            self.notes.add(shard, || Fact::Escalated { ack_id });
        }
        if !done.called && self.call_service(entry, &body).await {
            receipt.done().called = true;
            self.notes.add(shard, || Fact::Called { ack_id });
        }
        let done = *receipt.done();
        done.published && done.called
    }

    /// Publishes it if that is configured; false if the next process has to.
    async fn publish_escalation(self: &Arc<Self>, entry: &Entry, body: &RawValue) -> bool {
        let Some(scope) = entry.draft.audience.scope().filter(|_| self.escalation.config.publish) else { return true };
        let target = Target { scope: scope.into(), ..Target::default() };
        let priority = Some(Priority::Urgent);
        let publication =
            Publication { target, priority, ..Publication::new(EVENT, body.to_owned(), ScopeFields::default()) };
        match self.draft(publication) {
            Ok(draft) => {
                let message_id = format!("msg_{}_{}", now_ms(), letters(&entry.draft.message_id));
                self.publish(Draft { message_id, ..draft }).await.is_ok()
            }
            Err(error) => {
                tracing::error!(%error, "an escalation cannot be published");
                true
            }
        }
    }

    /// The shared log has brought an entry; false if it tells again that a message was not acknowledged, as it may when
    /// Redis has taken what it did not confirm in time.
    pub(super) fn hear_escalation(&self, draft: &Draft) -> bool {
        let Some(receipt) = escalated(draft).and_then(|message_id| self.receipts.of_message(&message_id)) else {
            return true;
        };
        let mut repeats = false;
        self.receipts.escalated(receipt.ack_id, |done| {
            repeats = std::mem::replace(&mut done.heard, true);
            done.published = true;
        });
        if !repeats {
            // Its publisher may not know that it is published, and a node that starts later has not heard it.
            let (shard, ack_id) = (self.log.shard_of(receipt.organization.as_ref()), receipt.ack_id);
            self.notes.add(shard, || Fact::Escalated { ack_id });
        }
        !repeats
    }

    /// Calls a service if there is one, until it has taken it or was asked often enough; false if the next process has to.
    async fn call_service(&self, entry: &Entry, body: &RawValue) -> bool {
        let Some(backend) = &self.escalation.backend else { return true };
        let config::Escalation { url, secret, .. } = &self.escalation.config;
        let body = Told { event: EVENT, data: body, timestamp: now_iso() };
        let body = serde_json::to_string(&body).expect("texts and JSON are always JSON");
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let Err(error) = backend.post(url, secret, body.clone()).await else { return true };
            tracing::warn!(%error, attempt, message_id = %entry.draft.message_id, "an escalation was not taken");
            if attempt < ATTEMPTS {
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause *= 2,
                    () = self.stopping.cancelled() => return false,
                }
            }
        }
        true
    }

    /// The payload of the event, with who was told and has not acknowledged.
    fn body(&self, entry: &Entry, receipt: &Receipt) -> Box<RawValue> {
        let draft = &entry.draft;
        let mut pending = self.progress_of(receipt).pending;
        let pending_count = pending.len();
        pending.truncate(NAMED);
        let escalation = json!({
            "message_id": draft.message_id,
            "event": draft.event.name,
            "published_at": iso(draft.published_at_ms),
            "ack_timeout_ms": draft.ack.map(|(_, timeout)| timeout),
            "escalated_at": now_iso(),
            "pending": pending,
            "pending_count": pending_count,
        });
        let payload = draft.payload.get();
        with_field(payload, "escalation", &escalation).unwrap_or_else(|| {
            let nested = format!("{{\"data\":{payload}}}");
            with_field(&nested, "escalation", &escalation).expect("an object")
        })
    }
}

/// The message that an entry says nobody has acknowledged, if the entry is one of ours. Backends may publish the event
/// too, but have no say in the letters of its id.
fn escalated(draft: &Draft) -> Option<String> {
    #[derive(Deserialize)]
    struct Payload {
        escalation: Escalated,
    }
    #[derive(Deserialize)]
    struct Escalated {
        message_id: String,
    }
    if *draft.event.name != *EVENT {
        return None;
    }
    let Payload { escalation: Escalated { message_id } } = serde_json::from_str(draft.payload.get()).ok()?;
    (letters(&message_id) == letters(&draft.message_id)).then_some(message_id)
}

/// The random part of a message id.
fn letters(message_id: &str) -> &str {
    message_id.rsplit('_').next().unwrap_or_default()
}
