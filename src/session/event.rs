//! Events of a socket: taken in, handled in order, refused with the reason.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::client_events::{self, Handled, Reply, Sent};
use super::queue::{Incoming, Pushed};
use super::session::Session;
use super::subscribe::Answer;
use super::{ack, authenticate, greeting, message, ping, presence, subscribe, unsubscribe};
use crate::delivery::AnswerTo;
use crate::stats::Refusal;
use crate::wire::WireError;

/// Takes an event in, as soon as socketioxide has it: bounded in size, rate and number.
pub(super) fn arrive(session: &Arc<Session>, incoming: Incoming) {
    let Some(sessions) = session.sessions() else { return };
    if session.recipient.connection.is_dismissed() {
        return;
    }
    let config = sessions.config();
    session.touch();
    sessions.services.counters.received();
    let size = incoming.size();
    let is_ack = incoming.is_named(&["ack"]);
    if config.logging.log_all_messages {
        let identity = session.identity();
        let organization = identity.as_ref().map(|identity| identity.organization.as_str());
        tracing::info!(socket_id = %session.recipient.id, event = name_of(&incoming), size, organization, "message");
    }
    let rates = &sessions.rates;
    let connection = &session.recipient.connection;
    let counters = &sessions.services.counters;
    let allowed = if is_ack { rates.acks.take(&session.acks) } else { rates.messages.take(&session.messages) };
    let over = match allowed {
        false => Some(WireError::RateLimited(config.limits.rate_limit_messages_per_second)),
        true if !connection.takes_bytes(size) => {
            Some(WireError::TooManyBytes(config.limits.rate_limit_bytes_per_second))
        }
        true => None,
    };
    if let Some(error) = over {
        counters.refused(Refusal::Messages);
        if !rates.patience.take(&session.patience) {
            counters.refused(Refusal::Abuse);
            tracing::debug!(socket_id = %session.recipient.id, "cut: keeps on over its rate");
            return sessions.dismiss_connection(connection);
        }
        return refuse(session, &incoming, &error);
    }
    if size > config.limits.max_message_size_bytes {
        let limit = config.limits.max_message_size_bytes;
        counters.refused(Refusal::LargeMessages);
        return refuse(session, &incoming, &WireError::TooLarge { size, limit });
    }
    // Only this task adds events of this socket, so there is still room when it does.
    if !session.queue.has_room_for(size) {
        counters.refused(Refusal::Messages);
        return refuse(session, &incoming, &WireError::QueueFull(session.queue.waiting()));
    }
    match session.queue.push(incoming) {
        Pushed::Waiting => {}
        Pushed::Handle => {
            // Nobody else adds events of this socket, so this is the only one.
            while let Some(incoming) = session.queue.next() {
                handle(session, incoming);
            }
        }
        Pushed::StartWorker => {
            sessions.services.tasks.spawn(work(session.clone()));
        }
    }
}

/// The name of an event, for a log line: cut short, since a client may call it anything.
fn name_of(incoming: &Incoming) -> String {
    incoming.call().map(|call| call.name.chars().take(64).collect()).unwrap_or_default()
}

/// Handles what waits, one event after another.
pub(super) async fn work(session: Arc<Session>) {
    while let Some(incoming) = session.queue.next() {
        handle(&session, incoming);
        // A long queue must not keep the other sockets of this thread waiting.
        tokio::task::yield_now().await;
    }
}

