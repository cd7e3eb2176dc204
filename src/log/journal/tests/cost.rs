//! What an append costs; run by hand in release: `cargo test --release --lib
//! journal::tests::cost -- --ignored --nocapture`.

use std::fs;
use std::io::Write;
use std::time::Instant;

use super::*;

const RECORDS: u32 = 200_000;

/// CPU time of this thread or of the whole process, in microseconds.
fn cpu_us(path: &str) -> f64 {
    let text = fs::read_to_string(path).expect("Linux");
    text.split(' ').next().and_then(|nanoseconds| nanoseconds.trim().parse::<f64>().ok()).expect("a number") / 1000.0
}

fn threads_us() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    tasks.map(|task| cpu_us(&task.expect("a thread").path().join("schedstat").display().to_string())).sum()
}

#[test]
#[ignore = "a measurement"]
fn append_of_500_bytes() {
    let mut out = std::io::stdout();
    let body = [b'x'; 500];
    for durability in [Durability::None, Durability::Batch, Durability::Always] {
        let folder = folder();
        let settings = JournalSettings { durability, segment_bytes: 16 << 20, max_entries: 50_000, ..settings() };
        let journal = Journal::open(folder.path(), settings).expect("a journal");
        let (own, all, started) = (cpu_us("/proc/thread-self/schedstat"), threads_us(), Instant::now());
        for number in 0..RECORDS as usize {
            journal.append(&[number % 3], 0, &[&body]).expect("room");
        }
        let own = (cpu_us("/proc/thread-self/schedstat") - own) / f64::from(RECORDS);
        let all = (threads_us() - all) / f64::from(RECORDS);
        let wall = started.elapsed().as_micros() as f64 / f64::from(RECORDS);
        let syncs = journal.syncs();
        writeln!(
            out,
            "{durability:?}: {own:.2} us CPU of the appending thread, {all:.2} with the background's, {wall:.2} us wall, {syncs} syncs"
        )
        .expect("output");
        let read = Instant::now();
        let page = journal.read(0, journal.head(0) - 1000, 1000, usize::MAX).expect("a page");
        writeln!(out, "  a page of {} read in {} us", page.records.len(), read.elapsed().as_micros()).expect("output");
        let close = Instant::now();
        journal.close().expect("a clean stop");
        writeln!(out, "  closed in {} ms", close.elapsed().as_millis()).expect("output");
    }
}

#[test]
#[ignore = "a measurement"]
fn append_of_500_bytes_at_a_steady_pace() {
    let mut out = std::io::stdout();
    for (durability, pause_us) in [(Durability::Batch, 1000), (Durability::Batch, 100), (Durability::Always, 1000)] {
        let folder = folder();
        let settings = JournalSettings { durability, segment_bytes: 16 << 20, ..settings() };
        let journal = Journal::open(folder.path(), settings).expect("a journal");
        let (own, all) = (cpu_us("/proc/thread-self/schedstat"), threads_us());
        let mut appending = std::time::Duration::ZERO;
        for _ in 0..3000 {
            std::thread::sleep(std::time::Duration::from_micros(pause_us));
            let started = Instant::now();
            journal.append(&[0], 0, &[&[b'x'; 500]]).expect("room");
            appending += started.elapsed();
        }
        let background = ((threads_us() - all) - (cpu_us("/proc/thread-self/schedstat") - own)) / 3000.0;
        let wall = appending.as_micros() as f64 / 3000.0;
        let syncs = journal.syncs();
        writeln!(out, "{durability:?}, one each {pause_us} us: {wall:.2} us wall, {background:.2} us CPU in the background, {syncs} syncs")
            .expect("output");
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn a_lone_commit() {
    let folder = folder();
    let settings = JournalSettings { durability: Durability::Always, segment_bytes: 16 << 20, ..settings() };
    let journal = Journal::open(folder.path(), settings).expect("a journal");
    let mut times = Vec::new();
    for _ in 0..500 {
        let started = Instant::now();
        let ticket = journal.append(&[0], 0, &[&[b'x'; 500]]).expect("room").ticket;
        journal.committed(ticket).await.expect("a sync");
        times.push(started.elapsed().as_micros());
    }
    times.sort_unstable();
    let mut out = std::io::stdout();
    writeln!(out, "a lone commit: median {} us, p99 {} us", times[250], times[495]).expect("output");
}
