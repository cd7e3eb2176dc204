//! Publishing: append, wait for the sequencer, answer.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ack_ids::AckIds;
use super::acks::concerns_users;
use super::escalation::{Done, Escalation};
use super::explanations::Explanations;
use super::following::Following;
use super::freshness::{self, Freshness};
use super::latest::Latest;
use super::notes::{self, Notes};
use super::offline::Offline;
use super::publication::Publication;
use super::receipts::Receipts;
use super::sequencer::{self, Command};
use super::tail::Listener;
use super::turns::{Turn, Turns};
use crate::cluster::Cluster;
use crate::config::{Config, Logging};
use crate::connection::Plane;
use crate::delivery::{Directory, is_large, prepare};
use crate::events::Catalogue;
use crate::log::{Appended, Audience, Draft, Entry, Explanation, Log, Position, Report, StoreError, StreamError};
use crate::rooms::Id;
use crate::stats::Counters;
use crate::wire::{WireError, now_ms};

/// Entries from this many bytes of payload take too long to prepare for a thread that others wait for.
const HUGE: usize = 64 * 1024;

/// How often what is too old leaves the log.
const TRIM: Duration = Duration::from_secs(60);

fn not_stored(error: &StoreError) -> WireError {
    if let StoreError::Streams(StreamError::Away(_)) = error {
        // That it is away is told once, and not by each publication.
        tracing::debug!(%error, "a publication is refused");
        return WireError::StoreAway;
    }
    tracing::error!(%error, "a publication is refused");
    WireError::NotStored
}

/// An entry that is being prepared; whatever happens, it is delivered.
struct Preparing(Arc<Entry>);

impl Preparing {
    fn run(self, directory: &Directory) {
        self.0.prepare(prepare(directory, &self.0));
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        self.0.prepare(Vec::new());
    }
}

/// The hub of one server.
pub struct Hub {
    /// Every event there is.
    pub catalogue: Arc<Catalogue>,
    pub(super) receipts: Receipts,
    pub(super) offline: Offline,
    pub(super) notes: Notes,
    pub(super) escalation: Escalation,
    pub(super) log: Arc<Log>,
    pub(super) plane: Arc<Plane>,
    pub(super) directory: Arc<Directory>,
    pub(super) counters: Arc<Counters>,
    pub(super) logging: Logging,
    pub(super) freshness: Freshness,
    pub(super) latest: Latest,
    pub(super) explanations: Explanations,
    turns: Turns,
    pub(super) tasks: TaskTracker,
    pub(super) stopping: CancellationToken,
    ack_ids: AckIds,
    /// Who else hears what is announced of users.
    pub(super) listener: OnceLock<Box<dyn Listener>>,
    pub(super) following: Following,
    /// Whether the cluster has this node do what one of them has to, and whether it does.
    elected: watch::Receiver<bool>,
    pub(super) leading: watch::Sender<bool>,
    /// How often a shard of the shared log began another life.
    pub(super) lives: watch::Sender<u64>,
    next_delivery: AtomicU64,
    commands: Vec<mpsc::UnboundedSender<Command>>,
    /// Offset of the last entry delivered in each shard.
    pub(super) delivered: Vec<AtomicU64>,
}

/// What came of a publication.
#[derive(Debug, Clone)]
pub struct Published {
    /// Id of the message.
    pub message_id: String,
    /// Where it is in the log.
    pub position: Position,
    /// Sockets of this node that it was handed to.
    pub recipients: usize,
    /// When it was published, in milliseconds since the epoch.
    pub sent_at_ms: i64,
    /// Why to those, if that was asked for.
    pub explanation: Option<Explanation>,
}

