//! `POST /broadcast` and its four shortcuts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::body::parse;
use super::caller::Caller;
use super::error::ApiError;
use super::explanation;
use super::idempotency::{self, hash};
use super::messages::{hear_recipients, look_elsewhere};
use super::others;
use super::path::Path;
use super::targets::check;
use crate::auth::Deed;
use crate::config::{Config, Right};
use crate::doors::state::Doors;
use crate::events::{Facts, Priority};
use crate::hub::{Publication, Target};
use crate::log::{Call, Draft};
use crate::rooms::ScopeFields;
use crate::wire::{WireError, iso, nested_object};

/// The body of `POST /broadcast`.
#[derive(Deserialize)]
pub(in crate::doors) struct Body {
    event: Option<String>,
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "nested_object")]
    target: Option<TargetFields>,
    #[serde(default)]
    priority: Option<Priority>,
    #[serde(default)]
    requires_ack: bool,
    #[serde(default)]
    ack_timeout_ms: Option<u64>,
    /// A key like that of the header.
    #[serde(default)]
    pub(in crate::doors) message_id: Option<String>,
}

impl Body {
    /// What it asks to be published.
    pub(in crate::doors) fn publication(self, options: &Options, config: &Config) -> Result<Publication, ApiError> {
        let event =
            self.event.filter(|event| !event.is_empty()).ok_or_else(|| ApiError::bad_request("event is required"))?;
        let payload = self.data.ok_or_else(|| ApiError::bad_request("data is required"))?;
        let target = self.target.unwrap_or_default();
        let requires_ack = self.requires_ack || options.waits();
        let timeout = options.ack_timeout_ms.or(self.ack_timeout_ms).unwrap_or(config.api.ack_timeout_ms);
        Ok(Publication {
            event,
            payload,
            target: Target {
                scope: ScopeFields {
                    organization_id: target.organization_id,
                    department_id: target.department_id,
                    queue_name: target.queue_name,
                },
                channels: target.channels,
                user_ids: target.user_ids,
                socket_ids: target.socket_ids,
                rooms: target.rooms,
                except_socket_ids: target.except_socket_ids,
            },
            priority: self.priority,
            ack_timeout_ms: requires_ack.then(|| timeout.clamp(1, config.api.max_ack_timeout_ms)),
            explains: options.explain,
        })
    }
}

/// `null` is a payload too; only an absent field is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// `target` of a broadcast; a name that is misspelt must not widen it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TargetFields {
    organization_id: Option<String>,
    department_id: Option<String>,
    queue_name: Option<String>,
    channels: Vec<String>,
    user_ids: Option<Vec<String>>,
    socket_ids: Option<Vec<String>>,
    rooms: Option<Vec<String>>,
    except_socket_ids: Vec<String>,
}

/// `?wait=ack&ack_timeout_ms=&explain=true`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::doors) struct Options {
    wait: Option<Wait>,
    ack_timeout_ms: Option<u64>,
    explain: bool,
}

/// What a broadcast is answered after.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wait {
    Ack,
}

/// `POST /broadcast`: any event, to any target.
pub(in crate::doors) async fn any(
    State(doors): State<Arc<Doors>>,
    caller: Caller,
    options: Result<Query<Options>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    caller.may_publish().await?;
    let Query(options) = options?;
    let bytes = body?;
    let body: Body = parse(&headers, &bytes)?;
    let key = key(&headers)?.or(body.message_id.as_deref());
    let repeat = key.map(|key| Repeat::checked(key, hash(&[b"", &bytes]))).transpose()?;
    let publication = body.publication(&options, &doors.config)?;
    publish(&doors, &caller, publication, &options, repeat, "Message broadcasted").await
}

/// `POST /broadcast/kpi`, `/backlog`, `/attendance`, `/alert`: the body is the payload.
pub(in crate::doors) async fn shortcut(
    State(doors): State<Arc<Doors>>,
    Path(kind): Path<String>,
    caller: Caller,
    options: Result<Query<Options>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    caller.may_publish().await?;
    let Query(options) = options?;
    let message = match kind.as_str() {
        "kpi" => "KPI update broadcasted",
        "backlog" => "Backlog update broadcasted",
        "attendance" => "Attendance update broadcasted",
        "alert" => "Alert broadcasted",
        _ => {
            return Err(ApiError::not_found("there is no such shortcut; there are kpi, backlog, attendance and alert"));
        }
    };
    let bytes = body?;
    let payload: Box<RawValue> = parse(&headers, &bytes)?;
    let repeat = repeat_of(&headers, &[&kind], &bytes)?;
    let event = match kind.as_str() {
        "alert" => alert_event(payload.get()).to_owned(),
        family => format!("{family}:update"),
    };
    let mut publication = Publication::new(&event, payload, ScopeFields::default());
    publication.explains = options.explain;
    if options.waits() {
        let timeout = options.ack_timeout_ms.unwrap_or(doors.config.api.ack_timeout_ms);
        publication.ack_timeout_ms = Some(timeout.clamp(1, doors.config.api.max_ack_timeout_ms));
    }
    publish(&doors, &caller, publication, &options, repeat, message).await
}

