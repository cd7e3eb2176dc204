//! The background thread: it writes what waits, syncs, raises ceilings and
//! deletes segments, so that no append waits for the disk longer than it must.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::error::JournalError;
use super::index::Shard;
use super::segment::Segment;
use super::settings::Durability;
use super::shared::Shared;
use super::writer::Writer;

/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread takes over at once.
struct Chores {
    sync: Vec<Arc<Segment>>,
    sync_folder: bool,
    /// The last record that the sync covers.
    ticket: u64,
    ceilings: Option<Vec<u64>>,
    floors: Vec<u64>,
    dead: Vec<Arc<Segment>>,
}

/// Works until the journal is closed or a sync fails.
pub(super) fn run(shared: &Shared) {
    let mut writer = shared.lock();
    loop {
        let now = Instant::now();
        let last = writer.closed;
        writer = match writer.due {
            Some(due) if due > now && !last => shared.wait(writer, Some(due - now)),
            None if !last => shared.wait(writer, None),
            _ => {
                let chores = Chores::take(&mut writer, shared);
                drop(writer);
                if let Err((path, error)) = chores.sync(shared) {
                    shared.fail(&path, &error);
                    return;
                }
                chores.tidy(shared);
                if last {
                    return;
                }
                shared.lock()
            }
        };
    }
}

impl Chores {
    fn take(writer: &mut Writer, shared: &Shared) -> Self {
        writer.due = None;
        if let Err(error) = writer.flush() {
            tracing::warn!(%error, waiting = writer.pending.len(), "the journal keeps what it could not write in memory");
            writer.want(RETRY);
        }
        let sync = shared.settings.durability != Durability::None || writer.closed;
        Self {
            sync: if sync { std::mem::take(&mut writer.unsynced) } else { Vec::new() },
            sync_folder: sync && std::mem::take(&mut writer.created),
            ticket: writer.ticket,
            ceilings: writer.low.then(|| writer.raised()),
            floors: writer.shards.iter().map(Shard::floor).collect(),
            dead: std::mem::take(&mut writer.dead),
        }
    }

    /// Syncs, and tells those who wait for it.
    fn sync(&self, shared: &Shared) -> Result<(), (std::path::PathBuf, std::io::Error)> {
        for segment in &self.sync {
            shared.medium.sync(&segment.file).map_err(|error| (segment.path.clone(), error))?;
            shared.syncs.fetch_add(1, Ordering::Relaxed);
        }
        if self.sync_folder {
            shared.medium.sync_folder(&shared.folder).map_err(|error| (shared.folder.clone(), error))?;
        }
        if shared.settings.durability == Durability::Always {
            shared.progress.send_modify(|progress| progress.synced = self.ticket);
        }
        Ok(())
    }

    /// Raises ceilings and deletes segments.
    fn tidy(self, shared: &Shared) {
        if let Some(ceilings) = &self.ceilings {
            match shared.state.update(|state| state.raise_ceilings(ceilings)) {
                Ok(()) => shared.lock().raise(ceilings),
                // The append that needs it tries again.
                Err(error) => tracing::warn!(%error, "the journal cannot write ahead"),
            }
        }
        if self.dead.is_empty() {
            return;
        }
        // Before the files go, so that what they held is not taken for lost, or for never there, when the journal is opened again.
        let told = shared.state.update(|state| state.raise_floors(&self.floors));
        if let Err(error) = &told {
            tracing::warn!(%error, "the journal cannot note what it drops");
            if !error.is_full() {
                let mut writer = shared.lock();
                writer.dead.extend(self.dead);
                writer.want(RETRY);
                return;
            }
        }
        for segment in &self.dead {
            delete(&segment.path);
        }
        if told.is_err() {
            // The disk was full, and now there is room for it.
            shared.state.update(|state| state.raise_floors(&self.floors)).ok();
        }
    }
}

fn delete(path: &Path) {
    if let Err(error) = fs::remove_file(path).map_err(JournalError::io("delete", path)) {
        tracing::warn!(%error, "the journal cannot delete a segment");
    }
}
