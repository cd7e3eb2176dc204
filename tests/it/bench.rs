//! The load tool: what its modes find out about a server, and that they fail when something is lost.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tiercast::config::Config;

use crate::kit::TestServer;

const CLIENTS: u64 = 20;

/// Runs `tiercast bench` and reads its report.
async fn bench(arguments: Vec<String>) -> (Output, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiercast"));
    command.arg("bench").args(arguments).arg("--json").arg(&json);
    // What the developer's shell sets must not decide a test.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("TIERCAST_") || name.starts_with("WEBSOCKET_"))
    {
        command.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || command.output().expect("the binary runs"));
    let output = output.await.expect("it ends");
    (output, report(&json))
}

fn report(json: &Path) -> Value {
    std::fs::read(json).map_or(Value::Null, |text| serde_json::from_slice(&text).expect("JSON"))
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn jitter(server: &TestServer, settle_ms: u64) -> Vec<String> {
    let url = server.url("/ws/");
    words(&format!(
        "jitter --url {url} --clients {CLIENTS} --events 40 --rate 20 --cut-every-ms 600 --offline-ms 100 --settle-ms {settle_ms}"
    ))
}

#[tokio::test]
async fn clients_that_are_cut_again_and_again_get_everything() {
    let server = TestServer::start(|_: &mut Config| {}).await;
    let (output, report) = bench(jitter(&server, 10_000)).await;
    assert!(output.status.success(), "{}", told(&output));
    let (delivery, connections) = (&report["delivery"], &report["connections"]);
    assert_eq!(delivery["expected"], 40 * CLIENTS, "{report}");
    assert_eq!(delivery["received"], delivery["expected"], "{report}");
    for fault in ["missing", "twice", "out_of_order", "foreign"] {
        assert_eq!(delivery[fault], 0, "{report}");
    }
    assert!(connections["reconnects"].as_u64().expect("a count") >= CLIENTS, "{report}");
    assert_eq!(connections["recovered"], connections["reconnects"], "{report}");
    assert!(report["replay_ms"]["count"].as_u64().expect("a count") > 0, "{report}");
    assert!(report["replay_ms"]["max"].as_f64().expect("a time") > 0.0, "{report}");
    assert!(told(&output).contains("0 missing, 0 twice, 0 out of order"), "{}", told(&output));
    server.finish().await;
}

#[tokio::test]
async fn what_is_lost_without_recovery_is_counted_and_fails() {
    let server = TestServer::start(|config| config.recovery.enabled = false).await;
    let (output, report) = bench(jitter(&server, 300)).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let missing = report["delivery"]["missing"].as_u64().expect("a count");
    assert!(missing > 0 && told(&output).contains("deliveries are missing"), "{}", told(&output));
    assert_eq!(report["connections"]["recovered"], 0, "{report}");
    assert_eq!(report["connections"]["not_recovered"], report["connections"]["reconnects"], "{report}");
    server.finish().await;
}

#[tokio::test]
async fn clients_of_a_server_that_is_restarted_get_everything() {
    let arguments = format!("restart --clients {CLIENTS} --rate 50 --before-ms 300 --after-ms 300");
    let (output, report) = bench(words(&arguments)).await;
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(report["back"]["clients"], CLIENTS, "{report}");
    let delivery = &report["delivery"];
    assert_eq!(delivery["received"], delivery["expected"], "{report}");
    assert_eq!(report["connections"]["recovered"], CLIENTS, "{report}");
    assert!(report["back"]["all_ms"].as_f64().expect("a time") > 0.0, "{report}");
    assert!(report["restart"]["closed_ms"].as_f64().expect("a time") > 0.0, "{report}");
}

#[tokio::test]
async fn a_flood_costs_honest_clients_nothing_and_leaves_nothing_behind() {
    // How fast events come is not judged here: tests run beside others.
    let arguments =
        format!("flood --hostile 63 --clients {CLIENTS} --seconds 8 --acts-per-second 4 --max-ratio 1000000");
    let (output, report) = bench(words(&arguments)).await;
    assert!(output.status.success(), "{}", told(&output));
    for phase in ["calm", "flood", "after"] {
        let phase = &report[phase];
        assert_eq!(phase["received"], phase["expected"], "{report}");
        assert!(phase["latency_ms"]["p99"].as_f64().expect("a time") > 0.0, "{report}");
    }
    let kinds = report["hostile"].as_object().expect("kinds");
    assert_eq!(kinds.len(), 21, "{report}");
    for (kind, tally) in kinds {
        assert_eq!(tally["clients"], 3, "{kind}: {report}");
        assert!(tally["acts"].as_u64().expect("a count") > 0, "{kind}: {report}");
    }
    // Each of these is answered in its own way, so that the attacks are what they say.
    for (kind, answer) in [
        ("oversized", "close 1009"),
        ("bombs", "close 1009"),
        ("invalid-frames", "close 1002"),
        ("tokens", "AUTH_FAILED"),
        ("keys", "HTTP 401"),
        ("namespaces", "connect_error UNAUTHORIZED"),
    ] {
        assert!(kinds[kind]["answers"][answer].as_u64() > Some(0), "{kind}: {report}");
    }
    assert!(report["unread"].as_u64() > Some(0), "{report}");
    for level in ["connections", "sockets", "rooms", "open_files", "threads"] {
        assert!(report["end"][level].as_u64() <= report["start"][level].as_u64(), "{level}: {report}");
    }
    assert!(report["back_ms"].is_u64(), "{report}");
}

#[tokio::test]
async fn a_flood_that_does_more_than_it_may_fails() {
    let arguments = "flood --hostile 1 --clients 1 --seconds 1 --kinds churn --max-rss-mb 1 --max-ratio 0.000001";
    let (output, report) = bench(words(arguments)).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("99th percentile") && told(&output).contains("more than 1"), "{}", told(&output));
    assert_eq!(report["load"]["kinds"], serde_json::json!(["churn"]), "{report}");
}

