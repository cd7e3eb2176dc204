//! What a journal refuses, and that it says why.

use std::fs;
use std::path::Path;

use super::*;

fn refusal(path: &Path, settings: JournalSettings) -> String {
    Journal::open(path, settings).expect_err("a refusal").to_string()
}

#[test]
fn one_folder_has_one_journal() {
    let folder = folder();
    let journal = open(&folder, &settings());
    let told = refusal(folder.path(), settings());
    assert!(
        told.contains("in use by another process") && told.contains(&folder.path().display().to_string()),
        "{told}"
    );
    drop(journal);
    open(&folder, &settings());
}

#[test]
fn a_folder_that_is_missing_is_created_and_one_that_cannot_be_is_named() {
    let folder = folder();
    let deep = folder.path().join("a/b");
    Journal::open(&deep, settings()).expect("a journal");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    for path in [file.clone(), file.join("below")] {
        let told = refusal(&path, settings());
        assert!(told.contains("cannot create the folder") && told.contains(&path.display().to_string()), "{told}");
    }
}

#[test]
fn a_folder_of_another_shape_is_refused_with_both_numbers() {
    let folder = folder();
    let journal = open(&folder, &settings());
    append(&journal, &[0], "x");
    drop(journal);
    for state in ["kept", "missing"] {
        let told = refusal(folder.path(), JournalSettings { shards: 4, ..settings() });
        assert!(told.contains("written with 3 shards, and 4 are configured"), "{state}: {told}");
        fs::remove_file(folder.path().join("state")).ok();
    }
}

#[test]
fn files_of_others_and_of_other_versions_are_refused_by_name() {
    let folder = folder();
    let journal = open(&folder, &settings());
    append(&journal, &[0], "x");
    drop(journal);
    let state = fs::read_to_string(folder.path().join("state")).expect("a state file");
    let segment = files(&folder).remove(0);
    let bytes = fs::read(&segment).expect("a segment");
    let cases = [
        (String::new(), "not a readable state file"),
        ("something else".into(), "not a readable state file"),
        (state.replace("\"clean\":false", "\"clean\":true"), "not a readable state file"),
        (state.replacen(" 1 ", " 2 ", 1), "journal format 2"),
    ];
    for (text, why) in cases {
        fs::write(folder.path().join("state"), &text).expect("a state file");
        let told = refusal(folder.path(), settings());
        assert!(told.contains(why) && told.contains("/state") && told.contains("move the folder away"), "{told}");
    }
    fs::write(folder.path().join("state"), state).expect("a state file");
    let mut newer = bytes.clone();
    newer[8] = 9;
    let crc = crc32fast::hash(&newer[..16]).to_le_bytes();
    newer[16..20].copy_from_slice(&crc);
    for (bytes, why) in [(newer, "journal format 9"), (b"a file that someone put here".to_vec(), "not a readable")] {
        fs::write(&segment, bytes).expect("a segment");
        let told = refusal(folder.path(), settings());
        assert!(told.contains(why) && told.contains(&segment.display().to_string()), "{told}");
    }
    fs::write(&segment, bytes).expect("a segment");
    assert_eq!(texts_of(&open(&folder, &settings()), 0), ["x"]);
}

#[test]
fn settings_that_no_journal_can_have_are_refused() {
    let folder = folder();
    for shards in [0, 65_536] {
        assert!(refusal(folder.path(), JournalSettings { shards, ..settings() }).contains("number of shards"));
    }
    assert!(refusal(folder.path(), JournalSettings { segment_bytes: 2 << 30, ..settings() }).contains("segment size"));
}

#[test]
fn shards_must_exist_and_be_named_once() {
    let folder = folder();
    let journal = open(&folder, &settings());
    for shards in [&[][..], &[3], &[0, 0], &[1, 0], &[0, 1, 2, 3]] {
        let told = journal.append(shards, 0, &[b"x"]).expect_err("a refusal").to_string();
        assert!(told.contains("ascending list of shards below 3"), "{told}");
    }
    assert_eq!(append(&journal, &[0], "x"), [1]);
}

#[test]
fn a_record_beyond_the_bound_is_refused() {
    let folder = folder();
    let journal = open(&folder, &settings());
    let part = vec![0; 1 << 20];
    let told = journal.append(&[0], 0, &vec![&part[..]; 64]).expect_err("a refusal").to_string();
    assert!(told.contains("67108896 bytes") && told.contains("67108864"), "{told}");
    assert_eq!(append(&journal, &[0], "x"), [1]);
}

#[test]
fn a_closed_journal_reads_and_refuses_to_append() {
    let folder = folder();
    let journal = open(&folder, &settings());
    append(&journal, &[0], "x");
    journal.close().expect("a clean stop");
    journal.close().expect("nothing to do");
    let told = journal.append(&[0], 0, &[b"x"]).expect_err("a refusal").to_string();
    assert!(told.contains("is closed"), "{told}");
    assert_eq!(texts_of(&journal, 0), ["x"]);
}
