//! Tokens: JSON Web Tokens that say who a client is, and what it may receive.
//!
//! The signature is checked first, then the time, then everybody the token is
//! from and for. Neither a token nor a secret is ever printed.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims::Claims;
use super::identity::Identity;
use super::signatures;
use crate::config::{Jwt, JwtAlgorithm, JwtClaims};
use crate::rooms::{Id, Scope};
use crate::wire::{WireError, now_ms};

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16_384;

/// Most departments, queues, channels, and scopes that the claims of one token may make.
const MAX_LISTED: usize = 1_000;

/// Checks tokens.
pub struct Tokens {
    key: DecodingKey,
    validation: Validation,
    leeway_ms: f64,
    claims: JwtClaims,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("algorithms", &self.validation.algorithms).finish_non_exhaustive()
    }
}

impl Tokens {
    /// What checks tokens as configured; nothing if there is no secret.
    pub fn new(config: &Jwt) -> Option<Arc<Self>> {
        let secret = config.secret.reveal();
        if secret.is_empty() {
            return None;
        }
        signatures::install();
        let tokens = Self {
            key: DecodingKey::from_secret(secret.as_bytes()),
            validation: validation(config),
            leeway_ms: config.leeway_ms as f64,
            claims: config.claims.clone(),
        };
        Some(Arc::new(tokens))
    }

    /// Whom a token is for, within an organization if one is given.
    ///
    /// # Errors
    /// Why the token does not hold.
    pub fn identify(&self, token: &str, organization: Option<&Id>) -> Result<Identity, WireError> {
        self.identity(token, organization, now_ms()).map_err(WireError::TokenInvalid)
    }

    fn identity(&self, token: &str, organization: Option<&Id>, now_ms: i64) -> Result<Identity, String> {
        let claims = self.checked(token)?;
        check_time(&claims, now_ms as f64, self.leeway_ms)?;
        let names = &self.claims;
        let user = id(&claims, &names.user_id)?.ok_or_else(|| missing(&names.user_id))?;
        let named = id(&claims, &names.organization_id)?;
        let organization = match (organization, named) {
            (Some(given), Some(named)) if *given != named => return Err("it is for another organization".into()),
            (Some(given), _) => given.clone(),
            (None, named) => named.ok_or_else(|| missing(&names.organization_id))?,
        };
        let departments = ids(&claims, &names.departments)?;
        let queues = ids(&claims, &names.queues)?;
        let channels = list(&claims, &names.channels)?;
        Ok(Identity {
            user,
            claims: Claims::new(scopes(&organization, departments.as_deref(), queues.as_deref())?),
            organization,
            session_id: None,
            channels,
            anonymous: false,
        })
    }

    /// The claims of a token whose signature holds.
    fn checked(&self, token: &str) -> Result<Map<String, Value>, String> {
        if token.len() > MAX_TOKEN {
            return Err(malformed(&format!("it has more than {MAX_TOKEN} bytes")));
        }
        let accepted = &self.validation.algorithms;
        let algorithm =
            algorithm_of(token).ok_or_else(|| malformed("expected header.claims.signature in base64url"))?;
        if !accepted.iter().any(|known| name(*known) == algorithm) {
            let names: Vec<String> = accepted.iter().map(|algorithm| name(*algorithm)).collect();
            return Err(format!("its algorithm is not accepted; sign it with {}", names.join(" or ")));
        }
        let checked = jsonwebtoken::decode::<Map<String, Value>>(token, &self.key, &self.validation);
        checked.map(|token| token.claims).map_err(|error| reason(error.kind()))
    }
}

/// What the library checks; times are checked here, to the millisecond.
fn validation(config: &Jwt) -> Validation {
    let algorithms = config.algorithms.iter().map(|algorithm| match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Hs384 => Algorithm::HS384,
        JwtAlgorithm::Hs512 => Algorithm::HS512,
    });
    let mut validation = Validation {
        algorithms: algorithms.collect(),
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
    validation
}

fn name(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

/// The algorithm that the header names, known or not.
fn algorithm_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    let (header, _) = token.split_once('.')?;
    let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    Some(header.alg)
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
        _ => malformed("expected header.claims.signature in base64url"),
    }
}

fn malformed(why: &str) -> String {
    format!("it is malformed: {why}")
}

fn missing(claim: &str) -> String {
    format!("the claim {claim:?} is missing")
}

