//! What was over a bound: counted by kind, and logged once in a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time between two log lines about one kind.
const SILENCE: Duration = Duration::from_secs(10);

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal,)+) => {
        /// What was over a bound.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl Refusal {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The name that operators read.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// A TCP connection beyond those that one address may have.
    AddressConnections = "address_connections",
    /// A TCP connection that made room for others before it had asked for anything.
    SilentConnections = "silent_connections",
    /// A request whose head took too long.
    SlowHeads = "slow_heads",
    /// A request whose body took too long.
    SlowBodies = "slow_bodies",
    /// A request whose head or query is too large.
    LargeHeads = "large_heads",
    /// A handshake beyond those that may wait for their turn.
    Handshakes = "handshakes",
    /// A handshake beyond the seats of the server, or the share of those who are not authenticated.
    Seats = "seats",
    /// A connection that made room for others before it had authenticated.
    Unauthenticated = "unauthenticated",
    /// A socket that did not authenticate in time.
    AuthenticationTimeouts = "authentication_timeouts",
    /// A connection beyond those that an organization may have.
    OrganizationConnections = "organization_connections",
    /// A connection beyond those that a user may have.
    UserConnections = "user_connections",
    /// A message over the rate of messages or bytes, or of which too many wait.
    Messages = "messages",
    /// A client that was cut since it kept on over its rate.
    Abuse = "abuse",
    /// A CONNECT over its rate.
    Connects = "connects",
    /// An ack, a heartbeat or a ping over its rate.
    Packets = "packets",
    /// A message over its size.
    LargeMessages = "large_messages",
    /// Attachments that are too many, or do not come.
    Attachments = "attachments",
    /// A request on polling beside another of its session.
    OverlappingPolls = "overlapping_polls",
}

/// How often each kind was met.
#[derive(Debug)]
pub(super) struct Refusals {
    started: Instant,
    kinds: Vec<Kind>,
}

#[derive(Debug, Default)]
struct Kind {
    count: AtomicU64,
    /// Milliseconds after the start before which nothing is logged.
    silent_until: AtomicU64,
}

impl Default for Refusals {
    fn default() -> Self {
        let kinds = Refusal::ALL.iter().map(|_| Kind::default()).collect();
        Self { started: Instant::now(), kinds }
    }
}

impl Refusals {
    /// One more of a kind; the log hears of the first, and again after a while.
    pub(super) fn count(&self, refusal: Refusal) {
        let kind = &self.kinds[refusal as usize];
        let total = kind.count.fetch_add(1, Ordering::Relaxed) + 1;
        if kind.may_tell(self.started.elapsed()) {
            tracing::warn!(kind = refusal.name(), total, "refused, since it is over a bound");
        }
    }

    pub(super) fn of(&self, refusal: Refusal) -> u64 {
        self.kinds[refusal as usize].count.load(Ordering::Relaxed)
    }
}

impl Kind {
    fn may_tell(&self, now: Duration) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let tells = |until| (millis(now) >= until).then(|| millis(now + SILENCE));
        self.silent_until.try_update(Ordering::Relaxed, Ordering::Relaxed, tells).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_apart_and_logged_once_in_a_while() {
        let refusals = Refusals::default();
        (0..3).for_each(|_| refusals.count(Refusal::Seats));
        assert_eq!((refusals.of(Refusal::Seats), refusals.of(Refusal::Connects)), (3, 0));
        let kind = Kind::default();
        let told = |seconds| kind.may_tell(Duration::from_secs(seconds));
        assert!(told(0) && !told(0) && !told(9) && told(10) && !told(11));
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let mut names: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
