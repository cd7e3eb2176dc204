//! The journal as its users see it.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use super::error::JournalError;
use super::read::Page;
use super::recover::recover;
use super::segment::{Disk, Medium, ids};
use super::settings::{Durability, JournalSettings};
use super::shared::Shared;
use super::state::State;
use super::sync;
use super::writer::{Writer, Written, describe};
use crate::wire::now_ms;

const LOCK: &str = "lock";

/// An append-only store of records, each in the history of one shard or of several.
///
/// Appends and reads block on the disk, for as long as a `write` or a `read`
/// takes; a new segment or a ceiling that was not raised in time costs an
/// append a few milliseconds. Dropped without [`close`](Self::close), it is
/// as if the process had been killed, but for records that waited in memory.
pub struct Journal {
    pub(super) shared: Arc<Shared>,
    epoch: Arc<str>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held for as long as the journal is there.
    lock: File,
}

impl Journal {
    /// Opens the journal in a folder, which is created if it is missing.
    ///
    /// # Errors
    ///
    /// The settings make no sense, the folder is in use or cannot be used, or
    /// what is in it was written by another version, with another number of
    /// shards, or is no journal. Damaged records are no error but a gap.
    pub fn open(folder: &Path, settings: JournalSettings) -> Result<Self, JournalError> {
        Self::open_on(folder, settings, Arc::new(Disk))
    }

    /// Opens a journal on a disk that may be a test's.
    pub(super) fn open_on(
        folder: &Path,
        settings: JournalSettings,
        medium: Arc<dyn Medium>,
    ) -> Result<Self, JournalError> {
        check(&settings)?;
        // What was published is nobody else's business.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(JournalError::io("create the folder", folder))?;
        let lock = lock(folder)?;
        let state = match State::load(folder)? {
            Some(state) => state,
            None => {
                if !ids(folder)?.is_empty() {
                    tracing::warn!(folder = %folder.display(), "the journal's state file is missing; it goes on in a new epoch");
                }
                State::fresh(settings.shards)
            }
        };
        let written = state.ceilings.len();
        if written != settings.shards {
            return Err(JournalError::Shards { folder: folder.into(), written, configured: settings.shards });
        }
        let recovered = recover(folder, &state, &*medium)?;
        let epoch = state.epoch.as_str().into();
        let mut writer = Writer::open(folder.into(), settings.clone(), medium.clone(), state, recovered)?;
        (0..settings.shards).for_each(|shard| writer.trim(shard, now_ms()));
        let shared = Arc::new(Shared {
            folder: folder.into(),
            settings,
            medium,
            state: writer.state(),
            progress: watch::Sender::default(),
            syncs: AtomicU64::new(0),
            writer: Mutex::new(writer),
            work: Condvar::new(),
            failed: OnceLock::new(),
        });
        let thread = thread::Builder::new().name("journal".into()).spawn({
            let shared = shared.clone();
            move || sync::run(&shared)
        });
        let thread = thread.map_err(JournalError::io("start the thread of the journal in", folder))?;
        Ok(Self { shared, epoch, thread: Mutex::new(Some(thread)), lock })
    }

    /// The life of the journal, 8 letters; offsets of another life mean nothing in this one.
    pub fn epoch(&self) -> &Arc<str> {
        &self.epoch
    }

    /// The last offset given out in a shard, 0 if there is none; they count from 1.
    ///
    /// After an unclean stop it lies past all that may have been given out.
    ///
    /// # Panics
    ///
    /// As all that take a shard to read from: if there is no such shard.
    pub fn head(&self, shard: usize) -> u64 {
        self.shared.lock().shards[shard].head()
    }

    /// The oldest offset kept in a shard; one more than the head if there is none.
    pub fn first(&self, shard: usize) -> u64 {
        self.shared.lock().shards[shard].first()
    }

    /// An offset behind which are the newest records of a shard, so many if there are.
    pub fn back(&self, shard: usize, count: usize) -> u64 {
        self.shared.lock().shards[shard].back(count)
    }

    /// How often a segment was synced since the journal was opened.
    pub fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    /// Appends one record, its body in parts, to one shard or to several in ascending order.
    ///
    /// A record for several shards is in each of them, or in none. Its time,
    /// in milliseconds since the epoch, is taken for the present one by retention.
    ///
    /// # Errors
    ///
    /// Nothing was appended. When the disk is full, it works again once there is room.
    pub fn append(&self, shards: &[usize], at_ms: i64, parts: &[&[u8]]) -> Result<Written, JournalError> {
        self.shared.check_failed()?;
        self.shared.with(|writer| {
            if writer.closed {
                return Err(JournalError::Closed(self.shared.folder.clone()));
            }
            writer.append(shards, at_ms, parts)
        })
    }

