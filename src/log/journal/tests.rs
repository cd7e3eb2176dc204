//! The journal on a disk that works: what is appended is read, kept, dropped
//! and found again.

mod cost;
mod crash;
mod damage;
mod faults;
mod kit;
mod power;
mod property;
mod refusals;
mod retention;

use kit::*;

use super::*;

#[test]
fn records_are_read_in_order_before_and_after_a_reopening() {
    for durability in [Durability::None, Durability::Batch, Durability::Always] {
        let folder = folder();
        let settings = JournalSettings { durability, ..settings() };
        let journal = open(&folder, &settings);
        assert_eq!((journal.head(0), journal.first(0)), (0, 1));
        let texts: Vec<String> = (1..=200).map(|number| format!("{durability:?} {number}")).collect();
        for (text, offset) in texts.iter().zip(1..) {
            assert_eq!(append(&journal, &[0], text), [offset]);
        }
        assert_eq!(texts_of(&journal, 0), texts);
        journal.close().expect("a clean stop");
        let epoch = journal.epoch().clone();
        drop(journal);
        let journal = open(&folder, &settings);
        assert_eq!((journal.epoch(), journal.head(0), journal.first(0)), (&epoch, 200, 1));
        assert_eq!(texts_of(&journal, 0), texts);
        assert_eq!(append(&journal, &[0], "more"), [201]);
        assert!(files(&folder).len() > 2, "several segments were filled");
    }
}

#[test]
fn shards_know_nothing_of_each_other() {
    let folder = folder();
    let journal = open(&folder, &settings());
    for number in 0..300_usize {
        append(&journal, &[number % 3], &format!("{number}"));
    }
    for shard in 0..3 {
        let own: Vec<String> = (shard..300).step_by(3).map(|number| number.to_string()).collect();
        assert_eq!(texts_of(&journal, shard), own);
    }
}

#[test]
fn a_record_for_everyone_is_one_record_with_an_offset_in_every_shard() {
    let folder = folder();
    let journal = open(&folder, &settings());
    append(&journal, &[1], "one");
    assert_eq!(append(&journal, &[0, 1, 2], "everyone"), [1, 2, 1]);
    assert_eq!(append(&journal, &[2], "two"), [2]);
    journal.close().expect("a clean stop");
    let bytes = std::fs::read(&files(&folder)[0]).expect("a segment");
    assert_eq!(bytes.windows(8).filter(|&window| window == b"everyone").count(), 1);
    drop(journal);
    let journal = open(&folder, &settings());
    assert_eq!(texts_of(&journal, 0), ["everyone"]);
    assert_eq!(texts_of(&journal, 1), ["one", "everyone"]);
    assert_eq!(texts_of(&journal, 2), ["everyone", "two"]);
}

#[test]
fn a_body_may_come_in_parts_or_be_empty() {
    let folder = folder();
    let journal = open(&folder, &settings());
    journal.append(&[0], 0, &[b"in ", b"", b"parts"]).expect("room");
    journal.append(&[0], 0, &[]).expect("room");
    assert_eq!(texts_of(&journal, 0), ["in parts", ""]);
}

#[test]
fn a_page_ends_at_its_bounds_but_holds_one_record() {
    let folder = folder();
    let journal = open(&folder, &settings());
    (0..10).for_each(|_| drop(append(&journal, &[0], &"x".repeat(100))));
    let count = |after, limit, bytes| journal.read(0, after, limit, bytes).expect("a page").records.len();
    assert_eq!(count(0, 3, usize::MAX), 3);
    assert_eq!(count(8, 3, usize::MAX), 2);
    assert_eq!(count(0, 100, 300), 2);
    assert_eq!(count(0, 100, 1), 1);
    assert_eq!(count(0, 0, 0), 1);
    assert_eq!(count(10, 100, 300), 0);
}

#[test]
fn what_waits_in_memory_is_read_too() {
    let folder = folder();
    // A disk that takes nothing more shows that the records never were in a file.
    let disk = Flaky::new();
    let journal = open_on(&folder, &JournalSettings { durability: Durability::None, ..settings() }, &disk);
    disk.leave_room(0);
    append(&journal, &[0, 2], "early");
    append(&journal, &[0], "late");
    assert_eq!(texts_of(&journal, 0), ["early", "late"]);
    assert_eq!(texts_of(&journal, 2), ["early"]);
}

#[test]
fn a_record_larger_than_a_segment_has_one_of_its_own() {
    let folder = folder();
    let journal = open(&folder, &settings());
    let large = "x".repeat(3 << 20);
    append(&journal, &[0], "before");
    append(&journal, &[0], &large);
    append(&journal, &[0], "after");
    assert_eq!(texts_of(&journal, 0), ["before", &large, "after"]);
    assert_eq!(files(&folder).len(), 3);
}

#[test]
fn after_a_clean_stop_nothing_is_skipped() {
    let folder = folder();
    for offset in 1..=5 {
        let journal = open(&folder, &settings());
        assert_eq!(append(&journal, &[1], "again"), [offset]);
        assert!((0..=offset).all(|at| journal.resumable_from(1, at)));
        journal.close().expect("a clean stop");
    }
}

