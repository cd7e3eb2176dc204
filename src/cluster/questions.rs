//! Questions to other nodes: one command sends them, and answers come into this node's inbox until the deadline.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use redis::{Pipeline, RedisResult};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::member::Member;
use super::node::{Node, NodeId};

/// Messages that wait in an inbox; the oldest go first.
const WAITING: usize = 1_000;

/// After so many milliseconds without a message an inbox that nobody reads is gone.
const INBOX_MS: u64 = 60_000;

/// What one node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<A> {
    /// The node.
    pub node: NodeId,
    /// Its answer.
    pub answer: A,
}

/// What came of a question to several nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers<A> {
    /// The answers, in the order in which they came.
    pub answers: Vec<Answer<A>>,
    /// Nodes that did not answer in time, or could not, by name.
    pub unanswered: Vec<NodeId>,
}

impl<A> Answers<A> {
    /// Nobody was asked.
    pub(super) fn none() -> Self {
        Self { answers: Vec::new(), unanswered: Vec::new() }
    }
}

/// Questions that wait for answers.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    last: AtomicU64,
    by_question: Mutex<HashMap<u64, mpsc::UnboundedSender<Arrived>>>,
}

/// An answer that has come; none if the node cannot answer.
pub(super) type Arrived = (NodeId, Option<Vec<u8>>);

impl Waiting {
    /// An answer has come; it is dropped if nobody waits for it any more.
    pub(super) fn arrived(&self, question: u64, answer: Arrived) {
        if let Some(waiting) = self.lock().get(&question) {
            waiting.send(answer).ok();
        }
    }

    fn open(&self) -> (Open<'_>, mpsc::UnboundedReceiver<Arrived>) {
        let question = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answers) = mpsc::unbounded_channel();
        self.lock().insert(question, sender);
        (Open { waiting: self, question }, answers)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, mpsc::UnboundedSender<Arrived>>> {
        self.by_question.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question whose answers are waited for, until this is dropped.
struct Open<'a> {
    waiting: &'a Waiting,
    question: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.question);
    }
}

impl Member {
    /// Asks nodes, until all have answered, an answer is enough, or the time is up.
    pub(super) async fn ask<A: DeserializeOwned>(
        &self,
        nodes: &[Node],
        kind: &str,
        question: &impl Serialize,
        is_enough: impl Fn(&A) -> bool,
    ) -> Answers<A> {
        let mut found = Answers::none();
        found.unanswered = nodes.iter().map(|node| node.id.clone()).collect();
        // While Redis is away nobody has to wait to know that.
        if !nodes.is_empty() && self.home().is_there() {
            self.collect(nodes, kind, question, is_enough, &mut found).await;
        }
        self.asked.count(nodes.len(), found.unanswered.len());
        found
    }

    async fn collect<A: DeserializeOwned>(
        &self,
        nodes: &[Node],
        kind: &str,
        question: &impl Serialize,
        is_enough: impl Fn(&A) -> bool,
        found: &mut Answers<A>,
    ) {
        let deadline = Instant::now() + self.settings.request_timeout;
        let (open, mut answers) = self.waiting.open();
        let sent = timeout_at(deadline, self.post(nodes, kind, open.question, question));
        if !matches!(sent.await, Ok(true)) {
            return;
        }
        let mut left = nodes.len();
        while left > 0 {
            let Ok(Some((node, body))) = timeout_at(deadline, answers.recv()).await else { return };
            let Some(place) = found.unanswered.iter().position(|other| *other == node) else { continue };
            left -= 1;
            let Some(answer) = body.and_then(|body| serde_json::from_slice(&body).ok()) else { continue };
            found.unanswered.remove(place);
            let is_last = is_enough(&answer);
            found.answers.push(Answer { node, answer });
            if is_last {
                // The others need not answer any more.
                return found.unanswered.clear();
            }
        }
    }

    /// Sends a question to nodes, or with the number 0 something that has no answer; whether Redis has it.
    pub(super) async fn post(&self, nodes: &[Node], kind: &str, number: u64, question: &impl Serialize) -> bool {
        let body = serde_json::to_vec(question).unwrap_or_default();
        let from = self.inbox_of(&self.me.node);
        let timeout = match number {
            0 => INBOX_MS,
            _ => u64::try_from(self.settings.request_timeout.as_millis()).unwrap_or(INBOX_MS),
        };
        let mut posting = redis::pipe();
        for node in nodes {
            let fields = post_to(&mut posting, &self.inbox_of(node));
            fields.arg("kind").arg(kind).arg("number").arg(number).arg("from").arg(&from);
            fields.arg("timeout").arg(timeout).arg("body").arg(&body);
        }
        self.send(&expiring(posting, nodes.iter().map(|node| self.inbox_of(node)))).await.is_ok()
    }

    /// Answers a question; with no body it cannot be answered.
    pub(super) async fn reply(&self, to: &str, number: u64, body: Option<&[u8]>) {
        let mut posting = redis::pipe();
        let fields = post_to(&mut posting, to);
        fields.arg("answers").arg(number).arg("node").arg(self.me.node.id.as_str());
        if let Some(body) = body {
            fields.arg("body").arg(body);
        }
        if let Err(error) = self.send(&expiring(posting, [to.to_owned()].into_iter())).await {
            tracing::debug!(%error, "a question of another node could not be answered");
        }
    }

    async fn send(&self, posting: &Pipeline) -> RedisResult<()> {
        // What redis-rs does with a Redis Cluster is too deep a type to be part of those who ask.
        let sending: BoxFuture<'_, RedisResult<()>> = Box::pin(self.home().pipe(posting));
        sending.await
    }
}

/// Begins a message to an inbox.
fn post_to<'a>(posting: &'a mut Pipeline, inbox: &str) -> &'a mut Pipeline {
    posting.cmd("XADD").arg(inbox).arg("MAXLEN").arg("=").arg(WAITING).arg("*")
}

/// Lets inboxes end that nobody reads any more.
fn expiring(mut posting: Pipeline, inboxes: impl Iterator<Item = String>) -> Pipeline {
    for inbox in inboxes {
        posting.cmd("PEXPIRE").arg(inbox).arg(INBOX_MS);
    }
    posting
}
