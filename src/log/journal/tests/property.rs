//! Any history, any stop, any damage: what is read was appended, no offset is
//! given out twice, and what is missing is told or is the end of a history.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// One life of a journal: what is appended, how it ends, and what happens to its files then.
#[derive(Debug, Clone)]
struct Life {
    appends: Vec<(u8, u16)>,
    clean: bool,
    damage: Damage,
}

#[derive(Debug, Clone)]
enum Damage {
    None,
    Overwritten { file: prop::sample::Index, at: prop::sample::Index, bytes: Vec<u8> },
    Appended { file: prop::sample::Index, bytes: Vec<u8> },
    Truncated { file: prop::sample::Index, at: prop::sample::Index },
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => Just(Damage::None),
        2 => (index(), index(), vec(any::<u8>(), 1..40)).prop_map(|(file, at, bytes)| Damage::Overwritten { file, at, bytes }),
        1 => (index(), vec(any::<u8>(), 1..200)).prop_map(|(file, bytes)| Damage::Appended { file, bytes }),
        1 => (index(), index()).prop_map(|(file, at)| Damage::Truncated { file, at }),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    (vec((1..8_u8, 0..300_u16), 0..20), any::<bool>(), damage()).prop_map(|(appends, clean, damage)| Life {
        appends,
        clean,
        damage,
    })
}

impl Damage {
    fn happen(&self, folder: &tempfile::TempDir) {
        let files = files(folder);
        let open = |file: &prop::sample::Index| {
            let path = file.get(&files);
            let file = fs::File::options().write(true).open(path).expect("a segment");
            let length = file.metadata().expect("a segment").len();
            (file, length)
        };
        match self {
            Self::None => {}
            Self::Overwritten { file, at, bytes } => {
                let (file, length) = open(file);
                let at = at.index(length as usize) as u64;
                let bytes = &bytes[..bytes.len().min((length - at) as usize)];
                file.write_all_at(bytes, at).expect("a write");
            }
            Self::Appended { file, bytes } => {
                let (file, length) = open(file);
                file.write_all_at(bytes, length).expect("a write");
            }
            Self::Truncated { file, at } => {
                let (file, length) = open(file);
                file.set_len(at.index(length as usize) as u64).expect("a cut");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_the_journal_lie(lives in vec(life(), 1..6)) {
        let folder = folder();
        let settings = JournalSettings { segment_bytes: 1000, ..settings() };
        let mut given: Vec<BTreeMap<u64, String>> = vec![BTreeMap::new(); 3];
        let mut used: Vec<u64> = vec![0; 3];
        let mut clean = true;
        for (number, life) in lives.iter().enumerate() {
            let journal = match Journal::open_on(folder.path(), settings.clone(), Flaky::new()) {
                Ok(journal) => journal,
                // A file of which not even the beginning is left is refused, and no more is asked of it.
                Err(JournalError::Foreign(_)) => return Ok(()),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            for (shard, given) in given.iter_mut().enumerate() {
                let told = history(&journal, shard);
                let mut after = 0;
                for (offset, gap, text) in &told {
                    if let Some(text) = text {
                        prop_assert_eq!(given.get(offset), Some(text));
                    }
                    let passed = given.range(after + 1..*offset).next().is_some();
                    prop_assert!(*gap || !passed, "shard {} passes over a record before {}: {:?}", shard, offset, told);
                    after = *offset;
                }
                let end: Vec<u64> = given.range(after + 1..).map(|(&offset, _)| offset).collect();
                prop_assert!(end.is_empty() || !clean, "shard {} forgets {:?} after a clean stop", shard, end);
                for offset in end {
                    prop_assert!(!journal.resumable_from(shard, offset));
                }
                if !clean {
                    // The end of a history may be gone with the end of the file.
                    let last = told.iter().filter(|(_, _, text)| text.is_some()).map(|(offset, ..)| *offset).max();
                    given.split_off(&(last.unwrap_or(0) + 1));
                }
                for &offset in given.keys().filter(|&&offset| journal.resumable_from(shard, offset)) {
                    let missing = given.range(offset + 1..).find(|(at, _)| told.iter().all(|(other, _, text)| other != *at || text.is_none()));
                    prop_assert_eq!(missing, None, "shard {} is resumable from {}", shard, offset);
                }
            }
            for &(shards, length) in &life.appends {
                let shards: Vec<usize> = (0..3).filter(|shard| shards & 1 << shard != 0).collect();
                let text = format!("{number} {}", "x".repeat(length.into()));
                for (&shard, offset) in shards.iter().zip(append(&journal, &shards, &text)) {
                    prop_assert!(offset > std::mem::replace(&mut used[shard], offset), "given out twice");
                    given[shard].insert(offset, text.clone());
                }
            }
            clean = life.clean;
            if clean {
                journal.close().expect("a clean stop");
            }
            drop(journal);
            life.damage.happen(&folder);
        }
    }

    #[test]
    fn any_bytes_in_a_segment_are_survived(bytes in vec(any::<u8>(), 0..400), keep in 0..80_usize) {
        let folder = folder();
        let journal = open(&folder, &settings());
        append(&journal, &[0], "x");
        drop(journal);
        let path = files(&folder).remove(0);
        let mut file = fs::read(&path).expect("a segment");
        file.truncate(keep);
        file.extend(bytes);
        fs::write(&path, file).expect("a segment");
        if let Ok(journal) = Journal::open_on(folder.path(), settings(), Flaky::new()) {
            let next = append(&journal, &[0], "next");
            prop_assert!(next[0] > 1);
        }
    }
}
