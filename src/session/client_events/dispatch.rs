//! From an event of a client to who handles it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::reply::Reply;
use super::rules::Rule;
use super::{attachments, forward, gym, relay, workmatrix};
use crate::auth::{Identity, System};
use crate::register::Direction;
use crate::session::session::Session;
use crate::session::sessions::Sessions;
use crate::wire::WireError;

/// An event of a client.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct Sent<'a> {
    pub(in crate::session) name: &'a str,
    pub(in crate::session) argument: &'a RawValue,
    pub(in crate::session) attachments: Option<&'a VecDeque<Bytes>>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Handled {
    /// There is no rule for it.
    Unknown,
    /// It is done, and has no more answer than that.
    Done,
    /// It is answered later, and what the client sends behind it waits.
    Later,
}

/// An event of a client who may send it, ready to be handled.
pub(super) struct Case {
    pub(super) sessions: Arc<Sessions>,
    pub(super) identity: Identity,
    pub(super) name: String,
    /// Its payload.
    pub(super) argument: Box<RawValue>,
    pub(super) reply: Reply,
}

/// What is left to do, which ends with the answer or behind it.
pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A rule that holds for a door and needs no configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BuiltIn {
    Register(Direction),
    Agent,
    StartMonitoring,
    Nothing,
}

impl BuiltIn {
    /// The channel that its events are on, which a sender has to be allowed to use.
    fn channel(self) -> Option<&'static str> {
        match self {
            Self::Register(_) => Some("checkins"),
            Self::Agent | Self::StartMonitoring => Some("activity"),
            Self::Nothing => None,
        }
    }
}

/// Whether an event may carry binary data.
pub(in crate::session) fn takes_attachments(session: &Session, name: &str) -> bool {
    session.sessions().is_some_and(|sessions| sessions.services.client_events.rule(name).is_some())
}

/// Handles an event that is none of the server's own.
///
/// # Errors
/// If the client may not send it, or it is not what the rule asks for.
pub(in crate::session) fn handle(
    session: &Arc<Session>,
    sent: Sent<'_>,
    reply: impl FnOnce() -> Reply,
) -> Result<Handled, WireError> {
    let sessions = session.sessions().ok_or(WireError::Stopping)?;
    let events = sessions.services.client_events.clone();
    let (rule, built_in) = (events.rule(sent.name), built_in(session, sent.name));
    if rule.is_none() && built_in.is_none() {
        return Ok(Handled::Unknown);
    }
    let identity = session.as_identified(sent.name, |identity| Ok(identity.clone()))?;
    if identity.anonymous {
        return Err(WireError::Anonymous(sent.name.to_owned()));
    }
    if !events.may_send(sent.name, &identity) {
        return Err(WireError::RoleMissing(sent.name.to_owned()));
    }
    if let (None, Some(channel)) = (rule, built_in.and_then(BuiltIn::channel))
        && !identity.may_use(channel)
    {
        return Err(WireError::OutsideClaims(format!("channel {channel:?}")));
    }
    let case = || -> Result<Case, WireError> {
        Ok(Case {
            sessions: sessions.clone(),
            identity,
            name: sent.name.to_owned(),
            argument: attachments::embed(sent.argument, sent.attachments)?,
            reply: reply(),
        })
    };
    let work = match (rule, built_in) {
        (Some(Rule::Drop), _) | (None, Some(BuiltIn::Nothing) | None) => return Ok(Handled::Done),
        (Some(Rule::Relay { to, name }), _) => relay::relay(case()?, *to, name)?,
        (Some(Rule::Forward(service)), _) => forward::forward(case()?, service.clone()),
        (None, Some(BuiltIn::Register(direction))) => gym::change(case()?, direction)?,
        (None, Some(BuiltIn::Agent)) => workmatrix::relay_to_own(case()?)?,
        (None, Some(BuiltIn::StartMonitoring)) => workmatrix::start_monitoring(case()?),
    };
    session.queue.hold();
    let session = session.clone();
    sessions.services.tasks.spawn(async move {
        work.await;
        session.go_on();
    });
    Ok(Handled::Later)
}

fn built_in(session: &Session, name: &str) -> Option<BuiltIn> {
    Some(match (session.recipient.connection.plain()?.door.system, name) {
        (System::Gym, "check_in") => BuiltIn::Register(Direction::In),
        (System::Gym, "check_out") => BuiltIn::Register(Direction::Out),
        (System::WorkMatrix, "activity_update" | "screenshot_update" | "status_update") => BuiltIn::Agent,
        (System::WorkMatrix, "start_monitoring") => BuiltIn::StartMonitoring,
        (System::WorkMatrix, "stop_monitoring" | "sync_now") => BuiltIn::Nothing,
        _ => return None,
    })
}
