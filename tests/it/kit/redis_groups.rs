//! Redis servers that belong together: a sentinel with a master and its replica, and a Redis Cluster.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::redis::{free_port, run_redis};
use super::{DEADLINE, RedisOptions, RedisServer};

/// A master, a replica, and the sentinel that makes the one the other when it is gone.
pub struct Sentinel {
    pub master: RedisServer,
    pub replica: RedisServer,
    port: u16,
    process: Child,
    _folder: TempDir,
}

impl Sentinel {
    /// The master's name, which is that of the default configuration.
    pub const MASTER: &str = "mymaster";

    /// Starts all three, and waits until the sentinel knows the others.
    pub fn start() -> Self {
        let master = RedisServer::start();
        let replica = master.replica();
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        let (name, at) = (Self::MASTER, master.port);
        // One that is silent for this long is gone, in the eyes of one sentinel, which is enough.
        let lines = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nsentinel monitor {name} 127.0.0.1 {at} 1\n\
             sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 2000\n",
            folder.path().display()
        );
        let file = folder.path().join("sentinel.conf");
        fs::write(&file, lines).expect("a file");
        let process = run_redis(&[file.to_str().expect("a path of ours"), "--sentinel"]);
        let sentinel = Self { master, replica, port, process, _folder: folder };
        let replicas = || sentinel.ask(&["SENTINEL", "REPLICAS", name]);
        wait_for("the sentinel knows the replica", || replicas().is_some_and(|known| !known.is_empty()));
        sentinel
    }

    /// The sentinel's URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// The port of whoever is the master now.
    pub fn master_port(&self) -> Option<u16> {
        let address = self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::MASTER])?;
        let [_, redis::Value::BulkString(port)] = &address[..] else { return None };
        String::from_utf8_lossy(port).parse().ok()
    }

    fn ask(&self, words: &[&str]) -> Option<Vec<redis::Value>> {
        let mut connection = redis::Client::open(self.url()).ok()?.get_connection_with_timeout(DEADLINE).ok()?;
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut connection).ok()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
    }
}

/// Three masters over which Redis Cluster spreads its slots.
pub struct RedisCluster {
    pub masters: Vec<RedisServer>,
}

impl RedisCluster {
    const SLOTS: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

    /// Starts them, and waits until all of them say that the cluster is whole.
    pub fn start() -> Self {
        let start = || {
            let bus = free_port();
            let options = RedisOptions::default().setting("cluster-enabled yes");
            (RedisServer::with(options.setting(&format!("cluster-port {bus}"))), bus)
        };
        let started: Vec<_> = Self::SLOTS.iter().map(|_| start()).collect();
        for (epoch, ((server, _), (first, last))) in started.iter().zip(Self::SLOTS).enumerate() {
            server.run::<()>(&format!("cluster set-config-epoch {}", epoch + 1));
            server.run::<()>(&format!("cluster addslotsrange {first} {last}"));
        }
        for (other, bus) in &started[1..] {
            started[0].0.run::<()>(&format!("cluster meet 127.0.0.1 {} {bus}", other.port));
        }
        let masters: Vec<_> = started.into_iter().map(|(server, _)| server).collect();
        let is_whole = |server: &RedisServer| {
            let info: String = server.run("cluster info");
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        wait_for("the cluster is whole", || masters.iter().all(is_whole));
        Self { masters }
    }

    /// The URLs of all of them.
    pub fn urls(&self) -> Vec<String> {
        self.masters.iter().map(RedisServer::url).collect()
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
