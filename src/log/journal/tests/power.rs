//! A power cut: only what was synced is left.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::super::segment::Medium;
use super::*;

/// A disk that knows what of it would outlive a power cut.
#[derive(Default)]
struct Remembered {
    /// How much of each file, by its number.
    lengths: Mutex<HashMap<u64, u64>>,
    /// Which names.
    names: Mutex<HashSet<PathBuf>>,
}

impl Medium for Remembered {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let file = file.metadata()?;
        self.lengths.lock().expect("lengths").insert(file.ino(), file.len());
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let names = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<io::Result<_>>()?;
        *self.names.lock().expect("names") = names;
        Ok(())
    }
}

impl Remembered {
    /// A folder as it would be found after a power cut at this moment.
    fn cut(&self, from: &tempfile::TempDir) -> tempfile::TempDir {
        let to = folder();
        for path in self.names.lock().expect("names").iter().filter(|path| path.exists()) {
            // One file from here on, even if another takes its name.
            let mut file = File::open(path).expect("a file");
            let number = file.metadata().expect("a file").ino();
            let kept = self.lengths.lock().expect("lengths").get(&number).copied().unwrap_or(0);
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).expect("a file");
            let name = path.strip_prefix(from.path()).expect("a file of the journal");
            fs::write(to.path().join(name), &bytes[..kept as usize]).expect("a copy");
        }
        to
    }
}

#[tokio::test]
async fn what_is_committed_outlives_a_power_cut() {
    let folder = folder();
    let disk = Arc::new(Remembered::default());
    let settings = JournalSettings { durability: Durability::Always, segment_bytes: 500, ..settings() };
    let journal = Journal::open_on(folder.path(), settings.clone(), disk.clone()).expect("a journal");
    let mut texts = Vec::new();
    for number in 0..60 {
        let text = format!("{number} {}", "x".repeat(number * 3));
        let ticket = journal.append(&[0, 2], 0, &[text.as_bytes()]).expect("room").ticket;
        texts.push(text);
        journal.committed(ticket).await.expect("a sync");
        let left = disk.cut(&folder);
        let found = open(&left, &settings);
        assert_eq!(texts_of(&found, 0), texts);
        assert_eq!(texts_of(&found, 2), texts);
        assert!(found.head(0) > number as u64 + 1, "what comes next is a new offset");
    }
}

#[test]
fn after_a_power_cut_no_offset_is_given_out_again() {
    for durability in [Durability::None, Durability::Batch] {
        let folder = folder();
        let disk = Arc::new(Remembered::default());
        let settings = JournalSettings { durability, segment_bytes: 16 << 20, ..settings() };
        let journal = Journal::open_on(folder.path(), settings.clone(), disk.clone()).expect("a journal");
        for step in 1..=15_u64 {
            (0..10_000).for_each(|_| drop(append(&journal, &[1], "x")));
            let found = open(&disk.cut(&folder), &settings);
            assert!(found.head(1) > step * 10_000);
            let last = found.read(1, 0, usize::MAX, usize::MAX).expect("a page").records.len() as u64;
            assert!(found.resumable_from(1, last) && !found.resumable_from(1, step * 10_000 + 1));
        }
    }
}
