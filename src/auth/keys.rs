//! Keys of the HTTP API: stored hashed, compared in constant time.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::development::{self, Request};
use crate::config::{Api, Right};
use crate::rooms::Id;

/// Name of the caller where there are no keys.
pub const KEYLESS: &str = "keyless";

/// Everyone who may call the HTTP API.
#[derive(Debug)]
pub struct ApiKeys {
    keys: Vec<Key>,
    allow_keyless: bool,
}

#[derive(Debug)]
struct Key {
    hash: String,
    caller: Caller,
}

/// Who calls, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the key, for log lines.
    pub name: Arc<str>,
    rights: Vec<Right>,
    reach: Reach,
}

/// The organizations that a caller may touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach(Option<Vec<Id>>);

impl Reach {
    /// Whether all that belongs to an organization is within it; what belongs to none is so only for unbound callers.
    pub fn contains(&self, organization: Option<&Id>) -> bool {
        let Some(organizations) = &self.0 else { return true };
        organization.is_some_and(|organization| organizations.contains(organization))
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There are keys, and the call has none of them.
    #[error("give an API key: `Authorization: Bearer <key>` or `X-API-Key: <key>`")]
    Unknown,
    /// There are no keys, and the call is not local.
    #[error(
        "this API has no keys, so it serves only this machine, and {0}; make a key with `tiercast key new` and put it \
         under [[api.keys]], or set api.allow_keyless"
    )]
    NotLocal(&'static str),
}

/// The stored form of a key: `sha256:` and its SHA-256 in hexadecimal.
pub fn hash_key(key: &str) -> String {
    let digest = Sha256::digest(key.as_bytes());
    let hex = crate::wire::to_hex(&digest);
    format!("sha256:{hex}")
}

impl ApiKeys {
    /// The keys of the config.
    pub fn new(config: &Api) -> Self {
        let keys = config.keys.iter().map(|key| Key {
            hash: key.hash.to_ascii_lowercase(),
            caller: Caller {
                name: key.name.as_str().into(),
                rights: key.rights.clone(),
                reach: Reach(
                    key.organizations
                        .as_ref()
                        .map(|list| list.iter().filter_map(|organization| Id::parse(organization).ok()).collect()),
                ),
            },
        });
        Self { keys: keys.collect(), allow_keyless: config.allow_keyless }
    }

    /// Who calls with this key, or without one.
    ///
    /// # Errors
    /// If the key is not known, or there are no keys and the request is not local.
    pub fn caller(&self, key: Option<&str>, request: Request<'_>) -> Result<Caller, Denied> {
        if self.keys.is_empty() {
            return match development::unmet(request) {
                Some(reason) if !self.allow_keyless => Err(Denied::NotLocal(reason)),
                _ => Ok(Caller::anyone()),
            };
        }
        let hash = hash_key(key.ok_or(Denied::Unknown)?);
        // Every key is compared, so that the time taken does not tell which one came close.
        let mut found = None;
        for known in &self.keys {
            if bool::from(known.hash.as_bytes().ct_eq(hash.as_bytes())) {
                found = Some(&known.caller);
            }
        }
        found.cloned().ok_or(Denied::Unknown)
    }
}

impl Caller {
    /// The caller of an API without keys.
    fn anyone() -> Self {
        Self { name: KEYLESS.into(), rights: vec![Right::Publish, Right::Read, Right::Admin], reach: Reach(None) }
    }

    /// Whether the caller has a right.
    pub fn has(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }

    /// The organizations that it may touch.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    #[test]
    fn a_key_gives_its_rights_and_organizations() {
        let keys = ApiKeys::new(&Api {
            keys: vec![ApiKey {
                name: "kpi".into(),
                hash: hash_key("tc_secret"),
                rights: vec![Right::Publish],
                organizations: Some(vec!["o".into()]),
                publishes_per_second: None,
                reads_per_second: None,
            }],
            ..Api::default()
        });
        let headers = http::HeaderMap::new();
        let address = "127.0.0.1:1".parse().expect("an address");
        let request = Request { bound: address, peer: address, headers: &headers, origin_allowed: true };
        let caller = keys.caller(Some("tc_secret"), request).expect("a caller");
        assert!(caller.has(Right::Publish) && !caller.has(Right::Admin));
        let touches = |organization: &str| caller.reach().contains(Some(&Id::parse(organization).expect("an id")));
        assert!(touches("o") && !touches("p") && !caller.reach().contains(None));
        assert_eq!(keys.caller(Some("tc_other"), request), Err(Denied::Unknown));
        assert_eq!(keys.caller(None, request), Err(Denied::Unknown));
    }
}
