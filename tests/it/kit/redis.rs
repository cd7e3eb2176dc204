//! A Redis of one's own: a `redis-server` process on a free port, gone with its owner.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, Connection, FromRedisValue, TlsCertificates};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{CA, Certified, DEADLINE, copy};

/// How long one answer may take: less than what a stopped server is given.
const ANSWER: Duration = Duration::from_secs(2);

/// Where a durable server keeps what it was told.
const APPENDED: &str = "appendonlydir";

/// How a server is started; by default it keeps nothing on the disk and asks for no password.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// Whether everything it was told is on the disk before it answers, so that it comes back with it.
    pub durable: bool,
    /// A user and a password, without which nobody is answered; the user `default` has a password only.
    pub user: Option<(&'static str, &'static str)>,
    /// Whether it speaks TLS, with a certificate of the kit's authority.
    pub tls: bool,
    /// Further settings as in its configuration, such as `["maxmemory 10mb"]`.
    pub settings: Vec<String>,
}

/// One `redis-server`.
pub struct RedisServer {
    pub port: u16,
    options: RedisOptions,
    folder: TempDir,
    process: Option<Child>,
}

impl RedisOptions {
    /// A server that comes back with its data.
    pub fn durable() -> Self {
        Self { durable: true, ..Self::default() }
    }

    /// One that asks for a user and a password.
    pub fn user(self, name: &'static str, password: &'static str) -> Self {
        Self { user: Some((name, password)), ..self }
    }

    /// One that speaks TLS.
    pub fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// One with a further setting.
    pub fn setting(mut self, line: &str) -> Self {
        self.settings.push(line.to_owned());
        self
    }
}

impl RedisServer {
    /// Starts one with nothing in it, and waits until it answers.
    pub fn start() -> Self {
        Self::with(RedisOptions::default())
    }

