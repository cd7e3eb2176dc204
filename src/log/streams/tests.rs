//! Streams in a Redis of their own.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::shard::{Batch, Shard};
use super::{News, Portion, StreamSettings, Streams, Tail};
use crate::config;
use crate::log::store::Store;
use crate::redis::Redis;

/// A Redis that is gone with the test.
struct Own {
    process: Child,
    redis: Arc<Redis>,
    _folder: TempDir,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Own {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("redis.sock");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server; install it, as `make test` does");
        let url = format!("redis+unix://{}", socket.display());
        let config = config::Cluster { redis_urls: vec![url.into()], ..config::Cluster::default() };
        let redis = Redis::open(&config, 1).expect("a URL");
        while redis.server_of(0).query::<String>(&redis::cmd("PING")).await.is_err() {
            tokio::task::yield_now().await;
        }
        Self { process, redis, _folder: folder }
    }

    async fn streams(&self, max_entries: u64) -> Arc<Streams> {
        let settings = StreamSettings {
            max_entries,
            max_bytes: u64::MAX,
            max_age_ms: 1_000,
            buffer_entries: 1_000,
            buffers: false,
            timeout: Duration::from_secs(5),
        };
        Streams::start(&self.redis, settings, &TaskTracker::new(), &CancellationToken::new()).await.expect("streams")
    }

    fn shard(&self, writer: &str) -> Shard {
        Shard::new(&self.redis, 0, writer, 1_000)
    }
}

async fn append(streams: &Streams, at_ms: i64, record: &str) -> (String, u64) {
    streams.append(0, at_ms, &[record.as_bytes()]).await.expect("it is taken")
}

/// What comes next.
async fn news(tail: &mut Tail) -> Vec<News> {
    loop {
        let Portion { news, .. } = tail.read(true).await.expect("Redis answers");
        if !news.is_empty() {
            return news;
        }
    }
}

/// The next so many records, with their offsets.
async fn next(tail: &mut Tail, count: usize) -> Vec<(u64, String)> {
    let mut read = Vec::new();
    while read.len() < count {
        for news in news(tail).await {
            let News::Records(records) = news else { panic!("something else than records") };
            let text = |(offset, record): (u64, Bytes)| (offset, String::from_utf8(record.to_vec()).expect("text"));
            read.extend(records.into_iter().map(text));
        }
    }
    read
}

#[tokio::test]
async fn all_read_what_each_appends_in_one_order_without_gaps() {
    let own = Own::start().await;
    let (one, other) = (own.streams(1_000).await, own.streams(1_000).await);
    let (mut tail, mut other_tail) = (one.tail(0, "0-0".into()), other.tail(0, "0-0".into()));
    let before = one.head(0);
    for n in 0..20 {
        let (epoch, offset) = append(if n % 2 == 0 { &one } else { &other }, 5, &n.to_string()).await;
        assert_eq!((epoch, offset), (one.epoch(0), before + n + 1));
    }
    let read = next(&mut tail, 20).await;
    assert_eq!(read, next(&mut other_tail, 20).await);
    let expected: Vec<_> = (0..20).map(|n| (before + n + 1, n.to_string())).collect();
    assert_eq!(read, expected);
    assert_eq!((one.head(0), one.back(0, 3)), (before + 20, before + 17));
    let page = tokio::task::spawn_blocking(move || one.read(0, before + 17, 10, 1_000)).await.expect("no panic");
    let page = page.expect("a page");
    assert_eq!((page.records.len(), page.records[0].0, page.gap), (3, before + 18, false));
}

#[tokio::test]
async fn a_batch_that_is_sent_again_is_appended_once() {
    let own = Own::start().await;
    let shard = own.shard("writer");
    let life = shard.begin(None).await.expect("a life");
    shard.begins(life);
    let records = || [b"12345678a".as_slice(), b"12345678b"].into_iter();
    let first = match shard.append(1, records()).await.expect("an answer") {
        Batch::There(_, first) => first,
        other => panic!("{other:?}"),
    };
    assert!(matches!(shard.append(1, records()).await, Ok(Batch::There(_, again)) if again == first));
    assert!(matches!(shard.append(2, records()).await, Ok(Batch::There(_, next)) if next == first + 2));
    // What Redis gets around to after its writer has gone on does nothing.
    assert!(shard.append(1, records()).await.is_err());
    assert_eq!(shard.read(first - 1, 10).await.expect("records").len(), 4);
}

