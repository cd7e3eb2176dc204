//! Tokens: JSON Web Tokens that say who a client is, and what it may receive.
//!
//! The signature is checked first, then the time, then everybody the token is
//! from and for. Neither a token nor a secret is ever printed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::claims::Claims;
use super::identity::Identity;
use super::key_set::{KeyFault, KeySet, Refresher};
use super::signatures;
use crate::config::Jwt;
use crate::rooms::{Id, Scope};
use crate::wire::{WireError, now_ms};

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16_384;

/// What a token looks like.
const EXPECTED: &str = "expected header.claims.signature in base64url, in at most 16384 bytes";

/// Most departments, queues, channels, and scopes that the claims of one token may make.
const MAX_LISTED: usize = 1_000;

/// What a token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Whom it is for.
    pub identity: Identity,
    /// When it expires (`exp`), in milliseconds since 1970; the leeway is not part of it.
    pub expires_at_ms: i64,
    /// Its own id (`jti`).
    pub token_id: Option<String>,
    /// When it was issued (`iat`), in milliseconds since 1970.
    pub issued_at_ms: Option<i64>,
    /// The roles that it gives, at most 1,000.
    pub roles: Vec<String>,
}

/// Checks tokens, and makes them where there is a secret.
pub struct Tokens {
    pub(super) config: Jwt,
    keys: Arc<KeySet>,
    /// One for each algorithm that is accepted, in the order of the config.
    validations: Vec<(Algorithm, Validation)>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<_> = self.validations.iter().map(|(algorithm, _)| algorithm).collect();
        f.debug_struct("Tokens").field("algorithms", &algorithms).finish_non_exhaustive()
    }
}

