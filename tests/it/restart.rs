//! What a log on the disk keeps: over a restart, and when the process is killed.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tiercast::config::{self, Config, Durability, LogStore};
use tiercast::events::Catalogue;
use tiercast::log::Log;

use crate::kit::{Call, Client, ConnectOptions, Plain, SECRET, TestServer, Transport, token};

fn on_disk(folder: &TempDir) -> impl Fn(&mut Config) {
    let path = folder.path().join("data").to_str().expect("a path of ours").to_owned();
    move |config| {
        config.log.store = LogStore::Disk;
        config.log.path = path.clone();
    }
}

async fn publish(server: &TestServer, n: u64) -> Value {
    server.broadcast("kpi:update", json!({ "n": n }), json!({ "organization_id": "org-1" })).await
}

async fn numbers(server: &TestServer, client: &mut Client) -> Vec<u64> {
    client.drain(server).await.iter().filter_map(|event| event.data()["n"].as_u64()).collect()
}

#[tokio::test]
async fn clients_of_one_process_recover_in_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    for transport in [Transport::WebSocket, Transport::Polling, Transport::Upgrade] {
        let mut server = TestServer::start(on_disk(&folder)).await;
        let options = || ConnectOptions::named().transport(transport);
        let mut client = server.connect_with(options()).await.authenticate("org-1").await;
        client.subscribe(json!({ "channels": ["kpi"], "filters": { "sources": [] } })).await;
        let before = publish(&server, 1).await;
        let last = client.drain(&server).await.pop().expect("an event");
        let auth = json!({ "pid": client.connected["pid"], "offset": last.args[1] });
        let id = client.socket_id.clone();
        server.stop().await;
        drop(client);

        let server = TestServer::start(on_disk(&folder)).await;
        let after = publish(&server, 2).await;
        let epoch =
            |answer: &Value| answer["position"].as_str().expect("a position").split('.').next().map(str::to_owned);
        assert_eq!(epoch(&after), epoch(&before), "it is the same log");
        let mut client = server.connect_with(options().auth(auth.clone())).await;
        assert_eq!(client.next_named("connected").await.payload()["recovered"], true, "{transport:?}");
        assert_eq!(client.socket_id, id);
        client.organization = "org-1".into();
        let listing = server.get(&format!("/connections/{id}")).await.1;
        assert_eq!(listing["connection"]["subscriptions"], json!(["kpi:org:org-1"]), "{listing}");
        publish(&server, 3).await;
        let came = client.drain(&server).await;
        assert!(came.iter().all(|event| event.entry() != "system:maintenance"), "the stop is over");
        let came: Vec<_> = came.iter().filter_map(|event| event.data()["n"].as_u64()).collect();
        assert_eq!(came, [2, 3], "{transport:?}");
        client.disconnect().await;

        // What was taken up once is not there for a second time.
        let mut again = server.connect_with(options().auth(auth)).await;
        assert_eq!(again.next_named("connected").await.payload()["recovered"], false);
        drop(again);
        server.finish().await;
    }
}

#[tokio::test]
async fn a_publication_is_as_durable_as_configured() {
    for durability in [Durability::None, Durability::Batch, Durability::Always] {
        let folder = tempfile::tempdir().expect("a folder");
        let on_disk = on_disk(&folder);
        let mut server = TestServer::start(|config| {
            on_disk(config);
            config.log.durability = durability;
        })
        .await;
        let mut client = server.agent("org-1").await;
        for n in 0..50 {
            publish(&server, n).await;
        }
        assert_eq!(numbers(&server, &mut client).await, (0..50).collect::<Vec<_>>());
        client.disconnect().await;
        server.stop().await;
        drop(server);
        assert_eq!(stored(&folder.path().join("data")).len(), 50, "{durability:?}");
    }
}

#[tokio::test]
async fn more_than_memory_holds_is_replayed_from_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(on_disk(&folder)).await;
    let mut client = server.agent("org-1").await;
    publish(&server, 0).await;
    let last = client.drain(&server).await.pop().expect("an event");
    let auth = json!({ "pid": client.connected["pid"], "offset": last.args[1] });
    client.wire.crash();
    for n in 1..=3_000 {
        publish(&server, n).await;
    }
    let mut client = server.connect_with(ConnectOptions::named().auth(auth)).await;
    assert_eq!(client.next_named("connected").await.payload()["recovered"], true);
    client.organization = "org-1".into();
    assert_eq!(numbers(&server, &mut client).await, (1..=3_000).collect::<Vec<_>>());
    drop(client);
    server.finish().await;
}

