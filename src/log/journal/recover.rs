//! Recovery: from the files of a folder to an index that hides no loss.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::JournalError;
use super::index::{Hole, Shard, Slot};
use super::record::{Place, Places};
use super::scan::{Found, Scanner};
use super::segment::{FORMAT, HEADER, Header, Medium, Segment, ids};
use super::state::State;

/// What a folder holds.
pub(super) struct Recovered {
    /// The index of each shard.
    pub(super) shards: Vec<Shard>,
    /// All segments, by number.
    pub(super) segments: BTreeMap<u64, Kept>,
    /// The end of the last segment, if it can be appended to.
    pub(super) end: Option<u64>,
}

/// A segment, and how many slots of the index point to it.
pub(super) struct Kept {
    /// The file.
    pub(super) segment: Arc<Segment>,
    /// The slots.
    pub(super) live: usize,
    /// Whether it is no more than what damage left of it, which is for people to look at.
    pub(super) wreck: bool,
}

/// Rebuilds the index of a folder whose state file says `state`.
///
/// Cuts a torn tail off, and counts what is damaged as lost.
pub(super) fn recover(folder: &Path, state: &State, medium: &dyn Medium) -> Result<Recovered, JournalError> {
    let mut recovery = Recovery {
        state,
        shards: state.floors.iter().map(|&floor| Shard::new(floor)).collect(),
        seen: vec![0; state.floors.len()],
        damage: Vec::new(),
        segments: BTreeMap::new(),
    };
    let ids = ids(folder)?;
    if ids.is_empty() && state.ceilings.iter().any(|&ceiling| ceiling > 0) {
        recovery.damage.push((folder.into(), 0));
    }
    let mut end = None;
    for &id in &ids {
        let segment = Segment::open(folder, id)?;
        end = recovery.segment(segment, Some(&id) == ids.last(), medium)?;
    }
    recovery.finish();
    Ok(Recovered { shards: recovery.shards, segments: recovery.segments, end })
}

/// What the scan of a segment found.
struct Scan {
    /// Where its records end.
    end: u64,
    /// How many slots point to it.
    live: usize,
    /// Whether there is any record.
    any: bool,
    /// Whether all of it could be walked through.
    whole: bool,
}

struct Recovery<'a> {
    state: &'a State,
    shards: Vec<Shard>,
    /// For each shard, how much damage had been found at its last record.
    seen: Vec<usize>,
    /// File and byte of each.
    damage: Vec<(PathBuf, u64)>,
    segments: BTreeMap<u64, Kept>,
}

impl Recovery<'_> {
    /// Indexes a segment; returns where it ends, if records can be appended there.
    fn segment(&mut self, segment: Segment, last: bool, medium: &dyn Medium) -> Result<Option<u64>, JournalError> {
        let shards = self.shards.len();
        let length = segment.len()?;
        let header = segment.header(shards)?;
        if last && matches!(header, Header::Unwritten | Header::Damaged) && length <= HEADER as u64 {
            let segment = Segment::create(folder_of(&segment.path), segment.id, shards, medium)?;
            self.segments.insert(segment.id, Kept { segment: segment.into(), live: 0, wreck: false });
            return Ok(Some(HEADER as u64));
        }
        let damage = self.damage.len();
        match header {
            Header::Good => {}
            Header::Format(found) => return Err(JournalError::Format { path: segment.path, found, known: FORMAT }),
            Header::Shards(written) => {
                let folder = folder_of(&segment.path).into();
                return Err(JournalError::Shards { folder, written, configured: shards });
            }
            Header::Unwritten | Header::Damaged => self.damage.push((segment.path.clone(), 0)),
        }
        let Scan { end, live, any, whole } = self.scan(&segment, length, last)?;
        if header == Header::Damaged && !any {
            return Err(JournalError::Foreign(segment.path));
        }
        if end < length {
            segment.file.set_len(end).map_err(JournalError::io("cut the torn end off", &segment.path))?;
        }
        if !self.state.clean {
            // What outlived the process may still have been on its way to the disk.
            medium.sync(&segment.file).map_err(JournalError::io("sync", &segment.path))?;
        }
        let wreck = live == 0 && self.damage.len() > damage;
        let appendable = whole && header == Header::Good && end <= u64::from(u32::MAX);
        self.segments.insert(segment.id, Kept { segment: segment.into(), live, wreck });
        Ok(appendable.then_some(end))
    }

    /// Indexes the records of a segment of so many bytes.
    fn scan(&mut self, segment: &Segment, length: u64, last: bool) -> Result<Scan, JournalError> {
        let failed = || JournalError::io("read", &segment.path);
        let mut scanner = Scanner::new(&segment.file, HEADER as u64, length).map_err(failed())?;
        let mut scan = Scan { end: length, live: 0, any: false, whole: true };
        // The content of the last record of all may be wrong because it was never finished; of any other it is damage.
        let mut doubtful = None;
        while let Some((at, found)) = scanner.next().map_err(failed())? {
            self.damage.extend(doubtful.take().map(|at| (segment.path.clone(), at)));
            match found {
                Found::Record { length, at_ms, places } => {
                    scan.any = true;
                    scan.live += self.record(&places, Slot { segment: segment.id, position: at as u32, length, at_ms });
                }
                Found::Damaged => doubtful = Some(at),
                Found::Torn if last => scan.end = at,
                Found::Torn | Found::Lost => {
                    self.damage.push((segment.path.clone(), at));
                    scan.whole = false;
                }
            }
        }
        match doubtful {
            Some(at) if last => scan.end = at,
            Some(at) => self.damage.push((segment.path.clone(), at)),
            None => {}
        }
        Ok(scan)
    }

    /// Enters a record for each of its shards that has not forgotten it; returns how many have not.
    fn record(&mut self, places: &Places, slot: Slot) -> usize {
        let mut live = 0;
        for &Place { shard, offset } in places {
            let number = usize::from(shard);
            let Some(shard) = self.shards.get_mut(number).filter(|shard| offset > shard.head()) else { continue };
            explain(shard, &self.state.holes[number], offset - 1);
            shard.skip_to(offset - 1, true);
            shard.push(slot);
            self.seen[number] = self.damage.len();
            live += 1;
        }
        live
    }

    /// Accounts for what comes after the last record of each shard.
    fn finish(&mut self) {
        for (number, shard) in self.shards.iter_mut().enumerate() {
            explain(shard, &self.state.holes[number], u64::MAX);
            let lost = self.state.clean || self.damage.len() > self.seen[number];
            shard.skip_to(self.state.ceilings[number], lost);
        }
        if let Some((path, at)) = self.damage.first() {
            let (path, places) = (path.display(), self.damage.len());
            tracing::warn!(%path, at, places, "the journal is damaged; what was lost is told to its readers as a gap");
        }
    }
}

/// Applies what is known of the offsets up to `until` that have no record.
fn explain(shard: &mut Shard, holes: &[Hole], until: u64) {
    for hole in holes.iter().filter(|hole| hole.to <= until) {
        shard.skip_to(hole.to, hole.lost || hole.from != shard.head());
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
