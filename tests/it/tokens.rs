//! Tokens: the keys that they are checked with, where these come from, and how they change.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tiercast::config::{Jwt, JwtAlgorithm};
use tokio::net::TcpListener;

use crate::kit::{Answer, KeyServer, Plain, RSA_PUBLIC_KEY, SECRET, Signer, TestServer, eventually};

use JwtAlgorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Rs256, Rs384, Rs512};

const UNKNOWN: &str = "the token is not valid: its kid names no key that is known";
const FORGED: &str = "the token is not valid: its signature does not match";
const NO_KEYS: &str =
    "the token is not valid: the keys that tokens are checked with are not there yet; try again later";

/// A server with a door for tokens at `/live`, which looks at files often and may ask a URL often.
async fn server(configure: impl FnOnce(&mut Jwt)) -> TestServer {
    TestServer::start(|config| {
        let door = json!({ "path": "/live", "organization": "org-1" });
        config.doors.generic = vec![serde_json::from_value(door).expect("a door")];
        config.auth.jwt.key_files_check_ms = 10;
        config.auth.jwt.jwks_min_refresh_ms = 100;
        config.auth.jwt.jwks_refresh_ms = 86_400_000;
        configure(&mut config.auth.jwt);
    })
    .await
}

/// What the server says to a token in a frame: nothing if it holds.
async fn refusal(server: &TestServer, token: &str) -> Option<String> {
    let mut plain = Plain::at(server.address, "/live").await;
    plain.send(json!({ "type": "authenticate", "data": { "token": token } })).await;
    let answer = plain.next_with("type", "authenticate:ack").await["data"].clone();
    plain.close().await;
    let message = answer["message"].as_str().expect("a message");
    assert!(!message.contains(token));
    match answer["success"].as_bool() {
        Some(true) => None,
        _ => Some(message.to_owned()),
    }
}

async fn holds(server: &TestServer, token: &str) -> bool {
    refusal(server, token).await.is_none()
}

fn token(signer: &Signer) -> String {
    signer.token(json!({ "sub": "ann" }))
}

struct KeyFile {
    folder: TempDir,
}

impl KeyFile {
    fn new(text: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().expect("a folder") };
        file.write(text);
        file
    }

    fn path(&self) -> String {
        self.folder.path().join("keys").to_str().expect("a path").to_owned()
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("a file");
    }
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

#[tokio::test]
async fn every_algorithm_is_verified_by_keys_in_pem_and_in_a_set() {
    let public = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"].map(Signer::new);
    let secrets = ["HS256", "HS384", "HS512"].map(|algorithm| Signer::secret(algorithm, SECRET));
    let pem = KeyFile::new(&public[3..].iter().map(Signer::pem).collect::<String>());
    let by_pem = server(|jwt| {
        jwt.algorithms = vec![Hs256, Hs384, Hs512, Rs256, Rs384, Rs512, Ps256, Es256, Es384, EdDsa];
        (jwt.secret, jwt.public_key_file) = (SECRET.to_owned().into(), pem.path());
    })
    .await;
    let mut keys: Vec<Value> = public[3..].iter().map(Signer::jwk).collect();
    keys.push(secrets[0].jwk());
    let jwks = KeyFile::new(&set(&keys));
    let by_set = server(|jwt| {
        jwt.algorithms = vec![Hs256, Hs384, Hs512, Rs256, Rs384, Rs512, Ps256, Es256, Es384, EdDsa];
        jwt.jwks_file = jwks.path();
    })
    .await;
    for server in [&by_pem, &by_set] {
        for signer in public.iter().chain(&secrets) {
            let good = token(signer);
            assert_eq!(refusal(server, &good).await, None, "{good}");
            let (signed, _) = good.rsplit_once('.').expect("a signature");
            let other = signer.token(json!({ "sub": "eve" }));
            let (_, signature) = other.rsplit_once('.').expect("a signature");
            assert_eq!(refusal(server, &format!("{signed}.{signature}")).await.as_deref(), Some(FORGED));
        }
        for algorithm in ["ES256", "ES384", "EdDSA"] {
            let stranger = Signer::new(algorithm);
            assert_eq!(refusal(server, &token(&stranger)).await.as_deref(), Some(FORGED), "{algorithm}");
        }
    }
}

