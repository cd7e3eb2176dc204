//! A server of one's own, on a free port, that must be empty when the test is done.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tiercast::{
    config::{ApiKey, Config, LogStore, Right},
    server::{Census, Server},
};
use tokio::{net::TcpListener, runtime::Runtime};

use super::{Call, Client, ConnectOptions, DEADLINE, Refused, Reply, secrets};

/// Markers that were published: those of one server may be replayed by the next.
static MARKERS: AtomicU64 = AtomicU64::new(0);

/// One server; dropping it asserts that no connection, seat, room, namespace or task remains.
pub struct TestServer {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
    server: Option<Server>,
    /// Whether it speaks TLS.
    secure: bool,
    /// Sent with every call of the HTTP API.
    key: Option<String>,
}

/// The configured form of an API key; the key itself is `<name>-secret`.
pub fn key(name: &str, rights: &[Right], organizations: Option<&[&str]>) -> ApiKey {
    let digest = Sha256::digest(format!("{name}-secret"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let organizations = organizations.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
    ApiKey {
        name: name.into(),
        hash: format!("sha256:{hex}"),
        rights: rights.to_vec(),
        organizations,
        publishes_per_second: None,
        reads_per_second: None,
    }
}

impl TestServer {
    /// Starts a server whose config is the default but for what `configure` changes.
    pub async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.logging.enable_logging = false;
        config.log.store = LogStore::Memory;
        // Empty namespaces and rooms may wait for the next clean-up; tests wait for it too.
        config.limits.room_cleanup_interval_ms = 100;
        config.limits.connect_timeout_ms = 2_000;
        configure(&mut config);
        secrets::listen();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("server")
            .enable_all()
            .build()
            .expect("a runtime for the server");
        let secure = config.server.tls.is_on();
        let starting = runtime.spawn(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            Server::start(config, listener).await.expect("the server starts")
        });
        let server = starting.await.expect("the server starts");
        let address = server.address();
        Self { address, runtime: Some(runtime), server: Some(server), secure, key: None }
    }

    /// Calls the API with this key from now on.
    pub fn with_key(mut self, name: &str) -> Self {
        let key = format!("{name}-secret");
        secrets::hold("the API key", &json!(key));
        self.key = Some(key);
        self
    }

    /// Connects by WebSocket, wanting events in both forms.
    pub async fn connect(&self, namespace: &str) -> Client {
        self.connect_with(ConnectOptions::default().namespace(namespace)).await
    }

    /// Connects, and insists on it.
    pub async fn connect_with(&self, options: ConnectOptions) -> Client {
        let at = options.namespace.clone();
        self.try_connect(options).await.unwrap_or_else(|refused| panic!("{at} refused: {refused:?}"))
    }

    /// Connects, or tells why not.
    pub async fn try_connect(&self, options: ConnectOptions) -> Result<Client, Refused> {
        let options = ConnectOptions { secure: self.secure, ..options };
        tokio::time::timeout(DEADLINE, Client::connect(self.address, options)).await.expect("an answer to CONNECT")
    }

    /// An authenticated socket that wants events in the named form.
    pub async fn agent(&self, organization: &str) -> Client {
        self.connect_with(ConnectOptions::named()).await.authenticate(organization).await
    }

    /// An authenticated socket that receives only what it subscribes to here.
    pub async fn subscriber(&self, organization: &str, request: Value) -> Client {
        let mut client = self.agent(organization).await.without_implicit().await;
        client.subscribe(request).await;
        client
    }

    /// An authenticated socket in a namespace, wanting the named form.
    pub async fn member(&self, organization: &str, namespace: &str) -> Client {
        let auth = json!({ "user_id": format!("member of {namespace}"), "organization_id": organization });
        self.connect_with(ConnectOptions::named().namespace(namespace).auth(auth)).await
    }

    /// A call of the HTTP API; `path` is relative to `/api/ws`.
    pub fn call(&self, method: reqwest::Method, path: &str) -> Call {
        let call = Call::new(method, &self.url(&format!("/api/ws{path}")));
        match &self.key {
            Some(key) => call.header("authorization", &format!("Bearer {key}")),
            None => call,
        }
    }

    /// Posts JSON to the HTTP API.
    pub async fn publish(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.call(reqwest::Method::POST, path).json(&body)).await
    }

    /// Publishes an event, and insists on it.
    pub async fn broadcast(&self, event: &str, data: Value, target: Value) -> Value {
        let body = json!({ "event": event, "data": data, "target": target });
        let (status, answer) = self.publish("/broadcast", body).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Reads from the HTTP API.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.call(reqwest::Method::GET, path)).await
    }

    /// Any request to the server, without a key.
    pub async fn request(&self, call: Call) -> Reply {
        call.send().await.expect("an HTTP answer")
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.secure { "https" } else { "http" }, self.address)
    }

    /// Publishes something that reaches this socket whatever it subscribes to, and returns what marks it.
    pub async fn mark(&self, client: &Client) -> String {
        let marker = format!("marker-{}", MARKERS.fetch_add(1, Ordering::Relaxed));
        let target = json!({ "organization_id": client.organization, "socket_ids": [client.socket_id] });
        let answer = self.broadcast("system:broadcast", json!({ "marker": marker }), target).await;
        assert_eq!(answer["recipients_count"], 1, "a marker reaches its socket: {answer}");
        marker
    }

    pub fn census(&self) -> Census {
        self.server.as_ref().expect("the server runs").census()
    }

    /// Waits until the server counts so.
    pub async fn count(&self, what: &str, holds: impl Fn(&Census) -> bool) {
        super::eventually(what, async || holds(&self.census())).await;
    }

    /// Addresses of the plain doors' own listeners.
    pub fn plain_addresses(&self) -> Vec<SocketAddr> {
        self.server.as_ref().expect("the server runs").plain_addresses().to_vec()
    }

    /// Waits until a drain has sent everybody away.
    pub async fn drained(&self) {
        let drained = self.server.as_ref().expect("the server runs").drained();
        tokio::time::timeout(DEADLINE, drained).await.expect("it is over in time");
    }

    /// Connections of other nodes.
    pub fn node_connections(&self) -> usize {
        self.server.as_ref().expect("the server runs").node_connections()
    }

    /// Stops the server while clients may still be there.
    pub async fn stop(&mut self) {
        let server = self.server.take().expect("the server runs");
        let stopping = self.runtime.as_ref().expect("a runtime").spawn(server.stop());
        tokio::time::timeout(DEADLINE, stopping).await.expect("the server stops in time").expect("it stops");
    }

    /// Ends it as a kill does: nothing of it runs any more, and nothing is said to anybody.
    pub fn kill(&mut self) {
        std::mem::forget(self.server.take().expect("the server runs"));
        let runtime = self.runtime.take().expect("a runtime");
        runtime.shutdown_background();
    }

    /// Asserts that nothing remains, now and without blocking the test's own runtime.
    pub async fn finish(self) {
        let ending = tokio::task::spawn_blocking(move || drop(self));
        if let Err(error) = ending.await {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    fn assert_empty(&self) {
        let deadline = Instant::now() + DEADLINE;
        while !empty(&self.census()) {
            assert!(Instant::now() < deadline, "all clients are gone, but {}", tell(&self.census()));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // One that was killed has nothing to say.
        let Some(runtime) = self.runtime.take() else { return };
        // A test that has failed already has said what it has to say.
        if std::thread::panicking() {
            return runtime.shutdown_background();
        }
        if self.server.is_some() {
            self.assert_empty();
        }
        secrets::check();
        let server = self.server.take();
        let ending = std::thread::spawn(move || {
            if let Some(server) = server {
                let stopped = runtime.block_on(async { tokio::time::timeout(DEADLINE, server.stop()).await });
                stopped.expect("the server stops in time");
            }
            let deadline = Instant::now() + DEADLINE;
            while runtime.metrics().num_alive_tasks() > 0 {
                let left = runtime.metrics().num_alive_tasks();
                assert!(Instant::now() < deadline, "{left} tasks outlived the server");
                std::thread::sleep(Duration::from_millis(5));
            }
            runtime.shutdown_background();
        });
        if let Err(panic) = ending.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Sends a call and reads its answer as JSON.
async fn answer(call: Call) -> (u16, Value) {
    let reply = call.send().await.expect("an HTTP answer");
    secrets::told("by the HTTP API", &reply.text);
    (reply.status, reply.json())
}

fn empty(census: &Census) -> bool {
    let Census { handshakes, connections, unauthenticated, sockets, sessions_authenticated, .. } = census;
    let Census { tcp_connections, rooms, namespaces, seats, user_seats, .. } = census;
    let held = [handshakes, connections, unauthenticated, sockets, sessions_authenticated, rooms, namespaces];
    held.into_iter().chain([tcp_connections, seats, user_seats]).all(|count| *count == 0)
}

fn tell(census: &Census) -> String {
    format!(
        "{} TCP connections, {} handshakes, {} connections, {} of them unauthenticated, {} sockets, {} authenticated, \
         {} rooms, {} namespaces, {} seats and {} of users remain",
        census.tcp_connections,
        census.handshakes,
        census.connections,
        census.unauthenticated,
        census.sockets,
        census.sessions_authenticated,
        census.rooms,
        census.namespaces,
        census.seats,
        census.user_seats
    )
}