/// The event of an alert, by its `status`.
fn alert_event(payload: &str) -> &'static str {
    match Facts::read(payload).status.as_deref() {
        Some("acknowledged") => "alert:acknowledged",
        Some("resolved") => "alert:resolved",
        _ => "alert:triggered",
    }
}

/// A call that may be repeated, if it says so: `path` tells calls with one body apart.
///
/// # Errors
/// If its key is none.
pub(in crate::doors) fn repeat_of(headers: &HeaderMap, path: &[&str], body: &[u8]) -> Result<Option<Repeat>, ApiError> {
    let parts: Vec<&[u8]> = path.iter().map(|part| part.as_bytes()).chain([body]).collect();
    key(headers)?.map(|key| Repeat::checked(key, hash(&parts))).transpose()
}

/// A call that may be repeated.
pub(in crate::doors) struct Repeat {
    /// The caller's key for it.
    pub(super) key: String,
    /// Hash of what it asks for.
    pub(super) asked: [u8; 32],
}

impl Repeat {
    /// A call with a key of its caller's.
    fn checked(key: &str, asked: [u8; 32]) -> Result<Self, ApiError> {
        idempotency::check(key)?;
        Ok(Self { key: key.to_owned(), asked })
    }
}

/// The header `Idempotency-Key`.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().map_err(|_| ApiError::bad_request("an idempotency key is visible ASCII"))?;
    Ok(Some(key))
}

/// Publishes what a caller may publish, once for each key of its own.
///
/// # Errors
/// If it may not, the key is in use for something else, or the publication is refused.
pub(in crate::doors) async fn publish(
    doors: &Arc<Doors>,
    caller: &Caller,
    publication: Publication,
    options: &Options,
    repeat: Option<Repeat>,
    message: &'static str,
) -> Result<Json<Value>, ApiError> {
    if options.explain {
        caller.require(Right::Read)?;
    }
    let mut draft = doors.hub.draft(publication)?;
    check(doors, caller, &draft).await?;
    if let Some(scope) = draft.audience.scope() {
        doors.rates.publishes_to(&scope.organization).await?;
    }
    let Some(Repeat { key, asked }) = repeat else {
        return publish_now(doors.clone(), caller.name().clone(), draft, options.waits(), message).await.map(Json);
    };
    let organization = draft.audience.scope().map_or("", |scope| scope.organization.as_str());
    let id = hash(&[caller.name().as_bytes(), organization.as_bytes(), key.as_bytes()]);
    let (organization, call) = (organization.to_owned(), Call { id, asked, message: message.to_owned() });
    draft.call = Some(call.clone());
    doors.calls.loaded().await;
    let answer = doors.calls.answer_to(id, asked)?;
    let publishing = publish_now(doors.clone(), caller.name().clone(), draft, options.waits(), message);
    let (tell, told) = oneshot::channel();
    let repeated = doors.clone();
    // A caller that gives up must not undo what its next attempt is to be told.
    doors.plane.spawn(async move {
        let once = || repeated.calls.once(&repeated.hub, &organization, &call, publishing);
        tell.send(answer.get_or_try_init(once).await.cloned()).ok();
    });
    told.await.map_err(|_| WireError::Stopping)?.map(Json)
}

async fn publish_now(
    doors: Arc<Doors>,
    who: Arc<str>,
    draft: Draft,
    waits: bool,
    message: &'static str,
) -> Result<Value, ApiError> {
    let timeout = draft.ack.map(|(_, timeout)| Duration::from_millis(timeout));
    let (event, scope) = (draft.event.name.clone(), draft.audience.scope().cloned());
    // Who acknowledges on other nodes is heard at once, as long as somebody waits for it.
    let _follower = waits.then(|| doors.hub.follow(scope.as_ref().map(|scope| &scope.organization)));
    let published = doors.hub.publish(draft).await?;
    Deed {
        who: &who,
        action: "publish",
        event: Some(&event),
        message_id: Some(&published.message_id),
        ..Deed::at(scope.as_ref())
    }
    .done();
    let mut answer = json!({
        "success": true,
        "message_id": published.message_id,
        "position": published.position.to_string(),
        "recipients_count": published.recipients,
        "sent_at": iso(published.sent_at_ms),
        "message": message,
    });
    let mut unanswered = BTreeSet::new();
    if let Some(explanation) = published.explanation {
        let (explained, missing) =
            explanation::everywhere(&doors, &published.message_id, published.recipients, explanation).await;
        answer["explanation"] = explained;
        unanswered.extend(missing);
    }
    if let Some(timeout) = timeout.filter(|_| waits) {
        let organization = scope.as_ref().map(|scope| &scope.organization);
        let (id, offset) = (&published.message_id, published.position.offset);
        unanswered.extend(hear_recipients(&doors, id, organization, offset).await);
        if let Some(mut progress) = doors.hub.acknowledged(id, timeout, doors.stopped()).await {
            unanswered.extend(look_elsewhere(&doors, id, &mut progress).await);
            answer["acknowledged"] = json!(progress.acknowledged);
            answer["pending"] = json!(progress.pending);
        }
    }
    others::name(&Vec::from_iter(unanswered), &mut answer);
    Ok(answer)
}

impl Options {
    fn waits(&self) -> bool {
        self.wait.is_some()
    }
}
