//! Shards that move to other Redis servers, and what holds after that.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tiercast::config::Config;

use crate::kit::{ConnectOptions, RedisServer, TestServer, nodes_with};

const ORGANIZATIONS: usize = 24;
const SHARDS: usize = 8;

fn kpi(organization: usize, n: u64) -> Value {
    json!({
        "event": "kpi:update",
        "data": { "n": n },
        "target": { "organization_id": format!("org-{organization}") },
    })
}

/// A node of a cluster on these servers.
async fn node(servers: &[&RedisServer]) -> TestServer {
    let urls = |config: &mut Config| {
        config.cluster.redis_urls = servers.iter().map(|server| server.url().into()).collect();
    };
    nodes_with(servers[0], 1, |_, config| urls(config)).await.remove(0)
}

/// Publishes an event to each organization; where each is.
async fn publish_to_all(node: &TestServer, n: u64) -> Vec<String> {
    let mut positions = Vec::new();
    for organization in 0..ORGANIZATIONS {
        let (status, answer) = node.publish("/broadcast", kpi(organization, n)).await;
        assert_eq!(status, 200, "{answer}");
        positions.push(answer["position"].as_str().expect("a position").to_owned());
    }
    positions
}

/// What each organization was told since a position of its own, with nothing missing.
async fn told_since(node: &TestServer, positions: &[String], expected: &[u64]) {
    for (organization, position) in positions.iter().enumerate() {
        let path = format!("/rooms/kpi:org:org-{organization}/messages?since={position}");
        let (status, answer) = node.get(&path).await;
        assert_eq!((status, &answer["complete"]), (200, &json!(true)), "{answer}");
        let messages = answer["messages"].as_array().expect("a list");
        let numbers: Vec<_> = messages.iter().map(|message| message["data"]["n"].as_u64().expect("a number")).collect();
        assert_eq!(numbers, expected, "org-{organization}");
    }
}

/// Runs `tiercast cluster move`; whether it succeeds, and what it says.
fn move_shards(folder: &Path, from: &[&RedisServer], to: &[&RedisServer], more: &[&str]) -> (bool, String) {
    let write = |name: &str, servers: &[&RedisServer]| {
        let urls: Vec<String> = servers.iter().map(|server| server.url()).collect();
        let path = folder.join(name);
        std::fs::write(&path, format!("[log]\nstore = \"redis\"\n\n[cluster]\nredis_urls = {urls:?}\n"))
            .expect("a file");
        path
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiercast"));
    command.args(["cluster", "move", "--from"]).arg(write("old.toml", from)).arg("--to").arg(write("new.toml", to));
    let output = command.args(more).output().expect("the binary runs");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), told)
}

/// Shards of which something is at a server.
fn shards_at(server: &RedisServer) -> Vec<usize> {
    let has = |shard: &usize| !server.run::<Vec<String>>(&format!("keys {{tiercast:{shard}}}:*")).is_empty();
    (0..SHARDS).filter(has).collect()
}

/// Three servers, to the third of which something moves from the others.
fn servers() -> [RedisServer; 3] {
    loop {
        let servers = [(); 3].map(|()| RedisServer::start());
        let config = |servers: &[RedisServer]| {
            let mut config = Config::default();
            config.cluster.redis_urls = servers.iter().map(|server| server.url().into()).collect();
            tiercast::redis::Redis::open(&config.cluster, SHARDS).expect("servers")
        };
        let (two, three) = (config(&servers[..2]), config(&servers));
        let moved = (0..SHARDS).filter(|shard| two.server_of(*shard).label() != three.server_of(*shard).label());
        // Which shards move is a matter of the ports.
        if (1..SHARDS).contains(&moved.count()) {
            return servers;
        }
    }
}

