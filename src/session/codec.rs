//! Sessions as JSON: on the disk, and where the nodes of a cluster share them.

use serde::{Deserialize, Serialize};

use super::records::Record;
use crate::auth::{Claims, Identity};
use crate::connection::Journal;
use crate::delivery::{Interest, Subscription};
use crate::events::{Catalogue, ChannelMask, Filters};
use crate::presence::Status;
use crate::rooms::{Id, Scope};
use crate::wire::{Forms, PublicId};

/// A session that its client can take up again.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedRecord {
    id: PublicId,
    namespace: Box<str>,
    identity: Option<Identity>,
    #[serde(default)]
    status: Status,
    interest: SavedInterest,
    journal: Journal,
}

impl SavedRecord {
    pub(super) fn of(record: &Record, catalogue: &Catalogue) -> Self {
        Self {
            id: record.id.clone(),
            namespace: record.namespace.clone(),
            identity: record.identity.clone(),
            status: record.status,
            interest: SavedInterest::of(&record.interest, catalogue),
            journal: record.journal.clone(),
        }
    }

    /// None if the catalogue has another channel since, or somebody has tampered with it.
    pub(super) fn read(self, catalogue: &Catalogue) -> Option<Record> {
        let Self { id, namespace, identity, status, interest, journal } = self;
        Some(Record { id, namespace, identity, status, interest: interest.read(catalogue)?, journal })
    }
}

/// What a session wants.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedInterest {
    forms: Forms,
    belongs_to: Option<(Id, Id)>,
    claims: Claims,
    implicit: Vec<String>,
    since: u64,
    owed: Vec<u64>,
    #[serde(default)]
    batch_ms: u64,
    subscriptions: Vec<SavedSubscription>,
}

#[derive(Serialize, Deserialize)]
struct SavedSubscription {
    id: Box<str>,
    channels: Vec<String>,
    scope: Scope,
    filters: Option<Box<Filters>>,
    since: u64,
}

impl SavedInterest {
    pub(super) fn of(interest: &Interest, catalogue: &Catalogue) -> Self {
        let names = |mask| catalogue.names(mask).map(str::to_owned).collect();
        let subscriptions = interest.subscriptions.iter().map(|subscription| SavedSubscription {
            id: subscription.id.clone(),
            channels: names(subscription.channels),
            scope: subscription.scope.clone(),
            filters: subscription.filters.clone(),
            since: subscription.since,
        });
        Self {
            forms: interest.forms,
            belongs_to: interest.identity.clone(),
            claims: interest.claims.clone(),
            implicit: names(interest.implicit),
            since: interest.since,
            owed: interest.owed.clone(),
            batch_ms: interest.batch_ms,
            subscriptions: subscriptions.collect(),
        }
    }

    pub(super) fn read(self, catalogue: &Catalogue) -> Option<Interest> {
        let mask = |names: &[String]| {
            names.iter().try_fold(ChannelMask::NONE, |mask, name| Some(mask.with(catalogue.channel(name)?)))
        };
        let subscriptions = self.subscriptions.into_iter().map(|subscription| {
            Some(Subscription {
                id: subscription.id,
                channels: mask(&subscription.channels)?,
                scope: subscription.scope,
                filters: subscription.filters,
                since: subscription.since,
                told: subscription.since,
            })
        });
        Some(Interest {
            // Visitors are not written down.
            anonymous: false,
            forms: self.forms,
            identity: self.belongs_to,
            claims: self.claims,
            implicit: mask(&self.implicit)?,
            since: self.since,
            owed: self.owed,
            batch_ms: self.batch_ms,
            subscriptions: subscriptions.collect::<Option<_>>()?,
        })
    }
}
