//! What the nodes of a cluster tell each other of their users, so that each has all of them in its book.
//!
//! News go out as soon as there are some, numbered in each part of the users; every few heartbeats a node says how far it
//! has come, and who has missed something asks for the whole part. One node announces, the one that leads; all hear in
//! the shared log what was announced, so that the next one that leads goes on from there.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::announce::announced;
use super::book::{PARTS, Row, Whom, part_of};
use super::peers::{Peers, Wanted};
use super::presence::Presence;
use crate::cluster::Cluster;
use crate::config;
use crate::hub::Listener;
use crate::log::Draft;

/// Users in one message.
const AT_ONCE: usize = 500;

/// Heartbeats between two times that a node says how far it has come.
const HEARTBEATS: u32 = 3;

/// What nodes tell and ask.
const NEWS: &str = "presence_news";
const LAST: &str = "presence_last";
const PART: &str = "presence_part";

/// Users of this node who have changed.
#[derive(Debug, Serialize, Deserialize)]
struct News {
    incarnation: String,
    pieces: Vec<Piece>,
}

/// Users of one part, or all of them as of a piece.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    part: usize,
    number: u64,
    rows: Vec<Row>,
}

/// What a node of a cluster has beside the book.
#[derive(Debug)]
pub(super) struct Sharing {
    cluster: Arc<Cluster>,
    incarnation: String,
    heartbeat: Duration,
    /// How long a node that lives may say nothing.
    patience: Duration,
    state: Mutex<State>,
    /// Some users of this node have changed.
    changed: Notify,
    /// Something is missing of another node.
    wanted: Notify,
    /// Whether it is known what the others have, as of the start of this node.
    is_informed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// Users whom the others have to be told of.
    changed: HashSet<Whom>,
    /// The last piece of each part.
    last: [u64; PARTS],
    peers: Peers,
}

impl Sharing {
    /// None for a server that is alone.
    pub(super) fn new(config: &config::Cluster, cluster: &Arc<Cluster>) -> Option<Self> {
        (!cluster.is_alone()).then(|| Self {
            cluster: cluster.clone(),
            incarnation: cluster.me().incarnation,
            heartbeat: Duration::from_millis(config.heartbeat_ms),
            patience: Duration::from_millis(config.node_timeout_ms),
            state: Mutex::default(),
            changed: Notify::new(),
            wanted: Notify::new(),
            is_informed: watch::Sender::new(false),
        })
    }

    /// The others have to be told of a user.
    pub(super) fn change(&self, whom: &Whom) {
        self.lock().changed.insert(whom.clone());
        self.changed.notify_one();
    }

    /// Whether it is known what other nodes have.
    pub(super) fn is_informed(&self) -> bool {
        *self.is_informed.borrow()
    }

    /// Waits until it is known what other nodes have.
    pub(super) async fn informed(&self) {
        self.is_informed.subscribe().wait_for(|is_informed| *is_informed).await.ok();
    }

    /// Waits until this node is the one that announces. Nobody does while it cannot be known who lives, since users of
    /// a node that only seems to be gone are not.
    pub(super) async fn turn(&self) {
        self.informed().await;
        loop {
            self.cluster.leading().wait_for(|leads| *leads).await.ok();
            if self.announces() {
                return;
            }
            tokio::time::sleep(self.heartbeat).await;
        }
    }

