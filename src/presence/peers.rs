//! The other nodes, and how far each has been listened to: what they tell comes in numbered pieces, some of which may be
//! lost on the way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use super::book::PARTS;
use crate::cluster::{Node, NodeId};

/// The other nodes, by what tells their processes apart.
#[derive(Debug, Default)]
pub(super) struct Peers {
    by_incarnation: HashMap<String, Peer>,
    last: u32,
}

#[derive(Debug)]
struct Peer {
    node: NodeId,
    /// What it is called in the book.
    number: u32,
    since: Instant,
    parts: [Part; PARTS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// The piece up to which all is known; none before anything is.
    known: Option<u64>,
    /// The last piece that there is, as far as is known.
    last: u64,
}

impl Part {
    fn is_known(self) -> bool {
        self.known.is_some_and(|known| known >= self.last)
    }
}

/// A node of which some parts are not known.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) node: NodeId,
    pub(super) incarnation: String,
    pub(super) parts: Vec<usize>,
}

impl Peers {
    /// These nodes live; who lives no more, by number.
    pub(super) fn living(&mut self, nodes: &[Node], me: &NodeId) -> Vec<u32> {
        for node in nodes.iter().filter(|node| node.id != *me) {
            let Entry::Vacant(place) = self.by_incarnation.entry(node.incarnation.clone()) else { continue };
            self.last += 1;
            place.insert(Peer {
                node: node.id.clone(),
                number: self.last,
                since: Instant::now(),
                parts: Default::default(),
            });
        }
        let is_gone = |incarnation: &String| !nodes.iter().any(|node| node.incarnation == *incarnation);
        self.by_incarnation.extract_if(|incarnation, _| is_gone(incarnation)).map(|(_, peer)| peer.number).collect()
    }

    /// A node tells a piece of a part; its number if that is the next one.
    pub(super) fn follow(&mut self, incarnation: &str, part: usize, piece: u64) -> Option<u32> {
        let peer = self.by_incarnation.get_mut(incarnation)?;
        let part = peer.parts.get_mut(part)?;
        part.last = part.last.max(piece);
        let is_next = part.known.is_some_and(|known| known + 1 == piece);
        if is_next {
            part.known = Some(piece);
        }
        is_next.then_some(peer.number)
    }

    /// A node tells all of a part, up to a piece; its number if that is news.
    pub(super) fn know(&mut self, incarnation: &str, part: usize, piece: u64) -> Option<u32> {
        let peer = self.by_incarnation.get_mut(incarnation)?;
        let part = peer.parts.get_mut(part)?;
        let is_news = part.known.is_none_or(|known| known < piece);
        if is_news {
            (part.known, part.last) = (Some(piece), part.last.max(piece));
        }
        is_news.then_some(peer.number)
    }

    /// A node says which piece of each part is the last.
    pub(super) fn hear_of(&mut self, incarnation: &str, last: &[u64]) {
        let Some(peer) = self.by_incarnation.get_mut(incarnation) else { return };
        for (part, last) in peer.parts.iter_mut().zip(last) {
            part.last = part.last.max(*last);
        }
    }

    /// What is not known.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let wanted = self.by_incarnation.iter().map(|(incarnation, peer)| Wanted {
            node: peer.node.clone(),
            incarnation: incarnation.clone(),
            parts: (0..PARTS).filter(|part| !peer.parts[*part].is_known()).collect(),
        });
        wanted.filter(|wanted| !wanted.parts.is_empty()).collect()
    }

    /// Whether something is known of each node, but for those that have not said anything for so long.
    pub(super) fn are_known(&self, patience: Duration) -> bool {
        let is_known = |peer: &Peer| peer.parts.iter().all(|part| part.known.is_some());
        self.by_incarnation.values().all(|peer| is_known(peer) || peer.since.elapsed() > patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(living: &[Node]) -> Peers {
        let mut peers = Peers::default();
        assert!(peers.living(living, &NodeId::new("me")).is_empty());
        peers
    }

    fn node(name: &str, incarnation: &str) -> Node {
        Node {
            id: NodeId::new(name),
            incarnation: incarnation.into(),
            url: String::new(),
            version: String::new(),
            started_at_ms: 0,
            draining: false,
            sockets: 0,
            layout: String::new(),
        }
    }

    fn wants(peers: &Peers) -> Vec<usize> {
        peers.wanted().into_iter().flat_map(|wanted| wanted.parts).collect()
    }

    #[test]
    fn a_piece_that_is_lost_is_noticed_by_the_next_or_by_what_a_node_has_told() {
        let mut peers = peers(&[node("me", "x"), node("other", "a")]);
        assert_eq!((wants(&peers).len(), peers.follow("a", 0, 1)), (PARTS, None), "nothing is known yet");
        for part in 0..PARTS {
            assert_eq!(peers.know("a", part, 4), Some(1));
        }
        assert_eq!((wants(&peers), peers.know("a", 0, 4)), (vec![], None));
        assert_eq!((peers.follow("a", 0, 5), peers.follow("a", 0, 5), peers.follow("b", 0, 6)), (Some(1), None, None));
        assert_eq!((peers.follow("a", 0, 7), wants(&peers)), (None, vec![0]), "6 is lost");
        assert_eq!((peers.know("a", 0, 6), wants(&peers)), (Some(1), vec![0]), "7 was told before that was asked");
        assert_eq!((peers.know("a", 0, 8), wants(&peers)), (Some(1), vec![]));
        let mut told = [4; PARTS];
        (told[0], told[3]) = (8, 5);
        peers.hear_of("a", &told);
        assert_eq!(wants(&peers), [3]);
    }

    #[test]
    fn another_process_of_a_name_is_another_node() {
        let mut peers = peers(&[node("other", "a")]);
        assert_eq!(peers.living(&[node("other", "b")], &NodeId::new("me")), [1]);
        assert!(!peers.are_known(Duration::MAX) && peers.are_known(Duration::ZERO));
    }
}