#[tokio::test]
async fn a_shard_that_has_lost_what_was_read_begins_another_life() {
    let own = Own::start().await;
    let streams = own.streams(1_000).await;
    let mut tail = streams.tail(0, "0-0".into());
    append(&streams, 5, "kept").await;
    // A replica that was behind takes over.
    let key = own.redis.keys.of(0, "log");
    let server = own.redis.server_of(0);
    let behind: Vec<u8> = server.query(redis::cmd("DUMP").arg(&key)).await.expect("a dump");
    append(&streams, 5, "lost").await;
    let before = next(&mut tail, 2).await;
    let restore = || redis::cmd("RESTORE").arg(&key).arg(0).arg(&behind).arg("REPLACE").clone();
    let () = server.query(&restore()).await.expect("restored");
    let epoch = streams.epoch(0);
    let (other, offset) = append(&streams, 5, "new").await;
    assert!(other != epoch && offset > before[1].0, "an offset is given out twice: {offset}");
    let mut heard = Vec::new();
    while heard.len() < 2 {
        heard.extend(news(&mut tail).await);
    }
    assert_eq!(heard, [News::Life(offset - 1), News::Records(vec![(offset, "new".into())])]);
    assert!(!streams.resumable_from(0, offset + 1) && streams.resumable_from(0, offset));
    // Whoever comes now, and has yet to read some, finds the whole of this life behind what is left of the last.
    let later = own.streams(1_000).await;
    assert!(later.resumable_from(0, offset - 1));
    let mut later_tail = later.tail(0, "0-0".into());
    let (_, newer) = append(&streams, 5, "newer").await;
    assert_eq!(next(&mut later_tail, 1).await, [(newer, "newer".to_owned())]);
    assert!(later.resumable_from(0, offset - 1));
    assert_eq!(next(&mut tail, 1).await.len(), 1);
    // The same while nobody appends.
    let () = server.query(&restore()).await.expect("restored");
    assert!(matches!(news(&mut tail).await[..], [News::Life(begins_at)] if begins_at > newer));
}

#[tokio::test]
async fn what_is_too_much_or_too_old_goes() {
    let own = Own::start().await;
    let streams = own.streams(300).await;
    let mut tail = streams.tail(0, "0-0".into());
    let first = streams.head(0) + 1;
    let mut last = 0;
    for n in 0..1_000 {
        append(&streams, if n < 990 { 1_000 } else { 9_000 }, "x").await;
        last = next(&mut tail, 1).await[0].0;
    }
    assert_eq!(last, first + 999);
    let length =
        || async { own.redis.server_of(0).query::<u64>(redis::cmd("XLEN").arg(own.redis.keys.of(0, "log"))).await };
    assert!((300..450).contains(&length().await.expect("a length")));
    streams.trim(5_000);
    while length().await.expect("a length") != 10 {
        tokio::task::yield_now().await;
    }
    // The tail notices within a second.
    while streams.resumable_from(0, last - 11) {
        tokio::select! {
            news = news(&mut tail) => panic!("{news:?}"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    assert!(streams.resumable_from(0, last - 10) && streams.back(0, 1_000) == last - 10);
    let page = tokio::task::spawn_blocking(move || streams.read(0, first, 100, 1_000)).await.expect("no panic");
    let page = page.expect("a page");
    assert_eq!((page.records.len(), page.gap), (10, true));
}

#[tokio::test]
async fn notes_are_read_from_where_a_node_began() {
    let own = Own::start().await;
    let streams = own.streams(1_000).await;
    streams.note(&[(0, b"one".to_vec()), (0, b"two".to_vec())]).await.expect("noted");
    let (notes, last) = streams.notes(0).await.expect("notes");
    assert_eq!(notes, [b"one".as_slice(), b"two"]);
    let mut tail = streams.tail(0, last);
    streams.note(&[(0, b"three".to_vec())]).await.expect("noted");
    append(&streams, 5, "x").await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        heard.extend(news(&mut tail).await);
    }
    assert!(heard.contains(&News::Notes(vec![b"three".as_slice().into()])), "{heard:?}");
}

#[tokio::test]
async fn what_is_noted_in_a_new_life_is_read_whatever_the_clock_says() {
    let own = Own::start().await;
    let streams = own.streams(1_000).await;
    let mut tail = streams.tail(0, "9999999999999-0".into());
    append(&streams, 5, "x").await;
    next(&mut tail, 1).await;
    let () = own.redis.server_of(0).query(&redis::cmd("FLUSHALL")).await.expect("flushed");
    append(&streams, 5, "y").await;
    streams.note(&[(0, b"one".to_vec())]).await.expect("noted");
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.extend(news(&mut tail).await);
    }
    assert!(heard.contains(&News::Notes(vec![b"one".as_slice().into()])), "{heard:?}");
}

#[tokio::test]
async fn a_reading_says_whether_it_was_all_there_was() {
    let own = Own::start().await;
    let streams = own.streams(1_000).await;
    let mut tail = streams.tail(0, "0-0".into());
    let appending = (0..300).map(|n| append(&streams, n, "x"));
    futures_util::future::join_all(appending).await;
    let mut portions = Vec::new();
    for _ in 0..3 {
        let Portion { news, is_end } = tail.read(false).await.expect("Redis answers");
        let count: usize =
            news.iter().map(|news| if let News::Records(records) = news { records.len() } else { 0 }).sum();
        portions.push((count, is_end));
    }
    assert_eq!(portions, [(256, false), (44, true), (0, true)]);
    let killing = redis::cmd("client").arg("kill").arg("type").arg("normal").to_owned();
    own.redis.server_of(0).query::<usize>(&killing).await.expect("killed");
    assert!(tail.read(false).await.is_none(), "nothing was heard of Redis");
    assert!(tail.read(false).await.is_some_and(|portion| portion.is_end));
}
