//! Tokens that hold, and all that do not.

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::*;
use crate::config::{JwtAlgorithm, Secret};

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
    let identity = tokens().identify(&token(json!({})), None).expect("a proof").identity;
    assert_eq!((identity.user.as_str(), identity.organization.as_str()), ("u", "o"));
    assert_eq!(identity.claims.scopes(), [Scope::organization(organization("o"))]);
    assert_eq!((identity.channels, identity.anonymous, identity.session_id), (None, false, None));
    for number in [json!(7), json!(-7)] {
        let identity = tokens().identify(&token(json!({ "sub": number })), None).expect("a proof").identity;
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
        let identity = tokens().identify(&token(claims), None).expect("a proof").identity;
        let name = |id: &Option<Id>| id.as_ref().map_or("*".to_owned(), ToString::to_string);
        let scopes = identity.claims.scopes().iter();
        scopes.map(|scope| format!("{}/{}", name(&scope.department), name(&scope.queue))).collect::<Vec<_>>()
    };
    assert_eq!(scopes(json!({ "departments": ["d", "e"] })), ["d/*", "e/*"]);
    assert_eq!(scopes(json!({ "queues": ["q"] })), ["*/q"]);
    assert_eq!(scopes(json!({ "departments": ["d"], "queues": ["q", "r"] })), ["d/q", "d/r"]);
    assert!(scopes(json!({ "departments": [] })).is_empty());
    let identity = tokens().identify(&token(json!({ "channels": ["kpi"] })), None).expect("a proof").identity;
    assert!(identity.may_use("kpi") && !identity.may_use("alerts"));
}

#[test]
fn a_door_has_the_last_word_on_the_organization() {
    let door = organization("door");
    let tokens = tokens();
    let absent = token(json!({ "organization_id": null }));
    let identity = tokens.identify(&absent, Some(&door)).expect("a proof").identity;
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
    let identity = tokens.identify(&token(json!({ "user_id": 42 })), None).expect("a proof").identity;
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

#[test]
fn a_token_proves_its_times_its_id_and_roles() {
    let claims = json!({ "jti": "t-1", "iat": 1_700_000_000.5, "exp": 9_999_999_999_u64, "roles": ["lead", "staff"] });
    let proven = tokens().identify(&token(claims), None).expect("a proof");
    assert_eq!((proven.expires_at_ms, proven.issued_at_ms), (9_999_999_999_000, Some(1_700_000_000_500)));
    assert_eq!((proven.token_id.as_deref(), proven.roles), (Some("t-1"), vec!["lead".to_owned(), "staff".to_owned()]));
    let bare = tokens().identify(&token(json!({ "exp": 1e300 })), None).expect("a proof");
    assert_eq!((bare.expires_at_ms, bare.issued_at_ms, bare.token_id), (i64::MAX, None, None));
    assert!(bare.roles.is_empty());
    for (claims, why) in [
        (json!({ "jti": 7 }), "the claim \"jti\" must be a text"),
        (json!({ "iat": "now" }), "the claim \"iat\" must be a number"),
        (json!({ "roles": "lead" }), "the claim \"roles\" must be a list of at most 1000 texts"),
    ] {
        assert_eq!(refused(&tokens(), &token(claims)), why);
    }
}

#[test]
fn claims_that_are_required_have_to_be_there() {
    let tokens = configured(|config| config.required_claims = vec!["jti".into(), "email".into()]);
    assert!(tokens.identify(&token(json!({ "jti": "a", "email": "u@test" })), None).is_ok());
    assert_eq!(refused(&tokens, &token(json!({ "jti": "a" }))), "the claim \"email\" is missing");
    assert_eq!(refused(&tokens, &token(json!({ "jti": null, "email": "" }))), "the claim \"jti\" is missing");
}

#[test]
fn extensions_that_have_to_be_understood_are_refused() {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!(null), json!("x")] {
        let header = json!({ "alg": "HS256", "crit": crit, "b64": false });
        let text = format!("{}.{}.", part(&header), part(&json!({ "sub": "u" })));
        assert!(refused(&tokens(), &text).contains("(crit)"), "{crit}");
    }
}

#[test]
fn a_key_that_a_token_brings_along_is_none() {
    let evil = "an evil secret of at least thirty-two bytes";
    let jwk = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(evil) });
    let header: Header =
        serde_json::from_value(json!({ "alg": "HS256", "jwk": jwk, "kid": "mine" })).expect("a header");
    let claims = json!({ "sub": "u", "organization_id": "o", "exp": 9_999_999_999_u64 });
    signatures::install();
    let token = encode(&header, &claims, &EncodingKey::from_secret(evil.as_bytes())).expect("a token");
    assert_eq!(refused(&tokens(), &token), "its signature does not match");
}
