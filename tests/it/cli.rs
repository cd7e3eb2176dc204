//! The binary: a bad config stops it with every fault named, and keys are made that can be stored.

use std::{
    path::Path,
    process::{Command, Output},
};

use sha2::{Digest, Sha256};

use crate::kit::Certified;

fn tiercast(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tiercast"));
    // What the developer's shell sets must not decide a test.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("TIERCAST_") || name.starts_with("WEBSOCKET_"))
    {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("the binary runs")
}

fn check(directory: &Path, config: &str) -> (Option<i32>, String) {
    let path = directory.join("tiercast.toml");
    std::fs::write(&path, config).unwrap();
    let output = tiercast(&["check-config", "--config", path.to_str().unwrap()]);
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), told)
}

#[test]
fn an_empty_config_is_a_valid_one() {
    let directory = tempfile::tempdir().unwrap();
    let (code, told) = check(directory.path(), "");
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn the_shipped_config_is_a_valid_one() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
    let output = tiercast(&["check-config", "--config", shipped]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_fault_is_named_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let config = "[server]\nport = \"five thousand\"\n\n[limits]\nmax_conections_total = 7\nroom_max_size = -1\n\n[heartbeat]\nping_interval_ms = 0\n\n[weather]\nsunny = true\n";
    let (code, told) = check(directory.path(), config);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("tiercast.toml"), "the file is named: {told}");
    for (key, line) in
        [("port", 2), ("max_conections_total", 5), ("room_max_size", 6), ("ping_interval_ms", 9), ("weather", 11)]
    {
        assert!(told.contains(key), "{key} is named: {told}");
        assert!(
            told.lines().any(|text| text.contains(key) && text.contains(&line.to_string())),
            "line {line} is named beside {key}: {told}"
        );
    }
}

#[test]
fn files_of_tls_are_looked_at_before_anything_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (Certified::fresh(), Certified::fresh());
    one.write_certificate(directory.path());
    let config = "[server.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n\n[auth]\nallow_trusted = true\n\n[api]\nallow_keyless = true\n";
    let told = || check(directory.path(), config);
    let key_file = directory.path().join("key.pem");
    for (key, message) in [
        (None, "cannot read"),
        (Some("no PEM\n".to_owned()), "holds no private key"),
        (Some(one.certificate.pem()), "holds no private key"),
        (Some(other.key.serialize_pem()), "does not belong to the certificate"),
    ] {
        if let Some(key) = key {
            std::fs::write(&key_file, key).unwrap();
        }
        let (code, told) = told();
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains("tiercast.toml:3: server.tls.key_file: ") && told.contains(message), "{told}");
    }
    one.write_key(directory.path());
    let (code, everything) = told();
    assert_eq!(code, Some(0), "{everything}");
    std::fs::write(directory.path().join("cert.pem"), one.key.serialize_pem()).unwrap();
    let (code, told) = told();
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("tiercast.toml:2: server.tls.cert_file: ") && told.contains("holds no certificate"),
        "{told}"
    );
    assert!(!told.contains("PRIVATE KEY-----\nM"), "{told}");
}

#[test]
fn each_fault_alone_stops_it() {
    let directory = tempfile::tempdir().unwrap();
    for (config, key) in [
        ("nonsense = 1\n", "nonsense"),
        ("[server]\nport = 70000\n", "port"),
        ("[server]\npath = \"no-slash\"\n", "path"),
        ("[auth]\nmode = \"magic\"\n", "mode"),
        ("[auth]\nchannels = [\"weather\"]\n", "channels"),
        ("[limits]\nmax_message_size_bytes = \"1MB\"\n", "max_message_size_bytes"),
        ("[log]\nshards = 0\n", "shards"),
        ("[[api.keys]]\nname = \"x\"\nhash = \"plain\"\nrights = [\"publish\"]\n", "hash"),
        ("[[api.keys]]\nname = \"x\"\nrights = [\"publish\"]\n", "hash"),
        ("[[api.keys]]\nname = \"x\"\nhash = \"sha256:00\"\nrights = [\"everything\"]\n", "rights"),
        ("[[events.custom]]\nname = \"kpi:update\"\nchannel = \"kpi\"\n", "kpi:update"),
        ("[server]\nhost = \"0.0.0.0\"\n", "host"),
        ("[server]\ntrusted_proxies = [\"127.0.0.1\"]\n", "trusted_proxies"),
        ("[server.tls]\nmin_version = \"1.1\"\n", "min_version"),
    ] {
        let (code, told) = check(directory.path(), config);
        assert_eq!(code, Some(2), "{config}: {told}");
        assert!(told.contains(key), "{config}: {told}");
    }
}

#[test]
fn broken_toml_and_missing_files_are_faults() {
    let directory = tempfile::tempdir().unwrap();
    let (code, told) = check(directory.path(), "[server\nport = 1\n");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("tiercast.toml"), "{told}");
    let missing = directory.path().join("missing.toml");
    let output = tiercast(&["check-config", "--config", missing.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing.toml"));
}

#[test]
fn a_bad_file_of_members_is_a_fault_beside_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiercast.toml");
    std::fs::write(&path, "[doors.gym]\nmembers_file = \"members.json\"\n[log]\nshards = 0\n").unwrap();
    for (members, why) in [(None, "cannot be read"), (Some("{}"), "JSON list")] {
        if let Some(members) = members {
            std::fs::write(directory.path().join("members.json"), members).unwrap();
        }
        for command in ["check-config", "serve"] {
            let output = tiercast(&[command, "--config", path.to_str().unwrap()]);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{command}: {told}");
            let line = told.lines().find(|line| line.contains("tiercast.toml:2: doors.gym.members_file: "));
            assert!(line.is_some_and(|line| line.contains(why)), "{command}: {told}");
            assert!(told.contains("log.shards"), "{command}: {told}");
        }
    }
    std::fs::write(&path, "[doors.gym]\nmembers_file = \"members.json\"\n").unwrap();
    std::fs::write(directory.path().join("members.json"), "[]").unwrap();
    assert!(tiercast(&["check-config", "--config", path.to_str().unwrap()]).status.success());
    assert!(!directory.path().join("data").exists());
}

