//! What happened in a run: who published what and was answered how, and what each client received.

/// Where an entry lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// Life of the log, in the order in which they were first seen.
    pub(super) life: usize,
    /// Offset in it.
    pub(super) offset: u64,
}

/// One event: the publisher, and its number among those of the publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Event {
    /// Who published it.
    pub(super) publisher: usize,
    /// Its number, from 0.
    pub(super) number: u64,
}

/// Where something is published, or what is subscribed to: an organization, or one department of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Room {
    /// The organization.
    pub(super) organization: usize,
    /// The department, if it is only one.
    pub(super) department: Option<usize>,
}

/// Something that was published once, whatever came of it.
#[derive(Debug, Clone)]
pub(super) struct Publication {
    /// The event.
    pub(super) event: Event,
    /// Where it was published.
    pub(super) room: Room,
    /// Where it lies and when that was answered, if it was answered with 200.
    pub(super) acknowledged: Option<(Place, u64)>,
}

/// What one session of a client received, over all the connections that it was recovered on.
#[derive(Debug, Clone, Default)]
pub(super) struct List {
    /// When it began.
    pub(super) began: u64,
    /// What its subscription begins behind, once that is answered.
    pub(super) since: Option<Place>,
    /// What came, in this order.
    pub(super) received: Vec<(Event, Place)>,
}

/// A client and its sessions; the last one is not over.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Its number.
    pub(super) client: usize,
    /// What it subscribes to.
    pub(super) room: Room,
    /// Its sessions.
    pub(super) lists: Vec<List>,
}

/// A life of the log that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    /// What positions call it.
    pub(super) name: String,
    /// When it was first seen.
    pub(super) seen: u64,
}

/// A time in which Redis lost something, and until when sessions may have been lost with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loss {
    /// When it happened.
    pub(super) at: u64,
    /// Since when there was a node that could not read what was lost then.
    pub(super) unread_since: u64,
    /// When everybody was back.
    pub(super) until: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct History {
    /// What was published, in any order.
    pub(super) publications: Vec<Publication>,
    /// All clients.
    pub(super) members: Vec<Member>,
    /// The lives of the log, of all shards.
    pub(super) lives: Vec<Life>,
    /// When Redis lost what it had.
    pub(super) losses: Vec<Loss>,
}

impl Room {
    /// Whether who subscribes to this is told what is published there.
    pub(super) fn hears(self, published: Self) -> bool {
        self.organization == published.organization
            && (self.department.is_none() || self.department == published.department)
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "event {} of publisher {}", self.number, self.publisher)
    }
}
