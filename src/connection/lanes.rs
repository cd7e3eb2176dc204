//! Events that wait for one connection, in the order in which they will be written.
//!
//! One lane a priority, the most urgent first. An event never overtakes an
//! earlier one of the same entity: that one is lifted into its lane. Under
//! pressure a newer value takes the place of an older one, and what is of low
//! priority is dropped.

use std::collections::HashMap;
use std::num::NonZeroU64;

use bytes::Bytes;
use slab::Slab;

use crate::events::Priority;

const LANES: usize = 4;
const MEDIUM: usize = 2;
const LOW: usize = 3;

/// What everything is about that is sent to a socket whose events all stay in order.
pub const IN_LINE: u64 = 0;

/// No item.
const NONE: usize = usize::MAX;

/// An emptied queue that grew beyond this is given back.
const KEPT_CAPACITY: usize = 16;

/// An event on its way into outboxes.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its frames, next to each other: an event in two forms is never torn apart.
    pub frames: Bytes,
    /// What decides about its order.
    pub kind: Kind,
}

/// What decides about the order of an event, and whether another may replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its offset in the log.
    pub offset: u64,
    /// Number of the event in the catalogue, for the counters.
    pub event: u16,
    /// The lane it waits in.
    pub priority: Priority,
    /// Whether somebody waits for its acknowledgement: it is never lost on purpose.
    pub requires_ack: bool,
    /// What it is about, as a keyed hash.
    pub entity: u64,
    /// What it is the value of, as a keyed hash, if a newer value may replace it.
    pub conflation: Option<NonZeroU64>,
}

impl Kind {
    fn lane(&self) -> usize {
        match self.priority {
            Priority::Urgent => 0,
            Priority::High => 1,
            Priority::Medium => MEDIUM,
            // Only what may be dropped waits where things are dropped.
            Priority::Low if self.requires_ack => MEDIUM,
            Priority::Low => LOW,
        }
    }
}

/// An event that a client does not get, by its number in the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// A newer value took its place.
    Conflated(u16),
    /// Too much waited, and it was of low priority.
    Dropped(u16),
}

#[derive(Debug)]
struct Item {
    frames: Bytes,
    kind: Kind,
    /// Number of the socket it is for.
    socket: u32,
    lane: usize,
    /// Neighbours in the lane.
    before: usize,
    behind: usize,
    /// Neighbours of the same entity; kept only while there is an index.
    older: usize,
    newer: usize,
}

#[derive(Debug, Clone, Copy)]
struct List {
    first: usize,
    last: usize,
}

/// Where things wait; made when it is first needed, gone when nothing waits.
#[derive(Debug, Default)]
struct Index {
    /// The newest event of each entity.
    newest: HashMap<u64, usize>,
    /// The event that a newer value would replace.
    values: HashMap<NonZeroU64, usize>,
}

/// The events that wait for one connection.
#[derive(Debug)]
pub(super) struct Lanes {
    items: Slab<Item>,
    lists: [List; LANES],
    index: Option<Box<Index>>,
    bytes: usize,
    /// Whether the events of some lane are not in the order in which they came.
    disturbed: bool,
}

