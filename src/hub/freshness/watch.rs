//! Listens to what is published, and announces who has fallen silent and who is live again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::book::{Book, Change, Pair};
use super::unsaid::Unsaid;
use super::{notice, past};
use crate::config;
use crate::delivery::{Interest, Recipient};
use crate::events::{Catalogue, ChannelMask};
use crate::hub::publication::{Publication, Target};
use crate::hub::publish::Hub;
use crate::hub::until::until;
use crate::log::{Audience, Draft, Log};
use crate::rooms::{ScopeFields, scope_room};
use crate::wire::{WireError, now_ms};

/// Changes that are announced at a time.
const PORTION: usize = 64;

/// How long after a notice could not be published it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Notices that a socket is sent at once, so that they do not fill its queue.
const AT_ONCE: usize = 100;

/// The freshness of one server.
#[derive(Debug)]
pub(in crate::hub) struct Freshness {
    channels: Vec<Watched>,
    /// All of them together.
    watched: ChannelMask,
    book: Mutex<Book>,
    /// What waits for this node to lead, in a cluster.
    unsaid: Mutex<Unsaid>,
    /// Somebody has to be announced sooner than the task expects.
    sooner: Notify,
    /// The same moment on both clocks: the monotonic one goes on where the other jumps.
    started: (Instant, i64),
}

/// A channel on which something new is expected.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) channel: ChannelMask,
    /// Who listens to it.
    audience: ChannelMask,
}

impl Freshness {
    /// Knows of these channels what the log still knows.
    pub(in crate::hub) fn new(config: &[config::Freshness], catalogue: &Catalogue, log: &Log) -> Self {
        let watched = |freshness: &config::Freshness| {
            let name = freshness.channel.clone();
            let (channel, audience) = (catalogue.channel(&name)?, catalogue.audience_of(&name)?);
            let interval = i64::try_from(freshness.expected_interval_ms).ok()?;
            Some((Watched { name, channel, audience }, interval))
        };
        let (channels, intervals): (Vec<_>, Vec<_>) = config.iter().filter_map(watched).unzip();
        let mut freshness = Self {
            watched: channels.iter().fold(ChannelMask::NONE, |mask, watched| mask.with(watched.channel)),
            channels,
            book: Mutex::new(Book::new(intervals)),
            unsaid: Mutex::default(),
            sooner: Notify::new(),
            started: (Instant::now(), now_ms()),
        };
        if freshness.is_on() {
            let mut book = freshness.lock();
            past::recall(log, &freshness, &mut book, freshness.now());
            let unsaid = Unsaid::knowing(book.announced().cloned());
            drop(book);
            freshness.unsaid = Mutex::new(unsaid);
        }
        freshness
    }

    /// Whether any channel is watched.
    pub(in crate::hub) fn is_on(&self) -> bool {
        !self.channels.is_empty()
    }

    /// Something was published.
    pub(in crate::hub) fn heard(&self, draft: &Draft) {
        if !draft.event.channels.meets(self.watched) {
            return;
        }
        let now = self.now();
        for pair in self.signs(draft) {
            if self.lock().heard(pair, now) {
                self.sooner.notify_one();
            }
        }
    }

    /// Something came by in the log that nodes share, which may be a notice.
    pub(in crate::hub) fn came_by(&self, draft: &Draft) {
        if !self.is_on() || *draft.event.name != *notice::EVENT {
            return;
        }
        let Some(announced) = notice::read(draft.payload.get()) else { return };
        if let Some(pair) = self.pair_of(&announced) {
            self.unsaid().said(pair, announced.stale);
        }
    }

    /// What a publication is a sign of life of: its event's own channels that it goes out on, unless only those who
    /// are named get it.
    pub(super) fn signs<'a>(&'a self, draft: &'a Draft) -> impl Iterator<Item = Pair> + 'a {
        let scope = match &draft.audience {
            Audience::Scope { scope, targets: None } if !draft.event.down => Some(scope),
            _ => None,
        };
        let is_on =
            |watched: &Watched| watched.channel.meets(draft.event.channels) && watched.channel.meets(draft.channels);
        let channels = self.channels.iter().enumerate().filter(move |(_, watched)| is_on(watched));
        scope
            .into_iter()
            .flat_map(move |scope| channels.clone().map(move |(channel, _)| Pair { channel, scope: scope.clone() }))
    }

