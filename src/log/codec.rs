//! Entries as records: a head in JSON, and the payload byte for byte.
//!
//! `<length of the head, 4 bytes little endian><head><payload>`. Names stand for
//! events and channels, so that a record is read with whatever catalogue there is.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::entry::{Audience, Call, Draft, Targets};
use crate::events::{Catalogue, ChannelMask, Facts, Priority};
use crate::rooms::{Id, Scope, ScopeFields};
use crate::wire::{from_hex, to_hex};

#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    event: &'a str,
    channels: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    targets: Option<WrittenTargets<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    except: &'a [String],
    priority: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<SavedCall>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    fleeting: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    explains: bool,
    at: i64,
}

/// A call as text.
#[derive(Serialize, Deserialize)]
struct SavedCall {
    /// In hexadecimal.
    id: String,
    /// Likewise.
    asked: String,
    message: String,
}

impl SavedCall {
    fn of(call: &Call) -> Self {
        Self { id: to_hex(&call.id), asked: to_hex(&call.asked), message: call.message.clone() }
    }

    fn read(self) -> Option<Call> {
        Some(Call { id: from_hex(&self.id)?, asked: from_hex(&self.asked)?, message: self.message })
    }
}

#[derive(Serialize)]
struct WrittenTargets<'a> {
    users: &'a [Id],
    sockets: &'a [String],
    rooms: &'a [String],
}

#[derive(Deserialize)]
struct Head {
    id: String,
    event: String,
    channels: Vec<String>,
    #[serde(default)]
    scope: Option<ScopeFields>,
    #[serde(default)]
    targets: Option<HeadTargets>,
    #[serde(default)]
    except: Vec<String>,
    priority: Priority,
    #[serde(default)]
    ack: Option<(u64, u64)>,
    #[serde(default)]
    call: Option<SavedCall>,
    #[serde(default)]
    fleeting: bool,
    #[serde(default)]
    explains: bool,
    at: i64,
}

#[derive(Deserialize)]
struct HeadTargets {
    users: Vec<String>,
    sockets: Vec<String>,
    rooms: Vec<String>,
}

/// The head of a record with its length, which the payload follows.
pub(super) fn head(draft: &Draft, catalogue: &Catalogue) -> Vec<u8> {
    let (scope, targets) = match &draft.audience {
        Audience::Everyone => (None, None),
        Audience::Scope { scope, targets } => (Some(scope), targets.as_ref()),
    };
    let written = Written {
        id: &draft.message_id,
        event: &draft.event.name,
        channels: catalogue.names(draft.channels).collect(),
        scope,
        targets: targets.map(|targets| WrittenTargets {
            users: &targets.users,
            sockets: &targets.sockets,
            rooms: &targets.rooms,
        }),
        except: &draft.except,
        priority: draft.priority.as_str(),
        ack: draft.ack,
        call: draft.call.as_ref().map(SavedCall::of),
        fleeting: draft.fleeting,
        explains: draft.explains,
        at: draft.published_at_ms,
    };
    let mut head = vec![0; 4];
    serde_json::to_writer(&mut head, &written).expect("a head is always JSON");
    let length = u32::try_from(head.len() - 4).expect("a head is bounded by what a publication may name");
    head[..4].copy_from_slice(&length.to_le_bytes());
    head
}

/// What a record was written from; none if the catalogue does not know its event any more, or it is no entry.
pub(super) fn read(record: &[u8], catalogue: &Catalogue) -> Option<Draft> {
    let (length, rest) = record.split_first_chunk()?;
    let (head, payload) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let head: Head = serde_json::from_slice(head).ok()?;
    let payload = RawValue::from_string(String::from_utf8(payload.to_vec()).ok()?).ok()?;
    let audience = match head.scope {
        None => Audience::Everyone,
        Some(scope) => Audience::Scope { scope: scope.resolve(None).ok()?, targets: targets(head.targets)? },
    };
    let known = head.channels.iter().filter_map(|name| catalogue.channel(name));
    Some(Draft {
        message_id: head.id,
        event: catalogue.event(&head.event)?.clone(),
        channels: known.fold(ChannelMask::NONE, ChannelMask::with),
        audience,
        except: head.except,
        priority: head.priority,
        ack: head.ack,
        facts: Facts::read(payload.get()),
        payload,
        fleeting: head.fleeting,
        explains: head.explains,
        call: head.call.and_then(SavedCall::read),
        published_at_ms: head.at,
        started: Instant::now(),
    })
}

fn targets(targets: Option<HeadTargets>) -> Option<Option<Targets>> {
    let Some(HeadTargets { users, sockets, rooms }) = targets else { return Some(None) };
    let users = users.iter().map(|user| Id::parse(user)).collect::<Result<_, _>>().ok()?;
    Some(Some(Targets { users, sockets, rooms }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(audience: Audience, catalogue: &Catalogue) -> Draft {
        let payload = RawValue::from_string(r#"{ "alert_id":"é", "n":1.50 }"#.into()).expect("JSON");
        let event = catalogue.event("alert:triggered").expect("an event").clone();
        Draft {
            message_id: "msg_1".into(),
            channels: event.channels,
            event,
            audience,
            except: vec!["s".into()],
            priority: Priority::Urgent,
            ack: Some((1 << 41, 5_000)),
            facts: Facts::read(payload.get()),
            payload,
            fleeting: true,
            explains: true,
            call: Some(Call { id: [7; 32], asked: [255; 32], message: "done".into() }),
            published_at_ms: 1_700_000_000_000,
            started: Instant::now(),
        }
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let catalogue = Catalogue::new(&[]);
        let id = |text: &str| Id::parse(text).expect("an id");
        let scope = Scope { organization: id("a:b"), department: Some(id("d")), queue: None };
        let targets = Targets { users: vec![id("u")], sockets: vec!["x".into()], rooms: Vec::new() };
        for audience in [
            Audience::Everyone,
            Audience::Scope { scope: scope.clone(), targets: None },
            Audience::Scope { scope: scope.clone(), targets: Some(targets) },
            Audience::Scope { scope, targets: Some(Targets::default()) },
        ] {
            let written = draft(audience, &catalogue);
            let mut record = head(&written, &catalogue);
            record.extend_from_slice(written.payload.get().as_bytes());
            let read = read(&record, &catalogue).expect("an entry");
            assert_eq!(read.audience, written.audience);
            assert_eq!(
                (&read.message_id, &read.event, read.channels),
                (&written.message_id, &written.event, written.channels)
            );
            assert_eq!((&read.except, read.priority, read.ack), (&written.except, written.priority, written.ack));
            assert_eq!(read.payload.get(), written.payload.get());
            assert_eq!((read.call, read.fleeting), (written.call, written.fleeting));
            assert_eq!(read.published_at_ms, written.published_at_ms);
        }
    }

    #[test]
    fn what_is_no_entry_is_none() {
        let catalogue = Catalogue::new(&[]);
        let whole = {
            let draft = draft(Audience::Everyone, &catalogue);
            let mut record = head(&draft, &catalogue);
            record.extend_from_slice(draft.payload.get().as_bytes());
            record
        };
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut], &catalogue).is_none(), "{cut}");
        }
        let unknown = String::from_utf8_lossy(&whole).replace("alert:triggered", "alert:vanished_");
        assert!(read(unknown.as_bytes(), &catalogue).is_none());
    }
}