    fn announces(&self) -> bool {
        self.cluster.is_leader() && self.cluster.is_settled()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// Begins to tell the others and to listen to them, until the server stops.
    pub(super) fn share(self: &Arc<Self>) {
        let Some(sharing) = &self.sharing else { return };
        // An empty answer is one too: nobody waits for a node that keeps no presence.
        let presence = self.clone();
        sharing.cluster.answer(PART, move |part: usize| std::future::ready(presence.part(part)));
        if !self.is_on() {
            return;
        }
        let presence = self.clone();
        sharing.cluster.answer(NEWS, move |news: News| {
            // Before the next message is looked at, so that they are taken in their order.
            presence.learn(&news);
            std::future::ready(())
        });
        let presence = self.clone();
        sharing.cluster.answer(LAST, move |(incarnation, last): (String, Vec<u64>)| {
            presence.hear_of(&incarnation, &last);
            std::future::ready(())
        });
        self.hub.listen(Box::new(Announced(Arc::downgrade(self))));
        for task in [true, false] {
            let presence = self.clone();
            self.tasks.spawn(async move {
                let Some(sharing) = &presence.sharing else { return };
                let work = async {
                    match task {
                        true => presence.tell_others(sharing).await,
                        false => presence.listen_to_others(sharing).await,
                    }
                };
                tokio::select! {
                    () = work => {}
                    () = presence.ending.cancelled() => {}
                }
            });
        }
    }

    async fn tell_others(&self, sharing: &Sharing) {
        let mut nodes = sharing.cluster.changes();
        // Before anybody relies on who lives when Redis is back.
        let mut ticks = tokio::time::interval((sharing.heartbeat * HEARTBEATS).min(sharing.patience / 2));
        loop {
            let is_time = tokio::select! {
                () = sharing.changed.notified() => false,
                _ = ticks.tick() => true,
                _ = nodes.changed() => true,
            };
            while let Some(news) = self.news(sharing) {
                // What is lost is noticed by those who miss it.
                sharing.cluster.tell(NEWS, &news).await;
            }
            if is_time {
                let last = sharing.lock().last;
                sharing.cluster.tell(LAST, &(&sharing.incarnation, last)).await;
            }
        }
    }

    /// What the others are to be told next.
    fn news(&self, sharing: &Sharing) -> Option<News> {
        let mut state = sharing.lock();
        let changed: Vec<Whom> = state.changed.iter().take(AT_ONCE).cloned().collect();
        let mut parts: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
        let book = self.lock();
        for whom in &changed {
            state.changed.remove(whom);
            parts.entry(part_of(whom)).or_default().push(book.row(whom));
        }
        let numbered = |(part, rows)| {
            state.last[part] += 1;
            Piece { part, number: state.last[part], rows }
        };
        let pieces: Vec<Piece> = parts.into_iter().map(numbered).collect();
        (!pieces.is_empty()).then(|| News { incarnation: sharing.incarnation.clone(), pieces })
    }

    /// All that this node has of a part.
    fn part(&self, part: usize) -> Option<News> {
        let sharing = self.sharing.as_ref()?;
        let state = sharing.lock();
        let number = *state.last.get(part)?;
        let piece = Piece { part, number, rows: self.lock().rows(part) };
        Some(News { incarnation: sharing.incarnation.clone(), pieces: vec![piece] })
    }

    async fn listen_to_others(&self, sharing: &Sharing) {
        let mut nodes = sharing.cluster.changes();
        let mut ticks = tokio::time::interval(sharing.heartbeat);
        loop {
            let wanted = {
                let mut state = sharing.lock();
                let living = nodes.borrow_and_update().clone();
                let gone = state.peers.living(&living, sharing.cluster.id());
                self.alter(|book, now| gone.into_iter().fold(false, |sooner, peer| book.forget(peer, now) | sooner));
                state.peers.wanted()
            };
            join_all(wanted.into_iter().map(|wanted| self.ask(sharing, wanted))).await;
            if !sharing.is_informed() && sharing.lock().peers.are_known(sharing.patience) {
                sharing.is_informed.send_replace(true);
            }
            tokio::select! {
                () = sharing.wanted.notified() => {}
                _ = ticks.tick() => {}
                _ = nodes.changed() => {}
            }
        }
    }

    /// Asks a node for what is missing, as long as it answers.
    async fn ask(&self, sharing: &Sharing, wanted: Wanted) {
        for part in wanted.parts {
            let answer = sharing.cluster.ask_one::<Option<News>>(&wanted.node, PART, &part).await.flatten();
            let Some(news) = answer.filter(|news| news.incarnation == wanted.incarnation) else { return };
            let mut state = sharing.lock();
            for piece in &news.pieces {
                let Some(peer) = state.peers.know(&news.incarnation, piece.part, piece.number) else { continue };
                self.alter(|book, now| book.learn_part(peer, piece.part, &piece.rows, now));
            }
        }
    }

    /// Another node tells what has changed.
    fn learn(&self, news: &News) {
        let Some(sharing) = &self.sharing else { return };
        let mut state = sharing.lock();
        for piece in &news.pieces {
            match state.peers.follow(&news.incarnation, piece.part, piece.number) {
                Some(peer) => self.alter(|book, now| {
                    piece.rows.iter().fold(false, |sooner, row| book.learn(peer, row, now) | sooner)
                }),
                None => sharing.wanted.notify_one(),
            }
        }
    }

    /// Another node tells how far it has come.
    fn hear_of(&self, incarnation: &str, last: &[u64]) {
        let Some(sharing) = &self.sharing else { return };
        sharing.lock().peers.hear_of(incarnation, last);
        sharing.wanted.notify_one();
    }
}

/// Hears what is announced.
struct Announced(Weak<Presence>);

impl Listener for Announced {
    fn hear(&self, draft: &Draft) -> bool {
        let Some((presence, (whom, status))) = self.0.upgrade().zip(announced(draft)) else { return true };
        let mut repeats = false;
        presence.alter(|book, now| {
            let (is_repeated, is_sooner) = book.heard(&whom, status, now);
            repeats = is_repeated;
            is_sooner
        });
        !repeats
    }

    fn miss(&self) {
        let Some(presence) = self.0.upgrade() else { return };
        let announces = presence.sharing.as_ref().is_some_and(Sharing::announces);
        presence.lock().missed_some(announces, presence.now());
    }
}