/// `exp` has to be there and in the future, `nbf` in the past if it is there; both are seconds.
fn check_time(claims: &Map<String, Value>, now_ms: f64, leeway_ms: f64) -> Result<(), String> {
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
    Ok(())
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
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;
    use crate::config::Secret;

    const SECRET: &str = "a secret of at least thirty-two bytes";

    fn configured(change: impl FnOnce(&mut Jwt)) -> Arc<Tokens> {
        let mut config = Jwt { secret: Secret::from(SECRET.to_owned()), ..Jwt::default() };
        change(&mut config);
        Tokens::new(&config).expect("a secret")
    }

    fn tokens() -> Arc<Tokens> {
        configured(|_| {})
    }

    fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
        signatures::install();
        encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
    }

    /// A token for an hour, with these claims beside those that every token needs.
    fn token(claims: Value) -> String {
        let mut all = json!({ "sub": "u", "organization_id": "o", "exp": now_ms() / 1_000 + 3_600 });
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        all.as_object_mut().expect("an object").extend(claims);
        signed(Algorithm::HS256, SECRET, &all)
    }

    fn refused(tokens: &Tokens, token: &str) -> String {
        match tokens.identify(token, None).expect_err("refused") {
            WireError::TokenInvalid(why) => why,
            other => panic!("{other:?}"),
        }
    }

    fn organization(id: &str) -> Id {
        Id::parse(id).expect("an id")
    }

    #[test]
    fn a_token_says_who_and_where() {
        let identity = tokens().identify(&token(json!({})), None).expect("an identity");
        assert_eq!((identity.user.as_str(), identity.organization.as_str()), ("u", "o"));
        assert_eq!(identity.claims.scopes(), [Scope::organization(organization("o"))]);
        assert_eq!((identity.channels, identity.anonymous, identity.session_id), (None, false, None));
        for number in [json!(7), json!(-7)] {
            let identity = tokens().identify(&token(json!({ "sub": number })), None).expect("an identity");
            assert_eq!(identity.user.as_str(), number.to_string());
        }
    }

    #[test]
    fn without_a_secret_nothing_is_checked() {
        assert!(Tokens::new(&Jwt::default()).is_none());
    }

    #[test]
    fn lists_narrow_the_claims() {
        let scopes = |claims: Value| {
            let identity = tokens().identify(&token(claims), None).expect("an identity");
            let name = |id: &Option<Id>| id.as_ref().map_or("*".to_owned(), ToString::to_string);
            let scopes = identity.claims.scopes().iter();
            scopes.map(|scope| format!("{}/{}", name(&scope.department), name(&scope.queue))).collect::<Vec<_>>()
        };
        assert_eq!(scopes(json!({ "departments": ["d", "e"] })), ["d/*", "e/*"]);
        assert_eq!(scopes(json!({ "queues": ["q"] })), ["*/q"]);
        assert_eq!(scopes(json!({ "departments": ["d"], "queues": ["q", "r"] })), ["d/q", "d/r"]);
        assert!(scopes(json!({ "departments": [] })).is_empty());
        let identity = tokens().identify(&token(json!({ "channels": ["kpi"] })), None).expect("an identity");
        assert!(identity.may_use("kpi") && !identity.may_use("alerts"));
    }

    #[test]
    fn a_door_has_the_last_word_on_the_organization() {
        let door = organization("door");
        let tokens = tokens();
        let absent = token(json!({ "organization_id": null }));
        let identity = tokens.identify(&absent, Some(&door)).expect("an identity");
        assert_eq!(identity.organization, door);
        assert!(tokens.identify(&token(json!({ "organization_id": "door" })), Some(&door)).is_ok());
        let error = tokens.identify(&token(json!({})), Some(&door)).expect_err("refused");
        assert_eq!(error, WireError::TokenInvalid("it is for another organization".into()));
        assert_eq!(refused(&tokens, &absent), "the claim \"organization_id\" is missing");
    }

    #[test]
    fn times_are_checked_to_the_millisecond() {
        let claims = |claims: Value| claims.as_object().expect("an object").clone();
        let check = |value: Value, now: f64| check_time(&claims(value), now, 500.0);
        assert!(check(json!({ "exp": 10 }), 10_499.0).is_ok());
        assert!(check(json!({ "exp": 10 }), 10_500.0).expect_err("refused").contains("expired"));
        assert!(check(json!({ "exp": 10.25, "nbf": 5 }), 4_500.0).is_ok());
        assert!(check(json!({ "exp": 10.25, "nbf": 5 }), 4_499.0).expect_err("refused").contains("not valid yet"));
        assert_eq!(check(json!({}), 0.0), Err("the claim \"exp\" is missing".into()));
        assert_eq!(check(json!({ "exp": "10" }), 0.0), Err("the claim \"exp\" must be a number".into()));
        assert_eq!(check(json!({ "exp": 10, "nbf": "0" }), 0.0), Err("the claim \"nbf\" must be a number".into()));
        let hour_ago = now_ms() / 1_000 - 3_600;
        assert_eq!(refused(&tokens(), &token(json!({ "exp": hour_ago }))), "it has expired; get a new one");
        assert_eq!(refused(&tokens(), &token(json!({ "exp": null }))), "the claim \"exp\" is missing");
        assert_eq!(refused(&tokens(), &token(json!({ "nbf": hour_ago + 7_200 }))), "it is not valid yet");
    }

    #[test]
    fn only_the_configured_algorithms_and_the_secret_are_accepted() {
        let all = json!({ "sub": "u", "organization_id": "o", "exp": now_ms() / 1_000 + 3_600 });
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let token = signed(algorithm, SECRET, &all);
            assert_eq!(refused(&tokens(), &token), "its algorithm is not accepted; sign it with HS256");
            let every = configured(|config| {
                config.algorithms = vec![JwtAlgorithm::Hs256, JwtAlgorithm::Hs384, JwtAlgorithm::Hs512];
            });
            assert!(every.identify(&token, None).is_ok());
        }
        let forged = signed(Algorithm::HS256, "another secret of thirty-two bytes", &all);
        assert_eq!(refused(&tokens(), &forged), "its signature does not match");
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        for alg in ["none", "None", "RS256", "hs256"] {
            let unsigned = format!("{}.{}.", part(&json!({ "alg": alg, "typ": "JWT" })), part(&all));
            assert_eq!(refused(&tokens(), &unsigned), "its algorithm is not accepted; sign it with HS256");
        }
        let unsigned = format!("{}.{}.", part(&json!({ "alg": "HS256" })), part(&all));
        assert_eq!(refused(&tokens(), &unsigned), "its signature does not match");
        let good = token(json!({}));
        let (signed, signature) = good.rsplit_once('.').expect("a signature");
        let (header, _) = signed.split_once('.').expect("a header");
        let other = part(&json!({ "sub": "admin", "organization_id": "o", "exp": 9_999_999_999_u64 }));
        assert_eq!(refused(&tokens(), &format!("{header}.{other}.{signature}")), "its signature does not match");
    }

    #[test]
    fn issuer_and_audience_are_asked_for_when_configured() {
        let tokens = configured(|config| {
            (config.issuer, config.audience) = ("https://id.test".into(), "tiercast".into());
        });
        let good = json!({ "iss": "https://id.test", "aud": ["other", "tiercast"] });
        assert!(tokens.identify(&token(good), None).is_ok());
        let with = |iss: Value, aud: Value| refused(&tokens, &token(json!({ "iss": iss, "aud": aud })));
        assert_eq!(with(json!("x"), json!("tiercast")), "it is from another issuer");
        assert_eq!(with(json!("https://id.test"), json!("x")), "it is for another audience");
        assert_eq!(with(json!(null), json!("tiercast")), "the claim \"iss\" is missing");
        assert_eq!(with(json!("https://id.test"), json!(null)), "the claim \"aud\" is missing");
        assert!(self::tokens().identify(&token(json!({ "iss": "x", "aud": "y" })), None).is_ok());
    }

    #[test]
    fn claims_have_the_names_and_types_that_were_agreed() {
        let tokens = configured(|config| config.claims.user_id = "user_id".into());
        let identity = tokens.identify(&token(json!({ "user_id": 42 })), None).expect("an identity");
        assert_eq!(identity.user.as_str(), "42");
        assert_eq!(refused(&tokens, &token(json!({}))), "the claim \"user_id\" is missing");
        let tokens = self::tokens();
        for (claims, why) in [
            (json!({ "sub": "" }), "the claim \"sub\" must not be empty"),
            (json!({ "sub": true }), "the claim \"sub\" must be a text or a whole number"),
            (json!({ "sub": 1.5 }), "the claim \"sub\" must be a text or a whole number"),
            (json!({ "departments": "d" }), "the claim \"departments\" must be a list of at most 1000 texts"),
            (json!({ "queues": [7] }), "the claim \"queues\" must be a list of texts"),
            (json!({ "queues": [""] }), "an id in the claim \"queues\" must not be empty"),
        ] {
            assert_eq!(refused(&tokens, &token(claims)), why);
        }
        assert!(refused(&tokens, &token(json!({ "sub": [] }))).starts_with("it is malformed"));
        let many: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let claims = json!({ "departments": many, "queues": many });
        assert!(refused(&tokens, &token(claims)).starts_with("it claims more than"));
    }

    #[test]
    fn what_is_no_token_is_malformed_and_nothing_is_printed() {
        let long = "x".repeat(MAX_TOKEN + 1);
        for text in ["", ".", "..", "a.b.c", "demo-token", "e30.e30.e30", "\u{e9}.\u{e9}.\u{e9}", &long] {
            assert!(refused(&tokens(), text).starts_with("it is malformed"), "{text}");
        }
        let printed = format!("{:?} {:?}", tokens(), Jwt { secret: Secret::from(SECRET.to_owned()), ..Jwt::default() });
        assert!(!printed.contains(SECRET) && printed.contains("HS256"), "{printed}");
    }
}
