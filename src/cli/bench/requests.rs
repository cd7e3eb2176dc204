//! What a client asks of the server: who it is, and to be told of `kpi`.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::args::{Form, Kind};

/// The requests of one client, and the one whose answer it waits for.
#[derive(Debug, Default)]
pub(super) struct Requests {
    client: Kind,
    last: u32,
    what: &'static str,
}

/// An answer to a plain request.
#[derive(Debug, Deserialize)]
struct PlainAnswer {
    id: Option<u32>,
    data: Value,
}

impl Requests {
    /// The requests of a client of this kind.
    pub(super) fn of(client: Kind) -> Self {
        Self { client, ..Self::default() }
    }

    /// The message that says who client `index` is, and proves it where a token is asked for.
    pub(super) fn authenticate(&mut self, index: usize, organization: &str, form: Form, token: Option<&str>) -> String {
        let mut who = json!({ "user_id": user(index), "organization_id": organization, "forms": form.as_str() });
        if let Some(token) = token {
            who["token"] = token.into();
        }
        self.request("authenticate", &who)
    }

    /// The message that subscribes.
    pub(super) fn subscribe(&mut self, organization: &str) -> String {
        self.subscribe_to(organization, None)
    }

    /// The same for a department, if it is only one.
    pub(super) fn subscribe_to(&mut self, organization: &str, department: Option<&str>) -> String {
        let mut what = json!({ "channels": ["kpi"], "organization_id": organization });
        if let Some(department) = department {
            what["department_id"] = department.into();
        }
        self.request("subscribe", &what)
    }

    /// Whether this answers the last request: what is behind the type of an ack packet, or a plain frame.
    ///
    /// # Errors
    /// If it is a refusal.
    pub(super) fn answered(&self, answer: &[u8]) -> Result<bool> {
        let read = match self.client {
            Kind::Socketio => of_ack(answer),
            Kind::Plain => serde_json::from_slice(answer).map(|PlainAnswer { id, data }| (id, data)),
        };
        let (id, said) = read.with_context(|| format!("malformed answer {}", shown(answer)))?;
        if id != Some(self.last) {
            return Ok(false);
        }
        if said["success"] != true {
            bail!("the server refused to {}: {said}", self.what);
        }
        Ok(true)
    }

    fn request(&mut self, what: &'static str, payload: &Value) -> String {
        self.last += 1;
        self.what = what;
        match self.client {
            Kind::Socketio => format!("42{}{}", self.last, json!([what, payload])),
            Kind::Plain => json!({ "event": what, "data": payload, "id": self.last }).to_string(),
        }
    }
}

/// The id of the user that client `index` is.
pub(super) fn user(index: usize) -> String {
    format!("bench-{index}")
}

fn of_ack(ack: &[u8]) -> serde_json::Result<(Option<u32>, Value)> {
    let digits = ack.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (id, arguments) = ack.split_at(digits);
    let [said] = serde_json::from_slice(arguments)?;
    Ok((serde_json::from_slice(id).ok(), said))
}

/// The beginning of a message, for people.
pub(super) fn shown(message: &[u8]) -> String {
    String::from_utf8_lossy(message).chars().take(200).collect()
}