impl Hub {
    /// A hub over a log; its sequencers end when `stopping` is cancelled. The nodes of the
    /// cluster share the log, and one of them leads.
    ///
    /// # Errors
    /// If there is a service to call and none can be, or Redis does not tell what was noted.
    #[expect(clippy::too_many_arguments, reason = "everything that a publication needs meets here")]
    pub async fn start(
        catalogue: Arc<Catalogue>,
        log: Log,
        directory: Arc<Directory>,
        plane: Arc<Plane>,
        counters: Arc<Counters>,
        config: &Config,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
        cluster: &Cluster,
    ) -> io::Result<Arc<Self>> {
        let escalation = Escalation::new(&config.escalation).map_err(io::Error::other)?;
        let log = Arc::new(log);
        let ack_ids = AckIds::new(cluster.number().filter(|_| log.is_shared()));
        let (commands, queues): (Vec<_>, Vec<_>) = (0..log.shards()).map(|_| mpsc::unbounded_channel()).unzip();
        let delivered = (0..log.shards()).map(|shard| AtomicU64::new(log.head(shard).offset)).collect();
        let freshness = Freshness::new(&config.events.freshness, &catalogue, &log);
        let patience = Duration::from_millis(config.cluster.redis_timeout_ms);
        let followed = if log.is_shared() { log.shards() } else { 0 };
        let hub = Arc::new(Self {
            commands,
            delivered,
            freshness,
            latest: Latest::default(),
            explanations: Explanations::default(),
            turns: Turns::default(),
            catalogue,
            receipts: Receipts::default(),
            offline: Offline::new(&config.offline, log.shards()),
            escalation,
            notes: Notes::start(&log, tasks, stopping),
            log,
            plane,
            directory,
            counters,
            logging: config.logging.clone(),
            tasks: tasks.clone(),
            stopping: stopping.clone(),
            ack_ids,
            listener: OnceLock::new(),
            following: Following::new(followed, patience),
            elected: cluster.leading(),
            leading: watch::Sender::new(followed == 0),
            lives: watch::Sender::default(),
            next_delivery: AtomicU64::new(1),
        });
        if hub.log.is_shared() {
            hub.take_part(cluster.nodes().len() < 2).await.map_err(io::Error::other)?;
            tasks.spawn(hub.clone().lead(cluster.leading()));
        } else {
            hub.bring_back(notes::read(&hub.log), true);
        }
        tasks.spawn(hub.clone().trim(stopping.clone()));
        if hub.freshness.is_on() {
            tasks.spawn(freshness::run(hub.clone(), stopping.clone()));
        }
        for (shard, commands) in queues.into_iter().enumerate() {
            tasks.spawn(sequencer::run(hub.clone(), shard, commands, stopping.clone()));
        }
        Ok(hub)
    }

    /// Has somebody hear what the shared log brings; the first who asks is the only one.
    pub fn listen(&self, listener: Box<dyn Listener>) {
        self.listener.set(listener).ok();
    }

    /// The entry that a publication becomes; whoever publishes checks its audience first.
    ///
    /// # Errors
    /// If the event or a channel is not known, an id is malformed, or nobody is named.
    pub fn draft(&self, publication: Publication) -> Result<Draft, WireError> {
        let ack_id = if publication.ack_timeout_ms.is_some() { self.ack_ids.next() } else { 0 };
        publication.draft(&self.catalogue, ack_id)
    }

    /// Appends an entry and waits until it is handed to its sockets.
    ///
    /// # Errors
    /// If it cannot be stored, or the server stops before that and the entry goes with it.
    pub async fn publish(self: &Arc<Self>, draft: Draft) -> Result<Published, WireError> {
        let _turn = self.turn(&draft.audience).await?;
        let shards = self.shards_of(&draft.audience);
        // Where they are followed the entry is read back at once.
        let _followers: Vec<_> = shards.clone().map(|shard| self.following.follow(shard)).collect();
        let for_users = concerns_users(&draft);
        let (message_id, sent_at_ms) = (draft.message_id.clone(), draft.published_at_ms);
        // Where what is noted of it is, too.
        let first = shards.start;
        let (reports, reported): (Vec<_>, Vec<_>) = shards.clone().map(|_| oneshot::channel()).unzip();
        let position = if self.log.is_shared() {
            // It is an entry when it is read back.
            self.log.send(shards, &draft, reports).await.map_err(|error| not_stored(&error))?
        } else {
            self.append(shards, draft, reports).await?
        };
        let mut whole = Report::default();
        for reported in reported {
            let reported = tokio::select! {
                biased;
                reported = reported => reported.ok(),
                () = self.stopping.cancelled() => None,
            };
            let report = match reported {
                Some(report) => report,
                // It is published, and its clients get it from the next process.
                None if self.log.outlives_the_process() => Report::default(),
                None => return Err(WireError::Stopping),
            };
            whole.add(report);
        }
        if for_users {
            self.notes.written(first).await;
        }
        let Report { recipients, explanation } = whole;
        Ok(Published { message_id, position, recipients, sent_at_ms, explanation })
    }

    /// The shards that an audience is in.
    fn shards_of(&self, audience: &Audience) -> Range<usize> {
        match audience {
            Audience::Everyone => 0..self.log.shards(),
            Audience::Scope { scope, .. } => {
                let shard = self.log.shard_of(Some(&scope.organization));
                shard..shard + 1
            }
        }
    }

