//! The log over each kind of store.

use serde_json::value::RawValue;

use super::*;
use crate::events::{Catalogue, Facts, Priority};
use crate::log::Audience;

fn draft(payload: &str) -> Draft {
    let event = Catalogue::new(&[]).event("kpi:update").expect("an event").clone();
    Draft {
        message_id: "m".into(),
        channels: event.channels,
        event,
        audience: Audience::Everyone,
        except: Vec::new(),
        priority: Priority::Medium,
        ack: None,
        payload: RawValue::from_string(payload.into()).expect("JSON"),
        facts: Facts::default(),
        fleeting: false,
        explains: false,
        call: None,
        published_at_ms: crate::wire::now_ms(),
        started: std::time::Instant::now(),
    }
}

fn append(log: &Log, payload: &str) {
    log.append(0..1, draft(payload), vec![oneshot::channel().0]).expect("room");
}

/// A log in each kind of store, and the folder of the one on the disk.
fn logs(limits: &config::Log) -> (Vec<Log>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data").to_str().expect("a path of ours").to_owned();
    let open = |store| {
        let config = config::Log { store, path: path.clone(), shards: 2, ..limits.clone() };
        Log::open(&config, &Arc::new(Catalogue::new(&[]))).expect("a log")
    };
    ([LogStore::Memory, LogStore::Disk].map(open).into(), folder)
}

fn offsets(batch: &Batch) -> Vec<u64> {
    batch.entries.iter().map(|entry| entry.position.offset).collect()
}

#[test]
fn offsets_count_from_one_and_old_entries_leave_a_gap() {
    let (logs, _folder) = logs(&config::Log { max_entries: 3, ..config::Log::default() });
    for log in logs {
        assert_eq!(log.head(0).offset, 0);
        for _ in 0..5 {
            append(&log, "1");
        }
        assert_eq!(log.since(0, 0, 10).entries.len(), 5, "nothing goes before it is delivered");
        log.delivered(0, 5);
        let batch = log.since(0, 0, 10);
        assert_eq!((offsets(&batch), batch.gap), (vec![3, 4, 5], true));
        let batch = log.since(0, 2, 2);
        assert_eq!((offsets(&batch), batch.gap), (vec![3, 4], false));
        assert!(log.since(0, 5, 10).entries.is_empty() && log.since(0, u64::MAX, 10).entries.is_empty());
        let at = |offset| Position { offset, ..log.head(0) };
        assert_eq!((log.first(0), log.back(0, 2), log.back(0, 10)), (3, 3, 2));
        assert_eq!((log.first(1), log.back(1, 10)), (1, 0));
        let whole: Vec<u64> = (0..8).filter(|offset| log.is_whole_behind(0, &at(*offset))).collect();
        assert_eq!(whole, [2, 3, 4, 5]);
        assert!(!log.is_whole_behind(0, &at(u64::MAX)));
        assert!(!log.is_whole_behind(0, &Position { epoch: "other".into(), offset: 4 }));
        assert_eq!((log.head(1).offset, log.since(1, 0, 10).entries.len()), (0, 0), "each shard has its own");
    }
}

#[test]
fn what_is_no_longer_at_hand_is_read_from_the_store() {
    let (logs, _folder) = logs(&config::Log { max_entries: 100_000, ..config::Log::default() });
    for log in logs {
        let all = 3 * RECENT as u64;
        for n in 1..=all {
            append(&log, &n.to_string());
            log.delivered(0, n);
        }
        assert!(!log.is_recent(0, 0) && log.is_recent(0, all - 1));
        let entries = log.between(0, 0, all - 1);
        let payloads: Vec<u64> =
            entries.iter().map(|entry| entry.draft.payload.get().parse().expect("a number")).collect();
        assert_eq!(payloads, (1..all).collect::<Vec<_>>());
        assert!(!log.since(0, 0, 1).gap && log.is_whole_behind(0, &log.head(0).at(0)));
    }
}

#[test]
fn bytes_are_bounded_but_the_newest_entry_stays() {
    let (logs, _folder) = logs(&config::Log { max_bytes: 10, ..config::Log::default() });
    for log in logs {
        append(&log, "\"12345678\"");
        append(&log, "\"a very long payload\"");
        log.delivered(0, 2);
        assert_eq!(offsets(&log.since(0, 0, 10)), [2]);
    }
}

#[test]
fn what_is_not_delivered_is_ahead_by_entries_and_by_bytes() {
    let (logs, _folder) = logs(&config::Log { max_bytes: 10, ..config::Log::default() });
    for log in logs {
        for _ in 0..3 {
            append(&log, "\"1234567890\"");
        }
        assert_eq!((log.is_ahead(0, 3, 26), log.is_ahead(0, 2, 26), log.is_ahead(0, 3, 25)), (false, true, true));
        log.delivered(0, 3);
        assert!(!log.is_ahead(0, 0, 0));
    }
}

#[test]
fn what_is_too_old_goes_when_it_is_delivered() {
    let (logs, _folder) = logs(&config::Log { max_age_ms: 1_000, ..config::Log::default() });
    for log in logs {
        let now = crate::wire::now_ms();
        for at in [now, now + 500] {
            let draft = Draft { published_at_ms: at, ..draft("1") };
            log.append(0..1, draft, vec![oneshot::channel().0]).expect("room");
        }
        log.delivered(0, 1);
        log.trim(now + 1_001);
        let batch = log.since(0, 0, 10);
        assert_eq!((offsets(&batch), batch.gap), (vec![2], true));
        log.trim(now + 2_000);
        assert_eq!(offsets(&log.since(0, 1, 10)), [2], "it is still to be delivered");
        log.delivered(0, 2);
        log.trim(now + 2_000);
        assert!(log.since(0, 0, 10).entries.is_empty());
        assert!(!log.is_whole_behind(0, &log.head(0).at(1)) && log.is_whole_behind(0, &log.head(0)));
    }
}

#[test]
fn an_entry_for_all_shards_is_in_each_of_them() {
    let (logs, _folder) = logs(&config::Log::default());
    for log in logs {
        append(&log, "1");
        let reports = (0..2).map(|_| oneshot::channel().0).collect();
        let appended = log.append(0..2, draft("2"), reports).expect("room");
        let places: Vec<u64> = appended.entries.iter().map(|entry| entry.position.offset).collect();
        assert_eq!((places, log.head(0).offset, log.head(1).offset), (vec![2, 1], 2, 1));
    }
}

#[tokio::test]
async fn a_reader_is_woken_by_an_append_which_is_durable_in_time() {
    let (logs, _folder) = logs(&config::Log::default());
    for log in logs {
        let log = Arc::new(log);
        let reader = tokio::spawn({
            let log = log.clone();
            async move { log.appended(0, 0).await }
        });
        let appended = log.append(0..1, draft("1"), vec![oneshot::channel().0]).expect("room");
        reader.await.expect("the reader ends");
        log.durable(&appended).await.expect("it is stored");
        assert!(log.is_durable(&appended));
        log.close().expect("it closes");
    }
}
