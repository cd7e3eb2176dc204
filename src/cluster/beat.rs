//! Signs of life: each tells the others of this node, and this node of the others.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::member::Member;
use super::node::{Node, NodeId};
use super::standing::Heard;

/// Numbers that nodes may have, from 0.
const NUMBERS: u16 = 1024;

/// What nodes tell each other when one has come or goes.
pub(super) const LOOK: &str = "look";

/// How long a node that ends waits until Redis knows.
const LEAVING: Duration = Duration::from_millis(300);

/// What came of a sign of life.
#[derive(Debug)]
enum Beaten {
    Heard(Heard),
    /// Another process has the name, and counts as gone at this time of Redis' clock, if it says nothing more.
    Taken {
        now_ms: i64,
        gone_at_ms: i64,
    },
}

impl Member {
    /// Takes the name of this node; an earlier process that did not end in good order keeps it until it counts as gone.
    ///
    /// # Errors
    /// If Redis cannot be reached, another process has the name and lives, or a node finds shards elsewhere.
    pub(super) async fn join(&self) -> Result<(), String> {
        let mut seen = None;
        loop {
            let beaten = self.say().await.map_err(|error| {
                format!("the cluster cannot be joined, since Redis at {} (cluster.redis_urls) cannot be used: {error}; start it, or correct the URL, the user or the password", self.home().label())
            })?;
            let (now_ms, gone_at_ms) = match beaten {
                Beaten::Heard(heard) => {
                    let layout = &self.me.node.layout;
                    if let Some(other) = heard.nodes.iter().find(|other| other.layout != *layout) {
                        let shown = |layout: &str| if layout.is_empty() { "a single one" } else { layout }.to_owned();
                        let refused = format!(
                            "the servers of cluster.redis_urls (or sentinel_masters) are {}, and those of node {:?} are {}; give all nodes the same ones, word for word, or wait until that node counts as gone; docs/scaling.md has how to change them",
                            shown(layout),
                            other.id.as_str(),
                            shown(&other.layout)
                        );
                        self.say_goodbye().await;
                        return Err(refused);
                    }
                    self.standing.hear(&self.me.node.id, heard, &self.settings);
                    return Ok(());
                }
                Beaten::Taken { now_ms, gone_at_ms } => (now_ms, gone_at_ms),
            };
            if seen.is_some_and(|seen| seen != gone_at_ms) {
                return Err(format!(
                    "another node that lives is called {:?}; give each its own cluster.node_id, or leave it empty",
                    self.me.node.id.as_str()
                ));
            }
            if seen.is_none() {
                tracing::info!(
                    node = self.me.node.id.as_str(),
                    "waiting until an earlier process of this name counts as gone"
                );
            }
            seen = Some(gone_at_ms);
            let left = Duration::from_millis(u64::try_from(gone_at_ms - now_ms).unwrap_or_default() + 1);
            tokio::time::sleep(left.min(self.settings.heartbeat)).await;
        }
    }

