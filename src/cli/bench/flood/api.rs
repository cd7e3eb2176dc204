//! The HTTP API of the server, as its operator uses it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cli::bench::{http::Connection, target::Target};

/// An operator with a key, who connects for each call.
pub(super) struct Api {
    target: Target,
    key: String,
}

impl Api {
    /// An operator of that server.
    pub(super) fn new(target: &Target, key: &str) -> Self {
        Self { target: target.clone(), key: key.to_owned() }
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// If the server does not answer with JSON and 200.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.call("GET", path, "").await
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// If the server does not answer with JSON and 200.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call("POST", path, &body.to_string()).await
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.target.authority,
            self.key,
            body.len()
        );
        let (response, _) = Connection::open(&self.target).await?.exchange(request.as_bytes()).await?;
        ensure!(response.status == 200, "{method} {path} was answered {}", response.shown());
        serde_json::from_slice(&response.body).with_context(|| format!("{path} was not answered with JSON"))
    }
}
