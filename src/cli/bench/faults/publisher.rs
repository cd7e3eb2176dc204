//! The publisher: one event after another at a rate, each until it is answered.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use super::{args::Common, expected::Expected, ledger::Ledger};
use crate::cli::bench::{
    clock::Clock,
    http::{Connection, Response},
    payload, post, random,
    target::Target,
};

/// Bytes of a payload, as long as the organization's id leaves it at that.
const SIZE: usize = 260;
/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one event may stay unanswered.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two attempts.
const RETRY: Duration = Duration::from_millis(50);

/// One publisher.
pub(super) struct Publisher {
    target: Target,
    organization: String,
    api_key: Option<String>,
    size: usize,
    rate: f64,
    clock: Clock,
    ledger: Arc<Ledger>,
    /// Tells the keys of two runs apart.
    run: u64,
    connection: Option<Connection>,
    next: u64,
    refused: u64,
    unknown: BTreeSet<u64>,
}

/// What was published.
#[derive(Debug)]
pub(super) struct Published {
    /// The events, and those of which nobody knows.
    pub(super) expected: Expected,
    /// Attempts that were refused, or whose answer was lost.
    pub(super) refused: u64,
}

/// What became of one attempt.
enum Attempt {
    Answered,
    /// It was not published, and why.
    Refused(anyhow::Error),
    /// Nobody knows whether it was published, and why.
    Lost(anyhow::Error),
}

impl Publisher {
    /// A publisher of so many events a second.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub(super) fn new(target: &Target, args: &Common, rate: f64, clock: Clock, ledger: &Arc<Ledger>) -> Result<Self> {
        Ok(Self {
            target: target.clone(),
            organization: args.organization.clone(),
            api_key: args.api_key.clone(),
            size: SIZE.max(payload::least_size(&args.organization)),
            rate,
            clock,
            ledger: ledger.clone(),
            run: random::fresh()?,
            connection: None,
            next: 0,
            refused: 0,
            unknown: BTreeSet::new(),
        })
    }

    /// Publishes one event.
    ///
    /// # Errors
    /// If the server refuses for another reason than that it stops, or for too long.
    pub(super) async fn one(&mut self) -> Result<()> {
        let sequence = self.next;
        let request = self.request(sequence);
        self.ledger.begin(sequence);
        let deadline = Instant::now() + EVENT_TIMEOUT;
        loop {
            let error = match self.attempt(&request).await? {
                Attempt::Answered => break,
                Attempt::Refused(error) => error,
                Attempt::Lost(error) => {
                    self.unknown.insert(sequence);
                    error
                }
            };
            self.refused += 1;
            self.connection = None;
            if Instant::now() > deadline {
                bail!(error.context(format!("an event could not be published for {} s", EVENT_TIMEOUT.as_secs())));
            }
            time::sleep(RETRY).await;
        }
        self.ledger.answer(sequence);
        self.next += 1;
        Ok(())
    }

    /// Publishes until there are so many events in all, or it is told to stop.
    ///
    /// # Errors
    /// Like [`one`](Self::one).
    pub(super) async fn run(mut self, events: u64, mut stop: watch::Receiver<bool>) -> Result<Self> {
        let (began, first) = (Instant::now(), self.next);
        while self.next < events {
            let wait = Duration::try_from_secs_f64((self.next + 1 - first) as f64 / self.rate).ok();
            let due = wait.and_then(|wait| began.checked_add(wait)).context("--rate is too low")?;
            let stopped = stop.wait_for(|stop| *stop);
            if time::timeout_at(due, stopped).await.is_ok() {
                break;
            }
            self.one().await?;
        }
        Ok(self)
    }

    /// What was published so far.
    pub(super) fn published(&self) -> Published {
        Published { expected: Expected { events: self.next, unknown: self.unknown.clone() }, refused: self.refused }
    }

    async fn attempt(&mut self, request: &[u8]) -> Result<Attempt> {
        let mut connection = match self.connection.take().filter(Connection::is_idle) {
            Some(connection) => connection,
            None => match Connection::open(&self.target).await {
                Ok(connection) => connection,
                Err(error) => return Ok(Attempt::Refused(error)),
            },
        };
        let response = match time::timeout(ANSWER_TIMEOUT, connection.exchange(request)).await {
            Ok(Ok((response, _))) => response,
            Ok(Err(error)) => return Ok(Attempt::Lost(error)),
            Err(_) => return Ok(Attempt::Lost(anyhow::anyhow!("publishing was not answered in time"))),
        };
        self.connection = Some(connection);
        outcome(&response)
    }

    fn request(&self, sequence: u64) -> Vec<u8> {
        let key = format!("bench-{:016x}-{sequence}", self.run);
        let mut request = post::head(&self.target, self.api_key.as_deref(), self.size, Some(&key));
        let head = request.len();
        payload::render(&mut request, sequence, &self.organization, self.size);
        payload::set_time(&mut request[head..], self.clock.now());
        request
    }
}

/// What an answer means: a server that stops is tried again, and what else is wrong ends the run.
fn outcome(response: &Response) -> Result<Attempt> {
    let shown = || anyhow::anyhow!("publishing was answered {}", response.shown());
    match response.status {
        200 => Ok(Attempt::Answered),
        500.. => Ok(Attempt::Refused(shown())),
        _ => Err(shown()),
    }
}
