//! `subscribe`: a socket asks for channels at a scope.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::session::Session;
use super::sessions::Sessions;
use crate::auth::{Claims, Identity};
use crate::config::Implicit;
use crate::delivery::{AnswerTo, Interest, Subscription};
use crate::events::{ChannelMask, Filters};
use crate::hub::{Replayed, Since};
use crate::log::Named;
use crate::rooms::{Scope, ScopeFields};
use crate::wire::{WireError, fresh_subscription_id, nested_object, read_object};

/// Most channels one request may name.
const MAX_CHANNELS: usize = 64;

#[derive(Default, Deserialize)]
struct Request {
    channels: Vec<String>,
    #[serde(flatten)]
    scope: ScopeFields,
    #[serde(default, deserialize_with = "nested_object")]
    filters: Option<Filters>,
    /// Sent by the original dashboards, and no part of any room.
    #[serde(default, rename = "site_id")]
    _site: Option<String>,
    /// How long the socket's events may be collected into one frame, in milliseconds.
    #[serde(default)]
    batch_ms: Option<u64>,
    /// A position, or `last`.
    #[serde(default)]
    since: Option<String>,
}

/// Answers `{success, subscribed_channels, subscription_id, rooms, position, message}`, and with `since` also
/// `{replayed, complete}`, when that is known.
pub(super) fn handle(
    session: &Arc<Session>,
    argument: &str,
    answer_to: Option<&AnswerTo>,
) -> Result<Answer, WireError> {
    let sessions = session.sessions().ok_or(WireError::Stopping)?;
    session.as_identified("subscribe", |identity| {
        let request: Request = read_object("subscribe", argument)?;
        if !request.filters.as_ref().is_none_or(Filters::is_bounded) {
            let why = "each list holds at most 64 names of at most 128 bytes";
            return Err(WireError::malformed("filters", &why));
        }
        let Some(since) = &request.since else {
            return subscribe(session, &sessions, identity, &request).map(|(answer, new)| Answer::Now(answer, new));
        };
        let since = read_since(since)?;
        let hub = &sessions.services.hub;
        let Some(catch_up) = hub.catch_up(&session.recipient, &identity.organization) else {
            let (mut answer, new) = subscribe(session, &sessions, identity, &request)?;
            (answer["replayed"], answer["complete"]) = (json!(0), json!(false));
            return Ok(Answer::Now(answer, new));
        };
        let subscribed = subscribe(session, &sessions, identity, &request);
        let since = subscribed.is_ok().then_some(since);
        let (recipient, listening) = (session.recipient.clone(), hub.clone());
        let refused = subscribed.as_ref().err().cloned();
        let answer_to = answer_to.cloned();
        let listens = subscribed.as_ref().ok().map(|(_, new)| new.clone());
        let told = move |replayed: Replayed| {
            let Ok((mut answer, new)) = subscribed else { return };
            if let Some(answer_to) = &answer_to {
                (answer["replayed"], answer["complete"]) = (json!(replayed.count), json!(replayed.complete));
                recipient.answer(answer_to, &answer);
            }
            listening.tell_stale(&recipient, &new);
        };
        // What the client sends behind this is handled when this has ended.
        session.queue.hold();
        let telling = hub.clone().tell(catch_up, since, told);
        let (session, presence) = (session.clone(), sessions.services.presence.clone());
        sessions.services.tasks.spawn(async move {
            telling.await;
            if let Some(listens) = listens {
                presence.tell(&session.recipient, &listens);
            }
            session.go_on();
        });
        refused.map_or(Ok(Answer::Later), Err)
    })
}

fn read_since(text: &str) -> Result<Since, WireError> {
    if text == "last" {
        return Ok(Since::Last);
    }
    let named = Named::parse(text);
    let why = "must be a position, as in an answer or at the end of a frame, or \"last\"";
    named.map(|named| Since::Position(named.position)).ok_or_else(|| WireError::malformed("since", &why))
}

/// When a request is answered.
pub(super) enum Answer {
    /// With this; then the socket is told what is stale of what it newly listens to.
    Now(Value, Interest),
    /// By who knows more.
    Later,
}

/// Subscribes a socket to these channels of what its namespace stands for.
pub(super) fn in_namespace(session: &Session, channels: Vec<String>) -> Result<(), WireError> {
    let sessions = session.sessions().ok_or(WireError::Stopping)?;
    let request = Request { channels, ..Request::default() };
    session.as_identified("subscribe", |identity| subscribe(session, &sessions, identity, &request)).map(|_| ())
}

