//! The service: sessions attend, and what the book decides is announced.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::announce::{self, CHANNEL};
use super::book::{Book, Change, Whom};
use super::sharing::Sharing;
use super::status::Status;
use crate::auth::Identity;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::delivery::Directory;
use crate::hub::Hub;
use crate::rooms::Id;
use crate::wire::now_ms;

/// Users who are gone and remembered, of all organizations together.
const REMEMBERED: usize = 10_000;

/// Who is there, on this server and on the others of its cluster.
#[derive(Debug)]
pub struct Presence {
    enabled: bool,
    pub(super) hub: Arc<Hub>,
    pub(super) directory: Arc<Directory>,
    pub(super) tasks: TaskTracker,
    pub(super) stopping: CancellationToken,
    /// The end of the server, until which the other nodes hear of its users.
    pub(super) ending: CancellationToken,
    /// Organizations in which some clients listen without asking, so that no room tells of them.
    pub(super) unasked: HashSet<Id>,
    /// How long a session can be taken up again.
    pub(super) recoverable_ms: i64,
    book: Mutex<Book>,
    /// None if this server is alone.
    pub(super) sharing: Option<Sharing>,
    /// Somebody has to be announced sooner than the task expects.
    pub(super) sooner: Notify,
    /// The same moment on both clocks: the monotonic one goes on where the other jumps.
    started: (Instant, i64),
}

impl Presence {
    /// Nobody is there yet; changes are announced until `stopping` is cancelled.
    pub fn start(
        config: &Config,
        hub: Arc<Hub>,
        directory: Arc<Directory>,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
        cluster: &Arc<Cluster>,
    ) -> Arc<Self> {
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let presence = Arc::new(Self {
            enabled: config.presence.enabled,
            hub,
            directory,
            tasks: tasks.clone(),
            stopping: stopping.child_token(),
            ending: stopping.clone(),
            unasked: unasked(config),
            recoverable_ms: ms(config.recovery.max_disconnection_ms),
            book: Mutex::new(Book::new(ms(config.presence.grace_ms), REMEMBERED)),
            sharing: Sharing::new(&config.cluster, cluster),
            sooner: Notify::new(),
            started: (Instant::now(), now_ms()),
        });
        presence.share();
        if presence.enabled {
            tasks.spawn(announce::run(presence.clone()));
        }
        presence
    }

    /// Whether anybody asks who is there.
    pub fn is_on(&self) -> bool {
        self.enabled
    }

    /// From here on nothing is announced: those whom a stopping server loses are not gone.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// A socket of a user is there, until what this returns is dropped; none if it does not count.
    pub fn attend(self: &Arc<Self>, identity: &Identity, status: Status) -> Option<Attendance> {
        if !self.enabled || identity.anonymous {
            return None;
        }
        let whom = (identity.organization.clone(), identity.user.clone());
        self.change(&whom, Change::Enter(status));
        Some(Attendance { presence: self.clone(), whom, status })
    }

    fn change(&self, whom: &Whom, change: Change) {
        self.alter(|book, now| book.change(whom, change, now));
        if let Some(sharing) = &self.sharing {
            sharing.change(whom);
        }
    }

    /// Alters the book, by what says whether something is due earlier than before.
    pub(super) fn alter(&self, alter: impl FnOnce(&mut Book, i64) -> bool) {
        let is_sooner = alter(&mut self.lock(), self.now());
        if is_sooner {
            self.sooner.notify_one();
        }
    }