    /// Says again and again that this node lives, until the server stops; then that it does not.
    pub(super) async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.settings.heartbeat);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.reset();
        let mut is_displaced = false;
        self.tell_of_change().await;
        loop {
            let next = async {
                tokio::select! {
                    _ = ticks.tick() => true,
                    () = self.sooner.notified() => true,
                    () = self.stopping.cancelled() => false,
                }
            };
            if !self.or_lapse(next).await {
                break;
            }
            let (beaten, ()) = self.or_lapse(async { tokio::join!(self.say(), self.ping()) }).await;
            match beaten {
                Ok(Beaten::Heard(heard)) => {
                    is_displaced = false;
                    self.standing.hear(&self.me.node.id, heard, &self.settings);
                }
                Ok(Beaten::Taken { .. }) if !std::mem::replace(&mut is_displaced, true) => {
                    self.standing.is_displaced();
                    let node = self.me.node.id.as_str();
                    tracing::error!(
                        node,
                        "another process has taken the name of this node, which was away for too long"
                    );
                }
                Ok(Beaten::Taken { .. }) => {}
                Err(error) => tracing::debug!(%error, "nobody could be told that this node lives"),
            }
        }
        self.say_goodbye().await;
    }

    /// Says that this node lives.
    async fn say(&self) -> redis::RedisResult<Beaten> {
        let me = self.me.described();
        let mut beat = self.beat.prepare_invoke();
        for key in self.keys() {
            beat.key(key);
        }
        let info = serde_json::to_string(&me).unwrap_or_default();
        let leads = self.standing.leads_until().is_some_and(|until| Instant::now() < until);
        beat.arg(me.id.as_str()).arg(&me.incarnation).arg(info).arg(self.settings.lease.as_millis() as u64);
        beat.arg(self.settings.wish % NUMBERS).arg(NUMBERS).arg(u8::from(me.draining)).arg(u8::from(leads));
        beat.arg(u8::from(self.standing.is_timely()));
        let sent = Instant::now();
        let (now_ms, is_alive, number, leader, infos, age_ms): (i64, u8, i64, String, Vec<String>, u64) =
            self.home().script(&beat).await?;
        if is_alive == 0 {
            return Ok(Beaten::Taken { now_ms, gone_at_ms: number });
        }
        let mut nodes: Vec<Node> = infos.iter().filter_map(|info| serde_json::from_str(info).ok()).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        let leader = (!leader.is_empty()).then(|| NodeId::new(&leader));
        let (age, number) = (Duration::from_millis(age_ms), u16::try_from(number).ok());
        Ok(Beaten::Heard(Heard { sent, now_ms, age, nodes, leader, number }))
    }

    /// Asks the other Redis servers for a sign of life, so that it is known of each whether it answers.
    async fn ping(&self) {
        let servers = self.redis.servers().iter().filter(|server| !Arc::ptr_eq(server, self.home()));
        let ping = redis::cmd("PING");
        futures_util::future::join_all(servers.map(|server| server.query::<()>(&ping))).await;
    }

    async fn say_goodbye(&self) {
        let mut leave = self.leave.prepare_invoke();
        for key in self.keys() {
            leave.key(key);
        }
        leave.key(self.inbox_of(&self.me.node)).arg(self.me.node.id.as_str()).arg(&self.me.node.incarnation);
        let left = tokio::time::timeout(LEAVING, self.home().script::<()>(&leave)).await;
        if matches!(left, Ok(Ok(()))) {
            tokio::time::timeout(LEAVING, self.tell_of_change()).await.ok();
        } else {
            tracing::warn!(
                "Redis does not answer, so the others will notice only after a while that this node is gone"
            );
        }
        self.standing.is_displaced();
        self.handlers.clear();
    }

    /// Has the others look who lives before their next sign of life.
    async fn tell_of_change(&self) {
        let others: Vec<Node> =
            self.standing.nodes().iter().filter(|node| node.id != self.me.node.id).cloned().collect();
        if !others.is_empty() {
            self.post(&others, LOOK, 0, &()).await;
        }
    }

    /// Does something, and meanwhile steps down when the lease of a leader ends.
    async fn or_lapse<T>(&self, doing: impl Future<Output = T>) -> T {
        let mut doing = std::pin::pin!(doing);
        loop {
            let Some(until) = self.standing.leads_until() else { return doing.await };
            match tokio::time::timeout_at(until.into(), &mut doing).await {
                Ok(done) => return done,
                Err(_) if self.standing.step_down() => {
                    tracing::warn!("this node leads the cluster no more, since it could not say in time that it lives");
                }
                Err(_) => {}
            }
        }
    }

    /// The keys of `beat.lua`.
    fn keys(&self) -> [String; 5] {
        ["nodes", "node_infos", "node_numbers", "leader", "began"].map(|rest| self.redis.keys.of(0, rest))
    }
}
