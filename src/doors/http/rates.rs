//! How much a key may do, and how much may be published to an organization.
//!
//! Publishing and everything else are counted apart, so that whoever lists connections all day starves no publisher.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::ApiError;
use crate::auth::KEYLESS;
use crate::config::Api;
use crate::limits::{Book, Bucket, Rate};
use crate::rooms::Id;

/// Organizations whose publications are counted one by one.
const MOST_ORGANIZATIONS: usize = 10_000;

/// The rates of the HTTP API.
#[derive(Debug)]
pub(in crate::doors) struct Rates {
    keys: HashMap<String, Arc<KeyRates>>,
    organizations: Option<(u32, Book<Id>)>,
}

/// What one key may do.
#[derive(Debug)]
pub(in crate::doors) struct KeyRates {
    publishes: Meter,
    reads: Meter,
}

/// A rate of one; without a bound for 0.
#[derive(Debug)]
struct Meter(Option<(u32, Rate, Bucket)>);

impl Rates {
    /// The rates of the config.
    pub(in crate::doors) fn new(config: &Api) -> Self {
        let rates = |publishes: Option<u32>, reads: Option<u32>| {
            Arc::new(KeyRates {
                publishes: Meter::new(publishes.unwrap_or(config.publishes_per_second_per_key)),
                reads: Meter::new(reads.unwrap_or(config.reads_per_second_per_key)),
            })
        };
        let mut keys: HashMap<_, _> = config
            .keys
            .iter()
            .map(|key| (key.name.clone(), rates(key.publishes_per_second, key.reads_per_second)))
            .collect();
        if keys.is_empty() {
            keys.insert(KEYLESS.to_owned(), rates(None, None));
        }
        let rate = config.publishes_per_second_per_org;
        let organizations = (rate > 0).then(|| (rate, Book::new(Rate::new(rate, rate), MOST_ORGANIZATIONS)));
        Self { keys, organizations }
    }

    /// What the key of this name may do.
    pub(super) fn of(&self, name: &str) -> Option<Arc<KeyRates>> {
        self.keys.get(name).cloned()
    }

    /// Counts a publication to an organization.
    ///
    /// # Errors
    /// If it is one too many.
    pub(super) fn publishes_to(&self, organization: &Id) -> Result<(), ApiError> {
        match &self.organizations {
            Some((rate, book)) if !book.take(organization.clone()) => {
                Err(ApiError::too_many(format!("more than {rate} events a second for this organization"), 1))
            }
            _ => Ok(()),
        }
    }
}

impl KeyRates {
    /// Counts a publication.
    ///
    /// # Errors
    /// If it is one too many.
    pub(super) fn publishes(&self) -> Result<(), ApiError> {
        self.publishes
            .take()
            .map_err(|rate| ApiError::too_many(format!("more than {rate} events a second with this key"), 1))
    }

    /// Counts a call that publishes nothing.
    ///
    /// # Errors
    /// If it is one too many.
    pub(super) fn reads(&self) -> Result<(), ApiError> {
        self.reads
            .take()
            .map_err(|rate| ApiError::too_many(format!("more than {rate} calls a second with this key"), 1))
    }
}

impl Meter {
    fn new(rate: u32) -> Self {
        Self((rate > 0).then(|| (rate, Rate::new(rate, rate), Bucket::default())))
    }

    fn take(&self) -> Result<(), u32> {
        match &self.0 {
            Some((per_second, rate, bucket)) if !rate.take(bucket) => Err(*per_second),
            _ => Ok(()),
        }
    }
}
