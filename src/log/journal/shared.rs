//! What the journal shares with its background thread, and how the two wait
//! for each other.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::error::JournalError;
use super::segment::Medium;
use super::settings::JournalSettings;
use super::state::StateFile;
use super::writer::Writer;

/// What the journal shares with its background thread.
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) settings: JournalSettings,
    pub(super) medium: Arc<dyn Medium>,
    pub(super) state: Arc<StateFile>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) syncs: AtomicU64,
    pub(super) writer: Mutex<Writer>,
    pub(super) work: Condvar,
    pub(super) failed: OnceLock<String>,
}

/// How far syncs have come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The last record that is on the disk.
    pub(super) synced: u64,
    pub(super) failed: bool,
}

impl Shared {
    /// The append lock; held for one write at most, and never while a file is read or synced.
    pub(super) fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock up until there is something to do, or a time has passed.
    pub(super) fn wait<'a>(&self, writer: MutexGuard<'a, Writer>, at_most: Option<Duration>) -> MutexGuard<'a, Writer> {
        match at_most {
            Some(time) => self.work.wait_timeout(writer, time).unwrap_or_else(PoisonError::into_inner).0,
            None => self.work.wait(writer).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Turns the journal read-only: what is on the disk is not known any more.
    pub(super) fn fail(&self, path: &Path, error: &std::io::Error) {
        tracing::error!(path = %path.display(), %error, "a sync failed; the journal only reads until it is opened again");
        self.failed.set(format!("{}: {error}", path.display())).ok();
        self.progress.send_modify(|progress| progress.failed = true);
    }

    /// Refuses if a sync has failed.
    pub(super) fn check_failed(&self) -> Result<(), JournalError> {
        match self.failed.get() {
            Some(cause) => Err(JournalError::ReadOnly { folder: self.folder.clone(), cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Works on the writer, then wakes the background thread if there is something for it.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Writer) -> T) -> T {
        let mut writer = self.lock();
        let done = work(&mut writer);
        let wake = std::mem::take(&mut writer.wake);
        drop(writer);
        if wake {
            self.work.notify_one();
        }
        done
    }
}
