//! A disk that is full, and one that cannot sync.

use std::process::Command;

use super::*;

#[test]
fn a_full_disk_refuses_whole_records_and_takes_them_again_once_there_is_room() {
    for durability in [Durability::Batch, Durability::Always] {
        for room in 0..140 {
            let folder = folder();
            let disk = Flaky::new();
            let settings = JournalSettings { durability, ..settings() };
            let journal = open_on(&folder, &settings, &disk);
            append(&journal, &[0, 1], "before");
            let length = std::fs::metadata(&files(&folder)[0]).expect("a segment").len();
            disk.leave_room(room);
            let told = journal.append(&[0, 1], 0, &[&[b'x'; 150]]).expect_err("a refusal").to_string();
            assert!(told.contains("cannot append to") && told.contains(".log"), "{told}");
            assert_eq!(std::fs::metadata(&files(&folder)[0]).expect("a segment").len(), length, "nothing half there");
            assert_eq!((journal.head(0), journal.head(1)), (1, 1));
            disk.leave_room(u64::MAX);
            assert_eq!(append(&journal, &[0, 1], "after"), [2, 2]);
            journal.close().expect("a clean stop");
            drop(journal);
            let journal = open(&folder, &settings);
            assert_eq!(texts_of(&journal, 0), ["before", "after"]);
            assert_eq!(texts_of(&journal, 1), ["before", "after"]);
        }
    }
}

#[test]
fn a_segment_that_cannot_be_begun_leaves_nothing_behind() {
    let folder = folder();
    let disk = Flaky::new();
    let journal = open_on(&folder, &settings(), &disk);
    append(&journal, &[0], &"x".repeat(1900));
    for room in [0, 10, 30] {
        disk.leave_room(room);
        journal.append(&[0], 0, &[&[b'x'; 500]]).expect_err("a refusal");
    }
    disk.leave_room(u64::MAX);
    assert_eq!(append(&journal, &[0], "after"), [2]);
    drop(journal);
    assert_eq!(texts_of(&open(&folder, &settings()), 0).last().map(String::as_str), Some("after"));
}

#[test]
fn a_full_disk_holds_buffered_records_in_memory_up_to_a_bound() {
    let folder = folder();
    let disk = Flaky::new();
    let settings = JournalSettings { durability: Durability::None, segment_bytes: 16 << 20, ..settings() };
    let journal = open_on(&folder, &settings, &disk);
    disk.leave_room(100);
    let body = [b'x'; 1000];
    let taken = (1..1000).take_while(|_| journal.append(&[0], 0, &[&body]).is_ok()).count();
    assert!((200..300).contains(&taken), "{taken}");
    assert_eq!(texts_of(&journal, 0).len(), taken);
    disk.leave_room(u64::MAX);
    assert_eq!(append(&journal, &[0], "after"), [taken as u64 + 1]);
    journal.close().expect("a clean stop");
    drop(journal);
    assert_eq!(texts_of(&open(&folder, &settings), 0).len(), taken + 1);
}

#[test]
fn what_could_not_be_written_at_the_end_makes_the_stop_unclean() {
    let folder = folder();
    let disk = Flaky::new();
    let settings = JournalSettings { durability: Durability::None, ..settings() };
    let journal = open_on(&folder, &settings, &disk);
    disk.leave_room(10);
    append(&journal, &[0], "never written");
    let told = journal.close().expect_err("a full disk").to_string();
    assert!(told.contains("cannot append to"), "{told}");
    drop(journal);
    let journal = open(&folder, &settings);
    assert!(journal.head(0) > 1 && !journal.resumable_from(0, 1));
}

#[test]
fn a_ceiling_that_cannot_be_raised_stops_appends_until_it_can() {
    let folder = folder();
    let disk = Flaky::new();
    let settings = JournalSettings { durability: Durability::None, segment_bytes: 16 << 20, ..settings() };
    let journal = open_on(&folder, &settings, &disk);
    disk.break_syncs();
    let taken = (1..100_000).take_while(|_| journal.append(&[0], 0, &[b"x"]).is_ok()).count();
    assert_eq!(taken, 65_535);
    drop(journal);
    assert_eq!(open(&folder, &settings).head(0), 65_536);
}

#[tokio::test]
async fn a_failed_sync_ends_all_appends_for_good() {
    for durability in [Durability::Batch, Durability::Always] {
        let folder = folder();
        let disk = Flaky::new();
        let settings = JournalSettings { durability, ..settings() };
        let journal = open_on(&folder, &settings, &disk);
        disk.hold_syncs(true);
        disk.break_syncs();
        let ticket = journal.append(&[0], 0, &[b"x"]).expect("room").ticket;
        assert_eq!(journal.is_committed(ticket), durability == Durability::Batch);
        disk.wait_for_sync();
        disk.hold_syncs(false);
        // Only the end of the background thread tells that the sync has failed.
        let told = journal.close().expect_err("a failed sync").to_string();
        assert!(told.contains("only reads since a sync failed") && told.contains("broken"), "{told}");
        for told in [journal.committed(ticket).await.err(), journal.append(&[0], 0, &[b"x"]).err()] {
            assert!(matches!(told, Some(JournalError::ReadOnly { .. })), "{told:?}");
        }
        assert!(!journal.is_committed(ticket));
        assert_eq!(texts_of(&journal, 0), ["x"]);
        drop(journal);
        assert!(open(&folder, &settings).head(0) > 1, "the stop was unclean");
    }
}

