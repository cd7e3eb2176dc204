//! What a client says and expects in Engine.IO and Socket.IO packets, on any transport.
//!
//! `authenticate` is said as soon as the CONNECT reply is read: a server that
//! registers its handlers after that reply loses it, and such losses are counted.

use std::{borrow::Cow, rc::Rc};

use anyhow::{Result, bail};

use crate::cli::bench::{
    args::Form,
    inflate::{Inflater, Window},
    payload::{self, NAMED},
    requests::{Requests, shown},
    shard::Shard,
};

const ENVELOPE: &[u8] = b"42[\"message\",";
/// No event deflates to so little, and some servers deflate their pings.
const DEFLATED_PING: usize = 8;
/// How often an unanswered event is said again.
const REPEATS: u32 = 3;

/// Where a client is on its way to its first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Opening,
    Connecting,
    Authenticating,
    Subscribing,
    Ready,
}

/// The state of one client's conversation.
pub(super) struct Conversation {
    /// The shard that counts what is received.
    pub(super) shard: Rc<Shard>,
    /// The client's number in the whole run.
    pub(super) index: usize,
    step: Step,
    requests: Requests,
    repeated: u32,
    inflater: Option<Box<Inflater>>,
}

/// A packet to send.
pub(super) type Reply = Cow<'static, str>;

impl Conversation {
    /// A conversation that waits for the server's OPEN packet.
    pub(super) fn new(shard: Rc<Shard>, index: usize) -> Self {
        Self { shard, index, step: Step::Opening, requests: Requests::default(), repeated: 0, inflater: None }
    }

    /// Whether the client has subscribed.
    pub(super) fn is_ready(&self) -> bool {
        self.step == Step::Ready
    }

    /// Makes this client inflate what it receives: until it has subscribed, and all the time if it is of the sample.
    pub(super) fn inflate(&mut self, window: Window) {
        self.inflater = Some(Box::new(Inflater::new(window)));
    }

    /// Ends the inflating of a client that is not of the sample.
    pub(super) fn stop_inflating(&mut self) {
        if !self.shard.plan.is_sampled(self.index) {
            self.inflater = None;
        }
    }

    /// Takes a packet; `now` is when it was read.
    ///
    /// # Errors
    /// If the server refuses something or ends the conversation.
    pub(super) fn packet(&mut self, packet: &[u8], now: u64) -> Result<Option<Reply>> {
        if packet.starts_with(b"42") {
            self.event(packet, now);
            return Ok(None);
        }
        match (packet, self.step) {
            ([b'2', ..], _) => Ok(Some("3".into())),
            ([b'0', ..], Step::Opening) => Ok(Some(self.go(Step::Connecting))),
            ([b'4', b'0', ..], Step::Connecting) => Ok(Some(self.go(Step::Authenticating))),
            ([b'4', b'3', ack @ ..], Step::Authenticating) => {
                Ok(self.requests.answered(ack)?.then(|| self.go(Step::Subscribing)))
            }
            ([b'4', b'3', ack @ ..], Step::Subscribing) => {
                if self.requests.answered(ack)? {
                    self.step = Step::Ready;
                }
                Ok(None)
            }
            ([b'1', ..] | [b'4', b'1' | b'4', ..], _) => bail!("the server refused or ended it: {}", shown(packet)),
            _ => Ok(None),
        }
    }

    /// Takes a deflated message, which only a sample of the clients looks into.
    pub(super) fn deflated(&mut self, message: &[u8], now: u64) -> Result<Option<Reply>> {
        let Some(mut inflater) = self.inflater.take() else {
            if message.len() <= DEFLATED_PING {
                return Ok(Some("3".into()));
            }
            self.shard.count_frame(self.index, None);
            return Ok(None);
        };
        let shard = Rc::clone(&self.shard);
        let mut inflated = shard.inflated.borrow_mut();
        inflater.inflate(message, &mut inflated)?;
        self.inflater = Some(inflater);
        self.packet(&inflated, now)
    }

    /// What to say again after the server has been silent for too long.
    ///
    /// # Errors
    /// If it was said often enough, or there is nothing to say.
    pub(super) fn repeat(&mut self) -> Result<Reply> {
        let unanswered = matches!(self.step, Step::Authenticating | Step::Subscribing);
        if !unanswered || self.repeated == REPEATS {
            bail!("the server did not answer while the client was {:?}", self.step);
        }
        self.repeated += 1;
        self.shard.tally.borrow_mut().unanswered += 1;
        Ok(self.go(self.step))
    }

