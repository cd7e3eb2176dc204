//! The rules of the configuration, ready to be followed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Identity;
use crate::backend::{Backend, CallError, Service, ServiceSettings};
use crate::config::{ClientAction, ClientEvent, RelayTo};

const TIMEOUT_MS: u64 = 5_000;
const MAX_CONCURRENT: usize = 64;
const RETRY_MS: u64 = 10_000;

/// What happens with events of clients.
#[derive(Debug)]
pub struct ClientEvents {
    rules: HashMap<String, Entry>,
    /// Held by who changes the gym's register until the change is published, so that clients hear of the changes in
    /// their order.
    pub(super) changes: Mutex<()>,
    pub(super) stopping: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    rule: Rule,
    /// Who may send it: whoever has one of these roles; none is everybody.
    roles: Option<Vec<String>>,
}

impl Entry {
    fn is_for(&self, identity: &Identity) -> bool {
        !identity.anonymous && self.roles.as_ref().is_none_or(|roles| identity.has_role(roles))
    }
}

/// What happens with one of them.
#[derive(Debug)]
pub(super) enum Rule {
    /// It is published.
    Relay {
        /// To whom.
        to: RelayTo,
        /// Under this name.
        name: String,
    },
    /// A service is asked.
    Forward(Arc<Service>),
    /// Nothing.
    Drop,
}

impl ClientEvents {
    /// The rules of a configuration that was checked; no service is asked any more when `stopping` is cancelled.
    ///
    /// # Errors
    /// If there are services to ask, and none can be.
    pub fn start(
        rules: &[ClientEvent],
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Result<Arc<Self>, CallError> {
        let asks = rules.iter().any(|rule| rule.action == ClientAction::Forward);
        // One pool of connections for all of them.
        let backend = asks.then(|| Backend::new(Duration::from_millis(TIMEOUT_MS))).transpose()?;
        let entry =
            |rule: &ClientEvent| Some(Entry { rule: Rule::of(rule, backend.as_ref())?, roles: rule.roles.clone() });
        let rules = rules.iter().filter_map(|rule| Some((rule.event.clone(), entry(rule)?)));
        let events = Self { rules: rules.collect(), changes: Mutex::default(), stopping: stopping.clone() };
        if let Some(backend) = backend {
            let stopping = stopping.clone();
            tasks.spawn(async move {
                stopping.cancelled().await;
                backend.close();
            });
        }
        Ok(Arc::new(events))
    }

    pub(super) fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.get(name).map(|entry| &entry.rule)
    }

    /// Whether somebody may send an event, as far as a rule says.
    pub(super) fn may_send(&self, name: &str, identity: &Identity) -> bool {
        self.rules.get(name).is_none_or(|entry| entry.is_for(identity))
    }

    /// The events with a rule that somebody may send, by name.
    pub(in crate::session) fn of<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a str> {
        let mut names: Vec<_> = self.rules.iter().filter(|(_, entry)| entry.is_for(identity)).collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        names.into_iter().map(|(name, _)| name.as_str())
    }
}

impl Rule {
    fn of(rule: &ClientEvent, backend: Option<&Backend>) -> Option<Self> {
        Some(match rule.action {
            ClientAction::Relay => Self::Relay { to: rule.to?, name: rule.published_as().to_owned() },
            ClientAction::Forward => {
                let settings = ServiceSettings {
                    url: rule.url.clone()?,
                    secret: rule.secret.clone().unwrap_or_default(),
                    timeout: Duration::from_millis(rule.timeout_ms.unwrap_or(TIMEOUT_MS)),
                    max_concurrent: rule.max_concurrent.unwrap_or(MAX_CONCURRENT),
                    retry: Duration::from_millis(rule.retry_ms.unwrap_or(RETRY_MS)),
                };
                Self::Forward(Arc::new(Service::new(backend?, settings)))
            }
            ClientAction::Drop => Self::Drop,
        })
    }
}