#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    let file = KeyFile::new(RSA_PUBLIC_KEY);
    let server = server(|jwt| {
        jwt.algorithms = vec![Hs256, Hs384, Hs512, Rs256, Ps256];
        (jwt.secret, jwt.public_key_file) = (SECRET.to_owned().into(), file.path());
    })
    .await;
    let modulus = Signer::new("RS256").jwk()["n"].as_str().expect("a modulus").to_owned();
    let pem = RSA_PUBLIC_KEY.as_bytes();
    let body: String = RSA_PUBLIC_KEY.lines().filter(|line| !line.starts_with('-')).collect();
    for secret in [pem, RSA_PUBLIC_KEY.trim_end().as_bytes(), body.as_bytes(), modulus.as_bytes(), b""] {
        for algorithm in ["HS256", "HS384", "HS512"] {
            let forged = Signer::secret(algorithm, secret);
            assert_eq!(refusal(&server, &token(&forged)).await.as_deref(), Some(FORGED));
        }
    }
    for forged in [
        Signer::new("RS256").claiming("PS256"),
        Signer::new("PS256").claiming("RS256"),
        Signer::secret("HS256", SECRET).claiming("RS256"),
        Signer::secret("HS256", SECRET).claiming("HS512"),
        Signer::new("RS256").claiming("HS256"),
    ] {
        assert_eq!(refusal(&server, &token(&forged)).await.as_deref(), Some(FORGED));
    }
    for unlisted in ["RS512", "ES256", "EdDSA"] {
        let told = refusal(&server, &token(&Signer::new(unlisted))).await.expect("refused");
        assert!(told.contains("sign it with HS256 or HS384 or HS512 or RS256 or PS256"), "{told}");
    }
    let secret = Signer::secret("HS256", SECRET).claiming("none");
    assert!(refusal(&server, &token(&secret)).await.expect("refused").contains("not accepted"));
}

#[tokio::test]
async fn the_key_that_a_token_names_is_the_one_that_counts() {
    let (first, second) = (Signer::new("ES256").named("a"), Signer::new("EdDSA").named("b"));
    let (twin, bound) = (Signer::new("EdDSA").named("b"), Signer::new("PS256").named("c"));
    let encryption = Signer::new("ES256").named("d");
    let with = |mut key: Value, name: &str, value: Value| {
        key[name] = value;
        key
    };
    let file = KeyFile::new(&set(&[
        first.jwk(),
        json!({ "kty": "unheard of", "kid": "a" }),
        second.jwk(),
        twin.jwk(),
        with(bound.jwk(), "alg", json!("PS256")),
        with(encryption.jwk(), "use", json!("enc")),
        json!(7),
    ]));
    let server = server(|jwt| (jwt.algorithms, jwt.jwks_file) = (vec![Es256, EdDsa, Rs256, Ps256], file.path())).await;
    for signer in [&first, &second, &twin, &bound] {
        assert_eq!(refusal(&server, &token(signer)).await, None);
    }
    for algorithm in ["ES256", "EdDSA"] {
        let unknown = Signer::new(algorithm).named("z");
        assert_eq!(refusal(&server, &token(&unknown)).await.as_deref(), Some(UNKNOWN));
    }
    assert_eq!(refusal(&server, &token(&encryption)).await.as_deref(), Some(UNKNOWN), "a key for something else");
    // Somebody else's key under a known name, and a known key under another algorithm.
    assert_eq!(refusal(&server, &token(&Signer::new("EdDSA").named("b"))).await.as_deref(), Some(FORGED));
    let misused = Signer::new("RS256").named("c");
    assert!(refusal(&server, &token(&misused)).await.expect("refused").contains("none of its key's"));
    assert!(refusal(&server, &token(&Signer::new("EdDSA").named("a"))).await.expect("refused").contains("none of its"));
}

#[tokio::test]
async fn a_token_without_a_kid_is_tried_with_every_key_that_fits() {
    let (old, new) = (Signer::new("ES256"), Signer::new("ES256"));
    let file = KeyFile::new(&set(&[old.jwk(), Signer::new("EdDSA").jwk(), new.jwk()]));
    let server = server(|jwt| (jwt.algorithms, jwt.jwks_file) = (vec![Es256, EdDsa, Rs256], file.path())).await;
    assert!(holds(&server, &token(&old)).await && holds(&server, &token(&new)).await);
    assert_eq!(refusal(&server, &token(&Signer::new("ES256"))).await.as_deref(), Some(FORGED));
    let told = refusal(&server, &token(&Signer::new("RS256"))).await.expect("refused");
    assert!(told.contains("there is no key for its algorithm"), "{told}");
}