fn handle(session: &Arc<Session>, incoming: Incoming) {
    // What an event is answered with leaves in one write.
    let _cork = session.recipient.connection.cork();
    let Some(call) = incoming.call() else { return refuse(session, &incoming, &incoming.fault()) };
    if incoming.attachments().is_some() && !client_events::takes_attachments(session, &call.name) {
        return refuse(session, &incoming, &WireError::Binary(call.name.into_owned()));
    }
    let argument = call.argument.get();
    let (mut listens, mut is_greeted) = (None, false);
    let result = match &*call.name {
        "authenticate" => {
            let is_new = session.is_unknown();
            match authenticate::handle(session, argument, incoming.has_waited) {
                Ok(authenticate::Answer::Now(answer)) => {
                    (listens, is_greeted) = (is_new.then(|| session.recipient.interest().clone()), is_new);
                    Ok(Some(answer))
                }
                Ok(authenticate::Answer::After(organization)) => return session.wait_for(organization, incoming),
                Err(error) => Err(error),
            }
        }
        "subscribe" | "client:subscribe" => match subscribe::handle(session, argument, incoming.answer_to.as_ref()) {
            Ok(Answer::Now(answer, new)) => {
                listens = Some(new);
                Ok(Some(answer))
            }
            Ok(Answer::Later) => return,
            Err(error) => Err(error),
        },
        "unsubscribe" | "client:unsubscribe" => unsubscribe::handle(session, argument),
        "client:ping" => ping::handle(session, argument, incoming.answer_to.is_some()),
        "message" => match message::handle(session, argument, incoming.answer_to.as_ref()) {
            Ok(message::Answer::Now(answer)) => Ok(answer),
            Ok(message::Answer::Later) => return,
            Err(error) => Err(error),
        },
        "presence" => presence::handle(session, argument),
        "ack" => ack::handle(session, argument),
        name => {
            let sent = Sent { name, argument: call.argument, attachments: incoming.attachments() };
            match client_events::handle(session, sent, || Reply::new(session, incoming.answer_to.as_ref())) {
                Ok(Handled::Unknown) => unknown(session, name),
                Ok(Handled::Done) => Ok(None),
                Ok(Handled::Later) => return,
                Err(error) => Err(error),
            }
        }
    };
    match (result, &incoming.answer_to) {
        (Ok(Some(answer)), Some(answer_to)) => {
            session.recipient.answer(answer_to, &answer);
        }
        // Every event with an ack id is answered, or a client that queues its events waits for ever.
        (Ok(None), Some(answer_to)) => {
            session.recipient.answer(answer_to, &json!({ "success": true }));
        }
        (Ok(_), None) => {}
        (Err(error), _) => refuse(session, &incoming, &error),
    }
    if is_greeted {
        greeting::greet(session);
    }
    if let (Some(listens), Some(sessions)) = (listens, session.sessions()) {
        sessions.services.hub.tell_stale(&session.recipient, &listens);
        sessions.services.presence.tell(&session.recipient, &listens);
    }
}

fn unknown(session: &Session, name: &str) -> Result<Option<Json>, WireError> {
    let shown: String = name.chars().take(64).collect();
    session.as_identified(&shown, |_| Err(WireError::UnknownEvent(shown.clone())))
}

/// Tells the client why: in the failing ack, if it waits for one, and as the event `error`.
fn refuse(session: &Session, incoming: &Incoming, error: &WireError) {
    tell(session, incoming.answer_to.as_ref(), error, &failure(session, incoming, error));
}

/// The same, of an event that has waited for somebody to decide.
pub(super) fn refuse_later(session: &Session, answer_to: Option<&AnswerTo>, error: &WireError) {
    tell(session, answer_to, error, &plain_failure(error));
}

fn tell(session: &Session, answer_to: Option<&AnswerTo>, error: &WireError, failure: &Json) {
    if let Some(sessions) = session.sessions() {
        sessions.services.counters.error(&error.to_string());
    }
    session.recipient.refuse_event(answer_to, error, failure);
}

fn plain_failure(error: &WireError) -> Json {
    json!({ "success": false, "code": error.code(), "message": error.to_string() })
}

/// The failing ack: of `subscribe` and `authenticate` with the fields their clients read.
fn failure(session: &Session, incoming: &Incoming, error: &WireError) -> Json {
    let mut failure = plain_failure(error);
    if incoming.is_named(&["authenticate"]) {
        failure["socket_id"] = json!(session.recipient.id);
    }
    if incoming.is_named(&["subscribe", "client:subscribe"]) {
        failure["subscribed_channels"] = json!([]);
        failure["subscription_id"] = json!("");
    }
    failure
}