impl Tokens {
    /// What checks tokens as configured, and keeps its keys as their files and URL are; nothing if there is no key.
    ///
    /// A URL that does not answer delays this, and is asked again later.
    ///
    /// # Errors
    /// What is wrong with the secret or a file of keys.
    pub async fn start(
        config: &Jwt,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Result<Option<Arc<Self>>, KeyFault> {
        if !config.checks_tokens() {
            return Ok(None);
        }
        let mut refresher = Refresher::new(config)?;
        let tokens = Arc::new(Self::with(config, refresher.set()));
        stopping.run_until_cancelled(refresher.fetch()).await;
        if refresher.has_sources() {
            tasks.spawn(refresher.run(stopping.clone()));
        }
        Ok(Some(tokens))
    }

    /// The same with a secret and files that do not change.
    #[cfg(test)]
    pub(crate) fn new(config: &Jwt) -> Option<Arc<Self>> {
        let refresher = Refresher::new(config).expect("keys");
        config.checks_tokens().then(|| Arc::new(Self::with(config, refresher.set())))
    }

    fn with(config: &Jwt, keys: Arc<KeySet>) -> Self {
        signatures::install();
        let validations = config.algorithms.iter().map(|algorithm| validation((*algorithm).into(), config));
        Self { config: config.clone(), keys, validations: validations.collect() }
    }

    /// Whom a token is for, within an organization if one is given.
    ///
    /// # Errors
    /// Why the token does not hold.
    pub fn identify(&self, token: &str, organization: Option<&Id>) -> Result<Proven, WireError> {
        self.proven(token, organization, now_ms()).map_err(WireError::TokenInvalid)
    }

    /// Waits until the key that a token names has been looked for, if it is not known and may be fetched just now.
    pub async fn look_for_key(&self, token: &str) {
        if let Some(id) = self.named_key(token) {
            self.keys.look_for(&id, Duration::from_millis(self.config.jwks_timeout_ms)).await;
        }
    }

    /// Whether the key that a token names is not known, and is being looked for.
    pub fn awaits_key(&self, token: &str) -> bool {
        self.named_key(token).is_some_and(|id| self.keys.may_come(&id))
    }

    /// The key that a token names whose algorithm is accepted.
    fn named_key(&self, token: &str) -> Option<String> {
        header(token).filter(|header| self.accepted(header).is_some())?.kid
    }

    fn proven(&self, token: &str, organization: Option<&Id>, now_ms: i64) -> Result<Proven, String> {
        let claims = self.checked(token)?;
        let times = check_time(&claims, now_ms as f64, self.config.leeway_ms as f64)?;
        let absent = self.config.required_claims.iter().find(|name| claims.get(*name).is_none_or(Value::is_null));
        if let Some(name) = absent {
            return Err(missing(name));
        }
        Ok(Proven {
            identity: self.identity(&claims, organization)?,
            expires_at_ms: times.expires_at_ms,
            token_id: text(&claims, "jti")?,
            issued_at_ms: times.issued_at_ms,
            roles: list(&claims, &self.config.claims.roles)?.unwrap_or_default(),
        })
    }

    fn identity(&self, claims: &Map<String, Value>, organization: Option<&Id>) -> Result<Identity, String> {
        let names = &self.config.claims;
        let user = id(claims, &names.user_id)?.ok_or_else(|| missing(&names.user_id))?;
        let named = id(claims, &names.organization_id)?;
        let organization = match (organization, named) {
            (Some(given), Some(named)) if *given != named => return Err("it is for another organization".into()),
            (Some(given), _) => given.clone(),
            (None, named) => named.ok_or_else(|| missing(&names.organization_id))?,
        };
        let departments = ids(claims, &names.departments)?;
        let queues = ids(claims, &names.queues)?;
        let channels = list(claims, &names.channels)?;
        Ok(Identity {
            user,
            claims: Claims::new(scopes(&organization, departments.as_deref(), queues.as_deref())?),
            organization,
            session_id: None,
            channels,
            anonymous: false,
            proof: None,
        })
    }

    /// The algorithm of a header, and what is checked with it, if it is accepted.
    fn accepted(&self, header: &Header) -> Option<&(Algorithm, Validation)> {
        self.validations.iter().find(|(algorithm, _)| header.alg.parse() == Ok(*algorithm))
    }

    /// The claims of a token whose signature holds.
    pub(super) fn checked(&self, token: &str) -> Result<Map<String, Value>, String> {
        let header = header(token).ok_or_else(|| malformed(EXPECTED))?;
        let Some((algorithm, validation)) = self.accepted(&header) else {
            let names: Vec<_> = self.config.algorithms.iter().map(|algorithm| algorithm.name()).collect();
            return Err(format!("its algorithm is not accepted; sign it with {}", names.join(" or ")));
        };
        if header.crit.is_some() {
            return Err("its header has extensions (crit), which this server does not know".into());
        }
        self.keys.try_keys(*algorithm, header.kid.as_deref(), |key| {
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key.material, validation) {
                Ok(token) => Ok(Some(token.claims)),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => Ok(None),
                Err(error) => Err(reason(error.kind())),
            }
        })
    }
}

