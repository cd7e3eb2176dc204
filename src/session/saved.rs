//! Sessions on the disk: what clients of this process take up again in the next, and what is remembered of others.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::codec::{SavedInterest, SavedRecord};
use super::records::{Key, Record};
use crate::events::Catalogue;
use crate::hub::Seen;
use crate::rooms::Id;
use crate::wire::{PublicId, from_hex, to_hex};

/// A session of whose kind there is one in the file.
type Gone = (Key, i64, Box<Record>);

/// Organization and user, and a session of theirs.
type Ended = ((Id, Id), Seen);

#[derive(Serialize, Deserialize)]
struct File {
    /// Sessions that their clients can take up again.
    records: Vec<SavedGone>,
    /// Sessions that are remembered for their users.
    ended: Vec<SavedSession>,
}

#[derive(Serialize, Deserialize)]
struct SavedGone {
    /// Hash of the secret, as hexadecimal digits.
    key: String,
    gone_at_ms: i64,
    #[serde(flatten)]
    record: SavedRecord,
}

#[derive(Serialize, Deserialize)]
struct SavedSession {
    organization: Id,
    user: Id,
    session_id: Option<String>,
    socket: PublicId,
    namespace: Box<str>,
    at_ms: i64,
    interest: SavedInterest,
}

/// Writes sessions to a file that only this user may read.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(path: &Path, records: &[Gone], ended: &[Ended], catalogue: &Catalogue) -> io::Result<()> {
    let records = records.iter().map(|(key, gone_at_ms, record)| SavedGone {
        key: to_hex(key),
        gone_at_ms: *gone_at_ms,
        record: SavedRecord::of(record, catalogue),
    });
    let ended = ended.iter().map(|((organization, user), seen)| SavedSession {
        organization: organization.clone(),
        user: user.clone(),
        session_id: seen.session_id.clone(),
        socket: seen.socket.clone(),
        namespace: seen.namespace.clone(),
        at_ms: seen.at_ms,
        interest: SavedInterest::of(&seen.interest, catalogue),
    });
    let saved = File { records: records.collect(), ended: ended.collect() };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(&saved)?)?;
    file.sync_all()
}

/// Takes the sessions out of a file, which is gone then: they hold for the next process only.
///
/// # Errors
/// If there is a file that cannot be read.
pub(super) fn take(path: &Path, catalogue: &Catalogue) -> io::Result<(Vec<Gone>, Vec<Ended>)> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(error),
    };
    fs::remove_file(path)?;
    let File { records, ended } = serde_json::from_slice(&text)?;
    let records = records.into_iter().filter_map(|saved| record(saved, catalogue));
    let ended = ended.into_iter().filter_map(|saved| session(saved, catalogue));
    Ok((records.collect(), ended.collect()))
}

/// None if the file was tampered with, or the catalogue has another channel since.
fn record(saved: SavedGone, catalogue: &Catalogue) -> Option<Gone> {
    let SavedGone { key: digits, gone_at_ms, record } = saved;
    Some((from_hex(&digits)?, gone_at_ms, Box::new(record.read(catalogue)?)))
}

fn session(saved: SavedSession, catalogue: &Catalogue) -> Option<Ended> {
    let SavedSession { organization, user, session_id, socket, namespace, at_ms, interest } = saved;
    let interest = interest.read(catalogue)?;
    Some(((organization, user), Seen { session_id, socket, namespace, interest, at_ms }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Claims, Identity};
    use crate::connection::Journal;
    use crate::delivery::{Interest, Subscription};
    use crate::events::Filters;
    use crate::presence::Status;
    use crate::rooms::Scope;
    use crate::wire::Forms;

    #[test]
    fn records_are_read_as_they_were_written_and_only_once() {
        let catalogue = Catalogue::new(&[]);
        let id = |text: &str| Id::parse(text).expect("an id");
        let scope = Scope { organization: id("org"), department: None, queue: Some(id("q")) };
        let claims = Claims::new(vec![scope.clone()]);
        let interest = Interest {
            anonymous: false,
            batch_ms: 50,
            forms: Forms::Envelope,
            identity: Some((id("org"), id("u"))),
            claims: claims.clone(),
            implicit: catalogue.implicit(),
            subscriptions: vec![Subscription {
                id: "sub".into(),
                channels: catalogue.channel("kpi").expect("a channel"),
                scope,
                filters: Some(Box::new(Filters { sources: vec!["s".into()], ..Filters::default() })),
                since: 3,
                told: 3,
            }],
            since: 2,
            owed: vec![1],
        };
        let seen = Seen {
            session_id: Some("x".into()),
            socket: PublicId::fresh(),
            namespace: "/".into(),
            interest: interest.clone(),
            at_ms: 4,
        };
        let identity = Identity {
            user: id("u"),
            organization: id("org"),
            session_id: Some("x".into()),
            claims,
            channels: None,
            anonymous: false,
            proof: None,
        };
        let journal = Journal::after(crate::connection::Read { up_to: 7, beyond: vec![9, 8] });
        let (identity, status) = (Some(identity), Status::Busy);
        let record =
            Record { id: PublicId::fresh(), namespace: "/org/org".into(), identity, status, interest, journal };
        let path = std::env::temp_dir().join(format!("tiercast-saved-{}", PublicId::fresh()));
        let before = format!("{record:?}");
        let ended = [((id("org"), id("u")), seen)];
        write(&path, &[([7; 32], 5, Box::new(record))], &ended, &catalogue).expect("a file");
        let (records, sessions) = take(&path, &catalogue).expect("sessions");
        assert_eq!(format!("{:?}", records[0].2), before);
        assert_eq!((records[0].0, records[0].1, records.len()), ([7; 32], 5, 1));
        assert_eq!(format!("{sessions:?}"), format!("{ended:?}"));
        let (records, sessions) = take(&path, &catalogue).expect("nothing");
        assert!(records.is_empty() && sessions.is_empty());
        fs::write(&path, "[{}]").expect("a file");
        assert!(take(&path, &catalogue).is_err());
    }
}
