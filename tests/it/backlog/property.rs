//! The order of a backlog on one page: whatever is published, and however slowly it is read.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{TestCaseError, TestRunner},
};
use serde_json::{Value, json};

use super::{FILLER, Lost, fill, lost, pressed, stopped};
use crate::kit::{Client, ConnectOptions, Event, Forms, TestServer};

/// Events, and whether a newer one is a newer value.
const EVENTS: [(&str, bool); 9] = [
    ("kpi:update", true),
    ("kpi:computed", false),
    ("backlog:update", true),
    ("backlog:snapshot", true),
    ("attendance:checkin", false),
    ("alert:triggered", false),
    ("alert:acknowledged", false),
    ("alert:resolved", false),
    ("system:notification", false),
];

/// The least urgent first.
const PRIORITIES: [&str; 4] = ["low", "medium", "high", "urgent"];

const SCOPES: [(&str, &str); 3] = [("queue_name", ""), ("queue_name", "q-1"), ("department_id", "d-1")];

#[derive(Debug, Clone)]
enum Step {
    Publish(Publication),
    /// The slow client reads so many messages more.
    Read(usize),
}

#[derive(Debug, Clone)]
struct Publication {
    event: &'static str,
    conflated: bool,
    /// A place in [`PRIORITIES`].
    priority: usize,
    /// A place in [`SCOPES`].
    scope: usize,
    alert: u8,
    requires_ack: bool,
    size: usize,
}

impl Publication {
    fn body(&self, number: usize) -> Value {
        let mut target = json!({ "organization_id": "org-1" });
        let (field, id) = SCOPES[self.scope];
        if !id.is_empty() {
            target[field] = json!(id);
        }
        json!({
            "event": self.event,
            "data": { "n": number, "alert_id": format!("alert-{}", self.alert), "pad": "x".repeat(self.size) },
            "target": target,
            "priority": PRIORITIES[self.priority],
            "requires_ack": self.requires_ack,
        })
    }

    /// What it is about: an alert, or its family at its scope.
    fn entity(&self) -> (&str, usize) {
        match self.event.split_once(':') {
            Some(("alert", _)) => ("alert", self.alert.into()),
            Some((family, _)) => (family, self.scope),
            None => unreachable!("an event has a family"),
        }
    }

    fn may_be_replaced_by(&self, other: &Self) -> bool {
        let values = self.conflated && !self.requires_ack && other.conflated && !other.requires_ack;
        values && (self.event, self.scope) == (other.event, other.scope)
    }

    fn may_be_dropped(&self) -> bool {
        self.priority == 0 && !self.requires_ack
    }

    fn urgency(&self) -> usize {
        if self.requires_ack { self.priority.max(1) } else { self.priority }
    }
}

// === The rules ===

/// Every publication once.
fn everything(received: &[usize], published: &[Publication]) -> Result<(), TestCaseError> {
    let mut sorted = received.to_vec();
    sorted.sort_unstable();
    prop_assert_eq!(sorted, (0..published.len()).collect::<Vec<_>>());
    Ok(())
}

/// What is about the same thing comes in the order in which it was published, and only once.
fn entities_in_order(received: &[usize], published: &[Publication]) -> Result<(), TestCaseError> {
    let mut last: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    for &number in received {
        let before = last.insert(published[number].entity(), number);
        prop_assert!(before < Some(number), "{} came after {:?}: {:?}", number, before, published[number]);
    }
    Ok(())
}

/// Only what is of low priority is lost, or has a newer value behind it; and that newer value came, unless it is of
/// low priority in its turn.
fn nothing_lost_that_matters(received: &[usize], published: &[Publication]) -> Result<(), TestCaseError> {
    let received: BTreeSet<usize> = received.iter().copied().collect();
    for (number, publication) in published.iter().enumerate() {
        let newer = || (number + 1..published.len()).filter(|newer| publication.may_be_replaced_by(&published[*newer]));
        let shown = newer().any(|newer| received.contains(&newer) || published[newer].may_be_dropped());
        let may_be_lost = publication.may_be_dropped() || shown;
        prop_assert!(received.contains(&number) || may_be_lost, "{} was lost: {:?}", number, publication);
    }
    Ok(())
}

/// Nothing overtakes what was published before it, unless it is more urgent, makes room for something more urgent
/// of its kind, or took an older value's place.
fn no_overtaking_without_reason(received: &[usize], published: &[Publication]) -> Result<usize, TestCaseError> {
    let came: BTreeSet<usize> = received.iter().copied().collect();
    let mut overtaken = 0;
    for (place, &early) in received.iter().enumerate() {
        let same = |other: &usize| published[*other].entity() == published[early].entity();
        let pushed_by = (early..published.len()).filter(same).map(|other| published[other].urgency()).max();
        let took_a_place = (0..early).filter(same).any(|other| !came.contains(&other) && published[other].conflated);
        for &late in received[place + 1..].iter().filter(|late| **late < early) {
            overtaken += 1;
            let more_urgent = pushed_by > Some(published[late].urgency());
            prop_assert!(more_urgent || took_a_place, "{} overtook {} for nothing", early, late);
        }
    }
    Ok(overtaken)
}

