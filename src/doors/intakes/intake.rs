//! What all intakes share: their routes, and the publication that a call becomes.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::routing::{get, post};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{apier, dexter, gym, workmatrix};
use crate::config::Config;
use crate::doors::http::body::parse;
use crate::doors::http::broadcast::{Options, Repeat, publish, repeat_of};
use crate::doors::http::{ApiError, Caller};
use crate::doors::state::Doors;
use crate::hub::{Publication, Target};
use crate::rooms::ScopeFields;

/// The calls of every plain door that is open.
pub(in crate::doors) fn routes(config: &Config) -> Router<Arc<Doors>> {
    let mut router = Router::new();
    if config.doors.workmatrix.enabled {
        router = router.route("/api/ws/workmatrix/users/{user_id}/{kind}", post(workmatrix::publish));
    }
    if config.doors.dexter.enabled {
        // At the root too, where Dexter's services call them.
        for prefix in ["", "/api/ws/dexter"] {
            router = router
                .route(&format!("{prefix}/broadcast/{{event_type}}"), post(dexter::broadcast))
                .route(&format!("{prefix}/notify/{{client_id}}"), post(dexter::notify))
                .route(&format!("{prefix}/connections"), get(dexter::connections))
                .route(&format!("{prefix}/issues/{{issue_id}}/notify"), post(dexter::issue))
                .route(&format!("{prefix}/alerts/{{alert_id}}/notify"), post(dexter::alert))
                .route(&format!("{prefix}/users/{{user_id}}/assignments"), post(dexter::assignment));
        }
    }
    if config.doors.gym.enabled {
        router = router
            .route("/api/ws/gym/members", post(gym::member))
            .route("/api/ws/gym/notifications", post(gym::notification));
    }
    if config.doors.apier.enabled {
        router = router
            .route("/api/ws/apier/events", post(apier::event))
            .route("/api/ws/apier/metrics", post(apier::metrics));
    }
    router
}

/// One call: who makes it, and its body.
pub(super) struct Call<'a> {
    doors: &'a Arc<Doors>,
    caller: &'a Caller,
    /// Organization of the door.
    organization: &'a str,
    repeat: Option<Repeat>,
}

/// What a call publishes, and to whom within the door's organization.
pub(super) struct Message {
    pub(super) event: &'static str,
    pub(super) payload: Box<RawValue>,
    /// The channels it goes out on; the event's own if there is none.
    pub(super) channels: Vec<String>,
    /// The part of a channel that it is about.
    pub(super) queue: Option<String>,
    pub(super) users: Option<Vec<String>>,
    pub(super) sockets: Option<Vec<String>>,
}

impl Message {
    /// A message to everybody who listens to its event.
    pub(super) fn new(event: &'static str, payload: Box<RawValue>) -> Self {
        Self { event, payload, channels: Vec::new(), queue: None, users: None, sockets: None }
    }
}

impl<'a> Call<'a> {
    /// A call that may publish, and its body, which is a JSON object; `path` tells calls with one body apart.
    pub(super) async fn read(
        doors: &'a Arc<Doors>,
        caller: &'a Caller,
        organization: &'a str,
        headers: &HeaderMap,
        path: &[&str],
        body: Result<Bytes, BytesRejection>,
    ) -> Result<(Self, Box<RawValue>), ApiError> {
        caller.may_publish().await?;
        let bytes = body?;
        let payload = parse(headers, &bytes)?;
        let repeat = repeat_of(headers, path, &bytes)?;
        Ok((Self { doors, caller, organization, repeat }, payload))
    }

    /// Publishes a message; the answer is that of `POST /broadcast`.
    pub(super) async fn publish(self, message: Message, said: &'static str) -> Result<Value, ApiError> {
        let scope = ScopeFields {
            organization_id: Some(self.organization.to_owned()),
            department_id: None,
            queue_name: message.queue,
        };
        let mut publication = Publication::new(message.event, message.payload, scope.clone());
        publication.target = Target {
            scope,
            channels: message.channels,
            user_ids: message.users,
            socket_ids: message.sockets,
            ..Target::default()
        };
        let answer = publish(self.doors, self.caller, publication, &Options::default(), self.repeat, said).await?;
        Ok(answer.0)
    }
}

/// The fields of a body, each as it was written.
///
/// # Errors
/// If one is missing or of another type.
pub(super) fn fields<T: serde::de::DeserializeOwned>(body: &RawValue) -> Result<T, ApiError> {
    serde_json::from_str(body.get()).map_err(|error| ApiError::bad_request(format!("the body is not valid: {error}")))
}

/// A payload that is written here.
pub(super) fn payload(value: &impl serde::Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("our own payloads are always JSON")
}
