//! Tokens: any text, any header and claims under a good signature, and good tokens with something changed.

#![no_main]

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use sha2::{Sha256, Sha384, Sha512};
use tiercast::auth::Tokens;
use tiercast::config::{Source, load};
use tiercast::rooms::Id;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const SECRET: &str = "a secret that has at least sixty-four bytes, as the largest needs";

static TOKENS: LazyLock<Arc<Tokens>> = LazyLock::new(|| {
    let text = format!("[auth.jwt]\nsecret = \"{SECRET}\"\nalgorithms = [\"HS256\", \"HS384\", \"HS512\"]\n");
    let config = load(Source::default().file("config.toml", text)).expect("a configuration");
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    // With a secret alone there is nothing to wait for.
    let starting = Tokens::start(&config.auth.jwt, &tasks, &stopping);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(starting).expect("keys").expect("a secret")
});

fuzz_target!(|input: &[u8]| {
    let [choice, rest @ ..] = input else { return };
    match choice % 4 {
        0 => unsigned(rest),
        1 => claims(rest),
        2 => header(rest),
        _ => changed(rest),
    }
});

/// Nobody without the secret has a token.
fn unsigned(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    refused(&text);
    // The same as three parts, so that what is inside of them is reached.
    let parts: Vec<String> = text.splitn(3, '\u{0}').map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    refused(&parts.join("."));
}

/// Any claims under a good signature: whoever they are for is who they say.
fn claims(claims: &[u8]) {
    let token = signed::<Hmac<Sha256>>(br#"{"alg":"HS256"}"#, claims);
    said(&token, claims);
    let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(claims) else { return };
    // Once more in time, with whatever else it says.
    let lasting = Value::from(Map::from_iter(fields.into_iter().chain([("exp".into(), json!(99_999_999_999_u64))])));
    let lasting = lasting.to_string();
    said(&signed::<Hmac<Sha512>>(br#"{"alg":"HS512"}"#, lasting.as_bytes()), lasting.as_bytes());
}

/// Any header over good claims, signed in each way: it holds only if that is the way which the header names.
fn header(header: &[u8]) {
    let claims = br#"{"sub":"u","organization_id":"o","exp":99999999999}"#;
    let named = serde_json::from_slice::<Value>(header).ok().and_then(|header| Some(header["alg"].as_str()?.to_owned()));
    for (algorithm, token) in [
        ("HS256", signed::<Hmac<Sha256>>(header, claims)),
        ("HS384", signed::<Hmac<Sha384>>(header, claims)),
        ("HS512", signed::<Hmac<Sha512>>(header, claims)),
    ] {
        let holds = TOKENS.identify(&token, None).is_ok();
        assert!(!holds || named.as_deref() == Some(algorithm), "{named:?} held as {algorithm}");
    }
}

/// A good token with some of its bytes changed is none.
fn changed(changes: &[u8]) {
    let good = signed::<Hmac<Sha256>>(
        br#"{"typ":"JWT","alg":"HS256"}"#,
        br#"{"sub":"u","organization_id":"o","exp":99999999999,"departments":["d"]}"#,
    );
    let mut bytes = good.clone().into_bytes();
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % (bytes.len() + 1);
        match bytes.get_mut(at) {
            Some(byte) => *byte = change[2],
            None => bytes.push(change[2]),
        }
    }
    if bytes == good.as_bytes() {
        assert!(TOKENS.identify(&good, None).is_ok());
    } else {
        refused(&String::from_utf8_lossy(&bytes));
    }
}

fn refused(token: &str) {
    let why = TOKENS.identify(token, None).expect_err("nobody signed it").to_string();
    assert!(why.len() < 500, "{why}");
}

/// A signed token holds for whom it names, or is refused in few words.
fn said(token: &str, claims: &[u8]) {
    let door = Id::parse("door").expect("an id");
    for organization in [None, Some(&door)] {
        let identity = match TOKENS.identify(token, organization) {
            Ok(proven) => proven.identity,
            Err(why) => {
                assert!(why.to_string().len() < 2_000, "{why}");
                continue;
            }
        };
        let claims: Map<String, Value> = serde_json::from_slice(claims).expect("claims");
        let named = |name: &str| match claims.get(name) {
            Some(Value::String(text)) => Id::parse(text).ok(),
            Some(number) => Id::parse(&number.to_string()).ok(),
            None => None,
        };
        assert_eq!(Some(identity.user), named("sub"));
        let expected = organization.cloned().or_else(|| named("organization_id"));
        assert_eq!(Some(&identity.organization), expected.as_ref());
        let own = identity.claims.scopes().iter().all(|scope| scope.organization == identity.organization);
        assert!(own, "claims reach into another organization");
    }
}

fn signed<M: Mac + hmac::digest::KeyInit>(header: &[u8], claims: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut code = <M as Mac>::new_from_slice(SECRET.as_bytes()).expect("a key");
    code.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(code.finalize().into_bytes()))
}
