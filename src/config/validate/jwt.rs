//! What tokens are checked with: keys and algorithms that fit each other.

use super::{Findings, is_loopback};
use crate::config::{AuthMode, Config, Jwt};

/// A shorter secret can be guessed from one token.
const MIN_SECRET_BYTES: usize = 32;

/// Everything about tokens that cannot be meant; what is in files is for `auth` to read.
pub(super) fn check(config: &Config, found: &mut Findings) {
    let Jwt { algorithms, secret, claims, required_claims, .. } = &config.auth.jwt;
    let length = secret.reveal().len();
    if (1..MIN_SECRET_BYTES).contains(&length) {
        found.add("auth.jwt.secret", format!("expected at least {MIN_SECRET_BYTES} bytes, found {length}"));
    }
    if config.auth.mode == AuthMode::Jwt && !config.auth.jwt.checks_tokens() {
        let message = "\"jwt\" needs what tokens are checked by; set secret, public_key_file, jwks_file or jwks_url under \
                       [auth.jwt]";
        found.add("auth.mode", message);
    }
    if algorithms.is_empty() {
        found.add(
            "auth.jwt.algorithms",
            "expected at least one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, ES256, ES384 and EdDSA",
        );
    } else {
        check_fit(&config.auth.jwt, found);
    }
    check_jwks_url(&config.auth.jwt.jwks_url, found);
    let names = [
        ("user_id", &claims.user_id),
        ("organization_id", &claims.organization_id),
        ("departments", &claims.departments),
        ("queues", &claims.queues),
        ("channels", &claims.channels),
        ("roles", &claims.roles),
    ];
    for (key, _) in names.iter().filter(|(_, name)| name.is_empty()) {
        found.add(format!("auth.jwt.claims.{key}"), "expected the name of a claim");
    }
    for (index, _) in required_claims.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        found.add(format!("auth.jwt.required_claims[{index}]"), "expected the name of a claim");
    }
}

/// Every key is for an algorithm and every algorithm has a key, as far as that does not depend on what is in files.
fn check_fit(jwt: &Jwt, found: &mut Findings) {
    const ALGORITHMS: &str = "auth.jwt.algorithms";
    if !jwt.checks_tokens() {
        return;
    }
    let hmac = jwt.algorithms.iter().find(|algorithm| algorithm.is_hmac());
    let public = jwt.algorithms.iter().find(|algorithm| !algorithm.is_hmac());
    let has_secret = !jwt.secret.reveal().is_empty();
    if has_secret && hmac.is_none() {
        let message = "a secret is for HS256, HS384 and HS512, and auth.jwt.algorithms has none of them";
        found.contradiction(&["auth.jwt.secret", ALGORITHMS], message.to_owned());
    }
    if !jwt.jwks_url.is_empty() && public.is_none() {
        let message = "the keys of a URL are for RS256, RS384, RS512, PS256, ES256, ES384 and EdDSA, and \
                       auth.jwt.algorithms has none of them";
        found.contradiction(&["auth.jwt.jwks_url", ALGORITHMS], message.to_owned());
    }
    if let (Some(hmac), Some(_)) = (hmac, public)
        && !has_secret
        && jwt.jwks_file.is_empty()
    {
        let message = format!("{} needs auth.jwt.secret, or a secret in auth.jwt.jwks_file", hmac.name());
        found.contradiction(&[ALGORITHMS, "auth.jwt.secret"], message);
    }
    let has_source = [&jwt.public_key_file, &jwt.jwks_file, &jwt.jwks_url].iter().any(|source| !source.is_empty());
    if let Some(public) = public
        && !has_source
    {
        let message = format!("{} needs auth.jwt.public_key_file, jwks_file or jwks_url", public.name());
        found.contradiction(&[ALGORITHMS, "auth.jwt.public_key_file"], message);
    }
}

/// Whoever can change the answer on its way could sign tokens.
fn check_jwks_url(url: &str, found: &mut Findings) {
    let is_safe = url.parse::<http::Uri>().is_ok_and(|uri| {
        let host = uri.host().map(|host| host.trim_matches(['[', ']'])).filter(|host| !host.is_empty());
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        match uri.scheme_str() {
            _ if has_user => false,
            Some("https") => host.is_some(),
            Some("http") => host.is_some_and(is_loopback),
            _ => false,
        }
    });
    if !url.is_empty() && !is_safe {
        // It may hold a password.
        let expected = "expected a URL such as \"https://host/path\" without a user name, or \"http://localhost/path\" \
                        on this machine";
        found.add("auth.jwt.jwks_url", expected);
    }
}
