//! The audit log of a real process: who did what, with which outcome, and neither payloads nor keys.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};
use tiercast::config::Right;

use crate::kit::{Call, Client, ConnectOptions, Reply, eventually, key};

/// A server whose lines go into a file, as JSON.
struct Process {
    child: Child,
    log: PathBuf,
    url: String,
}

impl Process {
    async fn start(folder: &Path, logging: &str) -> Self {
        let keys = [
            ("backend", "\"publish\", \"read\", \"admin\"", ""),
            ("bound", "\"publish\"", "organizations = [\"org-1\"]\n"),
        ];
        let keys = keys.map(|(name, rights, rest)| {
            let hash = key(name, &[Right::Read], None).hash;
            format!("[[api.keys]]\nname = \"{name}\"\nhash = \"{hash}\"\nrights = [{rights}]\n{rest}")
        });
        let relay = "[[client_events]]\nevent = \"typing\"\naction = \"relay\"\nto = \"organization\"\nas = \"system:notification\"\n";
        let config = format!(
            "[server]\nport = 0\n[log]\nstore = \"memory\"\n[logging]\nformat = \"json\"\n{logging}{relay}{}",
            keys.concat()
        );
        let (file, log) = (folder.join("config.toml"), folder.join("log"));
        std::fs::write(&file, config).expect("a config");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tiercast"));
        command.args(["serve", "--config"]).arg(file).stdout(Stdio::null());
        command.stderr(File::create(&log).expect("a file"));
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("TIERCAST_") || name.starts_with("WEBSOCKET_"))
        {
            command.env_remove(name);
        }
        let mut process = Self { child: command.spawn().expect("the binary runs"), log, url: String::new() };
        eventually("it listens", async || {
            let lines = process.lines();
            let url = lines.iter().find_map(|line| Some(line["fields"]["url"].as_str()?.to_owned()));
            process.url = url.unwrap_or_default();
            !process.url.is_empty()
        })
        .await;
        process
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.log).expect("its log")
    }

    /// All whole lines so far.
    fn lines(&self) -> Vec<Value> {
        self.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The audit lines so far.
    fn deeds(&self) -> Vec<Value> {
        let lines = self.lines().into_iter().filter(|line| line["target"] == "tiercast::audit");
        lines.map(|line| line["fields"].clone()).collect()
    }

    async fn call(&self, name: &str, method: Method, path: &str, body: &Value) -> Reply {
        let call = Call::new(method, &format!("{}/api/ws{path}", self.url)).json(body);
        call.header("authorization", &format!("Bearer {name}-secret")).send().await.expect("an answer")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn body(event: &str) -> Value {
    let target = json!({ "organization_id": "org-1", "department_id": "sales" });
    json!({ "event": event, "data": { "n": "a private figure" }, "target": target })
}

/// Asserts that a line says this, and nothing else of what it could say.
fn assert_says(line: &Value, expected: &Value) {
    let mut said = line.clone();
    let fields = said.as_object_mut().expect("fields");
    fields.remove("address");
    assert_eq!(&said, expected);
}

#[tokio::test]
async fn every_deed_has_a_line_with_who_what_and_the_outcome() {
    let folder = tempfile::tempdir().expect("a folder");
    // The level has no say in it.
    let server = Process::start(folder.path(), "level = \"error,tiercast::cli=info\"\n").await;
    let address = server.url.strip_prefix("http://").expect("an address").parse().expect("an address");
    let mut client =
        Client::connect(address, ConnectOptions::named()).await.expect("let in").authenticate("org-1").await;

    let published = server.call("backend", Method::POST, "/broadcast", &body("kpi:update")).await.json();
    let shortcut = server.call("backend", Method::POST, "/broadcast/kpi", &json!({ "organization_id": "org-1" })).await;
    let batch = json!([
        body("kpi:alert"),
        json!({ "event": "kpi:update", "data": {}, "target": { "organization_id": "org-2" } })
    ]);
    let batch = server.call("bound", Method::POST, "/broadcast/batch", &batch).await.json();
    let relayed = client.emit("typing", json!({ "text": "a private word" })).await;
    server
        .call(
            "bound",
            Method::POST,
            "/broadcast",
            &json!({ "event": "kpi:update", "data": {}, "target": { "organization_id": "org-2" } }),
        )
        .await;
    server.call("bound", Method::GET, "/stats", &json!({})).await;
    server.call("guessed", Method::GET, &format!("/connections/{}", client.wire.sid()), &json!({})).await;
    let gone = server.call("backend", Method::DELETE, &format!("/connections/{}", client.socket_id), &json!({})).await;
    assert_eq!(gone.status, 200);
    client.closed().await;

    eventually("all is written", async || server.deeds().len() >= 9).await;
    let deeds = server.deeds();
    let at = |line: Value| {
        json!({ "who": "backend", "action": "publish", "outcome": "done", "organization": "org-1" })
            .as_object()
            .into_iter()
            .flatten()
            .chain(line.as_object().into_iter().flatten())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Value>()
    };
    let refused = |who: &str, action: &str, status: u16| json!({ "who": who, "action": action, "outcome": "refused", "status": status });
    for (line, expected) in deeds.iter().zip([
        at(json!({ "event": "kpi:update", "department": "sales", "message_id": published["message_id"] })),
        at(json!({ "event": "kpi:update", "message_id": shortcut.json()["message_id"] })),
        at(json!({ "who": "bound", "event": "kpi:alert", "department": "sales", "message_id": batch["results"][0]["message_id"] })),
        refused("bound", "publish", 403),
        at(json!({ "who": client.user, "event": "system:notification", "message_id": relayed["message_id"], "socket_id": client.socket_id })),
        refused("bound", "POST /api/ws/broadcast", 403),
        refused("bound", "GET /api/ws/stats", 403),
        refused("nobody", "GET /api/ws/connections/{socket_id}", 401),
        at(json!({ "action": "disconnect", "socket_id": client.socket_id })),
    ]) {
        assert_says(line, &expected);
    }
    assert_eq!(deeds.len(), 9, "{deeds:#?}");
    let all = server.text();
    for secret in ["a private figure", "a private word", "-secret", client.wire.sid()] {
        assert!(!all.contains(secret), "{secret} is in the log: {all}");
    }
}

#[tokio::test]
async fn the_audit_log_can_be_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Process::start(folder.path(), "audit = false\nlevel = \"trace\"\nlog_broadcast_events = true\n").await;
    assert_eq!(server.call("backend", Method::POST, "/broadcast", &body("kpi:update")).await.status, 200);
    assert_eq!(server.call("guessed", Method::GET, "/stats", &json!({})).await.status, 401);
    eventually("the broadcast is logged", async || server.text().contains("broadcast")).await;
    assert_eq!(server.deeds(), Vec::<Value>::new());
}