#[tokio::test]
async fn what_is_replayed_from_the_disk_is_not_delivered_again() {
    const CLIENTS: usize = 50;
    const EVENTS: u64 = 250;
    const PUBLISHERS: u64 = 8;
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = TestServer::start(on_disk(&folder)).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(server.agent("org-1").await);
    }
    publish(&server, 0).await;
    let mut auths = Vec::new();
    for mut client in clients {
        let last = client.drain(&server).await.pop().expect("an event");
        auths.push(json!({ "pid": client.connected["pid"], "offset": last.args[1] }));
        client.wire.crash();
    }
    // What the next process does not have in memory.
    publish(&server, 1).await;
    server.stop().await;

    let server = TestServer::start(on_disk(&folder)).await;
    let publishing = join_all((0..PUBLISHERS).map(async |first| {
        for n in (2..EVENTS).filter(|n| n % PUBLISHERS == first) {
            publish(&server, n).await;
        }
    }));
    let recovering = async {
        let mut clients = Vec::new();
        for auth in auths {
            let mut client = server.connect_with(ConnectOptions::named().auth(auth)).await;
            assert_eq!(client.next_named("connected").await.payload()["recovered"], true);
            client.organization = "org-1".into();
            clients.push(client);
        }
        clients
    };
    let (_, clients) = tokio::join!(publishing, recovering);
    for mut client in clients {
        let mut numbers = numbers(&server, &mut client).await;
        numbers.sort_unstable();
        assert_eq!(numbers, (1..EVENTS).collect::<Vec<_>>());
    }
    server.finish().await;
}

// === Processes ===

/// A server of its own process.
struct Process {
    child: Child,
    url: String,
}

fn command(folder: &Path) -> Command {
    let file = folder.join("config.toml");
    let config = "[server]\nhost = \"127.0.0.1\"\nport = 0\n[logging]\nlog_broadcast_events = false\n";
    std::fs::write(&file, config).expect("a config");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiercast"));
    command.args(["serve", "--config"]).arg(file).stdout(Stdio::null()).stderr(Stdio::piped());
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("TIERCAST_") || name.starts_with("WEBSOCKET_"))
    {
        command.env_remove(name);
    }
    command
}

impl Process {
    /// Starts it and waits until it listens.
    fn start(folder: &Path) -> Self {
        Self::spawn(&mut command(folder))
    }

    /// The same with a socket that is handed over to it.
    fn start_on(folder: &Path, listener: &TcpListener) -> Self {
        let command = command(folder);
        let mut shell = Command::new("sh");
        // The number of the process is known only to itself.
        shell.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" 3<&0 0</dev/null", "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let handed_over = OwnedFd::from(listener.try_clone().expect("another handle"));
        Self::spawn(shell.stdin(handed_over).stdout(Stdio::null()).stderr(Stdio::piped()))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let mut told = String::new();
        let url = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {told}")).expect("text");
            if let Some((_, url)) = line.split_once("url=") {
                break url.split_whitespace().next().expect("a URL").to_owned();
            }
            told.push_str(&line);
        };
        // A pipe that is full would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url }
    }

    /// Tells it to stop and waits until it has.
    fn stop(mut self) {
        let stopped = Command::new("kill").arg(self.child.id().to_string()).status().expect("a signal");
        assert!(stopped.success() && self.child.wait().expect("it ends").success());
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// The numbers of all events in a folder, after whoever wrote it has ended.
fn stored(folder: &Path) -> Vec<u64> {
    let path = folder.to_str().expect("a path of ours").to_owned();
    let config = config::Log { path, ..config::Log::default() };
    let log = Log::open(&config, &Arc::new(Catalogue::new(&[]))).expect("the log opens");
    let shard = log.shard_of(Some(&tiercast::rooms::Id::parse("org-1").expect("an id")));
    let batch = log.since(shard, 0, usize::MAX);
    assert!(!batch.gap, "something is gone");
    let number = |payload: &str| serde_json::from_str::<Value>(payload).ok()?["n"].as_u64();
    let numbers = batch.entries.iter().filter_map(|entry| number(entry.draft.payload.get())).collect();
    log.close().expect("it closes");
    numbers
}

#[tokio::test]
async fn nothing_that_was_answered_is_missing_when_the_process_is_killed_again_and_again() {
    const ROUNDS: u64 = 50;
    let folder = tempfile::tempdir().expect("a folder");
    let mut answered = BTreeSet::new();
    let mut numbers = 0_u64..;
    for round in 0..ROUNDS {
        let process = Process::start(folder.path());
        let url = format!("{}/api/ws/broadcast", process.url);
        let client = reqwest::Client::new();
        // From the first moment to well into the work.
        let killing = tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(10 + round * 3));
            process.kill();
        });
        let publishing = async {
            for next in numbers.by_ref() {
                let body =
                    json!({ "event": "kpi:update", "data": { "n": next }, "target": { "organization_id": "org-1" } });
                let sent = client.post(&url).json(&body).send().await;
                let Ok(reply) = sent else { return };
                if reply.status() == 200 && reply.text().await.is_ok() {
                    answered.insert(next);
                }
            }
        };
        publishing.await;
        killing.await.expect("it is killed");
    }
    let stored: BTreeSet<u64> = stored(&folder.path().join("data")).into_iter().collect();
    let missing: Vec<_> = answered.difference(&stored).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), answered.len());
    assert!(answered.len() > ROUNDS as usize, "{} were answered", answered.len());
}

