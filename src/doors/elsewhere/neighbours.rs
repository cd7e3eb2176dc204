//! The other nodes, as those that sessions on polling may live on, and the connections to them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::{Cluster, SharedSecret};
use crate::config::Config;

/// How long a connection to a node may take.
const CONNECTING: Duration = Duration::from_secs(2);

/// Connections to one node that are kept while nothing is to be passed on.
const KEPT: usize = 64;

/// What passing on needs.
pub struct Neighbours {
    cluster: Arc<Cluster>,
    secret: Arc<SharedSecret>,
    /// What the ids of sessions that live here begin with.
    own: String,
    pub(super) client: Client<HttpConnector, Body>,
    /// How long an answer may take: as long as a poll may wait, or a body.
    pub(super) patience: Duration,
}

impl Neighbours {
    /// The other nodes; none if this one tells them no URL of its own.
    pub async fn start(
        config: &Config,
        cluster: &Arc<Cluster>,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Option<Self> {
        let redis = cluster.redis().filter(|_| !config.cluster.node_url.is_empty())?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECTING));
        let client = Client::builder(Tracked { tasks: tasks.clone(), stopping: stopping.clone() })
            .pool_timer(TokioTimer::new())
            // Before the other end gives an idle connection up, so that no request meets its end.
            .pool_idle_timeout(Duration::from_millis(config.server.header_timeout_ms) / 2)
            .pool_max_idle_per_host(KEPT)
            .build(connector);
        let heartbeat = &config.heartbeat;
        let poll = heartbeat.ping_interval_ms.saturating_add(heartbeat.ping_timeout_ms);
        Some(Self {
            secret: SharedSecret::start(&config.cluster, redis, tasks, stopping).await,
            own: cluster.me().incarnation,
            cluster: cluster.clone(),
            client,
            patience: Duration::from_millis(poll.max(config.server.body_timeout_ms)),
        })
    }

    /// What a client on polling is told as its session id.
    pub(in crate::doors) fn told(&self, sid: &str) -> String {
        format!("{}.{sid}", self.own)
    }

    /// Whether sessions whose ids begin like this live here.
    pub(in crate::doors) fn is_here(&self, node: &str) -> bool {
        node == self.own
    }

    /// Where a node is reached, if it lives.
    pub(super) fn url_of(&self, node: &str) -> Option<String> {
        let nodes = self.cluster.nodes();
        let found = nodes.iter().find(|other| other.incarnation == node && !other.url.is_empty())?;
        Some(found.url.trim_end_matches('/').to_owned())
    }

    /// A proof that a request is from a node; the target names the session, so it proves nothing about another one.
    pub(super) fn prove(&self, target: &str) -> Option<String> {
        self.secret.prove(target)
    }

    /// Whether a request is from a node.
    pub(super) fn is_proven(&self, target: &str, proof: &str) -> bool {
        self.secret.is_proven(target, proof)
    }
}

impl std::fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Neighbours")
    }
}

/// Runs the connections to other nodes, until the server stops.
#[derive(Clone)]
struct Tracked {
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.tasks.spawn(self.stopping.clone().run_until_cancelled_owned(task));
    }
}
