//! JSON Web Key Sets (RFC 7517, 7518 and 8037): the keys that can verify, and why others cannot.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::key::{Curve, Key};
use super::source::Found;

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

/// What is read of one key; each kind has its own members.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

/// Whether a set may hold secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    /// Only whoever runs the server can read it.
    Allowed,
    /// Anybody may read it, so a secret in it is none.
    Refused,
}

/// The keys of a set; those that cannot be used are skipped, as the standard asks for.
pub(super) fn read(json: &[u8], secrets: Secrets) -> Result<Found, String> {
    // What the parser says may repeat a secret.
    let set: Jwks = serde_json::from_slice(json)
        .map_err(|_| "expected a JSON Web Key Set: {\"keys\": [{\"kty\": …}, …]}".to_owned())?;
    let mut found = Found::default();
    for (index, value) in set.keys.into_iter().enumerate() {
        match key(value, secrets) {
            Ok(key) => found.keys.push(key),
            Err(why) => found.skipped.push(format!("keys[{index}]: {why}")),
        }
    }
    Ok(found)
}

fn key(value: Value, secrets: Secrets) -> Result<Key, String> {
    let jwk: Jwk =
        serde_json::from_value(value).map_err(|_| "expected an object with the members of a key".to_owned())?;
    if jwk.usage.as_ref().is_some_and(|usage| usage != "sig") {
        return Err("its use is not \"sig\"".into());
    }
    if jwk.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
        return Err("its key_ops do not name \"verify\"".into());
    }
    let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Key::rsa(&bytes("n", &jwk.n)?, &bytes("e", &jwk.e)?)?,
        ("EC", Some("P-256")) => Key::ec(Curve::P256, &point(&jwk)?)?,
        ("EC", Some("P-384")) => Key::ec(Curve::P384, &point(&jwk)?)?,
        ("OKP", Some("Ed25519")) => Key::ed25519(&bytes("x", &jwk.x)?)?,
        ("oct", _) if secrets == Secrets::Refused => {
            return Err("whoever can read this set could sign with a secret in it; set auth.jwt.secret".into());
        }
        ("oct", _) => Key::secret(&bytes("k", &jwk.k)?)?,
        _ => return Err("its kind is none of RSA, EC (P-256, P-384), OKP (Ed25519) and oct".into()),
    };
    let mut key = match &jwk.alg {
        Some(algorithm) => key.bound_to(algorithm)?,
        None => key,
    };
    key.id = jwk.kid;
    Ok(key)
}

/// Both coordinates have their full length, so a short one cannot move the other (RFC 7518, 6.2.1.2).
fn point(jwk: &Jwk) -> Result<Vec<u8>, String> {
    let (x, y) = (bytes("x", &jwk.x)?, bytes("y", &jwk.y)?);
    if x.len() != y.len() {
        return Err("its x and y differ in length".into());
    }
    Ok([&[4], &x[..], &y[..]].concat())
}

fn bytes(name: &str, member: &Option<String>) -> Result<Vec<u8>, String> {
    let text = member.as_ref().ok_or_else(|| format!("its {name} is missing"))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its {name} is not base64url"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The public keys of RFC 7515, A.2 and A.3, and of RFC 8037, A.2.
    const RSA: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn set(keys: &Value) -> Result<Found, String> {
        read(json!({ "keys": keys }).to_string().as_bytes(), Secrets::Allowed)
    }

    fn rsa(members: &Value) -> Value {
        let mut key = json!({ "kty": "RSA", "n": RSA, "e": "AQAB" });
        key.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        key
    }

    fn skipped(key: &Value) -> String {
        let found = set(&json!([key])).expect("a set");
        assert!(found.keys.is_empty(), "{found:?}");
        found.skipped.concat()
    }

    #[test]
    fn keys_of_every_kind_are_read() {
        let found = set(&json!([
            rsa(&json!({ "kid": "a", "use": "sig", "alg": "RS256" })),
            { "kty": "EC", "crv": "P-256", "x": X, "y": Y, "key_ops": ["verify"] },
            { "kty": "OKP", "crv": "Ed25519", "x": ED, "kid": "c" },
            { "kty": "oct", "k": "A".repeat(43) },
        ]));
        let found = found.expect("a set");
        assert!(found.skipped.is_empty(), "{found:?}");
        let ids: Vec<_> = found.keys.iter().map(|key| key.id.as_deref()).collect();
        assert_eq!(ids, [Some("a"), None, Some("c"), None]);
    }

    #[test]
    fn what_cannot_verify_is_skipped_and_says_why() {
        for (key, why) in [
            (rsa(&json!({ "use": "enc" })), "use"),
            (rsa(&json!({ "key_ops": ["encrypt"] })), "key_ops"),
            (rsa(&json!({ "key_ops": [] })), "key_ops"),
            (rsa(&json!({ "alg": "HS256" })), "\"HS256\""),
            (rsa(&json!({ "alg": "RSA-OAEP" })), "RSA-OAEP"),
            (rsa(&json!({ "n": "AQAB" })), "bits"),
            (rsa(&json!({ "n": null })), "n is missing"),
            (rsa(&json!({ "n": "a+b=" })), "n is not base64url"),
            (rsa(&json!({ "kid": 7 })), "members of a key"),
            (json!({ "kty": "EC", "crv": "secp256k1", "x": X, "y": Y }), "kind"),
            (json!({ "kty": "EC", "crv": "P-384", "x": X, "y": Y }), "97 bytes"),
            (json!({ "kty": "EC", "crv": "P-256", "x": X, "y": "AA" }), "differ"),
            (json!({ "kty": "OKP", "crv": "X25519", "x": ED }), "kind"),
            (json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" }), "32 bytes"),
            (json!({ "kty": "oct", "k": "c2hvcnQ" }), "32 bytes"),
            (json!({ "kty": "new", "v": 1 }), "kind"),
            (json!("junk"), "members of a key"),
        ] {
            let told = skipped(&key);
            assert!(told.starts_with("keys[0]: ") && told.contains(why), "{key}: {told}");
        }
        let found = set(&json!([{ "kty": "new" }, rsa(&json!({}))])).expect("a set");
        assert_eq!((found.keys.len(), found.skipped.len()), (1, 1));
    }

    #[test]
    fn a_secret_that_anybody_may_read_is_none() {
        let json = json!({ "keys": [{ "kty": "oct", "k": "A".repeat(43) }] }).to_string();
        let found = read(json.as_bytes(), Secrets::Refused).expect("a set");
        assert!(found.keys.is_empty() && found.skipped[0].contains("auth.jwt.secret"));
    }

    #[test]
    fn what_is_no_set_is_told_without_repeating_it() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":"topsecret"}"#, "topsecret"] {
            let error = read(text.as_bytes(), Secrets::Allowed).expect_err("refused");
            assert!(error.contains("JSON Web Key Set") && !error.contains("topsecret"), "{error}");
        }
    }
}