    /// Appends an entry to a log of this process alone, and has it delivered as soon as it is durable.
    async fn append(
        self: &Arc<Self>,
        shards: Range<usize>,
        draft: Draft,
        reports: Vec<oneshot::Sender<Report>>,
    ) -> Result<Position, WireError> {
        let receipt = self.open_receipt(&draft);
        let escalates = self.escalation.concerns(&draft);
        let appended = self.log.append(shards, draft, reports).map_err(|error| not_stored(&error))?;
        self.freshness.heard(&appended.entries[0].draft);
        let position = appended.entries[0].position.clone();
        self.latest.hear(&appended.entries[0].draft, position.offset);
        if let Some(receipt) = receipt.filter(|_| escalates) {
            self.watch(receipt, appended.entries[0].clone(), Done::default());
        }
        if self.log.is_durable(&appended) {
            appended.entries.into_iter().for_each(|entry| self.prepare(entry));
        } else {
            self.when_durable(appended).await?;
        }
        Ok(position)
    }

    /// Waits for a turn of the organization that an entry is for.
    async fn turn(&self, audience: &Audience) -> Result<Option<Turn<'_>>, WireError> {
        let Some(scope) = audience.scope() else { return Ok(None) };
        tokio::select! {
            biased;
            turn = self.turns.turn(&scope.organization) => Ok(Some(turn)),
            () = self.stopping.cancelled() => Err(WireError::Stopping),
        }
    }

    /// Has an entry delivered as soon as it is durable, whether or not the publisher still waits.
    async fn when_durable(self: &Arc<Self>, appended: Appended) -> Result<(), WireError> {
        let hub = self.clone();
        let stored = self.tasks.spawn(async move {
            let stored = hub.log.durable(&appended).await;
            for entry in appended.entries {
                match &stored {
                    Ok(()) => hub.prepare(entry),
                    Err(_) => entry.abandon(),
                }
            }
            stored.map_err(|error| not_stored(&error))
        });
        stored.await.map_err(|_| WireError::Stopping)?
    }

    /// Drops what is older than the log keeps, every minute, until `stopping` is cancelled.
    async fn trim(self: Arc<Self>, stopping: CancellationToken) {
        let mut tick = tokio::time::interval(TRIM);
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    if self.leads() {
                        self.log.trim(now_ms());
                        self.note_reached();
                    }
                    self.trim_users(now_ms());
                }
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Stops the log for good, when nothing is published any more.
    pub fn close(&self) {
        for shard in 0..self.log.shards() {
            self.note_undelivered(shard);
        }
        self.notes.finish(&self.log);
        if let Err(error) = self.log.close() {
            tracing::error!(%error, "the log is not closed in good order");
        }
    }

    /// Builds what is large of an entry here, and not where all entries of a shard have to pass.
    pub(super) fn prepare(&self, entry: Arc<Entry>) {
        let size = if is_large(&entry.draft) { entry.draft.payload.get().len() } else { 0 };
        match size {
            0 => entry.prepare(Vec::new()),
            1..HUGE => Preparing(entry).run(&self.directory),
            _ => {
                let directory = self.directory.clone();
                self.tasks.spawn_blocking(move || Preparing(entry).run(&directory));
            }
        }
    }

    /// Whether this node does what one of them has to.
    pub(super) fn leads(&self) -> bool {
        *self.elected.borrow() && *self.leading.borrow()
    }

    /// Waits until this node does what one of them has to.
    pub(super) async fn leading(&self) {
        self.leading.subscribe().wait_for(|leads| *leads).await.ok();
    }

    /// Changes when a shard of the shared log begins another life, since Redis has lost something.
    pub fn lives(&self) -> watch::Receiver<u64> {
        self.lives.subscribe()
    }

    /// The position of the newest entry of an organization.
    pub fn head(&self, organization: &Id) -> Position {
        self.log.head(self.log.shard_of(Some(organization)))
    }

    /// Offset of the last entry of an organization's shard that was delivered.
    pub fn delivered_to(&self, organization: &Id) -> u64 {
        self.delivered(self.log.shard_of(Some(organization)))
    }

    /// Offset of the last entry delivered in a shard.
    pub(super) fn delivered(&self, shard: usize) -> u64 {
        self.delivered[shard].load(Ordering::SeqCst)
    }

    /// Has the sequencer of a shard run this between two entries; it is told the offset of the last one delivered.
    pub(super) fn between_entries(&self, shard: usize, run: impl FnOnce(u64) + Send + 'static) {
        self.commands[shard].send(Box::new(run)).ok();
    }

    pub(super) fn next_delivery(&self) -> u64 {
        self.next_delivery.fetch_add(1, Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("log", &self.log).finish_non_exhaustive()
    }
}