    /// Milliseconds since the epoch, as far as the server knows.
    pub(super) fn now(&self) -> i64 {
        let elapsed = i64::try_from(self.started.0.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.started.1.saturating_add(elapsed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The organizations whose doors send who is there to clients that do not ask.
fn unasked(config: &Config) -> HashSet<Id> {
    let doors = config.doors.generic.iter().filter(|door| door.channels.iter().any(|name| name == CHANNEL));
    doors.filter_map(|door| Id::parse(&door.organization).ok()).collect()
}

/// A socket that counts for its user; dropping it is leaving.
#[derive(Debug)]
pub struct Attendance {
    presence: Arc<Presence>,
    whom: Whom,
    status: Status,
}

impl Attendance {
    /// The socket has another status.
    pub fn set(&mut self, status: Status) {
        let before = std::mem::replace(&mut self.status, status);
        self.presence.change(&self.whom, Change::Switch(before, status));
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.presence.change(&self.whom, Change::Leave(self.status));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::Claims;
    use crate::cluster::Cluster;
    use crate::config::LogStore;
    use crate::connection::{Plane, Settings};
    use crate::events::Catalogue;
    use crate::log::Log;
    use crate::stats::Counters;

    async fn presence(config: &mut Config, tasks: &TaskTracker, stopping: &CancellationToken) -> Arc<Presence> {
        config.log.store = LogStore::Memory;
        let catalogue = Arc::new(Catalogue::new(&[]));
        let directory = Arc::new(Directory::new(catalogue.clone(), None, Vec::new()));
        let counters = Arc::new(Counters::default());
        let settings = Settings {
            soft_limit_bytes: 1,
            hard_limit_bytes: 1,
            write_stall_timeout: Duration::from_secs(1),
            max_message_bytes: 1,
            max_frame_bytes: 1,
            unauthenticated_bytes: 1,
            body_timeout: Duration::from_secs(1),
            max_attachments: 1,
            bytes_per_second: 1,
            compress_from_bytes: None,
            packets_per_second: 1,
        };
        let plane = Plane::start(settings, counters.clone(), tasks, stopping.clone());
        let log = Log::open(&config.log, &catalogue).expect("a log in memory");
        let alone = Cluster::alone();
        let hub = Hub::start(catalogue, log, directory.clone(), plane, counters, config, tasks, stopping, &alone).await;
        Presence::start(config, hub.expect("a hub"), directory, tasks, stopping, &alone)
    }

    #[tokio::test]
    async fn a_change_that_is_not_published_is_put_back() {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let presence = presence(&mut Config::default(), &tasks, &stopping).await;
        // Nothing is delivered from here on.
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
        let whom = (Id::parse("o").expect("an id"), Id::parse("u").expect("an id"));
        presence.change(&whom, Change::Enter(Status::Busy));
        let changes = presence.lock().due(presence.now(), 1, |_| true).expect("a change");
        assert_eq!((changes.len(), presence.lock().wakes_at()), (1, None));
        let before = presence.now();
        let announced = tokio::time::timeout(Duration::from_secs(3), presence.announce(&changes)).await;
        assert!(announced.is_ok(), "others go on");
        assert!(presence.lock().wakes_at().is_some_and(|at| at >= before + announce::AGAIN_MS));
    }

    #[tokio::test]
    async fn who_is_not_known_does_not_count() {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let presence = presence(&mut Config::default(), &tasks, &stopping).await;
        let id = |text: &str| Id::parse(text).expect("an id");
        let known = Identity {
            user: id("known"),
            organization: id("o"),
            session_id: None,
            claims: Claims::new(Vec::new()),
            channels: None,
            anonymous: false,
            proof: None,
        };
        let visitor = Identity { user: id("visitor"), anonymous: true, ..known.clone() };
        let attendances = [presence.attend(&known, Status::Busy), presence.attend(&visitor, Status::Busy)];
        assert!(attendances[0].is_some() && attendances[1].is_none());
        let all = || -> Vec<(String, u32)> {
            let (book, organization) = (presence.lock(), id("o"));
            let users = book.users(&organization, None, true, presence.now());
            users.map(|shown| (shown.user.to_string(), shown.sockets)).collect()
        };
        assert_eq!(all(), [("known".to_owned(), 1)]);
        drop(attendances);
        assert_eq!(all(), [("known".to_owned(), 0)]);
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