#[tokio::test]
async fn files_are_read_again_when_they_change_and_kept_while_they_are_faulty() {
    let mut signers = [Signer::new("ES256"), Signer::new("ES256")];
    let write = |signer: &Signer, file: &KeyFile, is_pem| {
        file.write(&if is_pem { signer.pem() } else { set(&[signer.jwk()]) });
    };
    let files = [KeyFile::new(&signers[0].pem()), KeyFile::new(&set(&[signers[1].jwk()]))];
    let server = server(|jwt| {
        jwt.algorithms = vec![Es256];
        (jwt.public_key_file, jwt.jwks_file) = (files[0].path(), files[1].path());
    })
    .await;
    for (faulty, sound) in [(0, 1), (1, 0)] {
        for fault in ["", "junk", &set(&[]), &set(&[Signer::new("EdDSA").jwk()]), "gone"] {
            match fault {
                "gone" => fs::remove_file(files[faulty].path()).expect("a file"),
                _ => files[faulty].write(fault),
            }
            // Both are looked at in one go, so once this change counts the other file has been looked at.
            let new = Signer::new("ES256");
            write(&new, &files[sound], sound == 0);
            eventually("the new key holds", async || holds(&server, &token(&new)).await).await;
            let old = std::mem::replace(&mut signers[sound], new);
            assert!(!holds(&server, &token(&old)).await, "the one in its place does not");
            assert!(holds(&server, &token(&signers[faulty])).await, "what was there before the fault does: {fault:?}");
        }
        let new = Signer::new("ES256");
        write(&new, &files[faulty], faulty == 0);
        eventually("a file that is mended counts", async || holds(&server, &token(&new)).await).await;
        signers[faulty] = new;
    }
}

#[tokio::test]
async fn an_unknown_kid_has_the_url_asked_at_once_but_not_for_every_token() {
    let (old, new) = (Signer::new("ES256").named("old"), Signer::new("ES256").named("new"));
    let keys = KeyServer::start(Answer::Keys(vec![old.jwk()])).await;
    let server = server(|jwt| {
        (jwt.algorithms, jwt.jwks_url) = (vec![Es256], keys.url());
        jwt.jwks_min_refresh_ms = 300;
    })
    .await;
    assert_eq!(refusal(&server, &token(&old)).await, None);
    assert_eq!(keys.asked(), 1, "at the start");
    keys.answer(Answer::Keys(vec![old.jwk(), new.jwk()]));
    let begin = Instant::now();
    assert_eq!(refusal(&server, &token(&new)).await.as_deref(), Some(UNKNOWN));
    eventually("the new key is fetched", async || holds(&server, &token(&new)).await).await;
    assert_eq!((keys.asked(), holds(&server, &token(&old)).await), (2, true));
    // Anybody can make up a kid, so that costs the issuer little.
    let mut told = Vec::new();
    while begin.elapsed() < Duration::from_secs(1) {
        told.push(refusal(&server, &token(&Signer::new("ES256").named("made up"))).await);
    }
    let (asked, most) = (keys.asked(), begin.elapsed().as_millis() as usize / 300 + 2);
    assert!(told.len() > 10 && (3..=most).contains(&asked), "{} tokens, asked {asked} times", told.len());
    assert!(told.iter().all(|told| told.as_deref() == Some(UNKNOWN)));
}

#[tokio::test]
async fn a_handshake_waits_for_a_key_that_can_be_had() {
    let (old, new) = (Signer::new("ES256").named("old"), Signer::new("ES256").named("new"));
    // When the first answer is there, the URL may be asked again.
    let keys = KeyServer::start(Answer::Late(Duration::from_millis(150), vec![old.jwk()])).await;
    let server = server(|jwt| (jwt.algorithms, jwt.jwks_url) = (vec![Es256], keys.url())).await;
    keys.answer(Answer::Late(Duration::from_millis(500), vec![new.jwk()]));
    let mut plain = Plain::at(server.address, &format!("/live?token={}", token(&new))).await;
    plain.send(json!({ "type": "subscribe", "data": { "channels": ["kpi"] } })).await;
    let answer = plain.next_with("type", "subscribe:ack").await;
    assert_eq!((&answer["data"]["success"], keys.asked()), (&json!(true), 2), "{answer}");
    assert_eq!(refusal(&server, &token(&old)).await.as_deref(), Some(UNKNOWN), "its key was withdrawn");
    plain.close().await;
}

