//! The files of the journal: damaged ones, undamaged ones that nobody would write, and records that are no entries.

#![no_main]

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tiercast::config::{self, LogStore};
use tiercast::events::Catalogue;
use tiercast::log::{Durability, Journal, JournalSettings, Log};

const SHARDS: usize = 3;

/// Bytes of the header of a segment.
const HEADER: usize = 20;

/// Nobody's log comes as far as this, which is where offsets begin to end.
const LAST: u64 = 1 << 60;

/// What a folder holds: names and contents of its files.
type Files = Vec<(String, Vec<u8>)>;

/// What each shard was given.
type Truth = Vec<Vec<(u64, Vec<u8>)>>;

static STOPPED: LazyLock<(Files, Truth)> = LazyLock::new(|| filled(true));
static KILLED: LazyLock<(Files, Truth)> = LazyLock::new(|| filled(false));

fuzz_target!(|input: &[u8]| {
    let [choice, rest @ ..] = input else { return };
    let mut rest = Rest(rest);
    match choice % 6 {
        0 => damaged(&STOPPED, rest),
        1 => damaged(&KILLED, rest),
        2 => unlikely(rest),
        3 => state(rest),
        4 => {
            let good = rest.byte() % 2 == 0;
            let header = if good { &segment()[..HEADER] } else { &[] };
            survives(&[("00000000000000000001.log".into(), [header, rest.0].concat())]);
        }
        _ => entries(rest),
    }
});

/// What is told of a damaged folder is true, and nothing is passed over in silence.
fn damaged((files, truth): &(Files, Truth), mut rest: Rest<'_>) {
    let mut files = files.clone();
    while !rest.0.is_empty() && !files.is_empty() {
        let (file, at, kind, value) = (usize::from(rest.byte()), usize::from(rest.word()), rest.byte(), rest.byte());
        let file = file % files.len();
        let bytes = &mut files[file].1;
        let at = at % (bytes.len() + 1);
        match kind % 5 {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= value),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, value),
            3 => bytes.iter_mut().skip(at).take(usize::from(value)).for_each(|byte| *byte = 0),
            _ => drop(files.swap_remove(file)),
        }
    }
    let folder = written(&files);
    let Ok(journal) = Journal::open(folder.path(), settings()) else { return };
    for (shard, truth) in truth.iter().enumerate() {
        let mut after = 0;
        for (offset, gap, record) in told(&journal, shard) {
            assert!(truth.contains(&(offset, record)), "shard {shard} makes up {offset}");
            let passed = truth.iter().any(|(other, _)| *other > after && *other < offset);
            assert!(gap || !passed, "shard {shard} passes over a record before {offset}");
            after = offset;
        }
    }
    goes_on(journal, &folder);
}

/// Records without a fault in their bytes, at any places and times.
fn unlikely(mut rest: Rest<'_>) {
    let mut files = Files::new();
    for number in 1..=usize::from(rest.byte() % 3) + 1 {
        let mut bytes = segment()[..HEADER].to_vec();
        for _ in 0..rest.byte() % 16 {
            let at_ms = rest.long() as i64;
            let places = (0..rest.byte() % 4).map(|_| {
                let shard = if rest.byte() % 8 == 0 { rest.word() } else { u16::from(rest.byte()) % 3 };
                let offset = if rest.byte() % 8 == 0 { rest.long() } else { u64::from(rest.byte()) };
                (shard, offset)
            });
            let places: Vec<_> = places.collect();
            let length = usize::from(rest.byte());
            record(&mut bytes, at_ms, &places, rest.take(length));
        }
        bytes.extend_from_slice(rest.take(2));
        files.push((format!("{number:020}.log"), bytes));
    }
    survives(&files);
}

/// Any state file over undamaged segments.
fn state(rest: Rest<'_>) {
    let mut files = KILLED.0.clone();
    let body = String::from_utf8_lossy(rest.0);
    let head = format!("tiercast-journal 1 {:08x}\n", crc32fast::hash(body.as_bytes()));
    files.retain(|(name, _)| name != "state");
    files.push(("state".into(), [head.as_bytes(), body.as_bytes()].concat()));
    survives(&files);
}

/// Records that are undamaged, and no entries: the log reads past them.
fn entries(mut rest: Rest<'_>) {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path(), settings()).expect("a journal");
    while !rest.0.is_empty() {
        let (head, payload) = (usize::from(rest.word()), usize::from(rest.byte()));
        let (head, payload) = (rest.take(head), rest.take(payload));
        let length = (head.len() as u32).to_le_bytes();
        journal.append(&[0], 0, &[&length, head, payload]).expect("room");
    }
    journal.close().expect("a clean stop");
    let config = config::Log {
        store: LogStore::Disk,
        path: folder.path().to_str().expect("a path").into(),
        shards: SHARDS as u16,
        ..config::Log::default()
    };
    let log = Log::open(&config, &Arc::new(Catalogue::new(&[]))).expect("a log");
    let mut after = 0;
    while let Some(last) = log.since(0, after, 3).entries.last() {
        assert!(last.position.offset > after);
        after = last.position.offset;
    }
    assert!(log.between(0, 0, log.head(0).offset).len() as u64 <= log.head(0).offset);
    log.close().expect("a clean stop");
}

