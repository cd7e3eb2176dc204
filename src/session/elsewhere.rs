//! Sessions that another node has, or had: fetched before a CONNECT is admitted that takes one up again.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::codec::SavedRecord;
use super::records::{Found, Key, Record, key};
use super::sessions::Sessions;
use super::shared::{Claimed, Fetching, Shared, State};
use crate::auth::Credentials;
use crate::connection::Connection;
use crate::log::Named;
use crate::wire::{Pid, WireError, from_hex, to_hex};

/// The kind of question by which one node asks another for a session.
const WISH: &str = "session";

/// For how long after Redis went away a client is sent away whose session only Redis may know: it may come to a node
/// that knows, and does not give up meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// One node asks another for a session.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wish {
    /// What it is kept under, as hexadecimal digits.
    key: String,
    /// The namespace in which its client is now.
    namespace: String,
    /// When its client's new connection came, in milliseconds since the epoch.
    came_at_ms: i64,
}

/// What the other node says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Given {
    /// It has given the session up.
    Record(Box<SavedRecord>),
    /// It keeps it: its client has come back there since, or is in another namespace.
    Kept,
    /// It has no such session any more, or is about to have it.
    None,
    /// It never heard of it, whatever Redis says: the answer to its claim got lost.
    Unheard,
}

impl Sessions {
    /// Sees to it that the session which a CONNECT takes up again is this node's own, if it is to be had. It takes no
    /// longer than two answers of Redis may take. It stays this node's as long as what comes of it is held.
    ///
    /// # Errors
    /// If nobody can say whether it is to be had: its client had better come again, perhaps to another node.
    pub(super) async fn fetch(
        &self,
        connection: &Connection,
        namespace: &str,
        auth: Option<&str>,
    ) -> Result<Option<Fetching<'_>>, WireError> {
        let Some(shared) = self.shared.as_ref().filter(|_| self.config().recovery.enabled) else { return Ok(None) };
        let Some(credentials) = auth.and_then(|auth| Credentials::read(auth).ok()) else { return Ok(None) };
        let Some((pid, offset)) = credentials.resumed() else { return Ok(None) };
        let last = offset.and_then(Named::parse);
        if offset.is_some() && last.is_none() {
            return Ok(None);
        }
        let key = key(&Pid::of(pid));
        let is_here = || self.records.look(&key, |record| record.is_some()).unwrap_or(true);
        // While Redis is away a client finds what this node has.
        let without = || match is_here() || shared.away_for(&key).is_some_and(|away| away >= PATIENCE) {
            true => Ok(None),
            false => Err(WireError::Stopping),
        };
        if shared.away_for(&key).is_some() {
            return without();
        }
        let fetching = shared.fetching(&self.records, key);
        let deadline = Instant::now() + Duration::from_millis(self.config().cluster.redis_timeout_ms);
        let Ok(Ok(claimed)) = timeout_at(deadline, shared.claim(&key, None)).await else { return without() };
        if let Some(claimed) = claimed {
            let wish = Wish { key: to_hex(&key), namespace: namespace.to_owned(), came_at_ms: connection.came_at_ms() };
            let is_mine = *claimed.owner == *shared.me;
            let is_here = is_mine && (is_here() || shared.fetches_of(&key) > 1 || shared.changes.is_pending(&key));
            if !is_here && !self.take_from(shared, &key, claimed, &wish, deadline).await {
                return without();
            }
        } else if !shared.changes.is_pending(&key) {
            // Somebody else has had it.
            self.records.drop_gone(&key);
        }
        self.catch_up_with(&key, last.as_ref(), deadline).await;
        Ok(Some(fetching))
    }

    /// False if Redis went away meanwhile, so that nobody can say whose the session is.
    async fn take_from(&self, shared: &Shared, key: &Key, found: Claimed, wish: &Wish, deadline: Instant) -> bool {
        // What this node had of it is of the past.
        self.lose(key);
        let given = if found.is_mine { None } else { self.ask(&found.owner, wish, deadline).await };
        let record = match given {
            Some(Given::Kept | Given::None) => return true,
            // Its node forgets it, and this one writes it.
            Some(Given::Record(record)) => match shared.claim(key, Some(&found)).await {
                // A third took it for lost meanwhile.
                Ok(Some(found)) if !found.is_mine => return true,
                _ => record.read(&self.services.hub.catalogue),
            },
            // Nobody is on it, or its node is dead, or as good as: if events overtook others there, nobody knows what
            // was read.
            _ if found.is_mine => self.decode_read(&found),
            None | Some(Given::Unheard) => match shared.claim(key, Some(&found)).await {
                Ok(Some(found)) if found.is_mine => self.decode_read(&found),
                Ok(_) => return true,
                Err(_) => return false,
            },
        };
        match record {
            Some(record) => self.records.bring(*key, Box::new(record)),
            None => shared.changes.of_key(*key),
        }
        true
    }

    /// Asks the node that has a session for it; none if it does not answer.
    async fn ask(&self, owner: &str, wish: &Wish, deadline: Instant) -> Option<Given> {
        let cluster = &self.services.cluster;
        let owner = cluster.nodes().iter().find(|node| node.incarnation == owner)?.id.clone();
        timeout_at(deadline, cluster.ask_one::<Option<Given>>(&owner, WISH, wish)).await.ok()??
    }

    /// Answers other nodes that ask for a session.
    pub(super) fn answer_wishes(self: &Arc<Self>) {
        let sessions = Arc::downgrade(self);
        self.services.cluster.answer(WISH, move |wish: Wish| {
            let given = sessions.upgrade().map(|sessions| sessions.give(&wish));
            std::future::ready(given)
        });
    }

    /// Gives a session up to another node, where its client is now.
    fn give(&self, wish: &Wish) -> Given {
        let Some(key) = from_hex(&wish.key) else { return Given::None };
        if let Some(session) = self.records.holder(&key).and_then(|id| self.get(id.as_str())) {
            // A client's own earlier attempt may come after the one that succeeded.
            if session.recipient.namespace() != wish.namespace || session.opened_at_ms >= wish.came_at_ms {
                return Given::Kept;
            }
            self.take_over(&session);
        }
        match self.records.find_under(key) {
            Some(Found::Gone(record)) => {
                Given::Record(Box::new(SavedRecord::of(&record, &self.services.hub.catalogue)))
            }
            Some(Found::Live(_)) => Given::Kept,
            None if self.is_busy_with(&key) => Given::None,
            None => Given::Unheard,
        }
    }

    /// Whether this node is about to tell Redis, or to hear from it, what becomes of a session.
    fn is_busy_with(&self, key: &Key) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.changes.is_pending(key) || shared.fetches_of(key) > 0)
    }

    /// Waits until this node has delivered what the client of a session may have read on another.
    async fn catch_up_with(&self, key: &Key, last: Option<&Named>, deadline: Instant) {
        let of_record = |record: &Record| {
            let organization = record.identity.as_ref().map(|identity| identity.organization.clone());
            let subscriptions = record.interest.subscriptions.iter().map(|subscription| subscription.since);
            (organization, subscriptions.fold(record.interest.since, u64::max))
        };
        let Some(Some((organization, since))) = self.records.look(key, |record| record.map(of_record)) else { return };
        let hub = &self.services.hub;
        // It may have read more than was there when this node looked.
        let _follower = hub.up_to_date(organization.as_ref()).await;
        let read = last.filter(|last| hub.is_of_this_life(organization.as_ref(), &last.position));
        let offset = read.map_or(since, |read| since.max(read.position.offset));
        timeout_at(deadline, hub.caught_up(organization.as_ref(), offset)).await.ok();
    }

    /// What a record says, if it says what was read.
    fn decode_read(&self, found: &Claimed) -> Option<Record> {
        let known = (found.state != State::Overtaking).then_some(&found.record)?;
        serde_json::from_slice::<SavedRecord>(known).ok()?.read(&self.services.hub.catalogue)
    }
}