    /// The same with options.
    pub fn with(options: RedisOptions) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self { port: free_port(), options, folder, process: None };
        server.start_again();
        server
    }

    /// Its URL, with user and password.
    pub fn url(&self) -> String {
        self.url_at(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// Its URL by way of another address, such as that of a [`Proxy`](super::Proxy).
    pub fn url_at(&self, address: SocketAddr) -> String {
        let scheme = if self.options.tls { "rediss" } else { "redis" };
        let user = self.options.user.map(|(name, password)| format!("{name}:{password}@")).unwrap_or_default();
        format!("{scheme}://{user}{address}/")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Runs a command, such as `"config set maxmemory 5mb"`.
    pub fn run<T: FromRedisValue>(&self, command: &str) -> T {
        let run = || words(command).query(&mut self.connect()?);
        run().unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Kills it; it has no time to write anything.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("it is killed");
        process.wait().expect("it ends");
    }

    /// Starts it on the same port, with its data if it is durable.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let deadline = Instant::now() + DEADLINE;
        let mut process = self.spawn();
        loop {
            let answer = self.connect().and_then(|mut connection| words("PING").query::<String>(&mut connection));
            match answer {
                Ok(_) => break,
                Err(error) => assert!(Instant::now() < deadline, "redis-server: {error}\n{}", self.log()),
            }
            if process.try_wait().expect("a process of ours").is_some() {
                // Somebody may have had the port for a moment.
                assert!(Instant::now() < deadline, "redis-server did not start:\n{}", self.log());
                process = self.spawn();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.process = Some(process);
    }

    /// Kills it and starts it again, with its data if it is durable.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// Kills it and starts it with nothing in it.
    pub fn restart_empty(&mut self) {
        self.stop();
        self.forget();
        self.start_again();
    }

    /// A copy of all that a durable server has at this moment.
    pub fn back_up(&self) -> TempDir {
        let backup = tempfile::tempdir().expect("a folder");
        copy(&self.folder.path().join(APPENDED), &backup.path().join(APPENDED));
        backup
    }

    /// Kills it and starts it with what it had when that copy was made.
    pub fn restart_from(&mut self, backup: &TempDir) {
        self.stop();
        self.forget();
        copy(backup.path(), self.folder.path());
        self.start_again();
    }

    fn forget(&self) {
        for name in [APPENDED, "dump.rdb"] {
            let path = self.folder.path().join(name);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
    }

    /// Stops its process where it is: connections stay open, and nobody answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Another server that follows this one, and has all of it by now.
    pub fn replica(&self) -> Self {
        let mut options = self.options.clone().setting(&format!("replicaof 127.0.0.1 {}", self.port));
        if let Some((name, password)) = options.user {
            options = options.setting(&format!("masterauth {password}"));
            if name != "default" {
                options = options.setting(&format!("masteruser {name}"));
            }
        }
        if options.tls {
            options = options.setting("tls-replication yes");
        }
        let replica = Self::with(options);
        let deadline = Instant::now() + DEADLINE;
        while !replica.run::<String>("info replication").contains("master_link_status:up") {
            assert!(Instant::now() < deadline, "it does not follow:\n{}", replica.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        replica
    }

    /// Makes a replica the master.
    pub fn promote(&self) {
        self.run::<()>("replicaof no one");
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let client = if self.options.tls {
            let root_cert = Some(CA.pem().into_bytes());
            Client::build_with_tls(self.url(), TlsCertificates { client_tls: None, root_cert })?
        } else {
            Client::open(self.url())?
        };
        let connection = client.get_connection_with_timeout(ANSWER)?;
        connection.set_read_timeout(Some(ANSWER))?;
        Ok(connection)
    }

    fn spawn(&self) -> Child {
        let file = self.folder.path().join("redis.conf");
        fs::write(&file, self.configuration(self.folder.path())).expect("a file");
        run_redis(&[file.to_str().expect("a path of ours")])
    }

    fn configuration(&self, folder: &Path) -> String {
        let path = |name: &str| folder.join(name).to_str().expect("a path of ours").to_owned();
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            "save \"\"".to_owned(),
            // A replica is waited for by a test.
            "repl-diskless-sync-delay 0".to_owned(),
            format!("dir {}", path("")),
            format!("logfile {}", path("redis.log")),
        ];
        if self.options.tls {
            let certified = Certified::fresh();
            let (certificate, key) = (certified.write_certificate(folder), certified.write_key(folder));
            fs::write(path("ca.pem"), CA.pem()).expect("a file");
            lines.push("port 0".to_owned());
            lines.push(format!("tls-port {}", self.port));
            lines.push(format!("tls-cert-file {}", certificate.display()));
            lines.push(format!("tls-key-file {}", key.display()));
            lines.push(format!("tls-ca-cert-file {}", path("ca.pem")));
            lines.push("tls-auth-clients no".to_owned());
        } else {
            lines.push(format!("port {}", self.port));
        }
        if self.options.durable {
            lines.push("appendonly yes".to_owned());
            // What the kernel has outlives a killed process, and nothing waits for the disk.
            lines.push("appendfsync no".to_owned());
        }
        match self.options.user {
            Some(("default", password)) => lines.push(format!("requirepass {password}")),
            Some((name, password)) => {
                lines.push(format!("user {name} on >{password} ~* &* +@all"));
                lines.push("user default off".to_owned());
            }
            None => {}
        }
        lines.extend(self.options.settings.iter().cloned());
        lines.join("\n") + "\n"
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        let pid = Pid::from_raw(process.id().try_into().expect("a process id")).expect("a process id");
        kill_process(pid, signal).expect("a signal");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
    }
}

/// Runs `redis-server` with these arguments.
pub(super) fn run_redis(arguments: &[&str]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!("redis-server cannot be run ({error}); install it: tools/need redis-server redis-server")
    })
}

/// A command from its words.
pub(super) fn words(command: &str) -> redis::Cmd {
    let mut built = redis::Cmd::new();
    for word in command.split(' ') {
        built.arg(word);
    }
    built
}

/// A port that nobody has, out of those that the system never gives to a connection by itself.
pub(super) fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let candidates = std::iter::repeat_with(|| 10_000 + u16::try_from(getrandom::u64().unwrap() % 20_000).unwrap());
    candidates.take(1_000).find(is_free).expect("a free port")
}
