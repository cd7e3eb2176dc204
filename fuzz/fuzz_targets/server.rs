//! A whole server in this process, and what the targets say to it over TCP.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tiercast::config::{Config, Limits, Logging, Source, load};
use tiercast::server::{Census, Server};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Every door is open; who comes often is not slowed down, and nothing that times out takes long.
const CONFIG: &str = r#"
[limits]
max_message_size_bytes = 65536
max_connects_per_second = 1000000
rate_limit_messages_per_second = 1000000
[server]
header_timeout_ms = 1000
[auth]
auth_timeout_ms = 1000
[auth.jwt]
secret = "a secret of at least thirty-two bytes"
[log]
store = "memory"
max_entries = 100
[recovery]
max_disconnection_ms = 1000
[api]
ack_timeout_ms = 1
max_ack_timeout_ms = 1
[doors.workmatrix]
enabled = true
organization = "workmatrix"
[doors.dexter]
enabled = true
organization = "dexter"
identity = "anonymous"
anonymous_channels = ["issues", "alerts"]
[doors.gym]
enabled = true
organization = "gym"
[doors.apier]
enabled = true
organization = "apier"
anonymous_channels = ["events", "metrics"]
[[doors.generic]]
path = "/generic"
organization = "generic"
identity = "declared"
[[events.custom]]
name = "note"
channel = "notes"
[[client_events]]
event = "note"
action = "relay"
to = "organization"
[[client_events]]
event = "nothing"
action = "drop"
"#;

/// How long the server may take for anything, on a machine where many targets share a core.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The server that all inputs go to.
pub static SERVER: LazyLock<Running> = LazyLock::new(Running::start);

pub struct Running {
    pub address: SocketAddr,
    server: Server,
    _runtime: Runtime,
}

impl Running {
    fn start() -> Self {
        let config = load(Source::default().file("config.toml", CONFIG)).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())
        });
        // Sooner than a configuration may ask for, so that what is left behind is seen at once.
        let limits = Limits { room_cleanup_interval_ms: 50, connect_timeout_ms: 100, ..config.limits };
        let logging = Logging { enable_logging: false, ..config.logging };
        let config = Config { limits, logging, ..config };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let server = runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            Server::start(config, listener).await.expect("the server starts")
        });
        Self { address: server.address(), server, _runtime: runtime }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_nodelay(true).expect("a stream");
        stream.set_read_timeout(Some(PATIENCE)).expect("a stream");
        stream.set_write_timeout(Some(PATIENCE)).expect("a stream");
        stream
    }

    /// Waits until everybody is gone.
    #[allow(dead_code, reason = "not every target ends its connections")]
    pub fn has_no_connections(&self) {
        self.reaches(|census| census.connections == 0 && census.sockets == 0);
    }

    /// Waits until nothing is held any more, and asserts that the server answers.
    #[allow(dead_code, reason = "not every target ends its connections")]
    pub fn is_empty(&self) {
        self.reaches(|census| {
            let Census { connections, sockets, sessions_authenticated, rooms, namespaces, seats, .. } = *census;
            connections + sockets + sessions_authenticated + rooms + namespaces + seats == 0
        });
        let (status, _) = Http(self.connect()).call("GET", "/livez", "", b"").expect("an answer");
        assert_eq!(status, 200);
    }

    fn reaches(&self, is_so: impl Fn(&Census) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut census = self.server.census();
        while !is_so(&census) {
            assert!(Instant::now() < deadline, "the server still holds {census:?}");
            std::thread::sleep(Duration::from_millis(1));
            census = self.server.census();
        }
    }
}

/// A connection that speaks HTTP.
pub struct Http(pub TcpStream);

impl Http {
    /// Status and body of the answer; nothing if the server has closed the connection.
    pub fn call(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        let host = SERVER.address.port();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost:{host}\r\nContent-Length: {length}\r\n{headers}\r\n");
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        self.0.write_all(&request).ok()?;
        self.answer()
    }

    /// The next answer.
    pub fn answer(&mut self) -> Option<(u16, Vec<u8>)> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read_exact(&mut byte) {
                Ok(()) => head.push(byte[0]),
                Err(error) if is_end(&error) => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
        let head = String::from_utf8(head).expect("a head is text").to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(field("transfer-encoding:"), None, "{head}");
        let length = field("content-length:").map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("the whole body");
        Some((status, body))
    }
}

/// Reads until the other end closes.
#[allow(dead_code, reason = "not every target ends connections itself")]
pub fn drain(mut stream: TcpStream) {
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if is_end(&error) => return,
            // By the clock of the fuzzer.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the server does not close: {error}"),
        }
    }
}

fn is_end(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof)
}
