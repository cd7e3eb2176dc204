//! What a client says and expects, from the OPEN packet of each connection on.

use std::{borrow::Cow, cell::RefCell, rc::Rc, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{
    recovery::Recovery,
    shard::{Message, Shard},
    witness::Witness,
};
use crate::cli::bench::{
    args::Form,
    payload::{self, NAMED},
    requests::{Requests, shown},
};

/// How long the server may take for each step until the client is subscribed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The state of one client over all its connections.
pub(super) struct Conversation {
    shard: Rc<Shard>,
    index: usize,
    witness: Rc<RefCell<Witness>>,
    recovery: Recovery,
    requests: Requests,
    step: Step,
    /// Whether the session is one that has subscribed.
    subscribed: bool,
    /// Whether it has ever been connected.
    known: bool,
    /// Whether it has ever been subscribed.
    has_been_ready: bool,
    /// Longest silence between two pings.
    heartbeat: Duration,
    /// Events answered when this connection was begun.
    published: u64,
}

/// Where a client is on its way to its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It waits for the OPEN packet.
    Opening,
    /// It waits for the CONNECT reply.
    Connecting,
    /// It has said who it is.
    Authenticating,
    /// It has said what it wants.
    Subscribing,
    /// It receives events.
    Ready,
}

/// The server wants a client not to come back, and a stock one does not.
#[derive(Debug, thiserror::Error)]
#[error("the server told the client to stay away: {0}")]
pub(super) struct Dismissed(String);

/// A packet to send.
pub(super) type Reply = Cow<'static, str>;

/// What is read of an OPEN packet, in milliseconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    ping_interval: u64,
    ping_timeout: u64,
}

impl Conversation {
    /// A client that has never been connected.
    pub(super) fn new(shard: Rc<Shard>, index: usize, witness: Rc<RefCell<Witness>>) -> Self {
        Self {
            shard,
            index,
            witness,
            recovery: Recovery::default(),
            requests: Requests::default(),
            step: Step::Opening,
            subscribed: false,
            known: false,
            has_been_ready: false,
            heartbeat: ANSWER_TIMEOUT,
            published: 0,
        }
    }

    /// A new connection is tried.
    pub(super) fn begin(&mut self) {
        self.step = Step::Opening;
        self.published = self.shard.ledger.answered();
    }

    /// The connection has ended, or there was none.
    pub(super) fn end(&mut self) {
        self.witness.borrow_mut().go();
    }

    /// Where it is.
    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// Whether it has ever been subscribed.
    pub(super) fn has_been_ready(&self) -> bool {
        self.has_been_ready
    }

    /// How long the server may say nothing.
    pub(super) fn patience(&self) -> Duration {
        if self.step == Step::Ready { self.heartbeat } else { ANSWER_TIMEOUT }
    }

    /// Takes a packet; `now` is when it was read.
    ///
    /// # Errors
    /// If the server refuses something or ends the conversation; it is [`Dismissed`] if for good.
    pub(super) fn packet(&mut self, packet: &[u8], now: u64) -> Result<Option<Reply>> {
        match (packet, self.step) {
            ([b'4', b'2', ..], _) => self.event(packet, now),
            ([b'2', ..], _) => return Ok(Some("3".into())),
            ([b'0', open @ ..], Step::Opening) => return self.opened(open).map(Some),
            ([b'4', b'0', reply @ ..], Step::Connecting) => return self.connected(reply, now),
            ([b'4', b'3', ack @ ..], _) => return self.answered(ack, now),
            ([b'4', b'1' | b'4', ..], _) => {
                self.witness.borrow_mut().connections.dismissed += 1;
                bail!(Dismissed(shown(packet)));
            }
            ([b'1', ..], _) => bail!("the server ended the Engine.IO session"),
            _ => {}
        }
        Ok(None)
    }

    fn opened(&mut self, open: &[u8]) -> Result<Reply> {
        let Open { ping_interval, ping_timeout } =
            serde_json::from_slice(open).with_context(|| format!("malformed OPEN packet {}", shown(open)))?;
        self.heartbeat = Duration::from_millis(ping_interval.saturating_add(ping_timeout));
        self.step = Step::Connecting;
        Ok(self.recovery.connect().into())
    }

    fn connected(&mut self, reply: &[u8], now: u64) -> Result<Option<Reply>> {
        let recovered = self.recovery.connected(reply)?;
        if self.known {
            let connections = &mut self.witness.borrow_mut().connections;
            connections.reconnects += 1;
            *if recovered { &mut connections.recovered } else { &mut connections.not_recovered } += 1;
        }
        self.known = true;
        if recovered {
            self.witness.borrow_mut().begin_replay(self.published, now);
            if self.subscribed {
                self.ready(now);
                return Ok(None);
            }
        }
        self.subscribed = false;
        self.step = Step::Authenticating;
        let organization = &self.shard.plan.organization;
        Ok(Some(self.requests.authenticate(self.index, organization, Form::Named, None).into()))
    }

