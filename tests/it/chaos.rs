//! A cluster that is broken under its clients: a small run of `tiercast bench chaos`, which judges what they receive.

use std::process::Command;

use serde_json::Value;

/// Runs it and reads its report.
async fn chaos(arguments: &'static str) -> (bool, String, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiercast"));
    command.args(["bench", "chaos"]).args(arguments.split(' ')).arg("--json").arg(&json);
    // What the developer's shell sets must not decide a test.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("TIERCAST_") || name.starts_with("WEBSOCKET_"))
    {
        command.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || command.output().expect("the binary runs"));
    let output = output.await.expect("it ends");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report = std::fs::read(json).map_or(Value::Null, |text| serde_json::from_slice(&text).expect("JSON"));
    (output.status.success(), told, report)
}

#[tokio::test]
async fn clients_of_a_cluster_miss_nothing_whatever_breaks() {
    // Every fault by itself, and three of them while another one lasts; what an emptied Redis has lost is there again before a node is killed.
    let (held, told, report) = chaos(
        "--clients 40 --rate 10 --seconds-per-fault 1.6 --shrink 0 --schedule \
         kill-0,drain-1,stall-2+cut-0,freeze-1+kill-2,redis-away+stall-1,redis-paused,redis-failover,redis-empty,kill-1",
    )
    .await;
    assert!(held, "{told}");
    let run = &report["runs"][0];
    assert_eq!(run["settled_ms"].as_array().map(Vec::len), Some(9), "{report}");
    assert!(run["answered"].as_u64().expect("a count") > 100, "{report}");
    assert!(run["deliveries"].as_u64().expect("a count") > 1_000, "{report}");
}

#[tokio::test]
async fn a_failure_names_its_seed_and_the_smallest_schedule_that_fails_too() {
    // Nobody can be back before it was looked.
    let arguments =
        "--seed 7 --clients 20 --seconds-per-fault 0.5 --settle-seconds 0 --schedule cut-0,cut-1 --shrink 2";
    let (held, told, report) = chaos(arguments).await;
    assert!(!held && told.contains("--seed 7 --schedule cut-"), "{told}");
    assert_eq!(report["smallest"].as_array().map(Vec::len), Some(1), "{report}");
}
