//! One client: it connects to any node, and when it loses the connection to any node again.

use std::{cell::RefCell, rc::Rc, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tokio::time;

use super::{
    history::{Event, Place},
    link::Link,
    publisher::STAMP,
    record::Record,
};
use crate::cli::bench::{
    args::Form,
    faults::recovery::Recovery,
    payload::find,
    random::Random,
    requests::{Requests, shown},
    target::Target,
};

/// How long the server may take for each step until the client is subscribed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest and longest time before a client tries again, which is shorter than stock clients take.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(600));

/// What all clients have in common.
pub(super) struct World {
    /// The nodes' doors.
    pub(super) doors: Vec<Target>,
    /// What they write to.
    pub(super) record: Rc<Record>,
    /// The read buffer of whichever client reads.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// What ended connections, newest last.
    pub(super) ends: RefCell<Vec<String>>,
}

/// One client.
pub(super) struct Client {
    world: Rc<World>,
    index: usize,
    polling: bool,
    random: Random,
    recovery: Recovery,
    requests: Requests,
    step: Step,
    /// Whether the session is one that has subscribed.
    subscribed: bool,
    heartbeat: Duration,
}

/// Where a client is on its way to its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Opening,
    Connecting,
    Authenticating,
    Subscribing,
    Ready,
}

/// What is read of an OPEN packet, in milliseconds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    ping_interval: u64,
    ping_timeout: u64,
}

impl Client {
    /// A client that has yet to connect; its chances follow from the seed.
    pub(super) fn new(world: &Rc<World>, index: usize, polling: bool, seed: u64) -> Self {
        Self {
            world: world.clone(),
            index,
            polling,
            random: Random::of_client((seed as usize).wrapping_mul(1_000_003).wrapping_add(index)),
            recovery: Recovery::default(),
            requests: Requests::default(),
            step: Step::Opening,
            subscribed: false,
            heartbeat: ANSWER_TIMEOUT,
        }
    }

    /// Comes back for ever.
    pub(super) async fn live(mut self) {
        loop {
            let node = (self.random.unit() * self.world.doors.len() as f64) as usize;
            self.step = Step::Opening;
            let ended = self.connection(node).await;
            self.world.record.online(self.index, false);
            if let Err(error) = ended {
                let at = self.world.record.clock.now() / 1_000_000;
                let told = format!("{at} ms: client {} at node {node}, {:?}: {error:#}", self.index, self.step);
                self.world.ends.borrow_mut().push(told);
            }
            time::sleep(self.random.between(RETRY.0, RETRY.1)).await;
        }
    }

    async fn connection(&mut self, node: usize) -> Result<()> {
        let world = self.world.clone();
        let mut link = Link::open(&world.doors[node], self.polling).await?;
        loop {
            let patience = if self.step == Step::Ready { self.heartbeat } else { ANSWER_TIMEOUT };
            let reading = link.read(&world.scratch, |packet| self.packet(packet));
            time::timeout(patience, reading).await.context("the server said nothing")??;
        }
    }

    fn packet(&mut self, packet: &[u8]) -> Result<Option<String>> {
        match (packet, self.step) {
            ([b'4', b'2', ..], _) => self.event(packet)?,
            ([b'2', ..], _) => return Ok(Some("3".to_owned())),
            ([b'0', open @ ..], Step::Opening) => {
                let Open { ping_interval, ping_timeout } = serde_json::from_slice(open)?;
                self.heartbeat = Duration::from_millis(ping_interval + ping_timeout);
                self.step = Step::Connecting;
                return Ok(Some(self.recovery.connect()));
            }
            ([b'4', b'0', reply @ ..], Step::Connecting) => return self.connected(reply),
            ([b'4', b'3', ack @ ..], _) => return self.answered(ack),
            ([b'4', b'1' | b'4', ..], _) => bail!("the server told it to stay away: {}", shown(packet)),
            ([b'1', ..], _) => bail!("the server ended the Engine.IO session"),
            _ => {}
        }
        Ok(None)
    }

    fn connected(&mut self, reply: &[u8]) -> Result<Option<String>> {
        let recovered = self.recovery.connected(reply)?;
        self.world.record.connected(self.index, recovered);
        if recovered && self.subscribed {
            self.ready();
            return Ok(None);
        }
        self.subscribed = false;
        self.step = Step::Authenticating;
        let organization = organization(self.world.record.room(self.index).organization);
        Ok(Some(self.requests.authenticate(self.index, &organization, Form::Named, None)))
    }

    fn answered(&mut self, ack: &[u8]) -> Result<Option<String>> {
        if !self.requests.answered(ack)? {
            return Ok(None);
        }
        match self.step {
            Step::Authenticating => {
                self.step = Step::Subscribing;
                let room = self.world.record.room(self.index);
                let department = room.department.map(department);
                return Ok(Some(self.requests.subscribe_to(&organization(room.organization), department.as_deref())));
            }
            Step::Subscribing => {
                let position = text_behind(ack, b"\"position\":\"").context("the subscription has no position")?;
                let since = self.world.record.place(position)?;
                self.world.record.subscribed(self.index, since);
                self.subscribed = true;
                self.ready();
            }
            Step::Opening | Step::Connecting | Step::Ready => {}
        }
        Ok(None)
    }

    fn ready(&mut self) {
        self.step = Step::Ready;
        self.world.record.online(self.index, true);
    }

    fn event(&mut self, packet: &[u8]) -> Result<()> {
        self.recovery.event(packet);
        if let Some((event, place)) = self.stamp(packet)? {
            self.world.record.received(self.index, event, place);
        }
        Ok(())
    }

    /// Which event this is and where it lies, if it is one of a publisher.
    fn stamp(&self, packet: &[u8]) -> Result<Option<(Event, Place)>> {
        let Some(stamp) = text_behind(packet, STAMP) else { return Ok(None) };
        let event = stamp.split_once('.').and_then(|(publisher, number)| {
            Some(Event { publisher: publisher.parse().ok()?, number: number.parse().ok()? })
        });
        let event = event.with_context(|| format!("{stamp:?} is no stamp of a publisher"))?;
        // The position is the last argument.
        let end = packet.strip_suffix(b"\"]").context("an event without a position")?;
        let start = end.iter().rposition(|byte| *byte == b'"').map_or(0, |quote| quote + 1);
        Ok(Some((event, self.world.record.place(std::str::from_utf8(&end[start..])?)?)))
    }
}

/// The id of an organization.
pub(super) fn organization(number: usize) -> String {
    format!("org-{number}")
}

/// The id of a department.
pub(super) fn department(number: usize) -> String {
    format!("dep-{number}")
}

/// What stands between a mark and the next quote.
pub(super) fn text_behind<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a str> {
    let rest = &text[find(text, mark)? + mark.len()..];
    std::str::from_utf8(&rest[..rest.iter().position(|byte| *byte == b'"')?]).ok()
}
