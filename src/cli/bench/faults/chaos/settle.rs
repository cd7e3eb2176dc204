//! What has to be so again after each fault: every node publishes, every client is back and has everything.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{self, Instant};

use super::check::{Finding, Kind};
use super::client::{World, organization};
use super::history::Room;
use super::publisher::Publisher;
use super::run::ORGANIZATIONS;
use crate::cli::bench::{http::Connection, target::Target};

const PROBE: Duration = Duration::from_millis(50);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How many of those that are behind are named.
const NAMED: usize = 3;

/// It publishes too, so that it knows whether every node does.
pub(super) struct Settler {
    world: Rc<World>,
    rooms: Rc<Vec<Room>>,
    publisher: Publisher,
}

impl Settler {
    /// One that counts as the publisher of that number.
    pub(super) fn new(world: &Rc<World>, rooms: &Rc<Vec<Room>>, number: usize, seed: u64) -> Self {
        Self { world: world.clone(), rooms: rooms.clone(), publisher: Publisher::new(world, rooms, number, seed) }
    }

    /// Waits until everything is so again, and says what is not when the time is up.
    pub(super) async fn settle(&mut self, after: &str, within: Duration) -> Vec<Finding> {
        let deadline = Instant::now() + within;
        for node in 0..self.world.doors.len() {
            for room in Rc::clone(&self.rooms).iter() {
                while let Err(error) = self.publisher.one(node, *room).await {
                    if Instant::now() > deadline {
                        let what = format!("after {after} nothing can be published through node {node}: {error:#}");
                        return vec![Finding::new(Kind::NotBack, what)];
                    }
                    time::sleep(PROBE).await;
                }
            }
        }
        loop {
            let mut behind = self.world.record.behind();
            if behind.is_empty() {
                behind = self.unlisted().await;
            }
            if behind.is_empty() {
                return Vec::new();
            }
            if Instant::now() > deadline {
                let (some, count) = (behind.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; "), behind.len());
                let ends = self.world.ends.borrow();
                let ends = ends.iter().rev().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
                let what = format!("after {after} it is still so: {some} ({count} such); newest ends: {ends}");
                return vec![Finding::new(Kind::NotBack, what)];
            }
            time::sleep(PROBE).await;
        }
    }

    /// The nodes whose listing of who is there is not right.
    async fn unlisted(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (node, door) in self.world.doors.iter().enumerate() {
            for number in 0..ORGANIZATIONS {
                let online = self.world.record.online_in(number);
                match listed(door, &organization(number)).await {
                    Ok(listed) if listed == online => {}
                    Ok(listed) => wrong.push(format!("node {node} lists {listed} of {online} users of org-{number}")),
                    Err(error) => wrong.push(format!("node {node} does not list who is there: {error:#}")),
                }
            }
        }
        wrong
    }
}

/// How many users of an organization a node says are there.
async fn listed(door: &Target, organization: &str) -> Result<usize> {
    let request = format!(
        "GET /api/ws/presence?organization_id={organization}&limit=1 HTTP/1.1\r\nHost: {}\r\n\r\n",
        door.authority
    );
    let asking = async { Connection::open(door).await?.exchange(request.as_bytes()).await };
    let (response, _) = time::timeout(ANSWER_TIMEOUT, asking).await.context("no answer in time")??;
    ensure!(response.status == 200, "it answers {}", response.shown());
    let listing: serde_json::Value = serde_json::from_slice(&response.body)?;
    Ok(listing["total_count"].as_u64().context("no total_count")? as usize)
}
