//! Reading: the index is looked at under the append lock, the files are read
//! without it.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::JournalError;
use super::index::Slot;
use super::record::{self, Place};
use super::segment::Segment;
use super::writer::Writer;

/// What follows an offset in the history of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Offsets and records, in order.
    pub records: Vec<(u64, Bytes)>,
    /// Whether records between the offset asked for and the first of these are gone, by retention or damage.
    ///
    /// Without records: everything up to the head is gone.
    pub gap: bool,
}

/// What is to be read for a page.
pub(super) struct Plan {
    /// Where its records are.
    pub(super) wanted: Vec<Wanted>,
    /// As in [`Page`].
    pub(super) gap: bool,
}

/// Where one record is.
pub(super) struct Wanted {
    /// Its offset.
    pub(super) offset: u64,
    source: Source,
}

enum Source {
    Memory(Bytes),
    File(Arc<Segment>, Slot),
}

impl Writer {
    /// Finds the records of a page, whose files stay readable even if they are deleted meanwhile.
    pub(super) fn plan(&self, shard: usize, after: u64, limit: usize, max_bytes: usize) -> Plan {
        let (slots, gap) = self.shards[shard].after(after, limit, max_bytes);
        let wanted = slots.into_iter().map(|(offset, slot)| Wanted { offset, source: self.source(slot) });
        Plan { wanted: wanted.collect(), gap }
    }

    fn source(&self, slot: Slot) -> Source {
        let position = u64::from(slot.position);
        if slot.segment != self.tail.id || position < self.written {
            let kept = self.segments.get(&slot.segment).expect("a segment with a live slot is kept");
            return Source::File(kept.segment.clone(), slot);
        }
        let start = (position - self.written) as usize;
        Source::Memory(Bytes::copy_from_slice(&self.pending[start..start + slot.length as usize]))
    }
}

impl Wanted {
    /// Reads the body of the record; nothing if the record is damaged.
    pub(super) fn read(self, shard: usize) -> Result<Option<Bytes>, JournalError> {
        let record = match self.source {
            Source::Memory(record) => record,
            Source::File(segment, slot) => {
                let mut record = vec![0; slot.length as usize];
                match segment.file.read_exact_at(&mut record, slot.position.into()) {
                    Ok(()) => record.into(),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                    Err(source) => {
                        return Err(JournalError::Io { action: "read", path: segment.path.clone(), source });
                    }
                }
            }
        };
        Ok(record::body(&record, Place { shard: shard as u16, offset: self.offset }))
    }
}