/// An event that is written next.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) frames: Bytes,
    pub(super) socket: u32,
    pub(super) offset: u64,
    /// Whether earlier ones may still wait.
    pub(super) overtakes: bool,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            items: Slab::new(),
            lists: [List { first: NONE, last: NONE }; LANES],
            index: None,
            bytes: 0,
            disturbed: false,
        }
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an event of a socket waits.
    pub(super) fn holds(&self, socket: u32, offset: u64) -> bool {
        self.items.iter().any(|(_, item)| item.socket == socket && item.kind.offset == offset)
    }

    /// An event for a socket; `pressed` says that so much waits that things are lost on purpose.
    pub(super) fn push(&mut self, socket: u32, event: Outgoing, pressed: bool) -> Option<Lost> {
        let lane = event.kind.lane();
        let mut lost = None;
        if pressed {
            if let Some(key) = event.kind.conflation
                && let Some(&older) = self.index().values.get(&key)
            {
                lost = Some(Lost::Conflated(event.kind.event));
                if self.items[older].lane <= lane {
                    self.replace(older, event);
                    return lost;
                }
                // The newer value is more urgent: it has a place of its own, further ahead.
                self.remove(older);
            } else if lane == LOW {
                return Some(Lost::Dropped(event.kind.event));
            }
        }
        if self.lists[lane + 1..].iter().any(|list| list.first != NONE) {
            self.lift(event.kind.entity, lane);
        }
        self.bytes += event.frames.len();
        let item = Item {
            frames: event.frames,
            kind: event.kind,
            socket,
            lane,
            before: NONE,
            behind: NONE,
            older: NONE,
            newer: NONE,
        };
        let at = self.items.insert(item);
        self.append(lane, at);
        self.enlist(at);
        lost
    }

    /// The event that is written next.
    pub(super) fn pop(&mut self) -> Option<Next> {
        let lane = self.lists.iter().position(|list| list.first != NONE)?;
        let may_overtake = self.disturbed || self.lists[lane + 1..].iter().any(|list| list.first != NONE);
        let Item { frames, socket, kind, .. } = self.remove(self.lists[lane].first);
        let overtakes = may_overtake && kind.entity != IN_LINE;
        Some(Next { frames, socket, offset: kind.offset, overtakes })
    }

    /// The oldest event of low priority goes.
    pub(super) fn shed(&mut self) -> Option<Lost> {
        let first = self.lists[LOW].first;
        (first != NONE).then(|| Lost::Dropped(self.remove(first).kind.event))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Forgets what waits for a socket.
    pub(super) fn forget(&mut self, socket: u32) {
        let gone: Vec<usize> = self.items.iter().filter(|(_, item)| item.socket == socket).map(|(at, _)| at).collect();
        for at in gone {
            self.remove(at);
        }
    }

    /// The newer value takes the older one's place, and what is of the same entity and came in between goes
    /// before it.
    fn replace(&mut self, at: usize, event: Outgoing) {
        self.disturbed = true;
        let mut between = self.items[at].newer;
        while between != NONE {
            let next = self.items[between].newer;
            self.detach(between);
            self.insert_before(at, between);
            between = next;
        }
        self.delist(at);
        let item = &mut self.items[at];
        self.bytes = self.bytes - item.frames.len() + event.frames.len();
        (item.frames, item.kind) = (event.frames, event.kind);
        self.enlist(at);
    }

    /// Moves what waits of an entity in lower lanes to the end of this one.
    fn lift(&mut self, entity: u64, lane: usize) {
        let mut oldest = NONE;
        let mut at = self.index().newest.get(&entity).copied().unwrap_or(NONE);
        // What is older waits in the same lane or in a more urgent one.
        while at != NONE && self.items[at].lane > lane {
            oldest = at;
            at = self.items[at].older;
        }
        self.disturbed |= oldest != NONE;
        while oldest != NONE {
            self.detach(oldest);
            self.append(lane, oldest);
            oldest = self.items[oldest].newer;
        }
    }

    fn remove(&mut self, at: usize) -> Item {
        self.detach(at);
        self.delist(at);
        let item = self.items.remove(at);
        self.bytes -= item.frames.len();
        if self.items.is_empty() {
            self.index = None;
            self.disturbed = false;
            if self.items.capacity() > KEPT_CAPACITY {
                self.items = Slab::new();
            }
        }
        item
    }

    fn append(&mut self, lane: usize, at: usize) {
        let last = self.lists[lane].last;
        let item = &mut self.items[at];
        (item.lane, item.before, item.behind) = (lane, last, NONE);
        match last {
            NONE => self.lists[lane].first = at,
            last => self.items[last].behind = at,
        }
        self.lists[lane].last = at;
    }

    fn insert_before(&mut self, next: usize, at: usize) {
        let (lane, before) = (self.items[next].lane, self.items[next].before);
        let item = &mut self.items[at];
        (item.lane, item.before, item.behind) = (lane, before, next);
        self.items[next].before = at;
        match before {
            NONE => self.lists[lane].first = at,
            before => self.items[before].behind = at,
        }
    }

    fn detach(&mut self, at: usize) {
        let Item { lane, before, behind, .. } = self.items[at];
        match before {
            NONE => self.lists[lane].first = behind,
            before => self.items[before].behind = behind,
        }
        match behind {
            NONE => self.lists[lane].last = before,
            behind => self.items[behind].before = before,
        }
    }

    fn index(&mut self) -> &Index {
        if self.index.is_none() {
            self.index = Some(Box::default());
            // Earlier ones of an entity never wait behind later ones, so this is their order.
            for lane in 0..LANES {
                let mut at = self.lists[lane].first;
                while at != NONE {
                    self.enlist(at);
                    at = self.items[at].behind;
                }
            }
        }
        self.index.get_or_insert_default()
    }

    /// The newest event of its entity comes into the index, if there is one.
    fn enlist(&mut self, at: usize) {
        let Some(index) = &mut self.index else { return };
        let kind = self.items[at].kind;
        let older = index.newest.insert(kind.entity, at).unwrap_or(NONE);
        if let Some(key) = kind.conflation {
            index.values.insert(key, at);
        }
        (self.items[at].older, self.items[at].newer) = (older, NONE);
        if older != NONE {
            self.items[older].newer = at;
        }
    }

    fn delist(&mut self, at: usize) {
        let Some(index) = &mut self.index else { return };
        let Item { kind, older, newer, .. } = self.items[at];
        if older != NONE {
            self.items[older].newer = newer;
        }
        match (newer, older) {
            (NONE, NONE) => {
                index.newest.remove(&kind.entity);
            }
            (NONE, older) => {
                index.newest.insert(kind.entity, older);
            }
            (newer, _) => self.items[newer].older = older,
        }
        if let Some(key) = kind.conflation
            && index.values.get(&key) == Some(&at)
        {
            index.values.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests;