#[tokio::test]
async fn a_client_that_comes_between_two_processes_waits_on_a_socket_that_is_handed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let first = Process::start_on(folder.path(), &listener);
    assert_eq!(first.url, format!("http://{address}"), "it listens on what it was handed");
    let client = Client::connect(address, ConnectOptions::named()).await.expect("it is let in");
    let client = client.authenticate("org-1").await;
    let (pid, id) = (client.connected["pid"].clone(), client.socket_id.clone());
    tokio::task::spawn_blocking(|| first.stop()).await.expect("it stops");
    drop(client);
    let options = ConnectOptions::named().auth(json!({ "pid": pid }));
    let call = Call::get(&format!("http://{address}/api/ws/health"));
    let folder = folder.path().to_owned();
    let next = tokio::task::spawn_blocking(move || Process::start_on(&folder, &listener));
    let (client, reply, second) = tokio::join!(Client::connect(address, options), call.send(), next);
    let (mut client, second) = (client.expect("it is let in at the first attempt"), second.expect("it starts"));
    assert_eq!(client.next_named("connected").await.payload()["recovered"], true);
    assert_eq!(client.socket_id, id);
    assert_eq!(reply.expect("an answer").status, 200);
    second.kill();
}

#[tokio::test]
async fn a_second_server_on_a_folder_says_who_is_in_the_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Process::start(folder.path());
    let second = command(folder.path()).output().expect("it ends");
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && told.contains("in use by another process"), "{told}");
    let reply = Call::get(&format!("{}/api/ws/health", first.url)).send().await.expect("the first goes on");
    assert_eq!(reply.status, 200);
    first.kill();
}

#[tokio::test]
async fn a_folder_that_cannot_be_one_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("data"), "a file").expect("a file");
    let output = command(folder.path()).output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("data"), "{told}");
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_costs_no_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = command(folder.path()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
    let url = lines.by_ref().find_map(|line| Some(line.expect("text").split_once("url=http://")?.1.trim().to_owned()));
    let address = url.expect("it listens").parse().expect("an address");
    // Every line from here on meets a closed pipe.
    drop(lines);
    let client = Client::connect(address, ConnectOptions::named()).await.expect("it is let in");
    let mut client = client.authenticate("org-1").await;
    client.subscribe(json!({ "channels": ["kpi"] })).await;
    client.settle().await;
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

/// Every file under a folder, and the bits of its mode that are for others.
fn open_to_others(folder: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mode = path.metadata().expect("its mode").permissions().mode() & 0o077;
        if path.is_dir() {
            found.extend(open_to_others(&path));
        }
        found.push((path.file_name().expect("a name").to_string_lossy().into_owned(), mode));
    }
    found
}

#[tokio::test]
async fn what_is_on_the_disk_is_for_its_user_only_even_in_a_folder_that_others_may_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    std::fs::set_permissions(&data, Permissions::from_mode(0o755)).expect("a mode");
    let mut server = TestServer::start(|config| {
        on_disk(&folder)(config);
        (config.doors.gym.enabled, config.doors.gym.organization) = (true, "gym".into());
        config.auth.jwt.secret = SECRET.to_owned().into();
    })
    .await;
    let client = server.connect("/").await.authenticate("org-1").await;
    let body =
        json!({ "event": "kpi:update", "data": {}, "requires_ack": true, "target": { "organization_id": "org-1" } });
    assert_eq!(server.publish("/broadcast", body).await.0, 200);
    let token = token(json!({ "sub": "ann" }));
    let mut desk = Plain::at(server.address, &format!("/ws/checkins?token={token}")).await;
    desk.send(json!({ "type": "check_in", "payload": { "member_id": "7" } })).await;
    while !desk.next().await.expect("a frame").to_string().contains("member_checked_in") {}
    server.stop().await;
    drop((client, desk));
    let files = open_to_others(&data);
    assert!(files.len() >= 5, "{files:?}");
    assert!(files.iter().all(|(_, mode)| *mode == 0), "{files:?}");
}
