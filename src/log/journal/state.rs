//! The state file: what the segments cannot tell, replaced as a whole and
//! durably each time.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::error::JournalError;
use super::index::Hole;
use super::record;
use super::segment::{FORMAT, Medium};
use crate::wire::random_letters;

/// Above any offset that a record can lead to.
const MAX_OFFSET: u64 = 2 * record::MAX_OFFSET;

const NAME: &str = "state";
const TEMPORARY: &str = "state.new";
const MAGIC: &str = "tiercast-journal";

/// What is kept beside the segments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The life of the journal.
    pub(super) epoch: String,
    /// Whether the journal was closed; then nothing was appended since.
    pub(super) clean: bool,
    /// For each shard, an offset above all that may have been given out; its last offset after a clean stop.
    pub(super) ceilings: Vec<u64>,
    /// For each shard, the offset before which everything is forgotten.
    pub(super) floors: Vec<u64>,
    /// For each shard, its offsets without a record.
    pub(super) holes: Vec<Vec<Hole>>,
}

impl State {
    /// The state of a journal in a new epoch.
    pub(super) fn fresh(shards: usize) -> Self {
        Self {
            epoch: random_letters(8),
            clean: false,
            ceilings: vec![0; shards],
            floors: vec![1; shards],
            holes: vec![Vec::new(); shards],
        }
    }

    /// Reads the state of a folder, if there is one.
    pub(super) fn load(folder: &Path) -> Result<Option<Self>, JournalError> {
        let path = folder.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JournalError::Io { action: "read", path, source }),
        };
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.split_once('\n'));
        let Some((head, body)) = text else { return Err(JournalError::State(path)) };
        let [MAGIC, format, crc] = head.split(' ').collect::<Vec<_>>()[..] else {
            return Err(JournalError::State(path));
        };
        match format.parse() {
            Ok(FORMAT) if crc == checksum(body) => {}
            Ok(found) if found != FORMAT => return Err(JournalError::Format { path, found, known: FORMAT }),
            _ => return Err(JournalError::State(path)),
        }
        let state = serde_json::from_str(body).ok().filter(Self::is_sound);
        state.map(Some).ok_or(JournalError::State(path))
    }

    /// Raises the ceilings, where these are higher.
    pub(super) fn raise_ceilings(&mut self, ceilings: &[u64]) {
        raise(&mut self.ceilings, ceilings);
    }

    /// Raises the floors, where these are higher.
    pub(super) fn raise_floors(&mut self, floors: &[u64]) {
        raise(&mut self.floors, floors);
    }

    fn is_sound(&self) -> bool {
        let ordered = |holes: &Vec<Hole>| {
            let bounds: Vec<u64> = holes.iter().flat_map(|hole| [hole.from, hole.to]).collect();
            bounds.is_sorted() && bounds.iter().all(|&bound| bound <= MAX_OFFSET)
        };
        let shards = self.ceilings.len();
        self.floors.len() == shards
            && self.holes.len() == shards
            && self.ceilings.iter().all(|&ceiling| ceiling <= MAX_OFFSET)
            && self.floors.iter().all(|floor| (1..=MAX_OFFSET).contains(floor))
            && self.holes.iter().all(ordered)
    }
}

/// The state file of an open journal.
pub(super) struct StateFile {
    folder: PathBuf,
    medium: Arc<dyn Medium>,
    state: Mutex<State>,
}

impl StateFile {
    /// Writes the state of a journal that is being opened.
    pub(super) fn create(folder: &Path, medium: Arc<dyn Medium>, state: State) -> Result<Self, JournalError> {
        let file = Self { folder: folder.into(), medium, state: Mutex::new(state) };
        file.update(|_| ())?;
        Ok(file)
    }

    /// Changes the state, durably or not at all.
    pub(super) fn update(&self, change: impl FnOnce(&mut State)) -> Result<(), JournalError> {
        let mut state = self.lock();
        let mut changed = state.clone();
        change(&mut changed);
        self.store(&changed)?;
        *state = changed;
        Ok(())
    }

    fn store(&self, state: &State) -> Result<(), JournalError> {
        let body = serde_json::to_string(state).map_err(io::Error::from);
        let temporary = self.folder.join(TEMPORARY);
        let write = |body: String| {
            let text = format!("{MAGIC} {FORMAT} {}\n{body}", checksum(&body));
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            self.medium.write(&file, text.as_bytes(), 0)?;
            self.medium.sync(&file)?;
            fs::rename(&temporary, self.folder.join(NAME))?;
            self.medium.sync_folder(&self.folder)
        };
        body.and_then(write).map_err(JournalError::io("write", &self.folder.join(NAME)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises each value to another, unless it is higher already.
pub(super) fn raise(values: &mut [u64], raised: &[u64]) {
    for (value, &raised) in values.iter_mut().zip(raised) {
        *value = raised.max(*value);
    }
}

fn checksum(body: &str) -> String {
    format!("{:08x}", crc32fast::hash(body.as_bytes()))
}
