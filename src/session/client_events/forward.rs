//! `forward`: a service of the operator's decides, and its answer is the client's.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::dispatch::{Case, Work};
use crate::backend::{Answer, AskError, Service};
use crate::wire::{WireError, now_iso, with_default};

/// What the service is told.
#[derive(Serialize)]
struct Body<'a> {
    event: &'a str,
    data: &'a RawValue,
    user_id: &'a str,
    organization_id: &'a str,
    socket_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    namespace: &'a str,
    timestamp: String,
}

/// Asks the service, and then answers.
pub(super) fn forward(case: Case, service: Arc<Service>) -> Work {
    let recipient = &case.reply.session.recipient;
    let body = serde_json::to_string(&Body {
        event: &case.name,
        data: &case.argument,
        user_id: case.identity.user.as_str(),
        organization_id: case.identity.organization.as_str(),
        socket_id: recipient.id.as_str(),
        session_id: case.identity.session_id.as_deref(),
        namespace: recipient.namespace(),
        timestamp: now_iso(),
    });
    let body = body.expect("our own payloads are always JSON");
    Box::pin(async move {
        let answer = tokio::select! {
            answer = service.ask(body) => answer,
            () = case.sessions.services.client_events.stopping.cancelled() => {
                return case.reply.refused(&WireError::Stopping);
            }
        };
        match answer {
            Ok(answer) => match ack(&case.name, &answer) {
                Ok(ack) => case.reply.done(&ack),
                Err(error) => case.reply.refused(&error),
            },
            Err(error) => case.reply.refused(&failure(&case.name, &error)),
        }
    })
}

/// The ack that an answer is.
fn ack(name: &str, answer: &Answer) -> Result<Box<RawValue>, WireError> {
    let body = std::str::from_utf8(&answer.body).unwrap_or_default();
    match answer.status {
        200..=299 => {
            let success = || to_raw_value(&json!({ "success": true })).expect("a value is always JSON");
            Ok(with_default(body, "success", &json!(true)).unwrap_or_else(success))
        }
        400..=499 => Err(declined(name, answer.status, body)),
        status => {
            tracing::warn!(event = name, status, "a service answers a client's event with a status that says nothing");
            Err(WireError::ServiceDown(name.to_owned()))
        }
    }
}

fn declined(name: &str, status: u16, body: &str) -> WireError {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let why = ["error", "message"].iter().find_map(|field| body[field].as_str().filter(|why| !why.is_empty()));
    why.map_or_else(|| WireError::declined(&format!("{name:?} was declined with status {status}")), WireError::declined)
}

/// What the client is told; the log says more.
fn failure(name: &str, error: &AskError) -> WireError {
    match error {
        AskError::Busy => WireError::ServiceBusy(name.to_owned()),
        AskError::Open => WireError::ServiceDown(name.to_owned()),
        AskError::Call(_) | AskError::Failed(_) => {
            tracing::warn!(event = name, %error, "a client's event was not taken");
            WireError::ServiceDown(name.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Result<String, String> {
        let answer = Answer { status, body: body.as_bytes().to_vec() };
        ack("a", &answer).map(|ack| ack.get().to_owned()).map_err(|error| format!("{}: {error}", error.code().as_str()))
    }

    #[test]
    fn an_object_is_the_ack_as_it_is_and_anything_else_is_success() {
        assert_eq!(of(200, r#"{"n":1.50}"#).as_deref(), Ok(r#"{"n":1.50,"success":true}"#));
        assert_eq!(of(201, r#"{"success":false,"a":1}"#).as_deref(), Ok(r#"{"success":false,"a":1}"#));
        for body in ["", "ok", "[1]", "7", "{"] {
            assert_eq!(of(200, body).as_deref(), Ok(r#"{"success":true}"#), "{body}");
        }
    }

    #[test]
    fn a_refusal_is_in_the_words_of_the_service() {
        assert_eq!(of(409, r#"{"error":"sold out"}"#), Err("INVALID_MESSAGE: sold out".into()));
        assert_eq!(of(422, r#"{"message":"no"}"#), Err("INVALID_MESSAGE: no".into()));
        for body in ["", "no", r#"{"error":{"code":7}}"#] {
            let told = of(404, body).expect_err("a refusal");
            assert!(told.starts_with("INVALID_MESSAGE") && told.contains("404"), "{told}");
        }
        let long = of(400, &format!(r#"{{"error":"{}"}}"#, "x".repeat(10_000))).expect_err("a refusal");
        assert!(long.len() < 300);
        assert!(of(302, "{}").expect_err("a refusal").starts_with("INTERNAL_ERROR"));
    }
}
