//! Announces changes as `presence:update`, in order for each user.
//!
//! A portion holds a user once, and the next one is taken when it is
//! delivered. Who could not be announced is put back into the book, so that
//! nobody else waits for that.

use std::sync::Arc;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::book::{Shown, Whom};
use super::presence::Presence;
use super::status::Status;
use crate::hub::{Publication, until};
use crate::log::Draft;
use crate::rooms::{Id, Scope, ScopeFields, channel_room};
use crate::wire::{WireError, iso, now_iso};

/// The event, and its channel.
pub(super) const EVENT: &str = "presence:update";
pub(super) const CHANNEL: &str = "presence";

/// Changes that are announced at a time.
const PORTION: usize = 64;

/// How long after a change could not be published it is tried again, in milliseconds.
pub(super) const AGAIN_MS: i64 = 5_000;

#[derive(Serialize)]
struct Update<'a> {
    user_id: &'a Id,
    status: Status,
    last_seen: String,
    timestamp: String,
}

/// The payload that tells of a user.
pub(super) fn payload(shown: &Shown) -> Box<RawValue> {
    let Shown { user, status, seen_at_ms, .. } = shown;
    let update = Update { user_id: user, status: *status, last_seen: iso(*seen_at_ms), timestamp: now_iso() };
    to_raw_value(&update).expect("our own payloads are always JSON")
}

/// Whom an entry announces with which status, if it is one of ours. Backends may publish the event too; what they do is
/// not meant only for who is there, as ours is, and says nothing of our sockets.
pub(super) fn announced(draft: &Draft) -> Option<(Whom, Status)> {
    #[derive(Deserialize)]
    struct Announced {
        user_id: Id,
        status: Status,
    }
    if *draft.event.name != *EVENT || !draft.fleeting {
        return None;
    }
    let organization = draft.audience.scope()?.organization.clone();
    let Announced { user_id, status } = serde_json::from_str(draft.payload.get()).ok()?;
    Some(((organization, user_id), status))
}

/// Announces every change until the server stops.
pub(super) async fn run(presence: Arc<Presence>) {
    loop {
        tokio::select! {
            () = presence.stopping.cancelled() => return,
            () = presence.step() => {}
        }
    }
}

impl Presence {
    /// Announces a portion, or waits until there may be one. In a cluster one node does.
    async fn step(&self) {
        if let Some(sharing) = &self.sharing {
            sharing.turn().await;
        }
        match self.portion() {
            Some(portion) => self.announce(&portion).await,
            None => self.something().await,
        }
    }

    /// What is to be announced now; none if nothing is due. A socket that listens from here on is told of it
    /// otherwise, since it asks for who is there only then, and waits for the book.
    fn portion(&self) -> Option<Vec<(Id, Shown)>> {
        let is_listened_to = |organization: &Id| {
            let room = channel_room(CHANNEL, &Scope::organization(organization.clone()));
            // Whether anybody listens on another node is not known.
            self.sharing.is_some() || self.unasked.contains(organization) || self.directory.count(&room) > 0
        };
        self.lock().due(self.now(), PORTION, is_listened_to)
    }

    /// Waits until something is due, as far as is known.
    async fn something(&self) {
        let wakes_at = self.lock().wakes_at();
        until(wakes_at, self.now(), &self.sooner).await;
    }

    /// Publishes changes, and waits until they are delivered.
    pub(super) async fn announce(&self, changes: &[(Id, Shown)]) {
        let results = join_all(changes.iter().map(|(organization, shown)| self.publish(organization, shown))).await;
        let failures = changes.iter().zip(results).filter_map(|(change, result)| Some((change, result.err()?)));
        let missed: Vec<(&(Id, Shown), WireError)> = failures.collect();
        let Some((_, error)) = missed.first() else { return };
        tracing::warn!(changes = missed.len(), %error, "changes of presence are not published; it is tried again");
        let (mut book, again_at) = (self.lock(), self.now().saturating_add(AGAIN_MS));
        for ((organization, shown), _) in missed {
            book.missed(organization, shown, again_at);
        }
    }

    /// Publishes a change; one that can never become an entry is given up.
    async fn publish(&self, organization: &Id, shown: &Shown) -> Result<(), WireError> {
        let scope = ScopeFields { organization_id: Some(organization.to_string()), ..ScopeFields::default() };
        match self.hub.draft(Publication::new(EVENT, payload(shown), scope)) {
            Ok(draft) => self.hub.publish(Draft { fleeting: true, ..draft }).await.map(|_| ()),
            Err(error) => {
                tracing::error!(%error, %organization, user = %shown.user, "a change of presence cannot be published");
                Ok(())
            }
        }
    }
}