#[tokio::test]
async fn a_server_that_cannot_be_measured_is_told_about() {
    for (arguments, said) in [
        ("jitter --url http://127.0.0.1:1", "cannot connect"),
        ("jitter --clients 0", "--clients"),
        ("jitter --url https://localhost", "TLS"),
        ("restart --server /nowhere/tiercast", "/nowhere/tiercast"),
        ("restart --config /nowhere/config.toml --clients 1", "/nowhere/config.toml"),
        ("restart --rate 0", "--rate"),
        ("flood --hostile 0", "--hostile"),
        ("flood --server /nowhere/tiercast --clients 1", "/nowhere/tiercast"),
        ("--client plain --transport polling", "--transport"),
        ("--client plain --form both", "--form"),
    ] {
        let (output, report) = bench(words(arguments)).await;
        assert_eq!(output.status.code(), Some(1), "{arguments}: {}", told(&output));
        assert!(told(&output).contains(said) && report == Value::Null, "{arguments}: {}", told(&output));
    }
}

#[tokio::test]
async fn without_a_mode_it_measures_how_fast_events_are_delivered() {
    let server = TestServer::start(|_: &mut Config| {}).await;
    let url = server.url("/ws/");
    let (output, report) = bench(words(&format!("--url {url} --clients {CLIENTS} --events 10 --warmup 1"))).await;
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(report["delivery"]["received"], 10 * CLIENTS, "{report}");
    server.finish().await;
}

#[tokio::test]
async fn plain_clients_get_each_event_in_one_frame() {
    let server = TestServer::start(|_: &mut Config| {}).await;
    let load = format!("--url {} --clients {CLIENTS} --events 10 --warmup 1 --client plain", server.url("/ws/"));
    let (output, report) = bench(words(&load)).await;
    assert!(output.status.success(), "{}", told(&output));
    let delivery = &report["delivery"];
    assert_eq!(delivery["received"], 10 * CLIENTS, "{report}");
    for fault in ["clients_with_losses", "clients_with_extras", "clients_ended"] {
        assert_eq!(delivery[fault], 0, "{report}");
    }
    assert!(delivery["latency_ms"]["max"].as_f64().expect("a time") > 0.0, "{report}");
    let load = &report["load"];
    assert_eq!((&load["client"], &load["form"]), (&"plain".into(), &Value::Null), "{report}");
    server.finish().await;
}

#[tokio::test]
async fn plain_clients_of_a_closed_door_say_that_they_cannot_come_in() {
    let server = TestServer::start(|config| config.doors.intraday.enabled = false).await;
    let (output, report) = bench(words(&format!("--url {} --clients 1 --client plain", server.url("/ws/")))).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("answered the upgrade with") && report == Value::Null, "{}", told(&output));
    server.finish().await;
}
