//! Where a node stands by its last sign of life: who lives, who leads, and until when it may rely on that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::member::Settings;
use super::node::{Node, NodeId};

/// What the last sign of life of this node has been answered.
#[derive(Debug)]
pub(super) struct Standing {
    nodes: watch::Sender<Arc<[Node]>>,
    leads: watch::Sender<bool>,
    leased: Mutex<Leased>,
}

#[derive(Debug, Default)]
struct Leased {
    leader: Option<NodeId>,
    number: Option<u16>,
    /// Until when all this holds; none before the first answer.
    until: Option<Instant>,
    /// The clock of Redis in milliseconds, and when it was read at the latest.
    clock: Option<(i64, Instant)>,
    /// From when on whoever is not among the nodes is gone; none before the first answer.
    settled_at: Option<Instant>,
}

/// What Redis has answered to a sign of life.
#[derive(Debug)]
pub(super) struct Heard {
    /// When it was sent, so that its leases end no earlier than a lease's time after it.
    pub(super) sent: Instant,
    /// The clock of Redis, in milliseconds.
    pub(super) now_ms: i64,
    /// How long Redis has known the cluster.
    pub(super) age: Duration,
    /// The living, by name.
    pub(super) nodes: Vec<Node>,
    /// Who leads.
    pub(super) leader: Option<NodeId>,
    /// The number of this node.
    pub(super) number: Option<u16>,
}

impl Standing {
    /// Alone among the living, or not even that.
    pub(super) fn new(nodes: Vec<Node>, leads: bool) -> Self {
        let (nodes, leads) = (watch::Sender::new(nodes.into()), watch::Sender::new(leads));
        Self { nodes, leads, leased: Mutex::default() }
    }

    /// Takes over what was heard; it holds for a lease, less a tenth that clocks may differ by.
    pub(super) fn hear(&self, me: &NodeId, heard: Heard, settings: &Settings) {
        let Settings { heartbeat, lease, .. } = *settings;
        let until = heard.sent + lease - lease / 10;
        // What comes after its own lease says nothing any more.
        let leads = heard.leader.as_ref() == Some(me) && Instant::now() < until;
        {
            let mut leased = self.lock();
            if leased.leader != heard.leader {
                tracing::info!(leader = heard.leader.as_ref().map(NodeId::as_str), "the cluster is led");
            }
            // Where Redis was away, or has just lost everything, nodes may live that could not say so yet.
            let now = Instant::now();
            let is_long = |since: Instant| now.duration_since(since) > (heartbeat + lease) / 2;
            let was_away = leased.clock.is_some_and(|(_, read)| is_long(read));
            let settled_at = if was_away { now + lease } else { now + lease.saturating_sub(heard.age) };
            *leased = Leased {
                settled_at: leased.settled_at.max(Some(settled_at)),
                leader: heard.leader,
                number: heard.number,
                until: Some(until),
                clock: Some((heard.now_ms, now)),
            };
        }
        self.leads.send_if_modified(|before| std::mem::replace(before, leads) != leads);
        self.nodes.send_if_modified(|before| {
            let came: Vec<_> = heard.nodes.iter().filter(|node| !before.iter().any(|old| old.is_as(node))).collect();
            let is_there = |old: &&Node| !heard.nodes.iter().any(|node| node.is_as(old));
            let gone: Vec<_> = before.iter().filter(is_there).collect();
            tell(me, &came, &gone);
            let is_changed = !came.is_empty() || !gone.is_empty();
            *before = heard.nodes.into();
            is_changed
        });
    }

    /// Another process has the name of this node.
    pub(super) fn is_displaced(&self) {
        {
            let mut leased = self.lock();
            *leased = Leased { clock: leased.clock, ..Leased::default() };
        }
        self.step_down();
    }

    /// When the leases end, as long as this node leads.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        self.lock().until.filter(|_| *self.leads.borrow())
    }

    /// Whether the last answer came in time to be relied on, if there was one.
    pub(super) fn is_timely(&self) -> bool {
        self.lock().until.is_none_or(|until| Instant::now() < until)
    }

    /// This node leads no more; false if it did not.
    pub(super) fn step_down(&self) -> bool {
        self.leads.send_if_modified(|leads| std::mem::replace(leads, false))
    }

    pub(super) fn nodes(&self) -> Arc<[Node]> {
        self.nodes.borrow().clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Arc<[Node]>> {
        self.nodes.subscribe()
    }

    pub(super) fn leading(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        let leased = self.lock();
        leased.leader.clone().filter(|_| leased.holds())
    }

    pub(super) fn number(&self) -> Option<u16> {
        let leased = self.lock();
        leased.number.filter(|_| leased.holds())
    }

    /// Whether whoever is not among the nodes is gone.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().settled_at.is_some_and(|at| Instant::now() >= at)
    }

    /// The clock of Redis in milliseconds, which by now may show a little more.
    pub(super) fn redis_now(&self) -> Option<i64> {
        let (then, read) = self.lock().clock?;
        Some(then + i64::try_from(read.elapsed().as_millis()).unwrap_or(i64::MAX - then))
    }

    fn lock(&self) -> MutexGuard<'_, Leased> {
        self.leased.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leased {
    fn holds(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}

/// Logs what has changed among the others.
fn tell(me: &NodeId, came: &[&Node], gone: &[&Node]) {
    let others = |nodes: &[&Node]| nodes.iter().filter(|node| node.id != *me).map(|node| (*node).clone()).collect();
    let (came, gone): (Vec<Node>, Vec<Node>) = (others(came), others(gone));
    for node in &came {
        match gone.iter().find(|old| (&old.id, &old.incarnation) == (&node.id, &node.incarnation)) {
            Some(_) => tracing::info!(node = node.id.as_str(), draining = node.draining, "a node has changed"),
            None => tracing::info!(node = node.id.as_str(), version = node.version, "a node is there"),
        }
    }
    for node in &gone {
        if !came.iter().any(|new| (&new.id, &new.incarnation) == (&node.id, &node.incarnation)) {
            tracing::warn!(node = node.id.as_str(), "a node is gone");
        }
    }
}
