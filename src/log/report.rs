//! Reports: what came of an entry when it was delivered.

use std::collections::{BTreeMap, BTreeSet};

/// What the sequencer of a shard tells whoever published an entry.
#[derive(Debug, Default)]
pub struct Report {
    /// Sockets it was handed to.
    pub recipients: usize,
    /// Why to those, if that was asked for.
    pub explanation: Option<Explanation>,
}

/// Why an entry reached the sockets that it reached.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// Members of each room that was looked into, by namespace and name; those without members are left out.
    pub rooms: BTreeMap<(String, String), usize>,
    /// Sockets in these rooms that filter it out, or may not have it there.
    pub filtered: BTreeSet<String>,
    /// Sockets that the publisher left out.
    pub excepted: BTreeSet<String>,
    /// Older values that it took the place of.
    pub conflated: usize,
    /// Events of low priority that were dropped for it, itself among them.
    pub dropped: usize,
    /// Users without a socket for whom it waits.
    pub offline: BTreeSet<String>,
}

impl Report {
    /// Adds what another shard tells of the same entry.
    pub fn add(&mut self, other: Self) {
        self.recipients += other.recipients;
        if let Some(more) = other.explanation {
            self.explanation.get_or_insert_default().add(more);
        }
    }
}

impl Explanation {
    /// Adds what another shard tells of the same entry.
    pub fn add(&mut self, other: Self) {
        for (room, members) in other.rooms {
            // Every shard looks into the same rooms.
            self.rooms.insert(room, members);
        }
        self.filtered.extend(other.filtered);
        self.excepted.extend(other.excepted);
        self.conflated += other.conflated;
        self.dropped += other.dropped;
        self.offline.extend(other.offline);
    }
}
