//! What a client says and expects, on any transport.
//!
//! `authenticate` is said as soon as the client is let in: a server that
//! registers its handlers after telling so loses it, and such losses are counted.

use std::{borrow::Cow, rc::Rc};

use anyhow::{Result, bail};

use super::heard::{self, Heard};
use crate::cli::bench::{
    args::Kind,
    inflate::{Inflater, Window},
    payload,
    requests::{Requests, shown},
    shard::Shard,
};

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

/// A message to send.
pub(super) type Reply = Cow<'static, str>;

impl Conversation {
    /// A conversation that the server begins: by an OPEN packet, or by letting a plain client in.
    pub(super) fn new(shard: Rc<Shard>, index: usize) -> Self {
        let client = shard.plan.client;
        let step = match client {
            Kind::Socketio => Step::Opening,
            Kind::Plain => Step::Connecting,
        };
        Self { shard, index, step, requests: Requests::of(client), repeated: 0, inflater: None }
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

    /// Takes a message; `now` is when it was read.
    ///
    /// # Errors
    /// If the server refuses something or ends the conversation.
    pub(super) fn message(&mut self, message: &[u8], now: u64) -> Result<Option<Reply>> {
        let plan = &self.shard.plan;
        let heard = match plan.client {
            Kind::Socketio => heard::packet(message, plan.form),
            Kind::Plain => heard::frame(message),
        };
        match (heard, self.step) {
            (Heard::Event, _) => {
                self.event(message, now);
                Ok(None)
            }
            (Heard::Ping, _) => Ok(Some("3".into())),
            (Heard::Open, Step::Opening) => Ok(Some(self.go(Step::Connecting))),
            (Heard::Connected, Step::Connecting) => Ok(Some(self.go(Step::Authenticating))),
            (Heard::Answer(answer), Step::Authenticating) => {
                Ok(self.requests.answered(answer)?.then(|| self.go(Step::Subscribing)))
            }
            (Heard::Answer(answer), Step::Subscribing) => {
                if self.requests.answered(answer)? {
                    self.step = Step::Ready;
                }
                Ok(None)
            }
            (Heard::Refusal, _) => bail!("the server refused or ended it: {}", shown(message)),
            _ => Ok(None),
        }
    }

    /// Takes a deflated message, which only a sample of the clients looks into.
    pub(super) fn deflated(&mut self, message: &[u8], now: u64) -> Result<Option<Reply>> {
        let Some(mut inflater) = self.inflater.take() else {
            if self.shard.plan.client == Kind::Socketio && message.len() <= DEFLATED_PING {
                return Ok(Some("3".into()));
            }
            self.shard.count_frame(self.index, None);
            return Ok(None);
        };
        let shard = Rc::clone(&self.shard);
        let mut inflated = shard.inflated.borrow_mut();
        inflater.inflate(message, &mut inflated)?;
        self.inflater = Some(inflater);
        self.message(&inflated, now)
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
            Step::Authenticating => {
                let token = plan.tokens.get(self.index).map(String::as_str);
                self.requests.authenticate(self.index, &plan.organization, plan.form, token).into()
            }
            Step::Subscribing => self.requests.subscribe(&plan.organization).into(),
        }
    }

    fn event(&self, event: &[u8], now: u64) {
        if let Some(stamp) = payload::stamp(event) {
            self.shard.count_frame(self.index, Some(now.saturating_sub(stamp.sent)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::cli::bench::{
        args::{Form, Transport},
        clock::Clock,
        shard::Plan,
        target::Target,
    };

    fn conversation(form: Form) -> Conversation {
        conversation_of(Kind::Socketio, form)
    }

    fn conversation_of(client: Kind, form: Form) -> Conversation {
        let plan = Plan {
            targets: vec![Target::parse("http://127.0.0.1:5000").unwrap()],
            clock: Clock::start(),
            client,
            transport: Transport::Websocket,
            form,
            deflate: false,
            organization: "org_bench".to_owned(),
            tokens: Vec::new(),
            clients: 1,
            stalled: 0,
            connect_rate: 1.0,
            shards: 1,
        };
        let shard = Shard::new(Arc::new(plan), Arc::default(), watch::channel(false).1);
        Conversation::new(Rc::new(shard), 0)
    }

    fn say(conversation: &mut Conversation, message: &str) -> Option<String> {
        conversation.message(message.as_bytes(), 1_000).unwrap().map(Cow::into_owned)
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
    fn a_plain_client_does_the_same_in_frames() {
        let mut client = conversation_of(Kind::Plain, Form::Named);
        let authenticate = say(&mut client, r#"{"event":"connected","data":{}}"#).unwrap();
        let authenticate: serde_json::Value = serde_json::from_str(&authenticate).unwrap();
        assert_eq!((&authenticate["event"], &authenticate["id"]), (&"authenticate".into(), &1.into()));
        assert_eq!(authenticate["data"]["user_id"], "bench-0");
        assert_eq!(say(&mut client, r#"{"event":"authenticated","data":{}}"#), None);
        let subscribe = say(&mut client, r#"{"event":"authenticate:ack","data":{"success":true},"id":1}"#).unwrap();
        assert!(subscribe.contains(r#""event":"subscribe""#), "{subscribe}");
        let refused = r#"{"event":"subscribe:ack","data":{"success":false,"code":"FORBIDDEN"},"id":2}"#;
        assert!(client.message(refused.as_bytes(), 0).unwrap_err().to_string().contains("FORBIDDEN"));
        assert_eq!(say(&mut client, r#"{"event":"subscribe:ack","data":{"success":true},"id":2}"#), None);
        assert!(client.is_ready());
        let mut payload = Vec::new();
        payload::render(&mut payload, 0, "org_bench", 260);
        let payload = String::from_utf8(payload).unwrap();
        say(&mut client, &format!(r#"{{"message_id":"m","event":"kpi:update","data":{payload}}}"#));
        assert_eq!(client.shard.frames(), 1);
    }

    #[test]
    fn a_refusal_says_what_the_server_said() {
        let mut client = conversation(Form::Named);
        say(&mut client, "0{}");
        say(&mut client, "40{}");
        let refused = client.message(b"431[{\"success\":false,\"code\":\"AUTH_FAILED\"}]", 0);
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