/// Whatever is in a folder, it is refused with a reason, or can be read to its end and goes on.
fn survives(files: &[(String, Vec<u8>)]) {
    let folder = written(files);
    match Journal::open(folder.path(), settings()) {
        Ok(journal) => goes_on(journal, &folder),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What is appended behind all that is found at the next start.
fn goes_on(journal: Journal, folder: &TempDir) {
    let before: Vec<_> = (0..SHARDS).map(|shard| told(&journal, shard)).collect();
    if (0..SHARDS).any(|shard| journal.head(shard) >= LAST) {
        return;
    }
    let appended = journal.append(&[0, 1, 2], 0, &[b"next"]).expect("room");
    journal.close().expect("a clean stop");
    drop(journal);
    let journal = Journal::open(folder.path(), settings()).expect("a journal that was closed");
    for (shard, before) in before.iter().enumerate() {
        let (last, gap, record) = told(&journal, shard).pop().expect("a record");
        assert_eq!((last, &*record), (appended.offsets[shard], &b"next"[..]));
        assert!(gap || before.last().is_none_or(|(offset, ..)| *offset < last));
        assert!(journal.head(shard) == last && journal.resumable_from(shard, last));
    }
}

/// All records of a shard: the offset of each, whether a gap is told before it, and its bytes.
fn told(journal: &Journal, shard: usize) -> Vec<(u64, bool, Vec<u8>)> {
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = journal.read(shard, after, 7, 1_000).expect("a page");
        if page.records.is_empty() {
            return found;
        }
        let mut gap = page.gap;
        for (offset, record) in page.records {
            assert!(offset > after, "offsets ascend");
            after = offset;
            found.push((offset, std::mem::take(&mut gap), record.to_vec()));
        }
    }
}

/// A journal of a few segments.
fn filled(stopped: bool) -> (Files, Truth) {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path(), settings()).expect("a journal");
    let mut truth: Truth = vec![Vec::new(); SHARDS];
    let shards: [&[usize]; 10] = [&[0], &[1], &[0, 1, 2], &[0], &[2], &[1], &[0, 1, 2], &[0], &[1], &[0]];
    for (number, shards) in shards.iter().enumerate() {
        let text = format!("record {number} {}", "x".repeat(number * 5)).into_bytes();
        let appended = journal.append(shards, 0, &[&text]).expect("room");
        for (shard, offset) in shards.iter().zip(&*appended.offsets) {
            truth[*shard].push((*offset, text.clone()));
        }
    }
    if stopped {
        journal.close().expect("a clean stop");
    }
    drop(journal);
    (read(folder.path()), truth)
}

fn settings() -> JournalSettings {
    JournalSettings {
        shards: SHARDS,
        segment_bytes: 400,
        durability: Durability::Batch,
        max_entries: u64::MAX,
        max_bytes: u64::MAX,
        max_age_ms: u64::MAX,
    }
}

/// The first segment of a journal.
fn segment() -> &'static [u8] {
    let segment = KILLED.0.iter().find(|(name, _)| name.ends_with("1.log"));
    &segment.expect("a segment").1
}

fn record(out: &mut Vec<u8>, at_ms: i64, places: &[(u16, u64)], body: &[u8]) {
    let mut content = [&at_ms.to_le_bytes()[..], &(places.len() as u16).to_le_bytes()].concat();
    for (shard, offset) in places {
        content.extend_from_slice(&shard.to_le_bytes());
        content.extend_from_slice(&offset.to_le_bytes());
    }
    content.extend_from_slice(body);
    let length = (content.len() as u32).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc32fast::hash(&length).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    out.extend_from_slice(&content);
}

fn read(folder: &Path) -> Files {
    let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file"));
    let mut files: Files = files
        .map(|file| (file.file_name().into_string().expect("a name"), fs::read(file.path()).expect("a file")))
        .collect();
    files.sort();
    files
}

fn written(files: &[(String, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("room");
    }
    folder
}

/// What is left of an input; zeros behind its end.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn long(&mut self) -> u64 {
        u64::from(self.word()) << 48 | u64::from(self.word()) << 32 | u64::from(self.word()) << 16 | u64::from(self.word())
    }
}
