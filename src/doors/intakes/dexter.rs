//! Dexter: broadcasts, notifications, and the clients that are there.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::intake::{Call, Message, fields, payload};
use crate::config::Right;
use crate::dialects::Dexter;
use crate::doors::http::{ApiError, Caller, Path};
use crate::doors::state::Doors;
use crate::rooms::Id;

/// Longest type of a broadcast, in bytes.
const MAX_TYPE: usize = 64;

type Body = Result<Bytes, BytesRejection>;

/// `?channel=` of a broadcast.
#[derive(Debug, Deserialize)]
pub(super) struct To {
    channel: Option<String>,
}

/// `POST /broadcast/{event_type}`: any object, as `{type, data}`, to a channel, or to everybody who has not left `global`.
pub(super) async fn broadcast(
    State(doors): State<Arc<Doors>>,
    Path(event_type): Path<String>,
    caller: Caller,
    to: Result<Query<To>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let channel = to?.0.channel.unwrap_or_else(|| "global".into());
    let (call, data) = read(&doors, &caller, &headers, &["broadcast", &event_type, &channel], body).await?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.-".contains(&byte);
    if event_type.len() > MAX_TYPE
        || !event_type.bytes().all(is_plain)
        || Dexter::OWN_TYPES.contains(&event_type.as_str())
    {
        let expected = "an event type has 1 to 64 letters, digits, \":\", \"_\", \".\" and \"-\"";
        return Err(ApiError::bad_request(format!("{expected}, and is none of {:?}", Dexter::OWN_TYPES)));
    }
    let (channel, queue) = part_of(&channel)?;
    let written = payload(&Typed { kind: &event_type, data: &data });
    let message = Message { channels: vec![channel], queue, ..Message::new("broadcast", written) };
    answer(call, message, "broadcasted").await
}

/// `{type, data}`.
#[derive(Serialize)]
struct Typed<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    data: &'a RawValue,
}

/// The channel of the catalogue that one of Dexter's is, and the part of it.
fn part_of(channel: &str) -> Result<(String, Option<String>), ApiError> {
    match channel.split_once(':') {
        Some((kind @ ("issue" | "project"), id)) if Id::parse(id).is_ok() => Ok((kind.into(), Some(id.into()))),
        None if ["issues", "alerts", "presence", "global"].contains(&channel) => Ok((channel.into(), None)),
        _ => {
            let expected = "issues, alerts, presence, global, issue:{id} or project:{id}";
            Err(ApiError::bad_request(format!("there is no such channel; there are {expected}")))
        }
    }
}

/// `POST /notify/{client_id}`: any object, as `{type: "notification", data}`, to one client; 200 also when it is not there.
pub(super) async fn notify(
    State(doors): State<Arc<Doors>>,
    Path(client_id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (call, data) = read(&doors, &caller, &headers, &["notify", &client_id], body).await?;
    let sockets = doors.clients.socket_of(&client_id).into_iter().collect();
    let message = Message { sockets: Some(sockets), ..Message::new("notification", data) };
    answer(call, message, "sent").await
}

/// `GET /connections`: `{total, authenticated, clients[]}`.
pub(super) async fn connections(State(doors): State<Arc<Doors>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.may_call(Right::Read)?;
    let organization = Id::parse(&doors.config.doors.dexter.organization).ok();
    if !caller.may_touch(organization.as_ref()) {
        return Err(ApiError::forbidden("this key may not touch the door's organization"));
    }
    let clients = doors.clients.all();
    Ok(Json(json!({
        "total": clients.len(),
        "authenticated": clients.iter().filter(|(_, known)| *known).count(),
        "clients": clients.iter().map(|(id, _)| id).collect::<Vec<_>>(),
    })))
}

/// What has happened to an issue.
#[derive(Deserialize)]
struct IssueBody {
    update_type: String,
    data: Box<RawValue>,
}

/// `POST /issues/{issue_id}/notify` `{update_type, data}`: to `issues` and to `issue:{issue_id}`.
pub(super) async fn issue(
    State(doors): State<Arc<Doors>>,
    Path(issue_id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (call, body) = read(&doors, &caller, &headers, &["issue", &issue_id], body).await?;
    let IssueBody { update_type, data } = fields(&body)?;
    let update = json!({ "issue_id": issue_id, "update_type": update_type });
    let written = payload(&With { fields: &update, data: &data });
    let channels = vec!["issues".into(), "issue".into()];
    let message = Message { channels, queue: Some(issue_id), ..Message::new("issue_update", written) };
    answer(call, message, "sent").await
}

/// Fields, and `data` as it was written.
#[derive(Serialize)]
struct With<'a> {
    #[serde(flatten)]
    fields: &'a Value,
    data: &'a RawValue,
}

/// The project that an alert is about.
#[derive(Deserialize)]
struct AlertBody {
    #[serde(default)]
    project_id: Value,
}

/// `POST /alerts/{alert_id}/notify` `{message, severity, project_id?, …}`: to `alerts`, and to `project:{project_id}`.
pub(super) async fn alert(
    State(doors): State<Arc<Doors>>,
    Path(alert_id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (call, data) = read(&doors, &caller, &headers, &["alert", &alert_id], body).await?;
    let queue = match fields::<AlertBody>(&data)?.project_id {
        Value::Null => None,
        Value::String(id) => Some(id),
        Value::Number(id) => Some(id.to_string()),
        _ => return Err(ApiError::bad_request("project_id must be text or a number")),
    };
    let written = payload(&With { fields: &json!({ "alert_id": alert_id }), data: &data });
    let mut channels = vec!["alerts".to_owned()];
    channels.extend(queue.is_some().then(|| "project".to_owned()));
    let message = Message { channels, queue, ..Message::new("alert_trigger", written) };
    answer(call, message, "sent").await
}

/// What is assigned.
#[derive(Deserialize, Serialize)]
struct Assignment {
    issue_id: Value,
    title: Value,
    #[serde(default)]
    assigned_by: Value,
}

/// `POST /users/{user_id}/assignments` `{issue_id, title, assigned_by?}`: to every socket of the user.
pub(super) async fn assignment(
    State(doors): State<Arc<Doors>>,
    Path(user_id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let (call, body) = read(&doors, &caller, &headers, &["assignment", &user_id], body).await?;
    fields::<Assignment>(&body)?;
    let message = Message { users: Some(vec![user_id]), ..Message::new("assignment_notification", body) };
    answer(call, message, "sent").await
}

async fn read<'a>(
    doors: &'a Arc<Doors>,
    caller: &'a Caller,
    headers: &HeaderMap,
    path: &[&str],
    body: Body,
) -> Result<(Call<'a>, Box<RawValue>), ApiError> {
    Call::read(doors, caller, &doors.config.doors.dexter.organization, headers, path, body).await
}

/// Publishes, and answers as Dexter's callers expect.
async fn answer(call: Call<'_>, message: Message, status: &'static str) -> Result<Json<Value>, ApiError> {
    let mut answer = call.publish(message, status).await?;
    answer["status"] = json!(status);
    Ok(Json(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dexters_channels_are_parts_of_the_catalogues() {
        assert_eq!(part_of("issue:42").ok(), Some(("issue".into(), Some("42".into()))));
        assert_eq!(part_of("project:a:b").ok(), Some(("project".into(), Some("a:b".into()))));
        assert_eq!(part_of("alerts").ok(), Some(("alerts".into(), None)));
        for unknown in ["issue", "issue:", "kpi", "user:1", ""] {
            assert!(part_of(unknown).is_err(), "{unknown}");
        }
    }
}