    /// Returns when a record is as durable as configured: at once, or after the sync that covers it.
    ///
    /// # Errors
    ///
    /// A sync failed: whether the record is on the disk is not known.
    pub async fn committed(&self, ticket: u64) -> Result<(), JournalError> {
        if !self.is_committed(ticket) && self.shared.settings.durability == Durability::Always {
            let mut progress = self.shared.progress.subscribe();
            // The sender is ours, so that it cannot be gone.
            progress.wait_for(|progress| progress.synced >= ticket || progress.failed).await.ok();
        }
        if self.is_committed(ticket) { Ok(()) } else { self.shared.check_failed() }
    }

    /// Whether a record is as durable as configured.
    pub fn is_committed(&self, ticket: u64) -> bool {
        match self.shared.settings.durability {
            Durability::Always => self.shared.progress.borrow().synced >= ticket,
            Durability::None | Durability::Batch => self.shared.failed.get().is_none(),
        }
    }

    /// Up to `limit` records of a shard after an offset, and about `max_bytes`, but at least one if there is one.
    ///
    /// # Errors
    ///
    /// A file cannot be read. A damaged record is no error but a gap.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    pub fn read(&self, shard: usize, after: u64, limit: usize, max_bytes: usize) -> Result<Page, JournalError> {
        loop {
            let plan = self.shared.lock().plan(shard, after, limit, max_bytes);
            let mut page = Page { records: Vec::with_capacity(plan.wanted.len()), gap: plan.gap };
            let mut damaged = None;
            for wanted in plan.wanted {
                let offset = wanted.offset;
                match wanted.read(shard)? {
                    Some(body) => page.records.push((offset, body)),
                    None => {
                        damaged = Some(offset);
                        break;
                    }
                }
            }
            let Some(offset) = damaged else { return Ok(page) };
            tracing::warn!(folder = %self.shared.folder.display(), shard, offset, "a record of the journal is damaged; its readers are told of a gap");
            self.shared.lock().shards[shard].lose(offset);
            if !page.records.is_empty() {
                return Ok(page);
            }
        }
    }

    /// Whether a reader can have read up to an offset, and everything after it is still known.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    pub fn resumable_from(&self, shard: usize, offset: u64) -> bool {
        self.shared.lock().shards[shard].resumable_from(offset)
    }

    /// Drops what is too old at a time in milliseconds since the epoch; appends do so for their own shards only.
    pub fn trim(&self, now_ms: i64) {
        for shard in 0..self.shared.settings.shards {
            self.shared.with(|writer| {
                if !writer.closed {
                    writer.trim(shard, now_ms);
                }
            });
        }
    }

    /// Stops for good: everything is on the disk, and the next start goes on from here. A second call does nothing.
    ///
    /// # Errors
    ///
    /// Not everything could be written or synced: the next start takes this for an unclean stop.
    pub fn close(&self) -> Result<(), JournalError> {
        if !self.stop() {
            return Ok(());
        }
        self.shared.check_failed()?;
        let mut writer = self.shared.lock();
        writer.flush()?;
        // Nothing is left, unless only this last flush found room.
        for segment in std::mem::take(&mut writer.unsynced) {
            self.shared.medium.sync(&segment.file).map_err(JournalError::io("sync", &segment.path))?;
        }
        let heads: Vec<u64> = writer.shards.iter().map(|shard| shard.head()).collect();
        self.shared.state.update(|state| {
            let known = State { clean: true, ceilings: heads, ..state.clone() };
            *state = describe(known, &writer.shards);
        })?;
        // Whoever still holds this one only reads from here on.
        self.lock.unlock().map_err(JournalError::io("unlock", &self.shared.folder))
    }

    /// Ends the background thread after a last sync; tells whether this call did.
    fn stop(&self) -> bool {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(thread) = thread.take() else { return false };
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
        if thread.join().is_err() {
            self.shared.failed.set("its thread panicked".into()).ok();
        }
        true
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop();
        // Closing the file is not enough while a process that is being started still shares it.
        self.lock.unlock().ok();
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("folder", &self.shared.folder).field("epoch", &self.epoch).finish()
    }
}

fn check(settings: &JournalSettings) -> Result<(), JournalError> {
    if !(1..=usize::from(u16::MAX)).contains(&settings.shards) {
        return Err(JournalError::Setting { setting: "number of shards", allowed: "from 1 to 65,535" });
    }
    if settings.segment_bytes > 1 << 30 {
        return Err(JournalError::Setting { setting: "segment size", allowed: "at most 1 GiB" });
    }
    Ok(())
}

/// Keeps other journals out of the folder.
fn lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(JournalError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(folder.into())),
        Err(TryLockError::Error(source)) => Err(JournalError::Io { action: "lock", path, source }),
    }
}
