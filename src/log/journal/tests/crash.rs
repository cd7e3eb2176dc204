//! A process that is killed: nothing it acknowledged is missing.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

const FOLDER: &str = "TIERCAST_JOURNAL_TEST_FOLDER";
const CHILD: &str = "log::journal::tests::crash::appends_until_it_is_killed";

fn shape(round: u32) -> JournalSettings {
    let durability = if round.is_multiple_of(2) { Durability::Batch } else { Durability::Always };
    JournalSettings { durability, segment_bytes: 64 << 10, ..settings() }
}

/// Run by the test below in a process of its own; by itself it does nothing.
#[tokio::test]
#[ignore = "the child process of another test"]
async fn appends_until_it_is_killed() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let round: u32 = env::var("TIERCAST_JOURNAL_TEST_ROUND").expect("a round").parse().expect("a number");
    let journal = Journal::open(Path::new(&folder), shape(round)).expect("a journal");
    let mut out = std::io::stdout();
    for number in 0_usize.. {
        let shards = if number.is_multiple_of(7) { &[0, 1, 2][..] } else { &[[0], [1], [2]][number % 3] };
        let text = format!("{round}/{number} {}", "x".repeat(number % 500));
        let appended = journal.append(shards, 0, &[text.as_bytes()]).expect("room");
        journal.committed(appended.ticket).await.expect("a sync");
        for (shard, offset) in shards.iter().zip(&appended.offsets) {
            writeln!(out, "ack {shard} {offset} {text}").expect("a pipe");
        }
        out.flush().expect("a pipe");
    }
}

#[test]
fn nothing_acknowledged_is_missing_after_a_kill() {
    let folder = folder();
    let mut acknowledged: BTreeMap<(usize, u64), String> = BTreeMap::new();
    for round in 0..10 {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", CHILD, "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env("TIERCAST_JOURNAL_TEST_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut random = [0; 2];
        getrandom::fill(&mut random).expect("a random source");
        let enough = usize::from(u16::from_le_bytes(random) % if round % 2 == 0 { 3000 } else { 200 });
        let mut count = 0;
        for line in lines {
            let line = line.expect("text");
            // The last line may be cut short by the kill; the harness writes before the first.
            let Some(ack) = line.find("ack ").map(|at| &line[at + 4..]) else { continue };
            let Some((shard, offset, text)) = parse(ack) else { continue };
            let before = acknowledged.insert((shard, offset), text);
            assert_eq!(before, None, "an offset was given out twice");
            count += 1;
            if count == enough + 1 {
                child.kill().expect("a kill");
            }
        }
        child.wait().expect("its end");
        assert!(count > enough, "the child appended until it was killed");

        let journal = open(&folder, &shape(round));
        for shard in 0..3 {
            let told: BTreeMap<u64, String> = history(&journal, shard)
                .into_iter()
                .filter_map(|(offset, gap, text)| {
                    assert!(!gap, "nothing is lost by a kill");
                    text.map(|text| (offset, text))
                })
                .collect();
            for ((_, offset), text) in acknowledged.range((shard, 0)..=(shard, u64::MAX)) {
                assert_eq!(told.get(offset), Some(text), "round {round}, shard {shard}");
                assert!(journal.resumable_from(shard, *offset));
            }
        }
        if round % 3 == 0 {
            journal.close().expect("a clean stop");
        }
    }
}

/// An acknowledgement whose line is whole.
fn parse(ack: &str) -> Option<(usize, u64, String)> {
    let mut words = ack.splitn(3, ' ');
    let (shard, offset, text) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?);
    let (name, filler) = text.split_once(' ')?;
    let number: usize = name.split_once('/')?.1.parse().ok()?;
    (filler.len() == number % 500).then(|| (shard, offset, text.into()))
}
