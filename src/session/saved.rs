//! Records on the disk: what clients of this process take up again in the next.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::records::{Key, Record};
use crate::auth::{Claims, Identity};
use crate::connection::Journal;
use crate::delivery::{Interest, Subscription};
use crate::events::{Catalogue, ChannelMask, Filters};
use crate::rooms::{Id, Scope};
use crate::wire::{Forms, PublicId};

#[derive(Serialize, Deserialize)]
struct Saved {
    /// Hash of the secret, as hexadecimal digits.
    key: String,
    gone_at_ms: i64,
    id: PublicId,
    namespace: Box<str>,
    identity: Option<Identity>,
    forms: Forms,
    belongs_to: Option<(Id, Id)>,
    claims: Claims,
    implicit: Vec<String>,
    since: u64,
    subscriptions: Vec<SavedSubscription>,
    journal: Journal,
}

#[derive(Serialize, Deserialize)]
struct SavedSubscription {
    id: Box<str>,
    channels: Vec<String>,
    scope: Scope,
    filters: Option<Box<Filters>>,
    since: u64,
}

/// Writes records to a file that only this user may read.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(path: &Path, records: &[(Key, i64, Box<Record>)], catalogue: &Catalogue) -> io::Result<()> {
    let names = |mask| catalogue.names(mask).map(str::to_owned).collect();
    let saved: Vec<Saved> = records
        .iter()
        .map(|(key, gone_at_ms, record)| Saved {
            key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
            gone_at_ms: *gone_at_ms,
            id: record.id.clone(),
            namespace: record.namespace.clone(),
            identity: record.identity.clone(),
            forms: record.interest.forms,
            belongs_to: record.interest.identity.clone(),
            claims: record.interest.claims.clone(),
            implicit: names(record.interest.implicit),
            since: record.interest.since,
            subscriptions: record
                .interest
                .subscriptions
                .iter()
                .map(|subscription| SavedSubscription {
                    id: subscription.id.clone(),
                    channels: names(subscription.channels),
                    scope: subscription.scope.clone(),
                    filters: subscription.filters.clone(),
                    since: subscription.since,
                })
                .collect(),
            journal: record.journal.clone(),
        })
        .collect();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(&saved)?)?;
    file.sync_all()
}

/// Takes the records out of a file, which is gone then: they hold for the next process only.
///
/// # Errors
/// If there is a file that cannot be read.
pub(super) fn take(path: &Path, catalogue: &Catalogue) -> io::Result<Vec<(Key, i64, Box<Record>)>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    fs::remove_file(path)?;
    let saved: Vec<Saved> = serde_json::from_slice(&text)?;
    Ok(saved.into_iter().filter_map(|saved| record(saved, catalogue)).collect())
}

/// None if the file was tampered with, or the catalogue has another channel since.
fn record(saved: Saved, catalogue: &Catalogue) -> Option<(Key, i64, Box<Record>)> {
    let mask = |names: &[String]| {
        names.iter().try_fold(ChannelMask::NONE, |mask, name| Some(mask.with(catalogue.channel(name)?)))
    };
    let subscriptions = saved.subscriptions.into_iter().map(|subscription| {
        Some(Subscription {
            id: subscription.id,
            channels: mask(&subscription.channels)?,
            scope: subscription.scope,
            filters: subscription.filters,
            since: subscription.since,
        })
    });
    let interest = Interest {
        forms: saved.forms,
        identity: saved.belongs_to,
        claims: saved.claims,
        implicit: mask(&saved.implicit)?,
        subscriptions: subscriptions.collect::<Option<_>>()?,
        since: saved.since,
    };
    let (id, namespace, identity, journal) = (saved.id, saved.namespace, saved.identity, saved.journal);
    Some((key(&saved.key)?, saved.gone_at_ms, Box::new(Record { id, namespace, identity, interest, journal })))
}

fn key(digits: &str) -> Option<Key> {
    let byte = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..size_of::<Key>()).map(byte).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written_and_only_once() {
        let catalogue = Catalogue::new(&[]);
        let id = |text: &str| Id::parse(text).expect("an id");
        let scope = Scope { organization: id("org"), department: None, queue: Some(id("q")) };
        let claims = Claims::new(vec![scope.clone()]);
        let interest = Interest {
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
            }],
            since: 2,
        };
        let identity = Identity { user: id("u"), organization: id("org"), session_id: Some("x".into()), claims };
        let journal = Journal::after(crate::connection::Read { up_to: 7, beyond: vec![9, 8] });
        let record =
            Record { id: PublicId::fresh(), namespace: "/org/org".into(), identity: Some(identity), interest, journal };
        let path = std::env::temp_dir().join(format!("tiercast-saved-{}", PublicId::fresh()));
        let before = format!("{record:?}");
        write(&path, &[([7; 32], 5, Box::new(record))], &catalogue).expect("a file");
        let read = take(&path, &catalogue).expect("records");
        assert_eq!(format!("{:?}", read[0].2), before);
        assert_eq!((read[0].0, read[0].1, read.len()), ([7; 32], 5, 1));
        assert!(take(&path, &catalogue).expect("nothing").is_empty());
        fs::write(&path, "[{}]").expect("a file");
        assert!(take(&path, &catalogue).is_err());
    }
}
