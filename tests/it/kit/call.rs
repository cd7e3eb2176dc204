//! Plain HTTP requests, each on a connection of its own.

use serde_json::Value;

use super::{CA, clients};

/// One request about to be sent.
pub struct Call {
    builder: reqwest::RequestBuilder,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Reply {
    /// The body as JSON, `null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// One header, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Call {
    pub fn get(url: &str) -> Self {
        Self::new(reqwest::Method::GET, url)
    }

    pub fn post(url: &str) -> Self {
        Self::new(reqwest::Method::POST, url)
    }

    pub fn new(method: reqwest::Method, url: &str) -> Self {
        // A pooled connection would still be open when a server is asked whether all is gone.
        // The certificates of the system take longer to read than most calls.
        let plain = reqwest::Client::builder().tls_built_in_root_certs(false);
        let mut builder = plain.pool_max_idle_per_host(0).no_proxy();
        if url.starts_with("https") {
            builder = builder.add_root_certificate(reqwest::Certificate::from_der(CA.der()).expect("a certificate"));
        }
        let client = builder.build().expect("an HTTP client");
        Self { builder: client.request(method, url) }
    }

    /// Sets a header, in place of one of that name.
    pub fn header(self, name: &str, value: &str) -> Self {
        let name = http::HeaderName::try_from(name).expect("a header name");
        let headers = http::HeaderMap::from_iter([(name, value.parse().expect("a header value"))]);
        Self { builder: self.builder.headers(headers) }
    }

    pub fn text(self, body: &str) -> Self {
        let builder = self.builder.header("content-type", "text/plain;charset=UTF-8").body(body.to_owned());
        Self { builder }
    }

    pub fn json(self, body: &Value) -> Self {
        Self { builder: self.builder.json(body) }
    }

    /// A body that is sent as it stands, called JSON.
    pub fn raw_json(self, body: impl Into<String>) -> Self {
        Self { builder: self.builder.header("content-type", "application/json").body(body.into()) }
    }

    /// A body that is sent as it stands, called nothing.
    pub fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self { builder: self.builder.body(body) }
    }

    /// Sends it; nothing if there was no answer.
    pub async fn send(self) -> Option<Reply> {
        let sending = clients().spawn(async move {
            let response = self.builder.send().await.ok()?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Some(Reply { status, headers, text: response.text().await.ok()? })
        });
        sending.await.expect("the request's task")
    }
}