/// The server's counts are what did not come, event by event.
async fn losses_add_up(
    server: &TestServer,
    received: &[usize],
    published: &[Publication],
) -> Result<usize, TestCaseError> {
    let mut total = 0;
    for (event, conflated) in EVENTS {
        let of = |publication: &Publication| publication.event == event;
        let came = received.iter().filter(|number| of(&published[**number])).count();
        let sent = published.iter().filter(|publication| of(publication)).count();
        let droppable = published.iter().filter(|publication| of(publication) && publication.may_be_dropped()).count();
        let lost = lost(server, event).await;
        prop_assert_eq!((sent - came) as u64, lost.conflated + lost.dropped, "{}: {:?}", event, lost);
        prop_assert!(lost.dropped <= droppable as u64, "{}: {:?} of {} that may be", event, lost, droppable);
        prop_assert!(conflated || lost.conflated == 0, "{} is no value of anything", event);
        total += sent - came;
    }
    Ok(total)
}

// === The real thing ===

/// The publications that arrived, in order, each in both its forms and with nothing between them.
fn pair_up(events: &[Event]) -> Result<Vec<usize>, TestCaseError> {
    let number = |event: &Event| event.data()["n"].as_u64().map(|number| number as usize);
    let mut received = Vec::new();
    for pair in events.chunks(2) {
        let [named, enveloped] = pair else { panic!("half an event: {pair:?}") };
        prop_assert!(named.name != "message" && enveloped.name == "message", "{} {}", named.name, enveloped.name);
        prop_assert_eq!((named.entry(), named.data()), (enveloped.entry(), enveloped.data()));
        received.extend(number(named));
    }
    Ok(received)
}

/// All frames of so many publications, and that there is nothing behind them.
async fn receive(server: &TestServer, client: &mut Client, count: usize) -> Result<Vec<usize>, TestCaseError> {
    let mut events = Vec::new();
    while events.len() < 2 * count {
        events.push(client.next_event().await);
    }
    let rest = client.drain(server).await;
    prop_assert!(rest.is_empty(), "more than {}: {:?}", count, rest.first());
    pair_up(&events)
}

/// Tries it, and says how many were lost and how many overtaken.
async fn check(steps: Vec<Step>) -> Result<(usize, usize), TestCaseError> {
    let server = TestServer::start(pressed).await;
    let mut slow = stopped(&server, Forms::Both).await;
    let filler = fill(&server, &slow).await;
    let mut fast = server.connect("/").await.authenticate("org-1").await;
    let mut published = Vec::new();
    for step in steps {
        match step {
            Step::Read(messages) => slow.wire.read(messages),
            Step::Publish(publication) => {
                let (status, answer) = server.publish("/broadcast", publication.body(published.len())).await;
                prop_assert_eq!(status, 200, "{}", answer);
                published.push(publication);
            }
        }
    }
    // Who keeps up misses nothing; a moment's backlog is enough for something urgent to overtake.
    let received = receive(&server, &mut fast, published.len()).await?;
    everything(&received, &published)?;
    entities_in_order(&received, &published)?;
    no_overtaking_without_reason(&received, &published)?;

    let mut missing = lost(&server, FILLER).await.dropped;
    for (event, _) in EVENTS {
        let Lost { conflated, dropped } = lost(&server, event).await;
        missing += conflated + dropped;
    }
    slow.wire.read(usize::MAX);
    let received = receive(&server, &mut slow, published.len() + filler as usize - missing as usize).await?;
    let lost = losses_add_up(&server, &received, &published).await?;
    entities_in_order(&received, &published)?;
    nothing_lost_that_matters(&received, &published)?;
    let overtaken = no_overtaking_without_reason(&received, &published)?;
    drop((slow, fast));
    server.finish().await;
    Ok((lost, overtaken))
}

/// The positions that a client names when it comes back: that of the last frame which carries one.
fn last_position(events: &[Event]) -> Option<&str> {
    events.iter().rev().find_map(|event| event.args.get(1).and_then(Value::as_str))
}

/// What counts of what was read up to a break: a frame that asks for an acknowledgement has no position, so if it was
/// the last one, its event comes again whole, in its place in the log.
fn settled(mut events: Vec<Event>) -> Vec<Event> {
    events.pop_if(|last| last.ack.is_some());
    events
}

/// The publications that arrived, in the order of their named frames, each in both its forms and each form once.
fn each_form_once(events: &[Event]) -> Result<Vec<usize>, TestCaseError> {
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    for event in events {
        let Some(number) = event.data()["n"].as_u64().map(|number| number as usize) else { continue };
        let named = event.name != "message";
        prop_assert!(seen.insert((number, named)), "{} came twice: {:?}", number, event);
        if named {
            order.push(number);
        }
    }
    for &number in &order {
        prop_assert!(seen.contains(&(number, false)), "{} came in one form only", number);
    }
    prop_assert_eq!(seen.len(), 2 * order.len(), "some came without their named form");
    Ok(order)
}