    fn answered(&mut self, ack: &[u8], now: u64) -> Result<Option<Reply>> {
        if !self.requests.answered(ack)? {
            return Ok(None);
        }
        match self.step {
            Step::Authenticating => {
                self.step = Step::Subscribing;
                return Ok(Some(self.requests.subscribe(&self.shard.plan.organization).into()));
            }
            Step::Subscribing => self.ready(now),
            Step::Opening | Step::Connecting | Step::Ready => {}
        }
        Ok(None)
    }

    fn ready(&mut self, now: u64) {
        self.step = Step::Ready;
        self.subscribed = true;
        self.has_been_ready = true;
        self.witness.borrow_mut().come(now);
        self.shard.tell(Message::Ready { index: self.index, at: now });
    }

    fn event(&mut self, packet: &[u8], now: u64) {
        self.recovery.event(packet);
        if let Some(stamp) = packet.starts_with(NAMED).then(|| payload::stamp(packet)).flatten() {
            self.shard.take(&self.witness, stamp, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::cli::bench::{
        clock::Clock,
        faults::{expected::Expected, ledger::Ledger, seen::Faults, shard::Plan},
        target::Target,
    };

    const OPEN: &str = r#"0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;

    fn conversation() -> Conversation {
        let plan = Plan {
            target: Target::parse("http://127.0.0.1:5000").unwrap(),
            clock: Clock::start(),
            organization: "org_bench".to_owned(),
            clients: 1,
            connect_rate: 1.0,
            shards: 1,
            cuts: None,
        };
        let (messages, cutting) = (mpsc::unbounded_channel().0, watch::channel(false).1);
        let shard = Shard::new(Arc::new(plan), Arc::new(Ledger::default()), messages, cutting);
        Conversation::new(Rc::new(shard), 0, Rc::default())
    }

    fn say(conversation: &mut Conversation, packet: &str) -> String {
        conversation.packet(packet.as_bytes(), 1_000).unwrap().map(Cow::into_owned).unwrap_or_default()
    }

    fn event(sequence: u64) -> String {
        let mut payload = Vec::new();
        payload::render(&mut payload, sequence, "org_bench", 260);
        format!("42[\"kpi:update\",{},\"e.{sequence}.0\"]", String::from_utf8(payload).unwrap())
    }

    fn subscribed() -> Conversation {
        let mut client = conversation();
        client.begin();
        assert_eq!(say(&mut client, OPEN), "40");
        assert_eq!(client.heartbeat, Duration::from_secs(45));
        assert!(say(&mut client, r#"40{"sid":"a","pid":"p"}"#).starts_with(r#"421["authenticate",{"#));
        assert!(say(&mut client, r#"431[{"success":true}]"#).starts_with(r#"422["subscribe",{"#));
        say(&mut client, r#"432[{"success":true}]"#);
        assert_eq!(client.step(), Step::Ready);
        client
    }

    #[test]
    fn a_recovered_client_asks_for_nothing_again() {
        let mut client = subscribed();
        client.shard.ledger.begin(0);
        say(&mut client, &event(0));
        client.end();
        client.begin();
        assert_eq!(say(&mut client, OPEN), r#"40{"offset":"e.0.0","pid":"p"}"#);
        assert_eq!(say(&mut client, r#"40{"sid":"a","pid":"p"}"#), "");
        assert_eq!(client.step(), Step::Ready);
        let connections = client.witness.borrow().connections;
        assert_eq!((connections.reconnects, connections.recovered, connections.not_recovered), (1, 1, 0));
    }

    #[test]
    fn a_client_that_begins_anew_authenticates_and_subscribes_again() {
        let mut client = subscribed();
        client.end();
        client.begin();
        say(&mut client, OPEN);
        assert!(say(&mut client, r#"40{"sid":"b","pid":"q"}"#).starts_with(r#"423["authenticate",{"#));
        assert!(say(&mut client, r#"433[{"success":true}]"#).starts_with(r#"424["subscribe",{"#));
        let connections = client.witness.borrow().connections;
        assert_eq!((connections.reconnects, connections.recovered, connections.not_recovered), (1, 0, 1));
        // Cut before the answer came, the session goes on without a subscription.
        client.end();
        client.begin();
        say(&mut client, OPEN);
        assert!(say(&mut client, r#"40{"sid":"b","pid":"q"}"#).contains("authenticate"));
    }

    #[test]
    fn a_client_that_is_told_to_stay_away_is_dismissed() {
        for packet in [r"41", r#"44{"message":"AUTH_FAILED: no"}"#] {
            let mut client = subscribed();
            let error = client.packet(packet.as_bytes(), 0).unwrap_err();
            assert!(error.is::<Dismissed>(), "{packet}: {error}");
        }
        assert!(!subscribed().packet(b"1", 0).unwrap_err().is::<Dismissed>());
    }

    #[test]
    fn only_events_of_this_run_count() {
        let mut client = subscribed();
        client.shard.ledger.begin(0);
        say(&mut client, &event(0));
        say(&mut client, &event(1));
        let witness = client.witness.borrow();
        let faults = witness.seen.faults(&Expected { events: 2, ..Expected::default() });
        assert_eq!((faults, witness.foreign), (Faults { missing: 1, ..Faults::default() }, 1));
    }
}
