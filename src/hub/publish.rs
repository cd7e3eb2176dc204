//! Publishing: append, wait for the sequencer, answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::publication::Publication;
use super::receipts::Receipts;
use super::sequencer::{self, Command};
use crate::config::Logging;
use crate::connection::Plane;
use crate::delivery::{Directory, is_large, prepare};
use crate::events::Catalogue;
use crate::log::{Audience, Draft, Entry, Log, Position};
use crate::rooms::Id;
use crate::stats::Counters;
use crate::wire::WireError;

/// Ack ids that socketioxide never uses: it counts up from 1.
const FIRST_ACK_ID: u64 = 1 << 40;

/// Entries from this many bytes of payload take too long to prepare for a thread that others wait for.
const HUGE: usize = 64 * 1024;

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
    /// Who acknowledged what.
    pub receipts: Receipts,
    pub(super) log: Log,
    pub(super) plane: Arc<Plane>,
    pub(super) directory: Arc<Directory>,
    pub(super) counters: Arc<Counters>,
    pub(super) logging: Logging,
    tasks: TaskTracker,
    next_ack_id: AtomicU64,
    next_delivery: AtomicU64,
    commands: Vec<mpsc::UnboundedSender<Command>>,
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
}

impl Hub {
    /// A hub over a log; its sequencers end when `stopping` is cancelled.
    #[expect(clippy::too_many_arguments, reason = "everything that a publication needs meets here")]
    pub fn start(
        catalogue: Arc<Catalogue>,
        log: Log,
        directory: Arc<Directory>,
        plane: Arc<Plane>,
        counters: Arc<Counters>,
        logging: Logging,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Arc<Self> {
        let (commands, queues): (Vec<_>, Vec<_>) = (0..log.shards()).map(|_| mpsc::unbounded_channel()).unzip();
        let hub = Arc::new(Self {
            commands,
            catalogue,
            receipts: Receipts::default(),
            log,
            plane,
            directory,
            counters,
            logging,
            tasks: tasks.clone(),
            next_ack_id: AtomicU64::new(FIRST_ACK_ID),
            next_delivery: AtomicU64::new(1),
        });
        for (shard, commands) in queues.into_iter().enumerate() {
            tasks.spawn(sequencer::run(hub.clone(), shard, commands, stopping.clone()));
        }
        hub
    }

    /// The entry that a publication becomes; whoever publishes checks its audience first.
    ///
    /// # Errors
    /// If the event or a channel is not known, an id is malformed, or nobody is named.
    pub fn draft(&self, publication: Publication) -> Result<Draft, WireError> {
        publication.draft(&self.catalogue, self.next_ack_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Appends an entry and waits until it is handed to its sockets.
    ///
    /// # Errors
    /// If the server stops before that.
    pub async fn publish(&self, draft: Draft) -> Result<Published, WireError> {
        if let Some((ack_id, _)) = draft.ack {
            let organization = draft.audience.scope().map(|scope| scope.organization.clone());
            self.receipts.open(ack_id, &draft.message_id, organization);
        }
        let (message_id, sent_at_ms) = (draft.message_id.clone(), draft.published_at_ms);
        let mut shards = match &draft.audience {
            Audience::Everyone => 0..self.log.shards(),
            Audience::Scope { scope, .. } => {
                let shard = self.log.shard_of(Some(&scope.organization));
                shard..shard + 1
            }
        };
        let first = shards.next().unwrap_or_default();
        let (report, reported) = oneshot::channel();
        let mut reports = vec![reported];
        for shard in shards {
            let (report, reported) = oneshot::channel();
            reports.push(reported);
            self.prepare(self.log.append(shard, draft.clone(), report));
        }
        let entry = self.log.append(first, draft, report);
        let position = entry.position.clone();
        self.prepare(entry);
        let mut recipients = 0;
        for reported in reports {
            recipients += reported.await.map_err(|_| WireError::Stopping)?;
        }
        Ok(Published { message_id, position, recipients, sent_at_ms })
    }

    /// Builds what is large of an entry here, and not where all entries of a shard have to pass.
    fn prepare(&self, entry: Arc<Entry>) {
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

    /// The position of the newest entry of an organization.
    pub fn head(&self, organization: &Id) -> Position {
        self.log.head(self.log.shard_of(Some(organization)))
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