#[tokio::test]
async fn whoever_waits_for_a_sync_hears_that_it_failed() {
    let folder = folder();
    let disk = Flaky::new();
    let journal = open_on(&folder, &JournalSettings { durability: Durability::Always, ..settings() }, &disk);
    disk.break_syncs();
    let ticket = journal.append(&[0], 0, &[b"x"]).expect("room").ticket;
    assert!(matches!(journal.committed(ticket).await, Err(JournalError::ReadOnly { .. })));
}

#[tokio::test]
async fn concurrent_appends_share_a_sync() {
    let folder = folder();
    let disk = Flaky::new();
    let journal = std::sync::Arc::new(open_on(
        &folder,
        &JournalSettings { durability: Durability::Always, segment_bytes: 1 << 20, ..settings() },
        &disk,
    ));
    disk.hold_syncs(true);
    let first = journal.append(&[0], 0, &[b"first"]).expect("room").ticket;
    disk.wait_for_sync();
    let later: Vec<u64> = (0..50).map(|_| journal.append(&[0], 0, &[b"later"]).expect("room").ticket).collect();
    assert!(!journal.is_committed(first));
    let waiting: Vec<_> = later
        .iter()
        .map(|&ticket| {
            tokio::spawn({
                let journal = journal.clone();
                async move { journal.committed(ticket).await }
            })
        })
        .collect();
    disk.hold_syncs(false);
    journal.committed(first).await.expect("a sync");
    for task in waiting {
        task.await.expect("a task").expect("a sync");
    }
    assert_eq!(journal.syncs(), 2, "one for the first, one for all that came meanwhile");
}

#[tokio::test]
async fn a_lone_append_waits_for_its_own_sync_only() {
    let folder = folder();
    let settings = JournalSettings { durability: Durability::Always, ..settings() };
    let journal = Journal::open(folder.path(), settings).expect("a journal");
    for count in 1..=5 {
        let ticket = journal.append(&[0], 0, &[b"x"]).expect("room").ticket;
        journal.committed(ticket).await.expect("a sync");
        assert!(journal.is_committed(ticket));
        assert_eq!(journal.syncs(), count);
    }
}

/// A real disk that is full; needs the right to mount one.
#[test]
fn a_real_disk_that_is_full_is_survived() {
    let folder = folder();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "journal"]).arg(folder.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return;
    }
    let outcome = std::panic::catch_unwind(|| {
        let settings = JournalSettings { segment_bytes: 32 << 10, max_entries: 50, ..settings() };
        let journal = Journal::open(folder.path(), settings.clone()).expect("a journal");
        let filler = folder.path().join("filler");
        let body = [b'x'; 1000];
        (0..10).for_each(|_| drop(journal.append(&[0], 0, &[&body]).expect("room")));
        std::fs::write(&filler, vec![0; 1 << 20]).expect_err("a full disk");
        let taken = (11..1000).take_while(|_| journal.append(&[0], 0, &[&body]).is_ok()).count() as u64;
        let told = journal.append(&[0], 0, &[&body]).expect_err("a full disk").to_string();
        assert!(told.contains("No space left"), "{told}");
        std::fs::remove_file(&filler).expect("a file");
        assert_eq!(journal.append(&[0], 0, &[&body]).expect("room").offsets[..], [11 + taken]);
        journal.close().expect("a clean stop");
        drop(journal);
        let journal = Journal::open(folder.path(), settings).expect("a journal");
        assert_eq!(walk(&journal, 0).len() as u64, (11 + taken).min(50));
    });
    Command::new("umount").arg(folder.path()).status().expect("umount runs");
    outcome.expect("the journal survives");
}

/// Deleting frees room, and the note of it needs some.
#[test]
fn retention_goes_on_when_the_disk_is_full() {
    let folder = folder();
    let disk = Flaky::new();
    let settings = JournalSettings { max_age_ms: 1000, ..settings() };
    let journal = open_on(&folder, &settings, &disk);
    (0..5).for_each(|_| drop(append(&journal, &[0], &"x".repeat(1900))));
    disk.leave_room(0);
    journal.trim(i64::MAX);
    disk.hold_syncs(false);
    drop(journal);
    assert_eq!(files(&folder).len(), 1);
}
