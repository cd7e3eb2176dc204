//! Damaged files: what is lost is told, never passed over.

use std::fs;

use super::*;

/// What each shard was given: offsets and texts.
type Truth = Vec<Vec<(u64, String)>>;

/// A journal of a few segments, with what is in it.
fn filled(clean: bool) -> (tempfile::TempDir, Truth) {
    let folder = folder();
    let settings = JournalSettings { segment_bytes: 400, ..settings() };
    let journal = open(&folder, &settings);
    let mut truth: Truth = vec![Vec::new(); 3];
    for (number, shards) in
        [&[0][..], &[1], &[0, 1, 2], &[0], &[2], &[1], &[0, 1, 2], &[0], &[1], &[0]].iter().enumerate()
    {
        let text = format!("record {number} {}", "x".repeat(number * 5));
        for (shard, offset) in shards.iter().zip(append(&journal, shards, &text)) {
            truth[*shard].push((offset, text.clone()));
        }
    }
    if clean {
        journal.close().expect("a clean stop");
    }
    (folder, truth)
}

/// Checks that what a shard tells is true and complete, but for `cut` records at its end.
fn check(journal: &Journal, shard: usize, truth: &[(u64, String)], cut: usize, what: &str) {
    // Asked before anything is read, since a read may find damage too.
    let resumable: Vec<u64> = (0..=truth.len() as u64).filter(|&at| journal.resumable_from(shard, at)).collect();
    let told = history(journal, shard);
    let mut after = 0;
    for (offset, gap, text) in &told {
        if let Some(text) = text {
            assert!(truth.contains(&(*offset, text.clone())), "{what}: shard {shard} makes up {offset}");
        }
        let passed = truth.iter().any(|(other, _)| *other > after && *other < *offset);
        assert!(*gap || !passed, "{what}: shard {shard} passes over a record before {offset}: {told:?}");
        after = *offset;
    }
    let kept = truth.iter().filter(|(offset, _)| *offset > after).count();
    assert!(kept <= cut, "{what}: shard {shard} forgets its last {kept}: {told:?}");
    for at in resumable {
        let there = |offset: u64| told.iter().any(|(other, _, text)| *other == offset && text.is_some());
        let missing = truth.iter().filter(|(offset, _)| *offset > at && !there(*offset)).count();
        assert!(missing <= cut, "{what}: shard {shard} is resumable from {at} without {missing} records");
    }
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    for everyone in [false, true] {
        let folder = folder();
        let journal = open(&folder, &settings());
        append(&journal, &[0], "first");
        append(&journal, &[1], "second");
        let segment = files(&folder).remove(0);
        let start = fs::metadata(&segment).expect("a segment").len();
        append(&journal, if everyone { &[0, 1, 2] } else { &[0] }, "torn");
        drop(journal);
        let end = fs::metadata(&segment).expect("a segment").len();
        for length in start..end {
            let copy = copy(&folder);
            let segment = files(&copy).remove(0);
            fs::File::options().write(true).open(&segment).expect("a segment").set_len(length).expect("a cut");
            let journal = open(&copy, &settings());
            assert_eq!(fs::metadata(&segment).expect("a segment").len(), start);
            assert_eq!(texts_of(&journal, 0), ["first"]);
            assert_eq!(texts_of(&journal, 1), ["second"]);
            assert!(texts_of(&journal, 2).is_empty());
            assert!(journal.resumable_from(0, 1) && !journal.resumable_from(0, 2));
            let next = append(&journal, &[0], "next");
            assert!(next[0] > 10_000);
            drop(journal);
            assert_eq!(texts_of(&open(&copy, &settings()), 0), ["first", "next"]);
        }
    }
}

#[test]
fn after_a_clean_stop_even_a_torn_tail_is_told() {
    let (folder, truth) = filled(true);
    let settings = JournalSettings { segment_bytes: 400, ..settings() };
    let last = files(&folder).pop().expect("a segment");
    for length in 0..fs::metadata(&last).expect("a segment").len() {
        let copy = copy(&folder);
        let last = files(&copy).pop().expect("a segment");
        fs::File::options().write(true).open(last).expect("a segment").set_len(length).expect("a cut");
        let journal = open(&copy, &settings);
        (0..3).for_each(|shard| check(&journal, shard, &truth[shard], 0, &format!("cut at {length}")));
        assert_eq!(append(&journal, &[0], "next"), [truth[0].len() as u64 + 1], "no offset is given out twice");
    }
}

