//! How much a key may do, and how much may be published to an organization.
//!
//! Publishing and everything else are counted apart, so that whoever lists connections all day starves no publisher.
//! In a cluster publications are counted by all nodes together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::ApiError;
use crate::auth::KEYLESS;
use crate::config::Api;
use crate::limits::{Book, Bucket, Rate, SharedBucket};
use crate::redis::Redis;
use crate::rooms::Id;

/// Organizations whose publications are counted one by one.
const MOST_ORGANIZATIONS: usize = 10_000;

/// The rates of the HTTP API.
#[derive(Debug)]
pub(in crate::doors) struct Rates {
    keys: HashMap<String, Arc<KeyRates>>,
    organizations: Option<(u32, Organizations)>,
}

/// What is published to each organization.
#[derive(Debug)]
enum Organizations {
    /// To this server.
    Own(Book<Id>),
    /// To the nodes of a cluster.
    Shared(Arc<Redis>, Mutex<HashMap<Id, Arc<SharedBucket>>>),
}

/// What one key may do.
#[derive(Debug)]
pub(in crate::doors) struct KeyRates {
    publishes: Meter,
    /// In place of it, what all nodes count together.
    shared: Option<(u32, SharedBucket)>,
    reads: Meter,
}

/// A rate of one; without a bound for 0.
#[derive(Debug)]
struct Meter(Option<(u32, Rate, Bucket)>);

impl Rates {
    /// The rates of the config; of all nodes together if they share a Redis.
    pub(in crate::doors) fn new(config: &Api, redis: Option<&Arc<Redis>>) -> Self {
        let rates = |name: &str, publishes: Option<u32>, reads: Option<u32>| {
            let publishes = publishes.unwrap_or(config.publishes_per_second_per_key);
            let bucket = |redis| SharedBucket::new(redis, name, &format!("key:{name}"), publishes);
            Arc::new(KeyRates {
                publishes: Meter::new(publishes),
                shared: redis.filter(|_| publishes > 0).map(|redis| (publishes, bucket(redis))),
                reads: Meter::new(reads.unwrap_or(config.reads_per_second_per_key)),
            })
        };
        let mut keys: HashMap<_, _> = config
            .keys
            .iter()
            .map(|key| (key.name.clone(), rates(&key.name, key.publishes_per_second, key.reads_per_second)))
            .collect();
        if keys.is_empty() {
            keys.insert(KEYLESS.to_owned(), rates(KEYLESS, None, None));
        }
        let rate = config.publishes_per_second_per_org;
        let organizations = (rate > 0).then(|| match redis {
            Some(redis) => (rate, Organizations::Shared(redis.clone(), Mutex::default())),
            None => (rate, Organizations::Own(Book::new(Rate::new(rate, rate), MOST_ORGANIZATIONS))),
        });
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
    pub(super) async fn publishes_to(&self, organization: &Id) -> Result<(), ApiError> {
        let Some((rate, organizations)) = &self.organizations else { return Ok(()) };
        if organizations.take(organization, *rate).await {
            return Ok(());
        }
        Err(ApiError::too_many(format!("more than {rate} events a second for this organization"), 1))
    }
}

impl Organizations {
    async fn take(&self, organization: &Id, rate: u32) -> bool {
        match self {
            Self::Own(book) => book.take(organization.clone()),
            Self::Shared(redis, buckets) => {
                let bucket = {
                    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
                    // What is in them is in Redis, but for a lease.
                    if buckets.len() >= MOST_ORGANIZATIONS && !buckets.contains_key(organization) {
                        buckets.clear();
                    }
                    let name = || format!("organization:{organization}");
                    let new = || Arc::new(SharedBucket::new(redis, organization.as_str(), &name(), rate));
                    buckets.entry(organization.clone()).or_insert_with(new).clone()
                };
                bucket.take().await
            }
        }
    }
}

impl KeyRates {
    /// Counts a publication.
    ///
    /// # Errors
    /// If it is one too many.
    pub(super) async fn publishes(&self) -> Result<(), ApiError> {
        let taken = match &self.shared {
            Some((rate, bucket)) => bucket.take().await.then_some(()).ok_or(*rate),
            None => self.publishes.take(),
        };
        taken.map_err(|rate| ApiError::too_many(format!("more than {rate} events a second with this key"), 1))
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
