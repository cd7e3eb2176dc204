//! What one client has seen: its events, its connections, how long it took to be told what it missed.

use std::ops::AddAssign;

use serde::Serialize;

use super::{expected::Expected, seen::Seen};

/// The account of one client.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Its number in the whole run.
    pub(super) index: usize,
    /// The events that it has got.
    pub(super) seen: Seen,
    /// Whether it is connected and subscribed.
    pub(super) is_online: bool,
    /// Its connections.
    pub(super) connections: Connections,
    /// Events that this run did not publish.
    pub(super) foreign: u64,
    /// What it is being told of what it missed.
    replay: Option<Replay>,
    /// Events sent from then on are live.
    live_from: u64,
    /// How many of the events that it should have got are missing, once it is known which these are.
    owed: Option<u64>,
}

/// What became of a client's connections.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Connections {
    /// CONNECT replies after the first.
    pub(super) reconnects: u64,
    /// Those that took the session up again.
    pub(super) recovered: u64,
    /// Those that began a new one, so that the client authenticated and subscribed again.
    pub(super) not_recovered: u64,
    /// Attempts that got no CONNECT reply.
    pub(super) refused: u64,
    /// Connections that ended without the tool's doing.
    pub(super) lost: u64,
    /// Times that the server told a client to stay away.
    pub(super) dismissed: u64,
}

impl AddAssign for Connections {
    fn add_assign(&mut self, other: Self) {
        self.reconnects += other.reconnects;
        self.recovered += other.recovered;
        self.not_recovered += other.not_recovered;
        self.refused += other.refused;
        self.lost += other.lost;
        self.dismissed += other.dismissed;
    }
}

#[derive(Debug)]
struct Replay {
    since: u64,
    /// Events published before the client came back,
    before: u64,
    /// and how many of them have not come.
    left: u64,
}

/// What an event that has come means.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// How long it took, if it is live.
    pub(super) latency: Option<u64>,
    /// How long the replay took that it ends.
    pub(super) replayed: Option<u64>,
    /// Whether it comes for the first time.
    pub(super) is_new: bool,
}

impl Witness {
    /// The account of a client that has yet to connect.
    pub(super) fn of_client(index: usize) -> Self {
        Self { index, ..Self::default() }
    }

    /// The session goes on; so many events had been published before the client came back.
    pub(super) fn begin_replay(&mut self, before: u64, now: u64) {
        let left = self.seen.missing_before(before);
        self.replay = (left > 0).then_some(Replay { since: now, before, left });
    }

    /// The client is connected and subscribed.
    pub(super) fn come(&mut self, now: u64) {
        self.is_online = true;
        self.live_from = now;
    }

    /// The connection has ended.
    pub(super) fn go(&mut self) {
        self.is_online = false;
        self.replay = None;
        self.live_from = u64::MAX;
    }

    /// An event has come that was sent at some time.
    pub(super) fn take(&mut self, sequence: u64, sent: u64, now: u64) -> Arrival {
        if !self.seen.take(sequence) {
            return Arrival::default();
        }
        let mut arrival = Arrival { is_new: true, ..Arrival::default() };
        if sent >= self.live_from {
            arrival.latency = Some(now.saturating_sub(sent));
        }
        if let Some(replay) = self.replay.as_mut().filter(|replay| sequence < replay.before) {
            replay.left -= 1;
            if replay.left == 0 {
                arrival.replayed = Some(now.saturating_sub(replay.since));
                self.replay = None;
            }
        }
        arrival
    }

    /// Learns what it should have got; whether something of it is missing.
    pub(super) fn expect(&mut self, expected: &Expected) -> bool {
        let missing = self.seen.faults(expected).missing;
        self.owed = Some(missing);
        missing > 0
    }

    /// One of those that were missing has come; whether it was the last.
    pub(super) fn settle(&mut self) -> bool {
        let Some(owed) = self.owed.as_mut().filter(|owed| **owed > 0) else { return false };
        *owed -= 1;
        *owed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_ends_with_the_last_event_that_was_missed() {
        let mut witness = Witness::default();
        witness.come(0);
        assert_eq!(witness.take(0, 5, 7).latency, Some(2));
        witness.go();
        witness.begin_replay(4, 100);
        witness.come(100);
        assert_eq!(witness.take(1, 50, 110).latency, None, "what was sent before is not live");
        assert_eq!(witness.take(4, 105, 111).latency, Some(6));
        assert_eq!(witness.take(1, 50, 112), Arrival::default(), "what comes again ends nothing");
        assert_eq!(witness.take(3, 60, 113).replayed, None);
        assert_eq!(witness.take(2, 55, 130).replayed, Some(30));
        assert_eq!(witness.take(5, 120, 131).replayed, None);
    }

    #[test]
    fn nothing_missed_is_no_replay() {
        let mut witness = Witness::default();
        witness.take(0, 0, 1);
        witness.begin_replay(1, 100);
        assert!(witness.replay.is_none());
    }

    #[test]
    fn a_connection_that_ends_ends_its_replay() {
        let mut witness = Witness::default();
        witness.begin_replay(1, 100);
        witness.go();
        assert_eq!(witness.take(0, 0, 200).replayed, None);
    }

    #[test]
    fn a_client_is_complete_with_the_last_event_that_is_owed() {
        let mut witness = Witness::default();
        witness.take(1, 0, 1);
        assert!(witness.expect(&Expected { events: 3, ..Expected::default() }));
        assert!(!witness.settle());
        assert!(witness.settle());
        assert!(!witness.settle());
    }
}