#[test]
fn bad_files_of_keys_are_faults_with_their_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiercast.toml");
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys");
    let check = |lines: &str| {
        std::fs::write(&path, format!("[auth.jwt]\n{lines}\n")).unwrap();
        let output = tiercast(&["check-config", "--config", path.to_str().unwrap()]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for name in ["rsa.pem", "p256.pem", "rsa-1024.pem", "rsa-private-for-tests-only.pem"] {
        std::fs::copy(keys.join(name), directory.path().join(name)).unwrap();
    }
    std::fs::write(directory.path().join("keys.json"), r#"{"keys":[{"kty":"RSA","use":"enc"}]}"#).unwrap();
    for (lines, at, why) in [
        (
            "algorithms = [\"RS256\"]\npublic_key_file = \"none.pem\"",
            "3: auth.jwt.public_key_file",
            "none.pem\": it cannot be read",
        ),
        ("algorithms = [\"RS256\"]\npublic_key_file = \"keys.json\"", "3: auth.jwt.public_key_file", "expected PEM"),
        ("algorithms = [\"RS256\"]\npublic_key_file = \".\"", "3: auth.jwt.public_key_file", "no file"),
        ("algorithms = [\"RS256\"]\npublic_key_file = \"rsa-1024.pem\"", "3: auth.jwt.public_key_file", "has 1024"),
        (
            "algorithms = [\"RS256\"]\npublic_key_file = \"rsa-private-for-tests-only.pem\"",
            "3: auth.jwt.public_key_file",
            "private key",
        ),
        ("algorithms = [\"RS256\"]\npublic_key_file = \"p256.pem\"", "3: auth.jwt.public_key_file", "none of its keys"),
        ("public_key_file = \"rsa.pem\"", "2: auth.jwt.public_key_file", "none of its keys"),
        ("algorithms = [\"RS256\"]\njwks_file = \"keys.json\"", "3: auth.jwt.jwks_file", "use is not \"sig\""),
        ("algorithms = [\"RS256\"]\njwks_file = \"rsa.pem\"", "3: auth.jwt.jwks_file", "JSON Web Key Set"),
        (
            "algorithms = [\"RS256\", \"EdDSA\"]\npublic_key_file = \"rsa.pem\"",
            "2: auth.jwt.algorithms",
            "verifies EdDSA",
        ),
        (
            "algorithms = [\"RS256\"]\nsecret = \"01234567890123456789012345678901\"",
            "3: auth.jwt.secret",
            "none of them",
        ),
        ("algorithms = [\"RS256\"]\njwks_url = \"http://id.example/\"", "3: auth.jwt.jwks_url", "https://"),
        ("algorithms = [\"RS128\"]", "2: auth.jwt.algorithms[0]", "\"EdDSA\""),
    ] {
        let (code, told) = check(lines);
        assert_eq!(code, Some(2), "{lines}: {told}");
        let line = told.lines().find(|line| line.contains(&format!("tiercast.toml:{at}: ")));
        assert!(line.is_some_and(|line| line.contains(why)), "{lines}: {told}");
    }
    let (code, told) = check("algorithms = [\"PS256\"]\npublic_key_file = \"rsa.pem\"");
    assert_eq!(code, Some(0), "beside the file that names it: {told}");
    let absolute = format!("algorithms = [\"ES256\"]\npublic_key_file = {:?}", keys.join("p256-certificate.pem"));
    assert_eq!(check(&absolute).0, Some(0));
}

#[test]
fn serving_takes_the_same_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiercast.toml");
    std::fs::write(&path, "[server]\nprot = 5000\n").unwrap();
    let output = tiercast(&["serve", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("prot"));
}

#[test]
fn the_environment_is_checked_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tiercast.toml");
    std::fs::write(&path, "").unwrap();
    for (name, value) in [("TIERCAST__SERVER__PORT", "many"), ("TIERCAST__SERVER__PROT", "1")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tiercast"));
        command.args(["check-config", "--config", path.to_str().unwrap()]).env(name, value);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {told}");
        assert!(told.contains(name), "{name}: {told}");
    }
}

#[test]
fn a_new_key_is_told_once_with_the_hash_to_store() {
    let first = tiercast(&["key", "new", "--name", "backend"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let told = format!("{}{}", String::from_utf8_lossy(&first.stdout), String::from_utf8_lossy(&first.stderr));
    let words: Vec<&str> = told.split(|c: char| c.is_whitespace() || "\"'`,()".contains(c)).collect();
    let hash = words.iter().find(|word| word.starts_with("sha256:")).expect("the hash is told");
    let stored = |key: &str| {
        let digest = Sha256::digest(key);
        format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let key = words.iter().find(|word| stored(word) == **hash).expect("the key is told");
    assert!(key.len() >= 32, "{key} could be guessed");
    let second = tiercast(&["key", "new", "--name", "backend"]);
    assert!(!String::from_utf8_lossy(&second.stdout).contains(*key), "each key is new");
}

#[test]
fn help_and_version_are_told() {
    for argument in ["--help", "--version"] {
        let output = tiercast(&[argument]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("tiercast"));
    }
}
