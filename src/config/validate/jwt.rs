//! What tokens are checked with: keys and algorithms that fit each other.

use super::Findings;
use crate::config::{AuthMode, Config, Jwt};

/// A shorter secret can be guessed from one token.
const MIN_SECRET_BYTES: usize = 32;

/// Everything about tokens that cannot be meant.
pub(super) fn check(config: &Config, found: &mut Findings) {
    let Jwt { algorithms, secret, claims, required_claims, .. } = &config.auth.jwt;
    let length = secret.reveal().len();
    if (1..MIN_SECRET_BYTES).contains(&length) {
        found.add("auth.jwt.secret", format!("expected at least {MIN_SECRET_BYTES} bytes, found {length}"));
    }
    if config.auth.mode == AuthMode::Jwt && length == 0 {
        found.add("auth.mode", "\"jwt\" needs what tokens are checked by; set auth.jwt.secret");
    }
    if algorithms.is_empty() {
        found.add("auth.jwt.algorithms", "expected at least one of HS256, HS384 and HS512");
    }
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
