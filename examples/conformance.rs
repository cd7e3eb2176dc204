//! The server's doors with the handlers of the official Socket.IO protocol suite.
//!
//! What the suite tests is the server's own: upgrade handler, connection,
//! outbox and polling front. Only the namespaces are others, in place of the
//! sessions'. `CONFORMANCE_ADDRESS` and `CONFORMANCE_PATH` say where to serve;
//! the suite is at
//! <https://github.com/socketio/socket.io/tree/main/docs/socket.io-protocol/v5-test-suite>.

use std::env;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use serde_json::Value as Json;
use serde_json::value::{RawValue, to_raw_value};
use socketioxide::SocketIo;
use socketioxide::extract::{Data, SocketRef};
use socketioxide::handler::MessageHandler;
use socketioxide::socket::Socket;
use socketioxide_core::Value;
use socketioxide_core::adapter::{BroadcastOptions, CoreAdapter};
use socketioxide_core::packet::Packet;
use tiercast::config::{self, Config, Source};
use tiercast::connection::{Connection, Intake};
use tiercast::delivery::{Directory, RoomAdapter};
use tiercast::dialects::Request;
use tiercast::server::Server;
use tiercast::wire::{PublicId, WireError};
use tokio::net::TcpListener;

/// What the suite expects of a server.
const CONFIG: &str = r#"
[server]
path_aliases = []
cors_origins = ["*"]

[heartbeat]
ping_interval_ms = 300
ping_timeout_ms = 200

[limits]
max_message_size_bytes = 1_000_000
connect_timeout_ms = 1_000

# Nobody authenticates, and there is nothing to protect.
[auth]
auth_required = false
allow_trusted = true

[log]
store = "memory"
"#;

/// On one thread, as the suite's own servers are: it expects what was sent first to be handled first, also when
/// it goes over two connections.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = env::var("CONFORMANCE_ADDRESS").unwrap_or_else(|_| "127.0.0.1:3000".into());
    let path = env::var("CONFORMANCE_PATH").unwrap_or_else(|_| "/socket.io/".into());
    let listener = TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    let bound = listener.local_addr()?;
    let config = configuration(&path, bound)?;
    let server = Server::start_with(config, listener, |_, io, directory| mount(io, directory)).await?;
    eprintln!("serving the handlers of the suite on http://{bound}{path}");
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}

fn configuration(path: &str, bound: SocketAddr) -> anyhow::Result<Config> {
    let source = Source::default()
        .file("CONFIG", CONFIG)
        .flag("CONFORMANCE_PATH", "server.path", path.strip_suffix('/').unwrap_or(path))
        .flag("CONFORMANCE_ADDRESS", "server.host", bound.ip().to_string())
        .flag("CONFORMANCE_ADDRESS", "server.port", i64::from(bound.port()));
    config::load(source).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow!("{}", problems.join("\n"))
    })
}

/// The namespaces of the suite.
fn mount(io: &SocketIo<RoomAdapter>, directory: &Arc<Directory>) -> Arc<dyn Intake> {
    let directory = directory.clone();
    io.ns("/", move |socket: SocketRef<RoomAdapter>, auth: Data<Json>| {
        if let Some(rooms) = directory.namespace(socket.ns()) {
            socket.on("message", Echo { rooms: rooms.clone(), reply: message_back });
            socket.on("message-with-ack", Echo { rooms, reply: acknowledge });
        }
        tell_auth(socket, auth)
    });
    io.ns("/custom", tell_auth);
    Arc::new(Everyone)
}

/// Leaves it to socketioxide who may connect.
struct Everyone;

impl Intake for Everyone {
    fn admissible(&self, _: &Connection, _: &str, _: &str) -> Result<(), WireError> {
        Ok(())
    }

    fn refuse(&self, _: &Connection, _: &str, _: &WireError) -> bool {
        false
    }

    fn readmit(self: Arc<Self>, _: &Arc<Connection>, _: &str, _: &str) {}

    fn acknowledged(&self, _: &Connection, _: &str, _: u64) {}

    fn reordered(&self, _: &PublicId) {}

    fn heard(&self, _: &Connection, _: Result<Request, WireError>) {}

    fn dismiss(&self, connection: &Arc<Connection>) {
        if connection.begin_dismissal() {
            connection.dismiss();
        }
    }
}

async fn tell_auth(socket: SocketRef<RoomAdapter>, Data(auth): Data<Json>) {
    if let Err(error) = socket.emit("auth", &auth) {
        eprintln!("cannot emit auth: {error}");
    }
}

/// Answers an event with its own arguments, byte for byte.
struct Echo {
    rooms: Arc<RoomAdapter>,
    reply: fn(&str, Value, Option<i64>) -> Option<Packet>,
}

impl MessageHandler<RoomAdapter, Echo> for Echo {
    fn call(&self, socket: Arc<Socket<RoomAdapter>>, event: Value, ack_id: Option<i64>) {
        let Some(packet) = (self.reply)(socket.ns(), event, ack_id) else { return };
        if let Err(error) = self.rooms.get_local().broadcast(packet, BroadcastOptions::new(socket.id)) {
            eprintln!("cannot answer: {error:?}");
        }
    }
}

fn message_back(namespace: &str, event: Value, _: Option<i64>) -> Option<Packet> {
    let event = with_head(event, Some("message-back"))?;
    Some(Packet::event(namespace.to_owned(), event))
}

fn acknowledge(namespace: &str, event: Value, ack_id: Option<i64>) -> Option<Packet> {
    let arguments = with_head(event, None)?;
    Some(Packet::ack(namespace.to_owned(), arguments, ack_id?))
}

/// The event with another name or none; its attachments stay with the arguments that name them.
fn with_head(event: Value, name: Option<&str>) -> Option<Value> {
    let Value::Str(text, attachments) = event else { return None };
    let parts: Vec<&RawValue> = serde_json::from_str(&text).ok()?;
    let name = name.map(to_raw_value).transpose().ok()?;
    let parts: Vec<&RawValue> = name.as_deref().into_iter().chain(parts.into_iter().skip(1)).collect();
    let text = serde_json::to_string(&parts).ok()?;
    Some(Value::Str(text.into(), attachments))
}
