//! A Redis of the tool's own, which keeps what it was told on the disk.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{self, Instant};

use crate::cli::bench::server::{Folder, free_port};

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is asked whether it is there.
const PROBE: Duration = Duration::from_millis(10);

/// One `redis-server`.
pub(super) struct Redis {
    /// Where it listens.
    pub(super) address: SocketAddr,
    master: Option<SocketAddr>,
    folder: Folder,
    process: Option<Child>,
}

impl Redis {
    /// Starts an empty one, or one that follows another.
    ///
    /// # Errors
    /// If there is no `redis-server`, or it does not start.
    pub(super) async fn start(master: Option<SocketAddr>) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut redis = Self { address, master, folder: Folder::new()?, process: None };
        redis.start_again().await?;
        if master.is_some() {
            redis.wait_for("INFO replication\r\n", "master_link_status:up").await.context("it does not follow")?;
        }
        Ok(redis)
    }

    /// Starts it on the same port, with the data that is on the disk.
    ///
    /// # Errors
    /// If it does not start.
    pub(super) async fn start_again(&mut self) -> Result<()> {
        let folder = self.folder.path();
        let follows = self.master.map(|at| format!("replicaof {} {}\n", at.ip(), at.port())).unwrap_or_default();
        // What the kernel has outlives a killed process, so nothing has to wait for the disk.
        let lines = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nsave \"\"\nappendonly yes\nappendfsync no\nrepl-diskless-sync-delay 0\n\
             maxmemory-policy noeviction\nlogfile redis.log\n{follows}",
            self.address.port(),
            folder.display()
        );
        let file = folder.join("redis.conf");
        fs::write(&file, lines).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new("redis-server");
        command.arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let spawned = command.spawn();
        self.process =
            Some(spawned.context("cannot run redis-server; install it: tools/need redis-server redis-server")?);
        self.wait_for("PING\r\n", "+PONG").await
    }

    /// Kills it.
    ///
    /// # Errors
    /// If it does not run.
    pub(super) async fn kill(&mut self) -> Result<()> {
        self.process.take().context("redis-server does not run")?.kill().await.context("cannot kill redis-server")
    }

    /// Removes what is on the disk.
    pub(super) fn forget(&self) {
        // What is not there is removed already.
        let _ = fs::remove_dir_all(self.folder.path().join("appendonlydir"));
    }

    /// Stops its process where it is, or lets it go on.
    ///
    /// # Errors
    /// If it does not run.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.process.as_ref().and_then(Child::id).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        kill_process(pid.context("redis-server does not run")?, signal).context("cannot signal redis-server")
    }

    /// Makes a replica the master.
    ///
    /// # Errors
    /// If it does not answer.
    pub(super) async fn promote(&mut self) -> Result<()> {
        self.master = None;
        self.wait_for("REPLICAOF NO ONE\r\n", "+OK").await
    }

    /// Asks until the answer is as expected.
    async fn wait_for(&mut self, ask: &str, expected: &str) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.answer(ask).await.is_ok_and(|answer| answer.contains(expected)) {
            ensure!(Instant::now() < deadline, "redis-server does not answer:\n{}", self.log());
            let ended = time::timeout(PROBE, self.process.as_mut().context("redis-server does not run")?.wait()).await;
            ensure!(ended.is_err(), "redis-server has ended:\n{}", self.log());
        }
        Ok(())
    }

    async fn answer(&self, ask: &str) -> Result<String> {
        let asking = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(ask.as_bytes()).await?;
            let mut answer = Vec::with_capacity(4_096);
            stream.read_buf(&mut answer).await?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        time::timeout(Duration::from_secs(2), asking).await?
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }
}