/// What the library checks of a token with this algorithm; times are checked here, to the millisecond.
fn validation(algorithm: Algorithm, config: &Jwt) -> (Algorithm, Validation) {
    let mut validation = Validation {
        algorithms: vec![algorithm],
        validate_exp: false,
        validate_nbf: false,
        validate_aud: !config.audience.is_empty(),
        ..Validation::default()
    };
    let mut required = Vec::new();
    if !config.audience.is_empty() {
        validation.set_audience(&[&config.audience]);
        required.push("aud");
    }
    if !config.issuer.is_empty() {
        validation.set_issuer(&[&config.issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    (algorithm, validation)
}

/// What decides of a header before anything is verified; a key that it brings along (jwk, jku, x5c) is none.
#[derive(Deserialize)]
pub(super) struct Header {
    /// Known or not.
    pub(super) alg: String,
    kid: Option<String>,
    /// There, whatever it is (RFC 7515, 4.1.11).
    #[serde(default, deserialize_with = "some")]
    crit: Option<Value>,
}

/// A member that is there is something, even if it is null.
fn some<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

pub(super) fn header(token: &str) -> Option<Header> {
    let (header, _) = token.split_once('.').filter(|_| token.len() <= MAX_TOKEN)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
}

/// Why the library does not take a token, in our own words: its own may repeat what is in the token.
fn reason(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::InvalidSignature => "its signature does not match".into(),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => "its algorithm is not accepted".into(),
        ErrorKind::MissingRequiredClaim(name) => missing(name),
        ErrorKind::InvalidIssuer => "it is from another issuer".into(),
        ErrorKind::InvalidAudience => "it is for another audience".into(),
        ErrorKind::Json(_) => malformed("expected claims of the types that the standard gives them"),
        _ => malformed(EXPECTED),
    }
}

fn malformed(why: &str) -> String {
    format!("it is malformed: {why}")
}

fn missing(claim: &str) -> String {
    format!("the claim {claim:?} is missing")
}

/// The times of a token that holds, in milliseconds since 1970.
#[derive(Debug, PartialEq)]
struct Times {
    expires_at_ms: i64,
    issued_at_ms: Option<i64>,
}

/// `exp` has to be there and in the future, `nbf` in the past if it is there; these and `iat` are seconds.
fn check_time(claims: &Map<String, Value>, now_ms: f64, leeway_ms: f64) -> Result<Times, String> {
    let at = |name: &str| match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(|seconds| Some(seconds * 1_000.0)).ok_or_else(|| wrong(name, "a number")),
    };
    let expires = at("exp")?.ok_or_else(|| missing("exp"))?;
    if expires + leeway_ms <= now_ms {
        return Err("it has expired; get a new one".into());
    }
    if at("nbf")?.is_some_and(|begins| begins - leeway_ms > now_ms) {
        return Err("it is not valid yet".into());
    }
    Ok(Times { expires_at_ms: expires as i64, issued_at_ms: at("iat")?.map(|issued| issued as i64) })
}

fn wrong(claim: &str, expected: &str) -> String {
    format!("the claim {claim:?} must be {expected}")
}

/// A claim that is an id; numbers are ids too, as some issuers write them.
fn id(claims: &Map<String, Value>, name: &str) -> Result<Option<Id>, String> {
    let text = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => number.to_string(),
        Some(_) => return Err(wrong(name, "a text or a whole number")),
    };
    Id::parse(&text).map(Some).map_err(|error| format!("the claim {name:?} {error}"))
}

fn text(claims: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(name, "a text")),
    }
}

/// A claim that is a list of texts; one that is absent stands for all there is.
fn list(claims: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, String> {
    let items = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) if items.len() <= MAX_LISTED => items,
        Some(_) => return Err(wrong(name, &format!("a list of at most {MAX_LISTED} texts"))),
    };
    let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
    texts.collect::<Option<_>>().map(Some).ok_or_else(|| wrong(name, "a list of texts"))
}

fn ids(claims: &Map<String, Value>, name: &str) -> Result<Option<Vec<Id>>, String> {
    let Some(texts) = list(claims, name)? else { return Ok(None) };
    let ids = texts.iter().map(|text| Id::parse(text));
    ids.collect::<Result<_, _>>().map(Some).map_err(|error| format!("an id in the claim {name:?} {error}"))
}

/// Departments and queues together are these queues within these departments.
fn scopes(organization: &Id, departments: Option<&[Id]>, queues: Option<&[Id]>) -> Result<Vec<Scope>, String> {
    let each = |ids: Option<&[Id]>| match ids {
        None => vec![None],
        Some(ids) => ids.iter().cloned().map(Some).collect(),
    };
    let (departments, queues) = (each(departments), each(queues));
    if departments.len() * queues.len() > MAX_LISTED {
        return Err(format!("it claims more than {MAX_LISTED} queues within departments"));
    }
    let within = |department: &Option<Id>| {
        let of = |queue: &Option<Id>| Scope {
            organization: organization.clone(),
            department: department.clone(),
            queue: queue.clone(),
        };
        queues.iter().map(of).collect::<Vec<_>>()
    };
    Ok(departments.iter().flat_map(within).collect())
}

#[cfg(test)]
mod tests;