#[test]
fn a_flipped_byte_is_never_passed_over() {
    let settings = JournalSettings { segment_bytes: 400, ..settings() };
    for clean in [true, false] {
        let (folder, truth) = filled(clean);
        let count = files(&folder).len();
        assert!(count > 1, "the damage is in the last segment or in an earlier one");
        for number in 0..count {
            let bytes = fs::read(&files(&folder)[number]).expect("a segment");
            for at in 0..bytes.len() {
                let what = format!("clean {clean}, segment {number}, byte {at}");
                let copy = copy(&folder);
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x41;
                fs::write(&files(&copy)[number], damaged).expect("a segment");
                // Once as found, once more after the damage is known, once after another crash.
                for _ in 0..3 {
                    let journal = open(&copy, &settings);
                    // Without the heads of a clean stop, a bad last record is one that was never finished.
                    let cut = usize::from(!clean && number + 1 == count);
                    (0..3).for_each(|shard| check(&journal, shard, &truth[shard], cut, &what));
                }
            }
        }
    }
}

#[test]
fn records_behind_a_damaged_one_are_still_used() {
    let folder = folder();
    let journal = open(&folder, &settings());
    for text in ["first", "second", "third"] {
        append(&journal, &[0], text);
    }
    append(&journal, &[1], "other");
    journal.close().expect("a clean stop");
    drop(journal);
    let segment = files(&folder).remove(0);
    let mut bytes = fs::read(&segment).expect("a segment");
    let at = bytes.windows(6).position(|window| window == b"second").expect("the record");
    bytes[at] = b'S';
    fs::write(&segment, bytes).expect("a segment");
    let journal = open(&folder, &settings());
    assert_eq!(walk(&journal, 0), [(1, false), (3, true)]);
    assert!(!journal.resumable_from(0, 1) && journal.resumable_from(0, 2) && journal.resumable_from(0, 3));
    assert_eq!(texts_of(&journal, 1), ["other"]);
    assert!(journal.resumable_from(1, 0), "the other shard lost nothing");
    assert_eq!(append(&journal, &[0], "fourth"), [4]);
}

#[test]
fn damage_that_a_read_finds_is_a_gap_from_then_on() {
    let folder = folder();
    let journal = open(&folder, &settings());
    for text in ["first", "second", "third"] {
        append(&journal, &[0, 1], text);
    }
    assert!(journal.resumable_from(0, 0));
    let segment = files(&folder).remove(0);
    let mut bytes = fs::read(&segment).expect("a segment");
    let at = bytes.windows(6).position(|window| window == b"second").expect("the record");
    bytes[at] = b'S';
    fs::write(&segment, &bytes).expect("a segment");
    assert_eq!(walk(&journal, 0), [(1, false), (3, true)]);
    assert!(!journal.resumable_from(0, 1) && journal.resumable_from(0, 2));
    fs::write(&segment, &bytes[..at]).expect("a segment");
    assert_eq!(walk(&journal, 1), [(1, false), (3, true)]);
}

#[test]
fn a_segment_that_is_nothing_but_damage_is_set_aside() {
    let folder = folder();
    let settings = JournalSettings { segment_bytes: 200, ..settings() };
    let journal = open(&folder, &settings);
    (0..20).for_each(|number| drop(append(&journal, &[0], &format!("record {number}"))));
    drop(journal);
    let damaged = files(&folder).remove(1);
    let mut bytes = fs::read(&damaged).expect("a segment");
    bytes[20] ^= 1;
    fs::write(&damaged, bytes).expect("a segment");
    for _ in 0..2 {
        let journal = open(&folder, &settings);
        assert_eq!(walk(&journal, 0).iter().filter(|(_, gap)| *gap).count(), 1);
        assert!(!damaged.exists() && damaged.with_extension("damaged").exists());
    }
}

#[test]
fn pages_that_never_reached_the_disk_are_a_torn_tail() {
    let folder = folder();
    let journal = open(&folder, &settings());
    append(&journal, &[0], "first");
    drop(journal);
    let segment = files(&folder).remove(0);
    let file = fs::File::options().write(true).open(&segment).expect("a segment");
    let length = file.metadata().expect("a segment").len();
    file.set_len(length + 4096).expect("zeros");
    let journal = open(&folder, &settings());
    assert_eq!(texts_of(&journal, 0), ["first"]);
    assert!(journal.resumable_from(0, 1));
    assert_eq!(fs::metadata(&segment).expect("a segment").len(), length);
}

#[test]
fn segments_that_are_all_missing_are_told_as_lost() {
    for clean in [true, false] {
        let (folder, truth) = filled(clean);
        files(&folder).iter().for_each(|path| fs::remove_file(path).expect("a segment"));
        let journal = open(&folder, &settings());
        (0..3).for_each(|shard| check(&journal, shard, &truth[shard], 0, "all missing"));
    }
}
