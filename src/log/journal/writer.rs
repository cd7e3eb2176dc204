//! The writer: what the append lock guards. It gives out offsets, writes
//! records, begins new segments, and forgets what retention no longer keeps.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, mem};

use smallvec::SmallVec;

use super::error::JournalError;
use super::index::{Shard, Slot};
use super::record::{self, Place, Places};
use super::recover::{Kept, Recovered};
use super::segment::{HEADER, Medium, Segment};
use super::settings::JournalSettings;
use super::state::{State, StateFile, raise};

/// Bytes that may wait in memory before they are written.
const BUFFERED: usize = 256 << 10;

/// Capacity of the buffer that is kept after a large record.
const KEPT_CAPACITY: usize = 2 * BUFFERED;

/// How many offsets a ceiling is raised by.
const CEILING_STEP: u64 = 1 << 16;

/// What an append gave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The offset in each of the shards, in their order.
    pub offsets: SmallVec<[u64; 1]>,
    /// What to ask `committed` for.
    pub ticket: u64,
}

/// The part of a journal behind the append lock.
pub(super) struct Writer {
    /// The index of each shard.
    pub(super) shards: Vec<Shard>,
    /// All segments that a shard needs, and the last.
    pub(super) segments: BTreeMap<u64, Kept>,
    /// The segment that is appended to.
    pub(super) tail: Arc<Segment>,
    /// Bytes of it that are written.
    pub(super) written: u64,
    /// What comes after them and is not written yet.
    pub(super) pending: Vec<u8>,
    /// How many records were appended since the start.
    pub(super) ticket: u64,
    /// Segments written to since the last sync.
    pub(super) unsynced: Vec<Arc<Segment>>,
    /// Whether segments were created since the last sync.
    pub(super) created: bool,
    /// Segments that no shard needs any more.
    pub(super) dead: Vec<Arc<Segment>>,
    /// Whether the ceilings are to be raised in the background.
    pub(super) low: bool,
    /// When the background thread is to act.
    pub(super) due: Option<Instant>,
    /// Whether `due` has come closer since the thread was last woken.
    pub(super) wake: bool,
    /// Whether the journal was closed.
    pub(super) closed: bool,
    /// No offset from these on may be given out.
    ceilings: Vec<u64>,
    /// Whether half a record may be behind what is written.
    torn: bool,
    state: Arc<StateFile>,
    medium: Arc<dyn Medium>,
    settings: JournalSettings,
    folder: PathBuf,
}

impl Writer {
    /// Goes on behind what was recovered, once `state` says durably that the journal is open.
    pub(super) fn open(
        folder: PathBuf,
        settings: JournalSettings,
        medium: Arc<dyn Medium>,
        state: State,
        recovered: Recovered,
    ) -> Result<Self, JournalError> {
        let Recovered { shards, mut segments, end } = recovered;
        let ceilings: Vec<u64> = shards.iter().map(|shard| shard.head() + CEILING_STEP).collect();
        let state = State { clean: false, ceilings: ceilings.clone(), ..describe(state, &shards) };
        let state = Arc::new(StateFile::create(&folder, medium.clone(), state)?);
        let last = segments.last_key_value().map(|(_, kept)| kept.segment.clone());
        let (tail, written) = match (last, end) {
            (Some(last), Some(end)) => (last, end),
            (last, _) => {
                let id = last.map_or(1, |last| last.id + 1);
                (Arc::new(Segment::create(&folder, id, settings.shards, &*medium)?), HEADER as u64)
            }
        };
        medium.sync(&tail.file).map_err(JournalError::io("sync", &tail.path))?;
        medium.sync_folder(&folder).map_err(JournalError::io("sync", &folder))?;
        segments.entry(tail.id).or_insert_with(|| Kept { segment: tail.clone(), live: 0, wreck: false });
        let mut writer = Self {
            shards,
            segments,
            written,
            pending: Vec::new(),
            ticket: 0,
            unsynced: Vec::new(),
            tail,
            created: false,
            dead: Vec::new(),
            low: false,
            due: None,
            wake: false,
            closed: false,
            ceilings,
            torn: false,
            state,
            medium,
            settings,
            folder,
        };
        writer.set_wrecks_aside();
        writer.bury();
        Ok(writer)
    }

    /// Appends one record to each of the shards.
    pub(super) fn append(&mut self, shards: &[usize], at_ms: i64, parts: &[&[u8]]) -> Result<Written, JournalError> {
        let places = self.places(shards)?;
        let length = record::length(places.len(), parts);
        if length > record::MAX {
            return Err(JournalError::TooLarge { bytes: length, bound: record::MAX });
        }
        self.keep_below_ceilings(&places)?;
        if self.end() > HEADER as u64 && self.end() + length as u64 > self.settings.segment_bytes {
            self.roll()?;
        }
        let start = self.pending.len();
        let slot = Slot { segment: self.tail.id, position: self.end() as u32, length: length as u32, at_ms };
        record::encode(&mut self.pending, at_ms, &places, parts);
        if !self.settings.durability.buffers() || self.pending.len() >= BUFFERED {
            self.flush().inspect_err(|_| self.pending.truncate(start))?;
        }
        if let Some(kept) = self.segments.get_mut(&slot.segment) {
            kept.live += places.len();
        }
        for place in &places {
            let shard = usize::from(place.shard);
            self.shards[shard].push(slot);
            self.trim(shard, at_ms);
        }
        self.ticket += 1;
        if self.due.is_none() {
            self.want(self.settings.durability.delay());
        }
        Ok(Written { offsets: places.iter().map(|place| place.offset).collect(), ticket: self.ticket })
    }

