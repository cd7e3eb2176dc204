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
