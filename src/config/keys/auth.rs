//! Keys of `[auth]`: who a client is, and what proves it.

use std::fmt;

use serde::Deserialize;

/// `[auth]`: who a client is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whether a socket that does not authenticate is cut. Defaults to true.
    pub auth_required: bool,
    /// How long a socket may take to authenticate. Defaults to 10,000.
    pub auth_timeout_ms: u64,
    /// How an identity is established. Defaults to `trusted`.
    pub mode: AuthMode,
    /// Says that trusting clients' own words on a public address is meant. Defaults to false.
    pub allow_trusted: bool,
    /// How long a socket whose token has expired may take to send a new one. Defaults to 30,000.
    pub refresh_grace_ms: u64,
    /// How long a revocation is remembered: longer than any token lives. Defaults to 2,592,000,000 (thirty days).
    pub revocation_ttl_ms: u64,
    /// `[auth.jwt]`: tokens.
    pub jwt: Jwt,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            auth_required: true,
            auth_timeout_ms: 10_000,
            mode: AuthMode::Trusted,
            allow_trusted: false,
            refresh_grace_ms: 30_000,
            revocation_ttl_ms: 2_592_000_000,
            jwt: Jwt::default(),
        }
    }
}

/// `[auth.jwt]`: JSON Web Tokens that say who a client is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// Algorithms that a token may be signed with. Defaults to `["HS256"]`.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Secret that tokens are signed with by HMAC, of at least 32 bytes; none if it is empty, as it is by default.
    pub secret: Secret,
    /// File of public keys or certificates in PEM; none if it is empty, as it is by default.
    pub public_key_file: String,
    /// File of a JSON Web Key Set; none if it is empty, as it is by default.
    pub jwks_file: String,
    /// URL of a JSON Web Key Set, `https:` or on this machine; none if it is empty, as it is by default.
    pub jwks_url: String,
    /// How often the URL is asked. Defaults to 300,000.
    pub jwks_refresh_ms: u64,
    /// How long the URL is left alone at least, when it does not answer or tokens name unknown keys. Defaults to
    /// 10,000.
    pub jwks_min_refresh_ms: u64,
    /// How long an answer of the URL may take. Defaults to 5,000.
    pub jwks_timeout_ms: u64,
    /// How often the files are looked at. Defaults to 5,000.
    pub key_files_check_ms: u64,
    /// What a token has to name as its issuer; any or none if it is empty, as it is by default.
    pub issuer: String,
    /// What a token has to name as its audience, or among it; any or none if it is empty, as it is by default.
    pub audience: String,
    /// Claims that a token has to have beside `exp`. Defaults to none.
    pub required_claims: Vec<String>,
    /// How far the clocks of issuer and server may be apart. Defaults to 5,000.
    pub leeway_ms: u64,
    /// How long a token holds that `POST /token` makes, unless the call says otherwise. Defaults to 3,600,000 (an hour).
    pub token_ttl_ms: u64,
    /// How long after its first issue such a token can be exchanged for a new one. Defaults to 604,800,000 (a week).
    pub refresh_ttl_ms: u64,
    /// `[auth.jwt.claims]`: the names of the claims.
    pub claims: JwtClaims,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            algorithms: vec![JwtAlgorithm::Hs256],
            secret: Secret::default(),
            public_key_file: String::new(),
            jwks_file: String::new(),
            jwks_url: String::new(),
            jwks_refresh_ms: 300_000,
            jwks_min_refresh_ms: 10_000,
            jwks_timeout_ms: 5_000,
            key_files_check_ms: 5_000,
            issuer: String::new(),
            audience: String::new(),
            required_claims: Vec::new(),
            leeway_ms: 5_000,
            token_ttl_ms: 3_600_000,
            refresh_ttl_ms: 604_800_000,
            claims: JwtClaims::default(),
        }
    }
}

impl Jwt {
    /// Whether there is anything that tokens can be checked with.
    pub fn checks_tokens(&self) -> bool {
        let sources = [self.secret.reveal(), &self.public_key_file, &self.jwks_file, &self.jwks_url];
        sources.iter().any(|source| !source.is_empty())
    }
}

/// How a token is signed (RFC 7518, 3.1; RFC 8037, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA with PKCS #1 v1.5 and SHA-256.
    Rs256,
    /// RSA with PKCS #1 v1.5 and SHA-384.
    Rs384,
    /// RSA with PKCS #1 v1.5 and SHA-512.
    Rs512,
    /// RSA with PSS and SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl JwtAlgorithm {
    /// Whether whoever checks a token could have signed it.
    pub fn is_hmac(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// The name that a token gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// `[auth.jwt.claims]`: which claim of a token says what.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtClaims {
    /// The user, a text or a whole number. Defaults to `sub`.
    pub user_id: String,
    /// The organization. Defaults to `organization_id`.
    pub organization_id: String,
    /// List of departments; an absent one means all. Defaults to `departments`.
    pub departments: String,
    /// List of queues, within the departments if there are any; an absent one means all. Defaults to `queues`.
    pub queues: String,
    /// List of channels; an absent one means all. Defaults to `channels`.
    pub channels: String,
    /// List of roles, for `[[client_events]]` that are for some; an absent one means none. Defaults to `roles`.
    pub roles: String,
}

impl Default for JwtClaims {
    fn default() -> Self {
        Self {
            user_id: "sub".into(),
            organization_id: "organization_id".into(),
            departments: "departments".into(),
            queues: "queues".into(),
            channels: "channels".into(),
            roles: "roles".into(),
        }
    }
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "String")]
pub struct Secret(String);

impl Secret {
    /// The text, for what it was set for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(none)" } else { "Secret(***)" })
    }
}

/// How an identity is established.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// A client is who it says it is; for development and trusted networks.
    Trusted,
    /// A client is who its token says it is.
    Jwt,
}
