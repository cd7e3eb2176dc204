//! The handle that everybody else has on the cluster.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::figures::{Figures, RedisFigure};
use super::me::Me;
use super::member::Member;
use super::node::{Node, NodeId};
use super::questions::Answers;
use super::standing::Standing;
use crate::config;
use crate::redis::Redis;

/// Name of a server that is alone.
const LOCAL: &str = "local";

/// This node, and the others if there may be some.
#[derive(Debug)]
pub struct Cluster {
    me: Arc<Me>,
    standing: Arc<Standing>,
    /// None if this server is alone.
    member: Option<Arc<Member>>,
}

impl Cluster {
    /// A server alone: it leads, it has the number 0, and nobody is there to be asked.
    pub fn alone() -> Arc<Self> {
        let node = Node::starting(NodeId::new(LOCAL), "", String::new());
        let (me, standing) = (Arc::new(Me::new(node)), Arc::new(Standing::new(Vec::new(), true)));
        Arc::new(Self { me, standing, member: None })
    }

    /// Takes the name of this node, and says until `stopping` is cancelled that it lives. Others may ask it from now
    /// on; they are answered from [`listen`](Self::listen) on.
    ///
    /// # Errors
    /// If Redis cannot be reached, or another node of this name lives.
    pub async fn start(
        config: &config::Cluster,
        redis: Arc<Redis>,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Result<Arc<Self>, String> {
        let me = Arc::new(Me::new(Node::starting(NodeId::of(config), &config.node_url, redis.layout())));
        let standing = Arc::new(Standing::new(Vec::new(), false));
        let member = Arc::new(Member::new(config, &me, &standing, redis, tasks, stopping));
        member.join().await?;
        tracing::info!(node = me.node.id.as_str(), "this node is in the cluster");
        tasks.spawn(member.clone().run());
        Ok(Arc::new(Self { me, standing, member: Some(member) }))
    }

    /// Begins to answer what others ask, when everybody who answers is registered.
    pub fn listen(&self) {
        if let Some(member) = &self.member {
            member.tasks.spawn(member.clone().read_inbox());
        }
    }

    /// Registers who answers a kind of questions, from any node but this one; until the server stops it is held.
    pub fn answer<Q, A, F, Answered>(&self, kind: &'static str, answer: F)
    where
        Q: DeserializeOwned,
        A: Serialize,
        F: Fn(Q) -> Answered + Send + Sync + 'static,
        Answered: Future<Output = A> + Send + 'static,
    {
        if let Some(member) = &self.member {
            member.handlers.add(kind, answer);
        }
    }

    /// Asks all other nodes that live, and waits for `cluster.request_timeout_ms` at most. Nobody waits while Redis is
    /// away: then all others are named as unanswered at once.
    pub async fn ask<A: DeserializeOwned>(&self, kind: &str, question: &impl Serialize) -> Answers<A> {
        self.ask_until(kind, question, |_| false).await
    }

    /// As [`ask`](Self::ask), but an answer may be enough; nobody is missed then.
    pub async fn ask_until<A: DeserializeOwned>(
        &self,
        kind: &str,
        question: &impl Serialize,
        is_enough: impl Fn(&A) -> bool,
    ) -> Answers<A> {
        match &self.member {
            Some(member) => member.ask(&self.others(), kind, question, is_enough).await,
            None => Answers::none(),
        }
    }

    /// Asks one other node; none if it does not answer in time, or is not there.
    pub async fn ask_one<A: DeserializeOwned>(
        &self,
        node: &NodeId,
        kind: &str,
        question: &impl Serialize,
    ) -> Option<A> {
        let member = self.member.as_ref()?;
        let others: Vec<Node> = self.others().into_iter().filter(|other| other.id == *node).collect();
        let answers = member.ask(&others, kind, question, |_| false).await.answers;
        answers.into_iter().next().map(|answer| answer.answer)
    }

    /// Tells all other nodes that live, which do not answer; false if nobody can be told since Redis is away.
    pub async fn tell(&self, kind: &str, news: &impl Serialize) -> bool {
        let Some(member) = &self.member else { return true };
        let others = self.others();
        others.is_empty() || (member.home().is_there() && member.post(&others, kind, 0, news).await)
    }

    /// Name of this node.
    pub fn id(&self) -> &NodeId {
        &self.me.node.id
    }

    /// This node as it is now.
    pub fn me(&self) -> Node {
        self.me.described()
    }

    /// Whether there are no other nodes and never will be.
    pub fn is_alone(&self) -> bool {
        self.member.is_none()
    }

    /// The Redis servers; none if this server is alone.
    pub fn redis(&self) -> Option<&Arc<Redis>> {
        self.member.as_ref().map(|member| &member.redis)
    }

    /// Whether every Redis server answers, as far as they are needed.
    pub fn is_well(&self) -> bool {
        self.redis().is_none_or(|redis| redis.is_there())
    }

    /// The nodes that live, by name, as of the last sign of life of this one; while Redis is away they are those that
    /// lived then.
    pub fn nodes(&self) -> Arc<[Node]> {
        match &self.member {
            Some(_) => self.standing.nodes(),
            None => [self.me()].into(),
        }
    }

    /// [`nodes`](Self::nodes), and a change whenever one comes, goes or begins to drain.
    pub fn changes(&self) -> watch::Receiver<Arc<[Node]>> {
        self.standing.changes()
    }

    /// Whether whoever is not among the nodes is gone: not while Redis is away, nor for `cluster.node_timeout_ms` after
    /// it came back or has lost everything, since nodes may live that could not say so.
    pub fn is_settled(&self) -> bool {
        self.member.is_none() || (self.is_well() && self.standing.is_settled())
    }

    /// The node that leads, as far as this one knows for sure.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.member {
            Some(_) => self.standing.leader(),
            None => Some(self.id().clone()),
        }
    }

    /// Whether this node leads: never two at a time, as long as Redis does not forget what it has confirmed. Where it
    /// may, when a server takes over that does not have it, two lead for `cluster.node_timeout_ms` at most.
    pub fn is_leader(&self) -> bool {
        self.leader().as_ref() == Some(self.id())
    }

    /// Whether this node leads, and a change whenever that changes.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.standing.leading()
    }

    /// A number below 1,024 that no other living node has; none while this node cannot know that.
    pub fn number(&self) -> Option<u16> {
        match &self.member {
            Some(_) => self.standing.number(),
            None => Some(0),
        }
    }

    /// Tells the others that this node lets nobody new in; another one leads, if there is one.
    pub fn drain(&self) {
        self.me.drain();
        if let Some(member) = &self.member {
            member.sooner.notify_one();
        }
    }

    /// How the sockets of this node are counted.
    pub fn count_with(&self, count: impl Fn() -> usize + Send + Sync + 'static) {
        self.me.count_with(count);
    }

    /// What operators read of the cluster; none if this server is alone.
    pub fn figures(&self) -> Option<Figures> {
        let member = self.member.as_ref()?;
        let (questions_asked, questions_unanswered) = member.asked.read();
        let servers = member.redis.servers().iter();
        let figure = |server: &Arc<crate::redis::Server>| RedisFigure {
            server: server.label().to_owned(),
            answers: server.is_there(),
        };
        Some(Figures {
            node: self.id().clone(),
            leader: self.leader(),
            nodes_living: self.nodes().len(),
            questions_asked,
            questions_unanswered,
            redis: servers.map(figure).collect(),
        })
    }

    fn others(&self) -> Vec<Node> {
        self.nodes().iter().filter(|node| node.id != *self.id()).cloned().collect()
    }
}
