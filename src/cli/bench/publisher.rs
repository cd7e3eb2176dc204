//! Publishers: POSTs on kept-alive connections, back to back or at a rate.
//!
//! They run on a thread of their own, so that receiving never delays sending;
//! how late a paced event was sent is counted instead of hidden.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::{runtime, task::JoinSet, time};

use super::{args::LoadArgs, clock::Clock, http::Connection, payload, percentiles::histogram, post, target::Target};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be published.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Where to; publishers take turns.
    pub(super) targets: Vec<Target>,
    /// The organization's id.
    pub(super) organization: String,
    /// The API key, if the server wants one.
    pub(super) api_key: Option<String>,
    /// Bytes of a payload.
    pub(super) size: usize,
    /// Number of the first event.
    pub(super) first: u64,
    /// How many events.
    pub(super) events: u64,
    /// Events a second over all publishers; back to back without.
    pub(super) rate: Option<f64>,
    /// How many connections share the work.
    pub(super) publishers: usize,
}

/// What publishing took.
#[derive(Debug)]
pub(super) struct Published {
    /// When the first event was sent.
    pub(super) began: u64,
    /// When the last answer had come.
    pub(super) ended: u64,
    /// From sending an event to its answer.
    pub(super) answers: Histogram<u64>,
    /// How late paced events were sent.
    pub(super) late: Histogram<u64>,
    /// Sockets that were reached, summed over events, if the server tells.
    pub(super) reached: u64,
}

/// The part of an answer that is looked at.
#[derive(Deserialize)]
struct Answer {
    recipients_count: u64,
}

/// Publishing that is under way.
pub(super) struct Publishing {
    thread: JoinHandle<Result<Published>>,
    stop: Arc<AtomicBool>,
}

impl Job {
    /// The job of publishing `events` events after `first`.
    pub(super) fn new(args: &LoadArgs, targets: &[Target], first: u64, events: u64) -> Self {
        Self {
            targets: targets.to_vec(),
            organization: args.organization.clone(),
            api_key: args.api_key.clone(),
            size: args.size,
            first,
            events,
            rate: args.rate,
            publishers: args.publishers,
        }
    }

    /// Starts to publish.
    pub(super) fn start(self, clock: Clock) -> Result<Publishing> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::Builder::new().name("publishers".to_owned()).spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(publish(Arc::new(self), clock, seen))
        })?;
        Ok(Publishing { thread, stop })
    }
}

impl Publishing {
    /// Whether all is published or publishing has failed.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops before the next event.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the end.
    pub(super) fn join(self) -> Result<Published> {
        self.thread.join().map_err(|_| anyhow!("the publishers' thread panicked"))?
    }
}

async fn publish(job: Arc<Job>, clock: Clock, stop: Arc<AtomicBool>) -> Result<Published> {
    let next = Arc::new(AtomicU64::new(0));
    let mut connections = Vec::new();
    for target in job.targets.iter().cycle().take(job.publishers) {
        connections.push((Connection::open(target).await.context("a publisher cannot connect")?, target.clone()));
    }
    let began = clock.now();
    let mut publishers = JoinSet::new();
    for (connection, target) in connections {
        let (job, next, stop) = (Arc::clone(&job), Arc::clone(&next), Arc::clone(&stop));
        publishers.spawn(Publisher { job, next, stop, clock, began, target, connection }.run());
    }
    let mut sum = Published { began, ended: began, answers: histogram(), late: histogram(), reached: 0 };
    while let Some(one) = publishers.join_next().await {
        let published = one.map_err(|_| anyhow!("a publisher panicked"))??;
        sum.answers.add(&published.answers)?;
        sum.late.add(&published.late)?;
        sum.reached += published.reached;
    }
    sum.ended = clock.now();
    Ok(sum)
}

/// One connection that publishes.
struct Publisher {
    job: Arc<Job>,
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clock: Clock,
    began: u64,
    target: Target,
    connection: Connection,
}

impl Publisher {
    async fn run(mut self) -> Result<Published> {
        let began = self.began;
        let mut published = Published { began, ended: began, answers: histogram(), late: histogram(), reached: 0 };
        let mut request = post::head(&self.target, self.job.api_key.as_deref(), self.job.size, None);
        let head = request.len();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.job.events || self.stop.load(Ordering::Relaxed) {
                return Ok(published);
            }
            request.truncate(head);
            payload::render(&mut request, self.job.first + number, &self.job.organization, self.job.size);
            if let Some(rate) = self.job.rate {
                published.late.saturating_record(self.wait_for_turn(number, rate).await);
            }
            let sent = self.clock.now();
            payload::set_time(&mut request[head..], sent);
            published.reached += self.post(&request).await?;
            published.ended = self.clock.now();
            published.answers.saturating_record(published.ended - sent);
        }
    }

    /// Waits until it is this event's turn and says how late it is by then.
    async fn wait_for_turn(&self, number: u64, rate: f64) -> u64 {
        let due = self.began + Duration::from_secs_f64(number as f64 / rate).as_nanos() as u64;
        if let Some(early) = due.checked_sub(self.clock.now()) {
            time::sleep(Duration::from_nanos(early)).await;
        }
        self.clock.now().saturating_sub(due)
    }

    /// How many sockets it reached.
    async fn post(&mut self, request: &[u8]) -> Result<u64> {
        let answer = time::timeout(ANSWER_TIMEOUT, self.connection.exchange(request)).await;
        let (response, _) = answer.context("publishing was not answered in time")?.context("publishing failed")?;
        if response.status != 200 {
            bail!("publishing was answered {}", response.shown());
        }
        Ok(serde_json::from_slice(&response.body).map_or(0, |Answer { recipients_count }| recipients_count))
    }
}
