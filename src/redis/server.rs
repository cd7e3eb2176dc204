//! One Redis server: the connection to it that everybody shares, and whether it answers.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::PubSub;
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ScriptInvocation, ServerErrorKind};
use tokio::sync::Mutex;

use super::connection::Connection;
use super::dial::Dial;

/// One Redis server, or one Redis Cluster.
#[derive(Debug)]
pub struct Server {
    dial: Dial,
    shared: Mutex<Shared>,
    is_away: AtomicBool,
    health: std::sync::Mutex<Health>,
}

/// What its answers have shown.
#[derive(Debug, Default)]
struct Health {
    /// Whether it only reads, which nothing but a script shows: every script of ours may write.
    is_read_only: bool,
    /// When it answered last.
    answered_at: Option<Instant>,
    away_since: Option<Instant>,
}

/// The connection that everybody shares.
#[derive(Debug, Default)]
struct Shared {
    connection: Option<Connection>,
    /// How often one was opened.
    opened: u64,
    /// When the last attempt failed, and why: whoever has waited for it need not fail by itself.
    failed: Option<(Instant, RedisError)>,
}

impl Server {
    pub(super) fn new(dial: Dial) -> Self {
        Self { dial, shared: Mutex::default(), is_away: AtomicBool::new(false), health: std::sync::Mutex::default() }
    }

    /// Its address and database, or the name of the master; the same for all nodes of a cluster.
    pub fn label(&self) -> &str {
        &self.dial.label
    }

    /// Whether it has answered the last time it was asked.
    pub fn is_there(&self) -> bool {
        !self.is_away.load(Ordering::Relaxed)
    }

    /// For how long it has not answered; none if it did the last time.
    pub fn away_for(&self) -> Option<Duration> {
        self.health().away_since.map(|since| since.elapsed())
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a command.
    ///
    /// # Errors
    /// If there is no connection or no answer in time, in which case it may have run, or if Redis refuses it.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        self.with(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Runs several commands in one go.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn pipe<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, RedisError> {
        self.with(|mut connection| async move { commands.query_async(&mut connection).await }).await
    }

    /// Runs a script, which nothing comes between.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn script<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        let began = Instant::now();
        let outcome = self.with(|mut connection| async move { script.invoke_async(&mut connection).await }).await;
        if outcome.is_ok() && std::mem::replace(&mut self.health().is_read_only, false) {
            self.heed(began, None);
        }
        outcome
    }

    /// A connection of its own, for commands that may wait so long for something to happen.
    ///
    /// # Errors
    /// If there is none in time.
    pub async fn open(&self, blocks_for: Duration) -> Result<Connection, RedisError> {
        let began = Instant::now();
        let opened = self.dial.open(blocks_for).await;
        self.heed(began, opened.as_ref().err());
        opened
    }

    /// Subscribes to channels by patterns, on a connection of its own.
    ///
    /// # Errors
    /// If there is none in time.
    pub async fn subscribe(&self, patterns: &[String]) -> Result<PubSub, RedisError> {
        let began = Instant::now();
        let subscribed = self.dial.subscribe(patterns).await;
        self.heed(began, subscribed.as_ref().err());
        subscribed
    }

    pub(super) async fn close(&self) {
        self.shared.lock().await.connection = None;
    }

    /// Takes note of what came of a command on a connection of its own, and when that began.
    pub fn heed(&self, began: Instant, error: Option<&RedisError>) {
        let is_away = {
            let mut health = self.health();
            let is_loss = error.is_some_and(is_loss);
            let refuses = error.is_some_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly));
            // What gets no answer for long is told late: by then others may have got theirs.
            if is_loss && !refuses && health.answered_at > Some(began) {
                return;
            }
            let now = Instant::now();
            health.is_read_only |= refuses;
            let is_away = is_loss || health.is_read_only;
            if !is_loss {
                health.answered_at = Some(now);
            }
            if self.is_away.swap(is_away, Ordering::Relaxed) == is_away {
                return;
            }
            health.away_since = is_away.then_some(now);
            is_away
        };
        match error {
            Some(error) if is_away => tracing::warn!(server = self.label(), %error, "Redis does not answer"),
            _ => tracing::info!(server = self.label(), "Redis answers again"),
        }
    }

    async fn with<T, F>(&self, run: impl FnOnce(Connection) -> F) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let began = Instant::now();
        let (outcome, number) = match self.connection().await {
            Ok((connection, number)) => (run(connection).await, Some(number)),
            Err(error) => (Err(error), None),
        };
        if outcome.as_ref().err().is_some_and(is_loss) {
            // The next one is opened anew: behind the name or the sentinels there may be another master by now.
            let mut shared = self.shared.lock().await;
            if number == Some(shared.opened) {
                shared.connection = None;
            }
        }
        self.heed(began, outcome.as_ref().err());
        outcome
    }

    /// The connection, and its number.
    async fn connection(&self) -> Result<(Connection, u64), RedisError> {
        let came = Instant::now();
        let mut shared = self.shared.lock().await;
        if let Some(connection) = &shared.connection {
            return Ok((connection.clone(), shared.opened));
        }
        if let Some((at, error)) = &shared.failed
            && *at >= came
        {
            return Err(error.clone());
        }
        match self.dial.shared().await {
            Ok(opened) => {
                shared.opened += 1;
                Ok((shared.connection.insert(opened).clone(), shared.opened))
            }
            Err(error) => {
                shared.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

/// Whether an error says that there is nobody who could do anything, and not that it may not be done.
fn is_loss(error: &RedisError) -> bool {
    let is_ours = |kind: ServerErrorKind| {
        matches!(
            kind,
            ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
        )
    };
    match error.kind() {
        ErrorKind::Server(kind) => is_ours(kind),
        ErrorKind::UnexpectedReturnType | ErrorKind::Client | ErrorKind::Extension => false,
        _ => true,
    }
}