#[tokio::test]
async fn a_third_server_takes_its_shards_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let [a, b, c] = &servers();
    let mut before = node(&[a, b]).await;
    let mut clients = Vec::new();
    for _ in 0..SHARDS {
        let client = before.connect_with(ConnectOptions::named()).await.authenticate("org-0").await;
        clients.push(client);
    }
    let positions = publish_to_all(&before, 1).await;
    let mut kept = Vec::new();
    for client in &mut clients {
        let event = client.next_named("kpi:update").await;
        let offset = event.args.last().cloned().expect("a position");
        kept.push(json!({ "pid": client.connected["pid"], "offset": offset }));
    }
    publish_to_all(&before, 2).await;
    let (succeeds, told) = move_shards(folder.path(), &[a, b], &[a, b, c], &[]);
    assert!(!succeeds && told.contains("node-0"), "a node lives: {told}");
    assert!(shards_at(c).is_empty());
    before.stop().await;
    drop((before, clients));
    for shard in 0..SHARDS {
        for server in [a, b].into_iter().filter(|server| shards_at(server).contains(&shard)) {
            server.run::<()>(&format!("set {{tiercast:{shard}}}:goes soon px 3600000"));
        }
        // As an attempt leaves it that was interrupted.
        c.run::<()>(&format!("set {{tiercast:{shard}}}:goes late"));
    }
    let all: Vec<usize> = (0..SHARDS).collect();
    let (left, right) = (shards_at(a), shards_at(b));
    let (succeeds, told) = move_shards(folder.path(), &[a, b], &[a, b, c], &[]);
    assert!(succeeds && told.contains("copied from"), "{told}");
    let moved: Vec<usize> =
        all.iter().copied().filter(|shard| c.run::<bool>(&format!("exists {{tiercast:{shard}}}:log"))).collect();
    assert!(!moved.is_empty());
    for shard in &moved {
        let key = format!("{{tiercast:{shard}}}:goes");
        assert_eq!(c.run::<String>(&format!("get {key}")), "soon");
        assert!((1..=3_600_000).contains(&c.run::<i64>(&format!("pttl {key}"))));
    }
    assert_eq!((shards_at(a), shards_at(b)), (left.clone(), right.clone()), "nothing is deleted unless asked for");

    let after = node(&[a, b, c]).await;
    told_since(&after, &positions, &[2]).await;
    for auth in kept {
        let mut client = after.connect_with(ConnectOptions::named().auth(auth)).await;
        assert_eq!(client.next_named("connected").await.payload()["recovered"], true);
        client.organization = "org-0".into();
        let missed = client.next_named("kpi:update").await;
        assert_eq!(missed.data()["n"], 2);
        client.expect_silence(&after).await;
        client.disconnect().await;
    }
    let later = publish_to_all(&after, 3).await;
    let epoch = |position: &String| position.split_once('.').map(|(epoch, _)| epoch.to_owned());
    assert!(positions.iter().map(epoch).eq(later.iter().map(epoch)), "the history is another");
    told_since(&after, &positions, &[2, 3]).await;
    drop(after);

    // Back, over the older copies that are there still, and forth again over those.
    for (from, to, n) in [(&[a, b, c][..], &[a, b][..], 4), (&[a, b], &[a, b, c], 5)] {
        let (succeeds, told) = move_shards(folder.path(), from, to, &[]);
        assert!(succeeds && told.contains("copied from"), "{told}");
        let node = node(to).await;
        publish_to_all(&node, n).await;
        let all: Vec<u64> = (2..=n).collect();
        told_since(&node, &positions, &all).await;
    }

    let (succeeds, told) = move_shards(folder.path(), &[a, b], &[a, b, c], &["--delete"]);
    assert!(succeeds && told.contains("already") && !told.contains("copied from"), "{told}");
    let stay = |shards: &[usize]| shards.iter().copied().filter(|shard| !moved.contains(shard)).collect::<Vec<_>>();
    assert_eq!((shards_at(a), shards_at(b)), (stay(&left), stay(&right)));
    told_since(&node(&[a, b, c]).await, &positions, &[2, 3, 4, 5]).await;
}

#[tokio::test]
async fn a_history_that_nodes_have_begun_elsewhere_is_not_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let [a, b, c] = &servers();
    let before = node(&[a, b]).await;
    publish_to_all(&before, 1).await;
    drop(before);
    let too_early = node(&[a, b, c]).await;
    let positions = publish_to_all(&too_early, 2).await;
    drop(too_early);
    let (succeeds, told) = move_shards(folder.path(), &[a, b], &[a, b, c], &["--delete"]);
    assert!(!succeeds && told.contains("history of its own"), "{told}");
    let after = node(&[a, b, c]).await;
    told_since(&after, &positions, &[]).await;
}

#[test]
fn a_server_under_another_name_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = RedisServer::start();
    server.run::<()>("set {tiercast:3}:x y");
    let write = |name: &str, host: &str| {
        let path = folder.path().join(name);
        let urls = format!("redis_urls = [\"redis://{host}:{}\"]", server.port);
        std::fs::write(&path, format!("[log]\nstore = \"redis\"\n\n[cluster]\n{urls}\n")).expect("a file");
        path
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiercast"));
    command.args(["cluster", "move", "--delete", "--from"]).arg(write("old.toml", "127.0.0.1"));
    let output = command.arg("--to").arg(write("new.toml", "localhost")).output().expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && told.contains("same server"),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(server.run::<String>("get {tiercast:3}:x"), "y");
}

#[test]
fn what_cannot_be_moved_is_refused_with_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |old: &str, new: &str| {
        for (name, text) in [("old.toml", old), ("new.toml", new)] {
            let urls = "redis_urls = [\"redis://127.0.0.1:1\"]";
            let text = text.replace("URLS", urls);
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_tiercast"));
        command.args(["cluster", "move", "--from", "old.toml", "--to", "new.toml"]).current_dir(folder.path());
        let output = command.output().expect("the binary runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let good = "[log]\nstore = \"redis\"\n[cluster]\nURLS\n";
    for (other, why) in [
        ("", "log.store"),
        ("[log]\nstore = \"redis\"\nshards = 9\n[cluster]\nURLS\n", "log.shards"),
        ("[log]\nstore = \"redis\"\n[cluster]\nprefix = \"p\"\nURLS\n", "cluster.prefix"),
    ] {
        let told = run(good, other);
        assert!(told.contains(why), "{told}");
    }
    let of_cluster = "[log]\nstore = \"redis\"\n[cluster]\nredis_topology = \"cluster\"\nURLS\n";
    assert!(run(of_cluster, good).contains("redis-cli"));
}
