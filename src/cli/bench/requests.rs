//! What a client asks of the server: who it is, and to be told of `kpi`.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::args::Form;

/// The requests of one client, and the one whose answer it waits for.
#[derive(Debug, Default)]
pub(super) struct Requests {
    last: u32,
    what: &'static str,
}

impl Requests {
    /// The packet that says who client `index` is.
    pub(super) fn authenticate(&mut self, index: usize, organization: &str, form: Form) -> String {
        let user = format!("bench-{index}");
        self.request(
            "authenticate",
            &json!({ "user_id": user, "organization_id": organization, "forms": form.as_str() }),
        )
    }

    /// The packet that subscribes.
    pub(super) fn subscribe(&mut self, organization: &str) -> String {
        self.request("subscribe", &json!({ "channels": ["kpi"], "organization_id": organization }))
    }

    /// Whether this, behind the packet's type, answers the last request.
    ///
    /// # Errors
    /// If it is a refusal.
    pub(super) fn answered(&self, ack: &[u8]) -> Result<bool> {
        let digits = ack.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (id, answer) = ack.split_at(digits);
        if id != self.last.to_string().as_bytes() {
            return Ok(false);
        }
        let answer: Value = serde_json::from_slice(answer).with_context(|| format!("malformed ack {}", shown(ack)))?;
        if answer[0]["success"] != true {
            bail!("the server refused to {}: {}", self.what, answer[0]);
        }
        Ok(true)
    }

    fn request(&mut self, what: &'static str, payload: &Value) -> String {
        self.last += 1;
        self.what = what;
        format!("42{}{}", self.last, json!([what, payload]))
    }
}

/// The beginning of a packet, for people.
pub(super) fn shown(packet: &[u8]) -> String {
    String::from_utf8_lossy(packet).chars().take(200).collect()
}
