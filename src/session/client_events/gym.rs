//! `check_in` and `check_out` at AV-Gym's door: the register answers, and everybody is told.

use serde_json::value::to_raw_value;
use serde_json::{Map, Value};

use super::dispatch::{Case, Work};
use super::relay::publish_draft;
use crate::hub::Publication;
use crate::register::{Change, Direction, MemberId, Refusal, Register};
use crate::rooms::Scope;
use crate::wire::{WireError, now_ms, read_object};

/// Longest text about a check-in, in bytes.
const MAX_TEXT: usize = 1_024;

/// What a client asks the register for.
enum Request {
    In { member: MemberId, location: Option<String>, notes: Option<String> },
    Out { id: MemberId, notes: Option<String> },
}

/// Changes the register, answers, and publishes what has changed.
pub(super) fn change(case: Case, direction: Direction) -> Result<Work, WireError> {
    let request = Request::read(&case.name, case.argument.get(), direction)?;
    Ok(Box::pin(async move {
        let events = case.sessions.services.client_events.clone();
        let _turn = events.changes.lock().await;
        match request.make(&case.sessions.services.register) {
            Ok(change) => {
                case.reply.done(&change.ack());
                publish(&case, &change).await;
            }
            Err(refusal) => case.reply.refused(&WireError::declined(&refusal.to_string())),
        }
    }))
}

async fn publish(case: &Case, change: &Change) {
    let hub = &case.sessions.services.hub;
    let scope = Scope::organization(case.identity.organization.clone());
    for (event, payload) in change.events() {
        let payload = to_raw_value(&payload).expect("a value is always JSON");
        let published = match hub.draft(Publication::new(event, payload, (&scope).into())) {
            Ok(draft) => publish_draft(case, draft).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            tracing::error!(%error, event, "clients were not told of a change of the register");
        }
    }
}

impl Request {
    fn read(name: &str, argument: &str, direction: Direction) -> Result<Self, WireError> {
        let fields: Map<String, Value> = read_object(name, argument)?;
        Ok(match direction {
            Direction::In => Self::In {
                member: id(&fields, ["member_id", "memberId"])?,
                location: text(&fields, "location")?.filter(|location| !location.is_empty()),
                notes: text(&fields, "notes")?,
            },
            Direction::Out => {
                Self::Out { id: id(&fields, ["check_in_id", "checkInId"])?, notes: text(&fields, "notes")? }
            }
        })
    }

    fn make(self, register: &Register) -> Result<Change, Refusal> {
        match self {
            Self::In { member, location, notes } => {
                register.check_in(member, location, notes.unwrap_or_default(), now_ms())
            }
            Self::Out { id, notes } => register.check_out(id.as_str(), notes, now_ms()),
        }
    }
}

/// An id in either spelling, since the frontends use both.
fn id(fields: &Map<String, Value>, spellings: [&'static str; 2]) -> Result<MemberId, WireError> {
    let present = |name: &&str| fields.get(*name).filter(|value| !value.is_null());
    let value = spellings.iter().find_map(present).unwrap_or(&Value::Null);
    MemberId::read(value).map_err(|why| WireError::malformed(spellings[0], &why))
}

fn text(fields: &Map<String, Value>, name: &'static str) -> Result<Option<String>, WireError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(text.clone())),
        Some(_) => Err(WireError::malformed(name, &format!("must be text of at most {MAX_TEXT} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Settings;

    fn make(register: &Register, direction: Direction, argument: &str) -> Result<Change, String> {
        let request = Request::read("check_in", argument, direction).map_err(|error| error.to_string())?;
        request.make(register).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn requests_are_understood_in_either_spelling() {
        let register = Register::open(Settings::default()).expect("a register");
        let came = make(&register, Direction::In, r#"{"member_id":null,"memberId":7,"timestamp":"x","location":""}"#);
        let record = came.expect("a check-in").record;
        assert_eq!((record.member.id.as_str(), &record.location), ("7", &None));
        let came = make(&register, Direction::In, r#"{"member_id":"b","location":"Main","notes":null}"#);
        assert_eq!(came.expect("a check-in").record.location.as_deref(), Some("Main"));
        let went = make(&register, Direction::Out, &format!(r#"{{"checkInId":"{}","notes":"bye"}}"#, record.id));
        assert_eq!(went.expect("a check-out").record.notes, "bye");
    }

    #[test]
    fn malformed_requests_say_which_value() {
        let register = Register::open(Settings::default()).expect("a register");
        let long = format!(r#"{{"member_id":7,"notes":"{}"}}"#, "x".repeat(MAX_TEXT + 1));
        for (argument, why) in [
            ("null", "object"),
            ("{}", "member_id"),
            (r#"{"member_id":{}}"#, "member_id"),
            (r#"{"member_id":7,"location":7}"#, "location"),
            (&long, "notes"),
        ] {
            let told = make(&register, Direction::In, argument).expect_err("a refusal");
            assert!(told.contains(why), "{argument}: {told}");
        }
        let told = make(&register, Direction::Out, r#"{"member_id":7}"#).expect_err("a refusal");
        assert!(told.contains("check_in_id"), "{told}");
    }
}
