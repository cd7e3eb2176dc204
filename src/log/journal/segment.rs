//! Segment files: their names, their header, and what the journal asks of the
//! disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::JournalError;

/// Bytes of the header: magic, format, number of shards, and a CRC32 of these.
pub(super) const HEADER: usize = 20;

/// The format of segments and of the state file that this version reads and writes.
pub(super) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"TCJOURNL";

/// The operations whose failure the journal has to survive; tests put a failing disk in its place.
pub(super) trait Medium: Send + Sync {
    /// Writes all bytes at a position of a file.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Brings what was written to a file onto the disk.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Brings the names of new files onto the disk.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// The real disk.
pub(super) struct Disk;

impl Medium for Disk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // `sync_data` would do for a file only: to ext4, a new name in a folder is no data.
        File::open(folder)?.sync_all()
    }
}

/// An open segment file.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its number, from 1; the files are written in this order.
    pub(super) id: u64,
    /// Where it is.
    pub(super) path: PathBuf,
    /// The file, for reading and writing at positions.
    pub(super) file: File,
}

/// What the header of a segment says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// It belongs to this journal.
    Good,
    /// It was never written.
    Unwritten,
    /// It is damaged, or the file is no segment.
    Damaged,
    /// It is another version's.
    Format(u32),
    /// It belongs to a journal of so many shards.
    Shards(usize),
}

impl Segment {
    /// Creates an empty segment, or none at all.
    pub(super) fn create(folder: &Path, id: u64, shards: usize, medium: &dyn Medium) -> Result<Self, JournalError> {
        let path = path(folder, id);
        let create = || {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            medium.write(&file, &header(shards), 0).map(|()| file)
        };
        match create() {
            Ok(file) => Ok(Self { id, path, file }),
            Err(source) => {
                fs::remove_file(&path).ok();
                Err(JournalError::Io { action: "create", path, source })
            }
        }
    }

    /// Opens a segment that exists.
    pub(super) fn open(folder: &Path, id: u64) -> Result<Self, JournalError> {
        let path = path(folder, id);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(JournalError::io("open", &path))?;
        Ok(Self { id, path, file })
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> Result<u64, JournalError> {
        Ok(self.file.metadata().map_err(JournalError::io("read the size of", &self.path))?.len())
    }

    /// What its header says, if it is to belong to a journal of so many shards.
    pub(super) fn header(&self, shards: usize) -> Result<Header, JournalError> {
        let mut bytes = [0; HEADER];
        let there = self.len()?.min(HEADER as u64) as usize;
        self.file.read_exact_at(&mut bytes[..there], 0).map_err(JournalError::io("read", &self.path))?;
        let [content @ .., a, b, c, d] = bytes;
        let [magic @ .., e, f, g, h, i, j, k, l] = content;
        let written = u32::from_le_bytes([i, j, k, l]) as usize;
        Ok(match u32::from_le_bytes([e, f, g, h]) {
            _ if bytes == [0; HEADER] || there < HEADER => Header::Unwritten,
            _ if magic != MAGIC || crc32fast::hash(&content) != u32::from_le_bytes([a, b, c, d]) => Header::Damaged,
            FORMAT if written == shards => Header::Good,
            FORMAT => Header::Shards(written),
            other => Header::Format(other),
        })
    }
}

/// The numbers of the segments in a folder, in order.
pub(super) fn ids(folder: &Path) -> Result<Vec<u64>, JournalError> {
    let list = || -> io::Result<Vec<u64>> {
        let mut ids = Vec::new();
        for file in fs::read_dir(folder)? {
            let name = file?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|digits| digits.len() == 20);
            // Leaves room to count on from the largest.
            ids.extend(id.and_then(|digits| digits.parse().ok()).filter(|id| (1..1u64 << 62).contains(id)));
        }
        ids.sort_unstable();
        Ok(ids)
    };
    list().map_err(JournalError::io("list", folder))
}

fn path(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id:020}.log"))
}

fn header(shards: usize) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..16].copy_from_slice(&(shards as u32).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}
