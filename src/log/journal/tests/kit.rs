//! What the tests share: folders, small journals, and a disk that fails when told.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::super::segment::Medium;
use super::*;

pub(super) fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("tiercast-journal-").tempdir().expect("a temporary folder")
}

/// Three shards, small segments, and no retention.
pub(super) fn settings() -> JournalSettings {
    JournalSettings {
        shards: 3,
        segment_bytes: 2048,
        durability: Durability::Batch,
        max_entries: u64::MAX,
        max_bytes: u64::MAX,
        max_age_ms: u64::MAX,
    }
}

/// Opens a journal on a disk that works, but does not wait for its syncs.
pub(super) fn open(folder: &tempfile::TempDir, settings: &JournalSettings) -> Journal {
    open_on(folder, settings, &Flaky::new())
}

pub(super) fn open_on(folder: &tempfile::TempDir, settings: &JournalSettings, disk: &Arc<Flaky>) -> Journal {
    Journal::open_on(folder.path(), settings.clone(), disk.clone()).expect("a journal")
}

pub(super) fn append(journal: &Journal, shards: &[usize], text: &str) -> Vec<u64> {
    journal.append(shards, 0, &[text.as_bytes()]).expect("room").offsets.to_vec()
}

/// All records of a shard, page by page: each with its offset and whether a gap was told before it.
///
/// A gap at the end is told with the head and no text.
pub(super) fn history(journal: &Journal, shard: usize) -> Vec<(u64, bool, Option<String>)> {
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = journal.read(shard, after, 7, 1000).expect("a page");
        let mut gap = page.gap;
        if page.records.is_empty() {
            found.extend(gap.then(|| (journal.head(shard), true, None)));
            return found;
        }
        for (offset, body) in page.records {
            assert!(offset > after, "offsets ascend");
            after = offset;
            found.push((offset, std::mem::take(&mut gap), Some(String::from_utf8_lossy(&body).into_owned())));
        }
    }
}

/// The offsets of a shard, and whether a gap is told before each.
pub(super) fn walk(journal: &Journal, shard: usize) -> Vec<(u64, bool)> {
    history(journal, shard).into_iter().map(|(offset, gap, _)| (offset, gap)).collect()
}

/// The texts of a shard that has no gap.
pub(super) fn texts_of(journal: &Journal, shard: usize) -> Vec<String> {
    let history = history(journal, shard);
    assert!(history.iter().all(|(_, gap, _)| !gap), "{history:?}");
    history.into_iter().filter_map(|(_, _, text)| text).collect()
}

/// The segment files, in order.
pub(super) fn files(folder: &tempfile::TempDir) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.path()).expect("a folder").map(|file| file.expect("a file").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|kind| kind == "log")).collect();
    files.sort();
    files
}

/// A copy of a folder, so that the next damage is not added to the last.
pub(super) fn copy(from: &tempfile::TempDir) -> tempfile::TempDir {
    let to = folder();
    for file in fs::read_dir(from.path()).expect("a folder") {
        let path = file.expect("a file").path();
        fs::copy(&path, to.path().join(path.file_name().expect("a name"))).expect("a copy");
    }
    to
}

/// A disk without waiting that can be full, that can fail to sync, and whose syncs can be held up.
pub(super) struct Flaky {
    room: AtomicU64,
    broken: AtomicBool,
    gate: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Default)]
struct Gate {
    closed: bool,
    waiting: usize,
}

impl Flaky {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            room: AtomicU64::new(u64::MAX),
            broken: AtomicBool::new(false),
            gate: Mutex::default(),
            moved: Condvar::new(),
        })
    }

    /// From here on so many bytes can be written.
    pub(super) fn leave_room(&self, bytes: u64) {
        self.room.store(bytes, Ordering::SeqCst);
    }

    /// From here on no sync works.
    pub(super) fn break_syncs(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// Holds syncs up, or lets them go on.
    pub(super) fn hold_syncs(&self, hold: bool) {
        self.gate.lock().expect("a gate").closed = hold;
        self.moved.notify_all();
    }

    /// Waits until a sync is held up.
    pub(super) fn wait_for_sync(&self) {
        let gate = self.gate.lock().expect("a gate");
        drop(self.moved.wait_while(gate, |gate| gate.waiting == 0).expect("a gate"));
    }
}

impl Medium for Flaky {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let room = self.room.load(Ordering::SeqCst).min(bytes.len() as u64);
        file.write_all_at(&bytes[..room as usize], at)?;
        self.room.fetch_sub(room, Ordering::SeqCst);
        if room < bytes.len() as u64 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self, _: &File) -> io::Result<()> {
        let mut gate = self.gate.lock().expect("a gate");
        gate.waiting += 1;
        self.moved.notify_all();
        let mut gate = self.moved.wait_while(gate, |gate| gate.closed).expect("a gate");
        gate.waiting -= 1;
        drop(gate);
        self.sync_folder(Path::new(""))
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) { Err(io::Error::other("broken")) } else { Ok(()) }
    }
}
