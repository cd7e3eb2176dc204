//! When keys are looked for: files every few seconds, a URL every few minutes, and at once for a key that is missed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::key::Key;
use super::key_set::KeySet;
use super::source::{KeyFault, Source, local, remote};
use crate::config::Jwt;

/// Keeps a set of keys as its sources are.
pub(in crate::auth) struct Refresher {
    config: Jwt,
    set: Arc<KeySet>,
    secret: Option<Key>,
    files: Vec<Source>,
    url: Option<Source>,
    /// When the URL was asked last.
    asked: Instant,
    /// When it is asked again.
    due: Instant,
}

impl Refresher {
    /// Reads the secret and the files; what the URL has is fetched later.
    ///
    /// # Errors
    /// What is wrong with the secret or a file.
    pub(in crate::auth) fn new(config: &Jwt) -> Result<Self, KeyFault> {
        let (secret, files, faults) = local(config);
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault);
        }
        let url = remote(config)?;
        let set = Arc::new(KeySet::new(url.is_some()));
        let now = Instant::now();
        let refresher = Self { config: config.clone(), set, secret, files, url, asked: now, due: now };
        refresher.publish();
        Ok(refresher)
    }

    /// The keys that it keeps.
    pub(in crate::auth) fn set(&self) -> Arc<KeySet> {
        self.set.clone()
    }

    /// Whether its keys can change.
    pub(in crate::auth) fn has_sources(&self) -> bool {
        !self.files.is_empty() || self.url.is_some()
    }

    /// Looks for keys until the server stops.
    pub(in crate::auth) async fn run(mut self, stopping: CancellationToken) {
        let set = self.set.clone();
        let mut look = interval(Duration::from_millis(self.config.key_files_check_ms));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let keep = async {
            loop {
                tokio::select! {
                    _ = look.tick(), if !self.files.is_empty() => self.read().await,
                    () = sleep_until(self.due), if self.url.is_some() => self.fetch().await,
                    () = set.missed() => self.due = self.due.min(self.asked + self.least_pause()),
                }
            }
        };
        stopping.run_until_cancelled(keep).await;
    }

    /// Reads the files again.
    async fn read(&mut self) {
        for file in &mut self.files {
            if file.refresh(&self.config).await {
                tell(file);
            }
        }
        self.publish();
    }

    /// Asks the URL, which is asked again soon if it does not answer.
    pub(in crate::auth) async fn fetch(&mut self) {
        let Some(url) = &mut self.url else { return };
        self.asked = Instant::now();
        if url.refresh(&self.config).await {
            tell(url);
        }
        let pause = match url.fault {
            Some(_) => self.least_pause(),
            None => Duration::from_millis(self.config.jwks_refresh_ms),
        };
        self.due = self.asked + pause;
        self.publish();
        self.set.fetched(self.asked + self.least_pause());
    }

    /// How often the URL is asked at most.
    fn least_pause(&self) -> Duration {
        Duration::from_millis(self.config.jwks_min_refresh_ms)
    }

    fn publish(&self) {
        let sources = self.files.iter().chain(&self.url);
        self.set.replace(self.secret.iter().chain(sources.flat_map(|source| &source.keys)).cloned().collect());
    }
}

/// Tells whoever runs the server what is new.
fn tell(source: &Source) {
    match &source.fault {
        Some(why) => tracing::warn!(key = source.key, kept = source.keys.len(), %why, "no keys can be had"),
        None => tracing::info!(key = source.key, keys = source.keys.len(), "there are new keys"),
    }
}
