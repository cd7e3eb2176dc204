//! A server as a process of the tool's own, on a port and in a folder that it keeps over a restart.

use std::{
    fs::{self, OpenOptions},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    select,
    time::{self, Instant},
};

use super::{clock::Clock, random};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is tried whether the port is open.
const PROBE: Duration = Duration::from_millis(5);
/// Characters of the server's log that are shown when it fails.
const SHOWN: usize = 2_000;
/// Ports that no system gives to a connection by itself, so that one that is closed for a while stays free.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// What a server is configured by, but for its address and its log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Settings<'a> {
    /// A file that somebody else has written.
    File(&'a Path),
    /// The text of one.
    Text(&'a str),
}

/// A server that can be stopped and started again.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    program: PathBuf,
    config: PathBuf,
    /// Where its log is, if that is on the disk.
    data: Option<PathBuf>,
    folder: Folder,
    process: Option<Child>,
}

/// When a server was told to stop, and what happened then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopped {
    /// When it was told.
    pub(super) told: u64,
    /// When its port was found closed.
    pub(super) closed: u64,
    /// When it had ended.
    pub(super) ended: u64,
}

/// A folder that goes with its owner.
pub(super) struct Folder(PathBuf);

impl Server {
    /// A server that has yet to be started: that program, or else this one.
    ///
    /// # Errors
    /// If there is no free port, or nothing can be written to the system's folder for temporary files.
    pub(super) fn new(program: Option<&Path>, settings: Settings<'_>) -> Result<Self> {
        let program = match program {
            Some(program) => program.to_owned(),
            None => std::env::current_exe().context("this program does not know where it is; say --server")?,
        };
        let folder = Folder::new()?;
        let config = match settings {
            Settings::File(config) => config.to_owned(),
            Settings::Text(text) => {
                let config = folder.0.join("config.toml");
                fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
                config
            }
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let data = Some(folder.0.join("data"));
        Ok(Self { address, program, config, data, folder, process: None })
    }

    /// The same, with its log where its configuration says.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn with_log_elsewhere(settings: Settings<'_>) -> Result<Self> {
        Ok(Self { data: None, ..Self::new(None, settings)? })
    }

    /// Starts it and waits until it listens; says when that was.
    ///
    /// # Errors
    /// If it ends before, or takes too long.
    pub(super) async fn start(&mut self, clock: Clock) -> Result<u64> {
        let mut process = self.command()?.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.address).await.is_err() {
            let ended = time::timeout(PROBE, process.wait()).await;
            if let Ok(status) = ended {
                bail!("the server did not start ({}):\n{}", status?, self.log());
            }
            ensure!(Instant::now() < deadline, "the server does not listen:\n{}", self.log());
        }
        let open = clock.now();
        self.process = Some(process);
        Ok(open)
    }

    /// Its process, as long as it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref()?.id()
    }

    /// Sends it SIGTERM and waits until it has ended.
    ///
    /// # Errors
    /// If it is not there any more, does not end in time, or ends with a failure.
    pub(super) async fn stop(&mut self, clock: Clock) -> Result<Stopped> {
        let mut process = self.process.take().context("the server does not run")?;
        let running = process.try_wait()?.is_none();
        let pid = process.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).filter(|_| running);
        let pid = pid.with_context(|| format!("the server has ended by itself:\n{}", self.log()))?;
        let told = clock.now();
        kill_process(pid, Signal::TERM).context("cannot send SIGTERM to the server")?;
        let ending = self.closed_and_ended(&mut process, clock);
        let (closed, status) = time::timeout(STOP_TIMEOUT, ending).await.context("the server does not end")??;
        ensure!(status.success(), "the server ended with {status}:\n{}", self.log());
        Ok(Stopped { told, closed, ended: clock.now() })
    }

    /// Kills it; it has no time to do anything.
    ///
    /// # Errors
    /// If it is not there any more.
    pub(super) async fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the server does not run")?;
        ensure!(process.try_wait()?.is_none(), "the server has ended by itself:\n{}", self.log());
        process.kill().await.context("cannot kill the server")
    }

    async fn closed_and_ended(&self, process: &mut Child, clock: Clock) -> Result<(u64, ExitStatus)> {
        let mut closed = None;
        loop {
            let probe = async {
                time::sleep(PROBE).await;
                TcpStream::connect(self.address).await
            };
            select! {
                status = process.wait() => return Ok((closed.unwrap_or_else(|| clock.now()), status?)),
                connected = probe => if connected.is_err() {
                    closed.get_or_insert_with(|| clock.now());
                },
            }
        }
    }

    fn command(&self) -> Result<Command> {
        let file = self.log_file();
        let log = OpenOptions::new().create(true).append(true).open(&file);
        let log = log.with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--config").arg(&self.config);
        command.args(["--host", &self.address.ip().to_string(), "--port", &self.address.port().to_string()]);
        if let Some(data) = &self.data {
            command.env("TIERCAST__LOG__STORE", "disk").env("TIERCAST__LOG__PATH", data);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        Ok(command)
    }

    /// The end of what it has logged.
    pub(super) fn log(&self) -> String {
        let text = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN)..]).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.0.join("server.log")
    }
}

/// A port that nobody listens on.
///
/// # Errors
/// If there is none.
pub(super) fn free_port() -> Result<u16> {
    for _ in 0..1_000 {
        let port = PORTS.start + (random::fresh()? % u64::from(PORTS.end - PORTS.start)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("there is no free port")
}

impl Folder {
    /// A new one among the system's temporary files.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn new() -> Result<Self> {
        let name = format!("tiercast-bench-{:016x}", random::fresh()?);
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        if let Err(error) = fs::remove_dir_all(path) {
            eprintln!("cannot remove {}: {error}", path.display());
        }
    }
}