    /// The pair that a notice is of, if its channel is watched.
    pub(super) fn pair_of(&self, announced: &notice::Announced) -> Option<Pair> {
        let channel = self.channels.iter().position(|watched| watched.name == announced.channel)?;
        Some(Pair { channel, scope: announced.scope.clone() })
    }

    fn now(&self) -> i64 {
        let elapsed = i64::try_from(self.started.0.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.started.1.saturating_add(elapsed)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsaid(&self) -> MutexGuard<'_, Unsaid> {
        self.unsaid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to announce, as far as is known.
    async fn something(&self) {
        let wakes_at = self.lock().wakes_at();
        until(wakes_at, self.now(), &self.sooner).await;
    }
}

/// Announces every change until `stopping` is cancelled; in a cluster the node that leads does.
pub(in crate::hub) async fn run(hub: Arc<Hub>, stopping: CancellationToken) {
    loop {
        let mut changes = hub.freshness.lock().due(hub.freshness.now(), PORTION);
        let mut waits = false;
        if hub.log.is_shared() {
            let mut unsaid = hub.freshness.unsaid();
            changes = unsaid.of(changes, hub.leads());
            waits = unsaid.waits();
        }
        tokio::select! {
            () = hub.freshness.something(), if changes.is_empty() => {}
            () = hub.leading(), if waits => {}
            () = announce(&hub, &changes), if !changes.is_empty() => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// Publishes notices, in their order, until each of them is in the log; where nodes share it, what is not is unsaid.
async fn announce(hub: &Arc<Hub>, changes: &[Change]) {
    let mut left: Vec<&Change> = changes.iter().collect();
    loop {
        // None waits for the delivery of another, and each is appended when it is first polled.
        let results = join_all(left.iter().map(|change| publish(hub, change))).await;
        let mut results = results.into_iter();
        left.retain(|_| results.next().is_some_and(|result| result.is_err()));
        if left.is_empty() {
            return;
        }
        tracing::warn!(notices = left.len(), "subscribers could not be told what is stale; it is tried again");
        tokio::time::sleep(AGAIN).await;
        if hub.log.is_shared() {
            // Redis may have taken what it did not confirm, or another node that leads by now has said it.
            hub.freshness.unsaid().of(left.into_iter().cloned().collect(), false);
            return;
        }
    }
}

async fn publish(hub: &Arc<Hub>, change: &Change) -> Result<(), WireError> {
    let Change { pair, stale, age_ms } = change;
    let channel = &hub.freshness.channels[pair.channel].name;
    let payload = notice::payload(*stale, channel, &pair.scope, *age_ms);
    let target = Target { scope: (&pair.scope).into(), channels: vec![channel.clone()], ..Target::default() };
    let publication = Publication { target, ..Publication::new(notice::EVENT, payload, ScopeFields::default()) };
    hub.publish(hub.draft(publication)?).await?;
    tracing::info!(channel, scope = scope_room(&pair.scope), age_ms, "{}", if *stale { "stale" } else { "live again" });
    Ok(())
}

impl Hub {
    /// Whether anything can become stale.
    pub fn watches_freshness(&self) -> bool {
        self.freshness.is_on()
    }

    /// Tells a socket what is stale of what it listens to by this interest; what changes later reaches it as an
    /// entry, behind this.
    pub fn tell_stale(&self, recipient: &Recipient, interest: &Interest) {
        let Some((organization, _)) = interest.identity.as_ref().filter(|_| self.freshness.is_on()) else { return };
        let Some(event) = self.catalogue.event(notice::EVENT) else { return };
        let (now, facts) = (self.freshness.now(), notice::facts());
        let watched = |pair: &Pair| &self.freshness.channels[pair.channel];
        // Held until it is told: a notice that it is live again must not come before.
        let book = self.freshness.lock();
        let stale = book.stale_in(organization);
        let heard = stale.filter(|(pair, _)| interest.hears(watched(pair).audience, &pair.scope, &facts));
        for (pair, last_ms) in heard.take(AT_ONCE) {
            let payload = notice::payload(true, &watched(pair).name, &pair.scope, now - last_ms);
            recipient.tell(event, &pair.scope, &payload, now_ms());
        }
    }
}