    fn go(&mut self, step: Step) -> Reply {
        self.step = step;
        let plan = &self.shard.plan;
        match step {
            Step::Opening | Step::Connecting | Step::Ready => "40".into(),
            Step::Authenticating => self.requests.authenticate(self.index, &plan.organization, plan.form).into(),
            Step::Subscribing => self.requests.subscribe(&plan.organization).into(),
        }
    }

    fn event(&self, packet: &[u8], now: u64) {
        let wanted = match self.shard.plan.form {
            Form::Named => packet.starts_with(NAMED),
            Form::Envelope => packet.starts_with(ENVELOPE),
            Form::Both => packet.starts_with(NAMED) || packet.starts_with(ENVELOPE),
        };
        if let Some(stamp) = wanted.then(|| payload::stamp(packet)).flatten() {
            self.shard.count_frame(self.index, Some(now.saturating_sub(stamp.sent)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::cli::bench::{args::Transport, clock::Clock, shard::Plan, target::Target};

    fn conversation(form: Form) -> Conversation {
        let plan = Plan {
            target: Target::parse("http://127.0.0.1:5000").unwrap(),
            clock: Clock::start(),
            transport: Transport::Websocket,
            form,
            deflate: false,
            organization: "org_bench".to_owned(),
            clients: 1,
            stalled: 0,
            connect_rate: 1.0,
            shards: 1,
        };
        let shard = Shard::new(Arc::new(plan), Arc::default(), watch::channel(false).1);
        Conversation::new(Rc::new(shard), 0)
    }

    fn say(conversation: &mut Conversation, packet: &str) -> Option<String> {
        conversation.packet(packet.as_bytes(), 1_000).unwrap().map(Cow::into_owned)
    }

    #[test]
    fn a_client_authenticates_and_then_subscribes() {
        let mut client = conversation(Form::Named);
        assert_eq!(say(&mut client, "0{\"sid\":\"x\"}").unwrap(), "40");
        assert!(say(&mut client, "40{\"sid\":\"y\"}").unwrap().starts_with("421[\"authenticate\",{"));
        assert_eq!(say(&mut client, "42[\"authenticated\",{}]"), None);
        assert_eq!(say(&mut client, "2").unwrap(), "3");
        assert!(say(&mut client, "431[{\"success\":true}]").unwrap().starts_with("422[\"subscribe\",{"));
        assert_eq!(say(&mut client, "432[{\"success\":true}]"), None);
        assert!(client.is_ready());
    }

    #[test]
    fn a_refusal_says_what_the_server_said() {
        let mut client = conversation(Form::Named);
        say(&mut client, "0{}");
        say(&mut client, "40{}");
        let refused = client.packet(b"431[{\"success\":false,\"code\":\"AUTH_FAILED\"}]", 0);
        assert!(refused.unwrap_err().to_string().contains("AUTH_FAILED"));
    }

    #[test]
    fn a_lost_authenticate_is_repeated_and_counted() {
        let mut client = conversation(Form::Named);
        say(&mut client, "0{}");
        say(&mut client, "40{}");
        assert!(client.repeat().unwrap().starts_with("422[\"authenticate\""));
        assert_eq!(say(&mut client, "431[{\"success\":true}]"), None, "an answer to the first one comes too late");
        assert!(say(&mut client, "432[{\"success\":true}]").unwrap().contains("subscribe"));
        assert_eq!(client.shard.tally.borrow().unanswered, 1);
    }

    #[test]
    fn each_form_counts_only_its_own_frames() {
        let mut payload = Vec::new();
        payload::render(&mut payload, 0, "org_bench", 260);
        let payload = String::from_utf8(payload).unwrap();
        let named = format!("42[\"kpi:update\",{payload},\"e.1.0\"]");
        let envelope = format!("42[\"message\",{{\"message_id\":\"m\",\"data\":{payload}}}]");
        for (form, frames) in [(Form::Named, 1), (Form::Envelope, 1), (Form::Both, 2)] {
            let mut client = conversation(form);
            say(&mut client, &named);
            say(&mut client, &envelope);
            assert_eq!(client.shard.frames(), frames, "{form:?}");
        }
    }
}
