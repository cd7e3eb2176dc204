//! What every test uses: a server of its own and clients written from the protocol, not from the server's code.
//!
//! Clients and HTTP calls run on a runtime of their own, and so does each
//! server: a test may block in a destructor and both still make progress, and
//! the server's runtime can be asked whether a task was left behind.

mod call;
mod certificate;
mod client;
mod endpoint;
mod hostile;
mod key_server;
mod nodes;
mod packet;
mod plain;
mod polling;
mod probe;
mod proxy;
mod raw;
mod redis;
mod redis_groups;
pub mod secrets;
mod server;
mod shape;
mod signer;
mod stream;
mod token;
mod wire;

use std::{fs, path::Path, sync::OnceLock, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use call::{Call, Reply};
pub use certificate::{CA, Certified, trusting};
pub use client::{Client, ConnectOptions, Forms, Refused, Transport};
pub use endpoint::{Endpoint, Protocol};
pub use hostile::Hostile;
pub use key_server::{Answer, KeyServer};
pub use nodes::{know, nodes, nodes_with, on_redis};
pub use packet::{Event, Kind, Packet};
pub use plain::Plain;
pub use probe::Probe;
pub use proxy::Proxy;
pub use raw::Raw;
pub use redis::{RedisOptions, RedisServer};
pub use redis_groups::{RedisCluster, Sentinel};
pub use server::{TestServer, key};
pub use shape::assert_shape;
pub use signer::{RSA_PUBLIC_KEY, Signer};
pub use stream::{Stream, secure};
pub use token::{SECRET, seconds_from_now, token};
pub use wire::Wire;

/// How long anything may take before it counts as never happening.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// The runtime of all clients of this process.
pub fn clients() -> &'static tokio::runtime::Runtime {
    static CLIENTS: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    CLIENTS.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("clients")
            .enable_all()
            .build()
            .expect("a runtime for clients")
    })
}

/// A copy of a folder as it is at this moment, which is what a crash would leave.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).expect("a copy");
        }
    }
}

/// A part of a configuration, as it is written.
pub fn part<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a part of a configuration")
}

/// Asks again and again, since not everything a server does is announced by an event.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