/// What a client is told up to now: a marker of low priority overtakes nothing that is.
async fn everything_told(server: &TestServer, client: &mut Client) -> Vec<Event> {
    let target = json!({ "organization_id": "org-1", "socket_ids": [client.socket_id] });
    let body = json!({ "event": FILLER, "data": { "marker": "end" }, "target": target, "priority": "low" });
    assert_eq!(server.publish("/broadcast", body).await.0, 200);
    client.events_until("end").await
}

/// A client that reads slowly, breaks off after some of these steps and comes back when all are done ends with what
/// it should have.
async fn check_broken(steps: Vec<Step>, breaks_at: usize) -> Result<usize, TestCaseError> {
    let server = TestServer::start(pressed).await;
    let options = ConnectOptions { receive_buffer: Some(4_096), ..ConnectOptions::default() };
    let mut slow = server.connect_with(options).await.authenticate("org-1").await;
    server.broadcast("system:broadcast", json!({ "first": true }), json!({ "organization_id": "org-1" })).await;
    let mut events = vec![slow.next_event().await, slow.next_event().await];
    let (pid, id) = (slow.connected["pid"].clone(), slow.socket_id.clone());
    slow.wire.hold().await;
    fill(&server, &slow).await;
    let (mut slow, mut published) = (Some(slow), Vec::new());
    for (at, step) in steps.into_iter().enumerate() {
        if at == breaks_at
            && let Some(slow) = slow.take()
        {
            events.extend(slow.break_off().await);
            server.count("the connection is gone", |census| census.sockets == 0).await;
        }
        match (step, &slow) {
            (Step::Read(messages), Some(slow)) => slow.wire.read(messages),
            (Step::Read(_), None) => {}
            (Step::Publish(publication), _) => {
                let (status, answer) = server.publish("/broadcast", publication.body(published.len())).await;
                prop_assert_eq!(status, 200, "{}", answer);
                published.push(publication);
            }
        }
    }
    if let Some(slow) = slow {
        events.extend(slow.break_off().await);
        server.count("the connection is gone", |census| census.sockets == 0).await;
    }
    let read = events.len();
    let mut events = settled(events);
    let auth = json!({ "pid": pid, "offset": last_position(&events) });
    let mut client = server.connect_with(ConnectOptions::default().auth(auth)).await;
    let greeting = client.next_named("connected").await;
    prop_assert_eq!(&greeting.payload()["recovered"], &json!(true), "{:?}", last_position(&events));
    prop_assert_eq!(&client.socket_id, &id);
    events.extend(everything_told(&server, &mut client).await);

    let received = each_form_once(&events)?;
    entities_in_order(&received, &published)?;
    nothing_lost_that_matters(&received, &published)?;
    drop(client);
    server.finish().await;
    Ok(read)
}

// === What is tried ===

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let publication = (
        select(&EVENTS[..]),
        0..PRIORITIES.len(),
        0..SCOPES.len(),
        0..3u8,
        prop::bool::weighted(0.1),
        prop_oneof![4 => 0..4_000usize, 1 => 0..20_000usize],
    );
    let publish = publication.prop_map(|((event, conflated), priority, scope, alert, requires_ack, size)| {
        Step::Publish(Publication { event, conflated, priority, scope, alert, requires_ack, size })
    });
    // A little now and then, so that a backlog stays; seldom most of what waits.
    let read = prop_oneof![9 => 0..8usize, 1 => 0..250usize];
    vec(prop_oneof![9 => publish, 1 => read.prop_map(Step::Read)], 50..300)
}

#[test]
fn a_backlog_keeps_the_rules_whatever_comes_and_however_slowly_it_is_read() {
    let config = ProptestConfig { cases: 12, max_shrink_iters: 8, failure_persistence: None, ..Default::default() };
    let (losses, overtakings) = (Cell::new(0), Cell::new(0));
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (lost, overtaken) = runtime.block_on(check(steps))?;
        losses.update(|all| all + lost);
        overtakings.update(|all| all + overtaken);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(losses.get() > 0 && overtakings.get() > 0, "nothing waited, so nothing was tried");
}

#[test]
fn a_client_that_breaks_off_in_a_backlog_ends_with_what_it_should_have() {
    let config = ProptestConfig { cases: 12, max_shrink_iters: 8, failure_persistence: None, ..Default::default() };
    let read = Cell::new(0);
    let outcome = TestRunner::new(config).run(&(steps(), 0..300usize), |(steps, breaks_at)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let one = runtime.block_on(check_broken(steps, breaks_at))?;
        read.update(|all| all + one);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(read.get() > 0, "nothing was read before it broke off");
}