#[tokio::test]
async fn a_url_that_is_down_delays_tokens_and_takes_no_keys_away() {
    let signer = Signer::new("EdDSA");
    let address = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let server = server(|jwt| (jwt.algorithms, jwt.jwks_url) = (vec![EdDsa], format!("http://{address}/keys"))).await;
    assert_eq!(refusal(&server, &token(&signer)).await.as_deref(), Some(NO_KEYS));
    let keys = KeyServer::at(address, Answer::Keys(vec![signer.jwk()])).await;
    eventually("the keys are there", async || holds(&server, &token(&signer)).await).await;
    keys.stop().await;
    // Whoever is there now hangs up, so that it is seen how often the server tries.
    let listener = TcpListener::bind(address).await.expect("the port");
    let mut tries = 0;
    let unknown = token(&Signer::new("EdDSA").named("b"));
    eventually("the URL is tried again and again", async || {
        assert_eq!(refusal(&server, &unknown).await.as_deref(), Some(UNKNOWN));
        while tokio::time::timeout(Duration::from_millis(1), listener.accept()).await.is_ok() {
            tries += 1;
        }
        tries >= 3
    })
    .await;
    assert!(holds(&server, &token(&signer)).await);
}

#[tokio::test]
async fn answers_that_cannot_be_meant_take_no_keys_away() {
    let (signer, other) = (Signer::new("ES256").named("a"), Signer::new("ES256").named("b"));
    let elsewhere = KeyServer::start(Answer::Keys(vec![other.jwk()])).await;
    let keys = KeyServer::start(Answer::Keys(vec![signer.jwk()])).await;
    let server = server(|jwt| {
        (jwt.algorithms, jwt.jwks_url) = (vec![Es256, Hs256], keys.url());
        (jwt.jwks_timeout_ms, jwt.secret) = (200, SECRET.to_owned().into());
    })
    .await;
    let secret = Signer::secret("HS256", "a secret that anybody can read at a URL").named("b");
    let padding = " ".repeat(1_048_576);
    for answer in [
        Answer::Redirect(elsewhere.url()),
        Answer::Status(500, vec![other.jwk()]),
        Answer::Status(203, vec![other.jwk()]),
        Answer::Silence,
        Answer::Text("<html></html>".into()),
        Answer::Text(format!("{}{padding}", set(&[other.jwk()]))),
        Answer::Keys(vec![]),
        Answer::Keys(vec![secret.jwk()]),
    ] {
        let told = format!("{answer:.40?}");
        keys.answer(answer);
        let asked = keys.asked();
        eventually("the URL is asked twice", async || {
            for signer in [&other, &secret] {
                assert!(!holds(&server, &token(signer)).await, "{told}");
            }
            keys.asked() >= asked + 2
        })
        .await;
        assert!(holds(&server, &token(&signer)).await, "{told}");
    }
    assert_eq!(elsewhere.asked(), 0, "nobody is redirected");
    keys.answer(Answer::Keys(vec![other.jwk()]));
    eventually("the next good answer counts", async || holds(&server, &token(&other)).await).await;
}

#[tokio::test]
async fn a_url_is_asked_again_from_time_to_time() {
    let (old, new) = (Signer::new("ES256"), Signer::new("ES256"));
    let keys = KeyServer::start(Answer::Keys(vec![old.jwk()])).await;
    let server = server(|jwt| {
        (jwt.algorithms, jwt.jwks_url, jwt.jwks_refresh_ms) = (vec![Es256], keys.url(), 50);
    })
    .await;
    keys.answer(Answer::Keys(vec![new.jwk()]));
    eventually("keys without ids are replaced too", async || holds(&server, &token(&new)).await).await;
    assert!(!holds(&server, &token(&old)).await);
}
