//! The cluster that is broken: nodes, their ways to Redis, and Redis.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{self, Duration};

use super::fault::{Fault, Step};
use super::proxy::{Proxy, Way};
use super::record::Record;
use super::redis::Redis;
use crate::cli::bench::server::{Server, Settings};
use crate::cli::bench::target::Target;

/// A cluster of the tool's own.
pub(super) struct Cluster {
    nodes: Vec<Server>,
    ways: Vec<Proxy>,
    redis: Redis,
}

impl Cluster {
    /// Starts so many nodes.
    ///
    /// # Errors
    /// If something does not start.
    pub(super) async fn start(nodes: usize, record: &Record) -> Result<Self> {
        let redis = Redis::start(None).await?;
        let mut cluster = Self { nodes: Vec::new(), ways: Vec::new(), redis };
        for number in 0..nodes {
            let way = Proxy::to(cluster.redis.address).await?;
            let text = configuration(number, way.address);
            let mut node = Server::with_log_elsewhere(Settings::Text(&text))?;
            node.start(record.clock).await?;
            cluster.nodes.push(node);
            cluster.ways.push(way);
        }
        Ok(cluster)
    }

    /// Where its nodes listen.
    ///
    /// # Errors
    /// If an address is none.
    pub(super) fn doors(&self) -> Result<Vec<Target>> {
        self.nodes.iter().map(|node| Target::parse(&format!("http://{}", node.address))).collect()
    }

    /// The end of what each node has logged.
    pub(super) fn logs(&self) -> Vec<String> {
        self.nodes.iter().map(Server::log).collect()
    }

    /// Breaks something for that long, and mends it.
    ///
    /// # Errors
    /// If it cannot be broken or mended.
    pub(super) async fn suffer(&mut self, step: Step, lasting: Duration, record: &Record) -> Result<()> {
        let began = record.clock.now();
        self.begin(step.first, lasting, None, record).await?;
        time::sleep(lasting / 2).await;
        if let Some(second) = step.second {
            self.begin(second, lasting, step.first.blinds().then_some(began), record).await?;
        }
        time::sleep(lasting / 2).await;
        // Redis first: a node does not start without it.
        let (redis, nodes): (Vec<_>, Vec<_>) = step.faults().partition(|fault| fault.node().is_none());
        for fault in redis.into_iter().chain(nodes) {
            self.end(fault, record).await?;
        }
        Ok(())
    }

    async fn begin(
        &mut self,
        fault: Fault,
        lasting: Duration,
        blind_since: Option<u64>,
        record: &Record,
    ) -> Result<()> {
        match fault {
            Fault::Kill(node) => self.nodes[node].kill().await?,
            Fault::Drain(node) => drop(self.nodes[node].stop(record.clock).await?),
            Fault::Stall(node) => self.signal(node, Signal::STOP)?,
            Fault::Cut(node) => self.ways[node].set(Way::Cut),
            Fault::Freeze(node) => self.ways[node].set(Way::Frozen(self.redis.address)),
            Fault::RedisAway => self.redis.kill().await?,
            Fault::RedisPaused => self.redis.signal(Signal::STOP)?,
            Fault::RedisEmpty => {
                self.redis.kill().await?;
                record.lost(blind_since);
                self.redis.forget();
                self.redis.start_again().await?;
            }
            Fault::RedisFailover => {
                let replica = Redis::start(Some(self.redis.address)).await?;
                // What is published from here on is answered by the one and never comes to the other.
                replica.signal(Signal::STOP)?;
                time::sleep(lasting / 4).await;
                self.redis.kill().await?;
                record.lost(blind_since);
                self.redis = replica;
            }
        }
        Ok(())
    }

    async fn end(&mut self, fault: Fault, record: &Record) -> Result<()> {
        match fault {
            Fault::Kill(node) | Fault::Drain(node) => drop(self.nodes[node].start(record.clock).await?),
            Fault::Stall(node) => self.signal(node, Signal::CONT)?,
            Fault::Cut(node) | Fault::Freeze(node) => self.ways[node].set(Way::Open(self.redis.address)),
            Fault::RedisAway => self.redis.start_again().await?,
            Fault::RedisPaused => self.redis.signal(Signal::CONT)?,
            Fault::RedisEmpty => {}
            Fault::RedisFailover => {
                self.redis.signal(Signal::CONT)?;
                self.redis.promote().await?;
                for way in &self.ways {
                    way.lead_to(self.redis.address);
                }
            }
        }
        Ok(())
    }

    fn signal(&self, node: usize, signal: Signal) -> Result<()> {
        let pid = self.nodes[node].pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        kill_process(pid.context("the node does not run")?, signal).context("cannot signal the node")
    }
}

/// A node's configuration: limits that the load does not meet, and little patience, so that a run does not take long.
fn configuration(number: usize, redis: SocketAddr) -> String {
    format!(
        "\
[log]
store = \"redis\"

[cluster]
redis_urls = [\"redis://{redis}/\"]
node_id = \"node-{number}\"
redis_timeout_ms = 1000
heartbeat_ms = 250
node_timeout_ms = 1500

[heartbeat]
ping_interval_ms = 2000
ping_timeout_ms = 2000

[limits]
max_connections_total = 1000000
max_connections_per_org = 1000000
room_max_size = 1000000

[logging]
level = \"info\"
log_connection_events = false
log_subscription_events = false
log_broadcast_events = false
audit = false
"
    )
}
