//! What a node has beside itself that others may stand beside: Redis, its leases, its questions.

use std::sync::Arc;
use std::time::Duration;

use redis::Script;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::figures::Asked;
use super::handlers::Handlers;
use super::me::Me;
use super::node::Node;
use super::questions::Waiting;
use super::standing::Standing;
use crate::config;
use crate::redis::{Redis, Server};

/// Questions of others that are answered at a time; more of them are left unanswered.
const AT_ONCE: usize = 64;

/// A node of a cluster that others may be in.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) me: Arc<Me>,
    pub(super) standing: Arc<Standing>,
    pub(super) settings: Settings,
    pub(super) redis: Arc<Redis>,
    pub(super) handlers: Handlers,
    pub(super) waiting: Waiting,
    pub(super) asked: Asked,
    /// How many questions of others may still be answered at once.
    pub(super) turns: Arc<Semaphore>,
    /// Something is to be told sooner than with the next sign of life.
    pub(super) sooner: Notify,
    pub(super) tasks: TaskTracker,
    pub(super) stopping: CancellationToken,
    pub(super) beat: Script,
    pub(super) leave: Script,
}

/// Times of a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Between two signs of life.
    pub(super) heartbeat: Duration,
    /// After which without one a node counts as gone.
    pub(super) lease: Duration,
    /// How long questions wait for answers.
    pub(super) request_timeout: Duration,
    /// The number that this node would like, so that nodes that lost Redis do not all ask for the same one.
    pub(super) wish: u16,
}

impl Member {
    pub(super) fn new(
        config: &config::Cluster,
        me: &Arc<Me>,
        standing: &Arc<Standing>,
        redis: Arc<Redis>,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Self {
        let settings = Settings {
            heartbeat: Duration::from_millis(config.heartbeat_ms),
            lease: Duration::from_millis(config.node_timeout_ms),
            request_timeout: Duration::from_millis(config.request_timeout_ms),
            wish: crc32fast::hash(me.node.incarnation.as_bytes()) as u16,
        };
        Self {
            me: me.clone(),
            standing: standing.clone(),
            settings,
            redis,
            handlers: Handlers::default(),
            waiting: Waiting::default(),
            asked: Asked::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            sooner: Notify::new(),
            tasks: tasks.clone(),
            stopping: stopping.clone(),
            beat: Script::new(include_str!("beat.lua")),
            leave: Script::new(include_str!("leave.lua")),
        }
    }

    /// The server that the nodes meet on.
    pub(super) fn home(&self) -> &Arc<Server> {
        self.redis.server_of(0)
    }

    /// The stream of what is sent to a node; another process of its name has another.
    pub(super) fn inbox_of(&self, node: &Node) -> String {
        self.redis.keys.of(0, format_args!("inbox:{}:{}", node.id, node.incarnation))
    }
}