#[test]
fn after_an_unclean_stop_what_may_have_been_given_out_is_skipped() {
    let folder = folder();
    let journal = open(&folder, &settings());
    let epoch = journal.epoch().clone();
    (0..3).for_each(|_| drop(append(&journal, &[0], "before")));
    drop(journal);
    let journal = open(&folder, &settings());
    assert_eq!(*journal.epoch(), epoch);
    let jump = journal.head(0);
    assert!(jump > 10_000);
    assert_eq!(append(&journal, &[0], "after"), [jump + 1]);
    let check = |journal: &Journal| {
        assert!([0, 1, 2, 3, jump, jump + 1].iter().all(|&at| journal.resumable_from(0, at)));
        assert!([4, 5, 100, jump - 1, jump + 2].iter().all(|&at| !journal.resumable_from(0, at)));
        assert_eq!(walk(journal, 0), [(1, false), (2, false), (3, false), (jump + 1, false)]);
        assert!(!journal.read(0, 3, 1, 1).expect("a page").gap);
        assert!(journal.read(0, 4, 1, 1).expect("a page").gap, "nobody can have been there");
    };
    check(&journal);
    journal.close().expect("a clean stop");
    drop(journal);
    let journal = open(&folder, &settings());
    assert_eq!(journal.head(0), jump + 1);
    check(&journal);
    drop(journal);
    let journal = open(&folder, &settings());
    assert!(journal.resumable_from(0, jump + 1) && !journal.resumable_from(0, jump + 2));
}

#[test]
fn the_ceiling_stays_above_what_is_given_out() {
    let folder = folder();
    let settings = JournalSettings { durability: Durability::None, segment_bytes: 16 << 20, ..settings() };
    let journal = open(&folder, &settings);
    for _ in 0..140_000 {
        append(&journal, &[2], "x");
    }
    assert_eq!(journal.head(2), 140_000);
    drop(journal);
    assert!(open(&folder, &settings).head(2) > 140_000);
}

#[test]
fn many_crashes_leave_a_bounded_state() {
    let folder = folder();
    for _ in 0..60 {
        drop(open(&folder, &settings()));
    }
    let state = std::fs::metadata(folder.path().join("state")).expect("a state file");
    assert!(state.len() < 5000, "{} bytes", state.len());
    assert!(open(&folder, &settings()).resumable_from(0, 0));
}

#[test]
fn without_its_state_the_journal_goes_on_in_a_new_epoch() {
    let folder = folder();
    let journal = open(&folder, &settings());
    append(&journal, &[0], "kept");
    let epoch = journal.epoch().clone();
    journal.close().expect("a clean stop");
    drop(journal);
    std::fs::remove_file(folder.path().join("state")).expect("a state file");
    let journal = open(&folder, &settings());
    assert_ne!(*journal.epoch(), epoch);
    assert_eq!(journal.epoch().len(), 8);
    assert_eq!(texts_of(&journal, 0), ["kept"]);
    assert_eq!(append(&journal, &[0], "next"), [2]);
}

#[tokio::test]
async fn what_is_not_waited_for_is_committed_at_once() {
    for durability in [Durability::None, Durability::Batch] {
        let folder = folder();
        let journal = open(&folder, &JournalSettings { durability, ..settings() });
        let ticket = journal.append(&[0], 0, &[b"x"]).expect("room").ticket;
        assert!(journal.is_committed(ticket));
        journal.committed(ticket).await.expect("a working disk");
    }
}

#[test]
fn many_threads_append_read_and_drop_at_once() {
    for durability in [Durability::None, Durability::Batch, Durability::Always] {
        let folder = folder();
        let settings = JournalSettings { durability, max_entries: 500, segment_bytes: 4096, ..settings() };
        let journal = open(&folder, &settings);
        let appended = std::thread::scope(|scope| {
            let journal = &journal;
            let writers: Vec<_> = (0..4).map(|thread| scope.spawn(move || append_thousand(journal, thread))).collect();
            while writers.iter().any(|writer| !writer.is_finished()) {
                (0..3).for_each(|shard| drop(history(journal, shard)));
            }
            writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect::<Vec<_>>()
        });
        let given: std::collections::BTreeMap<_, _> = appended.iter().cloned().collect();
        assert_eq!(given.len(), appended.len(), "no offset is given out twice");
        for shard in 0..3 {
            let kept = history(&journal, shard);
            assert_eq!(kept.len(), 500);
            assert!(kept.iter().skip(1).all(|(_, gap, _)| !gap));
            assert!(kept.iter().all(|(offset, _, text)| given.get(&(shard, *offset)) == text.as_ref()));
        }
    }
}

/// Appends to one shard after another, and now and then to all; returns what was given out.
fn append_thousand(journal: &Journal, thread: usize) -> Vec<((usize, u64), String)> {
    let mut given = Vec::new();
    for number in 0..1000 {
        let shards = if number % 10 == 0 { &[0, 1, 2][..] } else { &[[0], [1], [2]][(number + thread) % 3] };
        let text = format!("{thread}/{number}");
        let offsets = append(journal, shards, &text);
        given.extend(shards.iter().zip(offsets).map(|(&shard, offset)| ((shard, offset), text.clone())));
    }
    given
}