fn subscribe(
    session: &Session,
    sessions: &Sessions,
    identity: &Identity,
    request: &Request,
) -> Result<(Value, Interest), WireError> {
    let channels = channels(sessions, &request.channels)?;
    if let Some(name) = request.channels.iter().find(|name| !identity.may_use(name)) {
        return Err(WireError::OutsideClaims(format!("channel {name:?}")));
    }
    let asked = scope(session, identity, &request.scope)?;
    let claims = session.recipient.interest().claims.clone();
    let scopes = narrow(&claims, &asked)?;
    let id = fresh_subscription_id();
    // What it is told besides is not owed to it again.
    let since = sessions.services.hub.delivered_to(&identity.organization);
    let wanted: Vec<Subscription> = scopes
        .into_iter()
        .map(|scope| Subscription {
            id: id.as_str().into(),
            channels,
            scope,
            filters: request.filters.clone().map(Box::new),
            since,
            told: since,
        })
        .collect();
    let catalogue = &sessions.services.hub.catalogue;
    let rooms: Vec<String> = wanted.iter().flat_map(|subscription| subscription.rooms(catalogue)).collect();
    check_rooms(session, sessions, &rooms)?;
    let limit = sessions.config().limits.max_subscriptions_per_socket;
    let new = session.recipient.change(|interest| {
        let new = interest.only(wanted.clone());
        add(interest, sessions, session.implicit_until(sessions), channels, wanted, limit).map(|()| new)
    })?;
    if let Some(batch_ms) = request.batch_ms {
        session.recipient.set_batch(batch_ms);
    }
    session.changed();
    if sessions.config().logging.log_subscription_events {
        tracing::info!(socket_id = %session.recipient.id, rooms = ?rooms, "subscribed");
    }
    let answer = json!({
        "success": true,
        "subscribed_channels": request.channels,
        "subscription_id": id,
        "rooms": rooms,
        "position": sessions.services.hub.head(&identity.organization).to_string(),
        "message": "subscribed",
    });
    Ok((answer, new))
}

/// The channels of these names.
pub(super) fn channels(sessions: &Sessions, names: &[String]) -> Result<ChannelMask, WireError> {
    if names.is_empty() || names.len() > MAX_CHANNELS {
        return Err(WireError::malformed("channels", &format!("must name 1 to {MAX_CHANNELS} channels")));
    }
    names.iter().try_fold(ChannelMask::NONE, |mask, name| {
        let shown = || WireError::UnknownChannel(name.chars().take(64).collect());
        Ok(mask.with(sessions.services.hub.catalogue.channel(name).ok_or_else(shown)?))
    })
}

/// The scope asked for: within one's own organization, and within the namespace's scope when none is named.
fn scope(session: &Session, identity: &Identity, fields: &ScopeFields) -> Result<Scope, WireError> {
    let scope =
        fields.resolve(Some(&identity.organization)).map_err(|(field, error)| WireError::malformed(field, &error))?;
    if scope.organization != identity.organization {
        return Err(WireError::OutsideClaims("that organization".into()));
    }
    match &session.scope {
        Some(namespace) if fields.department_id.is_none() && fields.queue_name.is_none() => Ok(namespace.clone()),
        _ => Ok(scope),
    }
}

fn narrow(claims: &Claims, asked: &Scope) -> Result<Vec<Scope>, WireError> {
    let scopes = claims.narrow(asked);
    if scopes.is_empty() {
        return Err(WireError::OutsideClaims("that department or queue".into()));
    }
    Ok(scopes)
}

fn check_rooms(session: &Session, sessions: &Sessions, rooms: &[String]) -> Result<(), WireError> {
    let limit = sessions.config().limits.room_max_size;
    let present = session.recipient.listed_rooms();
    for room in rooms {
        if !present.iter().any(|name| **name == **room) && sessions.services.directory.count(room) >= limit {
            return Err(WireError::RoomFull { room: room.clone(), limit });
        }
    }
    Ok(())
}

/// Adds subscriptions; those of the same scope and channels before them are replaced.
fn add(
    interest: &mut Interest,
    sessions: &Sessions,
    implicit: Implicit,
    channels: ChannelMask,
    wanted: Vec<Subscription>,
    limit: usize,
) -> Result<(), WireError> {
    let before = interest.subscriptions.clone();
    interest.subscriptions.reserve_exact(wanted.len());
    for new in wanted {
        for old in interest.subscriptions.iter_mut().filter(|old| old.scope == new.scope) {
            old.channels = old.channels.without(new.channels);
        }
        interest.subscriptions.push(new);
    }
    interest.subscriptions.retain(|subscription| !subscription.channels.is_empty());
    if interest.subscriptions.len() > limit {
        interest.subscriptions = before;
        return Err(WireError::TooManySubscriptions(limit));
    }
    let catalogue = &sessions.services.hub.catalogue;
    interest.implicit = match implicit {
        Implicit::PerChannel => interest.implicit.without(catalogue.replaced_by(channels)),
        Implicit::UntilFirst | Implicit::None => ChannelMask::NONE,
    };
    Ok(())
}
