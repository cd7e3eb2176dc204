//! Whoever signs tokens with keys of its own, and shows the public part of them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Value, json};

/// The public half of the RSA key that tests sign with, as OpenSSL writes it.
pub const RSA_PUBLIC_KEY: &str = include_str!("../../keys/rsa.pem");

/// One key, and the algorithm that it signs with.
pub struct Signer {
    algorithm: &'static str,
    /// What its tokens say of it.
    claimed: &'static str,
    key_id: Option<String>,
    key: Key,
}

enum Key {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    /// A key for an algorithm: a new one, or the one RSA key of the tests.
    pub fn new(algorithm: &'static str) -> Self {
        let random = SystemRandom::new();
        let ec = |scheme| {
            let document = EcdsaKeyPair::generate_pkcs8(scheme, &random).expect("a key");
            Key::Ec(EcdsaKeyPair::from_pkcs8(scheme, document.as_ref(), &random).expect("a key"))
        };
        let key = match algorithm {
            "ES256" => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" => {
                let document = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
                Key::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key"))
            }
            _ => Key::Rsa(rsa()),
        };
        Self { algorithm, claimed: algorithm, key_id: None, key }
    }

    /// A secret for one of the HMAC algorithms.
    pub fn secret(algorithm: &'static str, secret: impl Into<Vec<u8>>) -> Self {
        Self { algorithm, claimed: algorithm, key_id: None, key: Key::Secret(secret.into()) }
    }

    /// The same, whose tokens and public key have an id.
    pub fn named(self, key_id: &str) -> Self {
        Self { key_id: Some(key_id.to_owned()), ..self }
    }

    /// The same, whose tokens name another algorithm than they are signed with.
    pub fn claiming(self, claimed: &'static str) -> Self {
        Self { claimed, ..self }
    }

    /// A token with these claims, for an hour.
    pub fn token(&self, mut claims: Value) -> String {
        claims["exp"] = json!(SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs() + 3_600);
        let mut header = json!({ "alg": self.claimed, "typ": "JWT" });
        if let Some(key_id) = &self.key_id {
            header["kid"] = json!(key_id);
        }
        let encode = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes())))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Secret(secret) => {
                let algorithm = match self.algorithm {
                    "HS384" => ring::hmac::HMAC_SHA384,
                    "HS512" => ring::hmac::HMAC_SHA512,
                    _ => ring::hmac::HMAC_SHA256,
                };
                ring::hmac::sign(&ring::hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
            }
            Key::Rsa(pair) => {
                let scheme: &dyn signature::RsaEncoding = match self.algorithm {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(scheme, &random, message, &mut signature).expect("a signature");
                signature
            }
            Key::Ec(pair) => pair.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Key::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The key as part of a JSON Web Key Set; of a secret that is the secret.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.key {
            Key::Secret(secret) => json!({ "kty": "oct", "k": text(secret) }),
            Key::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": text(&n), "e": text(&e) })
            }
            Key::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(self.coordinate());
                json!({ "kty": "EC", "crv": if x.len() == 32 { "P-256" } else { "P-384" }, "x": text(x), "y": text(y) })
            }
            Key::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()) }),
        };
        if let Some(key_id) = &self.key_id {
            jwk["kid"] = json!(key_id);
        }
        jwk
    }

    /// The public key in PEM.
    pub fn pem(&self) -> String {
        let (prefix, key) = match &self.key {
            Key::Secret(_) => panic!("a secret has no public key"),
            Key::Rsa(_) => return RSA_PUBLIC_KEY.to_owned(),
            Key::Ec(pair) if self.coordinate() == 32 => (
                &b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"[..],
                pair.public_key().as_ref(),
            ),
            Key::Ec(pair) => (
                &b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00"[..],
                pair.public_key().as_ref(),
            ),
            Key::Ed(pair) => (&b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..], pair.public_key().as_ref()),
        };
        let text = STANDARD.encode([prefix, key].concat());
        let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// Bytes of one coordinate of a point.
    fn coordinate(&self) -> usize {
        let Key::Ec(pair) = &self.key else { panic!("only a point has coordinates") };
        pair.public_key().as_ref().len() / 2
    }
}

fn rsa() -> RsaKeyPair {
    let text = include_str!("../../keys/rsa-private-for-tests-only.pem");
    let (_, text) = text.split_once("-----BEGIN PRIVATE KEY-----").expect("PEM");
    let (text, _) = text.split_once("-----END").expect("PEM");
    let document = STANDARD.decode(text.lines().collect::<String>()).expect("base64");
    RsaKeyPair::from_pkcs8(&document).expect("a key")
}
