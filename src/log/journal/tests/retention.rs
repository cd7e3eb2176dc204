//! Retention: what goes, what stays, and what the disk gets back.

use super::*;

/// A body that makes a record of 132 bytes on disk, 15 to a segment.
fn body() -> String {
    "x".repeat(100)
}

fn offsets(journal: &Journal, shard: usize) -> Vec<u64> {
    walk(journal, shard).into_iter().map(|(offset, _)| offset).collect()
}

#[test]
fn a_shard_keeps_as_many_records_and_bytes_as_it_may() {
    let by_count = JournalSettings { max_entries: 20, ..settings() };
    let by_bytes = JournalSettings { max_bytes: 20 * 132, ..settings() };
    for settings in [by_count, by_bytes] {
        let folder = folder();
        let journal = open(&folder, &settings);
        (0..200).for_each(|_| drop(append(&journal, &[0], &body())));
        assert_eq!((journal.first(0), journal.head(0)), (181, 200));
        assert_eq!(walk(&journal, 0)[0], (181, true));
        assert!(journal.resumable_from(0, 180) && !journal.resumable_from(0, 179));
        assert!(!journal.read(0, 180, 1, 1).expect("a page").gap);
        journal.close().expect("a clean stop");
        assert!(files(&folder).len() <= 3, "the files of the others are gone");
        drop(journal);
        let journal = open(&folder, &settings);
        assert_eq!(offsets(&journal, 0), (181..=200).collect::<Vec<_>>());
    }
}

#[test]
fn nothing_holds_on_to_the_files_that_are_dropped() {
    let folder = folder();
    let settings = JournalSettings { durability: Durability::None, max_entries: 20, ..settings() };
    let journal = open(&folder, &settings);
    (0..1000).for_each(|_| drop(append(&journal, &[0], &body())));
    let writer = journal.shared.lock();
    assert!(writer.unsynced.len() <= writer.segments.len(), "{:?}", writer.unsynced);
}

#[test]
fn a_record_over_the_bound_stays_while_it_is_the_newest() {
    let folder = folder();
    let journal = open(&folder, &JournalSettings { max_bytes: 10, max_entries: 0, ..settings() });
    (0..5).for_each(|_| drop(append(&journal, &[0], &body())));
    assert_eq!(offsets(&journal, 0), [5]);
}

#[test]
fn records_go_by_age_on_append_on_trim_and_on_opening() {
    let folder = folder();
    let settings = JournalSettings { max_age_ms: 1000, ..settings() };
    let now = crate::wire::now_ms();
    let journal = open(&folder, &settings);
    let append = |at| drop(journal.append(&[0], at, &[b"x"]).expect("room"));
    append(now);
    append(now + 600);
    append(now + 1300);
    assert_eq!(offsets(&journal, 0), [2, 3]);
    journal.trim(now + 2000);
    assert_eq!(offsets(&journal, 0), [3]);
    journal.trim(now + 9000);
    assert_eq!((journal.first(0), journal.head(0)), (4, 3));
    assert!(journal.resumable_from(0, 3) && !journal.resumable_from(0, 2));
    assert_eq!(walk(&journal, 0), [(3, true)], "the end is told as a gap");
    journal.append(&[0], now - 60_000, &[b"old"]).expect("room");
    journal.close().expect("a clean stop");
    drop(journal);
    let journal = open(&folder, &settings);
    assert_eq!((journal.first(0), journal.head(0)), (5, 4));
}

#[test]
fn a_quiet_shard_keeps_its_records_and_a_busy_one_does_not_get_its_own_back() {
    for clean in [true, false] {
        let folder = folder();
        let settings = JournalSettings { max_entries: 20, ..settings() };
        let journal = open(&folder, &settings);
        (0..3).for_each(|_| drop(append(&journal, &[0], &body())));
        append(&journal, &[1], "quiet");
        (0..300).for_each(|_| drop(append(&journal, &[0], &body())));
        if clean {
            journal.close().expect("a clean stop");
        }
        drop(journal);
        let left = files(&folder);
        assert!(left.len() <= 4, "{left:?}");
        assert!(left[0].ends_with("00000000000000000001.log"), "the quiet record is in the first");

        // With wider bounds, whatever came back would stay.
        let journal = open(&folder, &super::settings());
        assert_eq!(texts_of(&journal, 1), ["quiet"]);
        assert!(journal.resumable_from(1, 0) && journal.resumable_from(1, 1));
        let kept = offsets(&journal, 0);
        assert_eq!(kept.last(), Some(&303));
        assert!(kept[0] > 200 && kept.is_sorted_by(|a, b| a + 1 == *b), "{kept:?}");
        assert!(!journal.resumable_from(0, 3));
    }
}

#[test]
fn a_shard_that_lost_all_to_age_is_not_resumable_from_what_a_quiet_one_holds_on_to() {
    let folder = folder();
    let settings = JournalSettings { max_age_ms: 1000, ..settings() };
    let journal = open(&folder, &settings);
    let now = crate::wire::now_ms();
    (0..3).for_each(|_| drop(journal.append(&[0], now, &[b"x"]).expect("room")));
    journal.append(&[1], now + 1_000_000, &[b"quiet"]).expect("room");
    (0..30).for_each(|_| drop(journal.append(&[0], now, &[body().as_bytes()]).expect("room")));
    journal.trim(now + 5000);
    drop(journal);
    let journal = open(&folder, &super::settings());
    assert!((0..=32).all(|at| !journal.resumable_from(0, at)));
    assert_eq!(texts_of(&journal, 1), ["quiet"]);
}

#[test]
fn a_page_can_be_read_while_its_file_is_deleted() {
    let folder = folder();
    let journal = open(&folder, &JournalSettings { max_entries: 5, ..settings() });
    (0..5).for_each(|_| drop(append(&journal, &[0], "early")));
    let plan = journal.shared.lock().plan(0, 0, 10, 10_000);
    (0..50).for_each(|_| drop(append(&journal, &[0], &body())));
    journal.close().expect("a clean stop");
    assert!(!files(&folder)[0].ends_with("00000000000000000001.log"));
    for wanted in plan.wanted {
        assert_eq!(wanted.read(0).expect("a file").as_deref(), Some(&b"early"[..]));
    }
}