    /// Drops what retention no longer keeps of a shard.
    pub(super) fn trim(&mut self, shard: usize, now_ms: i64) {
        while let Some(slot) = self.shards[shard].drop_oldest(&self.settings, now_ms) {
            let Some(kept) = self.segments.get_mut(&slot.segment) else { continue };
            kept.live -= 1;
            if kept.live == 0 && slot.segment != self.tail.id {
                self.bury();
            }
        }
    }

    /// Writes what waits in memory; after an error it still waits, and nothing of it is in the file.
    pub(super) fn flush(&mut self) -> Result<(), JournalError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.cut()?;
        if let Err(source) = self.medium.write(&self.tail.file, &self.pending, self.written) {
            self.torn = true;
            self.cut().ok();
            return Err(JournalError::Io { action: "append to", path: self.tail.path.clone(), source });
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        self.pending.shrink_to(KEPT_CAPACITY);
        if self.unsynced.last().is_none_or(|last| last.id != self.tail.id) {
            self.unsynced.push(self.tail.clone());
        }
        Ok(())
    }

    /// Has the background thread act within a time.
    pub(super) fn want(&mut self, delay: Duration) {
        let at = Instant::now() + delay;
        if self.due.is_none_or(|due| at < due) {
            self.due = Some(at);
            self.wake = true;
        }
    }

    /// Where the state is kept.
    pub(super) fn state(&self) -> Arc<StateFile> {
        self.state.clone()
    }

    /// Lets offsets up to these ceilings be given out, which are durable by now.
    pub(super) fn raise(&mut self, ceilings: &[u64]) {
        raise(&mut self.ceilings, ceilings);
        self.low = false;
    }

    /// Ceilings a step above what was given out.
    pub(super) fn raised(&self) -> Vec<u64> {
        let raised = |(shard, &ceiling): (&Shard, &u64)| ceiling.max(shard.head() + CEILING_STEP);
        self.shards.iter().zip(&self.ceilings).map(raised).collect()
    }

    /// The next offset of each of the shards.
    fn places(&self, shards: &[usize]) -> Result<Places, JournalError> {
        let count = self.shards.len();
        if shards.is_empty() || !shards.is_sorted_by(|a, b| a < b) || shards.iter().any(|&shard| shard >= count) {
            return Err(JournalError::NoSuchShard { shards: shards.into(), count });
        }
        Ok(shards.iter().map(|&shard| Place { shard: shard as u16, offset: self.shards[shard].head() + 1 }).collect())
    }

    /// Sees to it that these offsets may be given out.
    fn keep_below_ceilings(&mut self, places: &[Place]) -> Result<(), JournalError> {
        let left = |place: &Place| self.ceilings[usize::from(place.shard)].saturating_sub(place.offset);
        let left = places.iter().map(left).min().unwrap_or(0);
        if left == 0 {
            let raised = self.raised();
            self.state.update(|state| state.raise_ceilings(&raised))?;
            self.raise(&raised);
        } else if left < CEILING_STEP / 2 && !self.low {
            // Ahead of need and in the background, so that no append waits for the disk.
            self.low = true;
            self.want(Duration::ZERO);
        }
        Ok(())
    }

    /// Begins a new segment.
    fn roll(&mut self) -> Result<(), JournalError> {
        self.flush()?;
        self.cut()?;
        let segment = Arc::new(Segment::create(&self.folder, self.tail.id + 1, self.settings.shards, &*self.medium)?);
        self.segments.insert(segment.id, Kept { segment: segment.clone(), live: 0, wreck: false });
        let sealed = mem::replace(&mut self.tail, segment);
        self.written = HEADER as u64;
        self.created = true;
        if self.segments.get(&sealed.id).is_some_and(|kept| kept.live == 0) {
            self.bury();
        }
        Ok(())
    }

    /// Cuts off what a failed write may have left in the file.
    fn cut(&mut self) -> Result<(), JournalError> {
        if self.torn {
            let cut = self.tail.file.set_len(self.written);
            cut.map_err(JournalError::io("cut the torn end off", &self.tail.path))?;
            self.torn = false;
        }
        Ok(())
    }

    /// Renames the segments of which damage left nothing, so that they are out of the way but not gone.
    fn set_wrecks_aside(&mut self) {
        let tail = self.tail.id;
        for (_, Kept { segment, .. }) in self.segments.extract_if(.., |&id, kept| kept.wreck && id != tail) {
            let aside = segment.path.with_extension("damaged");
            if let Err(error) = fs::rename(&segment.path, &aside) {
                tracing::warn!(path = %segment.path.display(), %error, "cannot rename a damaged segment");
            }
        }
    }

    /// Gives up the segments that no shard needs.
    fn bury(&mut self) {
        let tail = self.tail.id;
        let dead = self.segments.extract_if(.., |&id, kept| kept.live == 0 && id != tail);
        self.dead.extend(dead.map(|(_, kept)| kept.segment));
        // An open file takes its room on the disk even when it is deleted.
        self.unsynced.retain(|segment| self.segments.contains_key(&segment.id));
        if !self.dead.is_empty() {
            self.want(Duration::ZERO);
        }
    }

    /// Where the next record begins.
    fn end(&self) -> u64 {
        self.written + self.pending.len() as u64
    }
}

/// The state with what the index knows.
pub(super) fn describe(state: State, shards: &[Shard]) -> State {
    State {
        floors: shards.iter().map(Shard::floor).collect(),
        holes: shards.iter().map(|shard| shard.holes().to_vec()).collect(),
        ..state
    }
}
