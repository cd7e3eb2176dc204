//! What an earlier process knew, from the log: who was heard when, and what was announced.

use std::collections::HashMap;

use super::book::{Book, FORGOTTEN_MS, Pair};
use super::notice;
use super::watch::Freshness;
use crate::log::{Draft, Log};

/// Entries that are read at the start, in all shards together, and in each at least.
const MOST: usize = 80_000;
const LEAST: usize = 1_000;

/// Entries read at a time, and the fewest that are looked back.
const PAGE: usize = 500;

/// What the log says of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    last_ms: i64,
    /// Whether its silence was announced, and nothing else after that.
    stale: bool,
    /// How long it was silent, if it was heard again and nobody was told.
    revived: Option<i64>,
}

/// Puts into the book what the newest entries of each shard tell, as far back as anything is remembered.
pub(super) fn recall(log: &Log, freshness: &Freshness, book: &mut Book, now: i64) {
    let most = (MOST / log.shards()).max(LEAST);
    for shard in 0..log.shards() {
        let mut found = HashMap::new();
        let mut after = begin(log, shard, now - FORGOTTEN_MS, most);
        loop {
            let page = log.since(shard, after, PAGE).entries;
            let Some(last) = page.last() else { break };
            after = last.position.offset;
            page.iter().for_each(|entry| note(&entry.draft, freshness, &mut found));
        }
        for (pair, Found { last_ms, stale, revived }) in found {
            let last_ms = last_ms.min(now);
            if last_ms + FORGOTTEN_MS <= now {
                continue;
            }
            if let Some(age_ms) = revived {
                book.revive(pair.clone(), age_ms);
            }
            book.remember(pair, last_ms, stale, now);
        }
    }
}

/// The offset after which to read: so far back that what is before is too old, or too much.
fn begin(log: &Log, shard: usize, too_old: i64, most: usize) -> u64 {
    let first = log.first(shard);
    let mut reach = PAGE.min(most);
    loop {
        let after = log.back(shard, reach);
        let oldest = log.since(shard, after, 1).entries;
        let is_old = oldest.first().is_none_or(|entry| entry.draft.published_at_ms < too_old);
        if after < first || reach == most || is_old {
            return after;
        }
        reach = (reach * 4).min(most);
    }
}

/// What an entry says, after those before it.
fn note(draft: &Draft, freshness: &Freshness, found: &mut HashMap<Pair, Found>) {
    let at = draft.published_at_ms;
    for pair in freshness.signs(draft) {
        let known = found.entry(pair).or_insert(Found { last_ms: at, stale: false, revived: None });
        if std::mem::take(&mut known.stale) {
            known.revived = Some(at - known.last_ms);
        }
        known.last_ms = at;
    }
    if *draft.event.name != *notice::EVENT {
        return;
    }
    let Some(announced) = notice::read(draft.payload.get()) else { return };
    if let Some(pair) = freshness.pair_of(&announced) {
        // It was heard before what is still in the log.
        let last_ms = at - announced.age_ms;
        let known = found.entry(pair).or_insert(Found { last_ms, stale: false, revived: None });
        (known.stale, known.revived) = (announced.stale, None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use serde_json::value::RawValue;
    use tokio::sync::oneshot;

    use super::*;
    use crate::config::{self, LogStore};
    use crate::events::{Catalogue, Facts, Priority};
    use crate::log::Audience;
    use crate::rooms::{Id, Scope};

    const INTERVAL: u64 = 1_000;

    /// Organization, and when it was heard.
    type Silent = (String, i64);

    /// Organization, whether it is stale, and how long it is or was silent.
    type Told = (String, bool, i64);

    struct Past {
        catalogue: Arc<Catalogue>,
        log: Log,
    }

    fn scope(organization: &str) -> Scope {
        Scope::organization(Id::parse(organization).expect("an id"))
    }

    impl Past {
        fn new() -> Self {
            let catalogue = Arc::new(Catalogue::new(&[]));
            let config = config::Log { store: LogStore::Memory, shards: 1, ..config::Log::default() };
            Self { log: Log::open(&config, &catalogue).expect("a log"), catalogue }
        }

        fn append(&self, event: &str, channel: &str, organization: &str, payload: Box<RawValue>, at: i64) {
            let draft = Draft {
                message_id: "m".into(),
                event: self.catalogue.event(event).expect("an event").clone(),
                channels: self.catalogue.audience_of(channel).expect("a channel"),
                audience: Audience::Scope { scope: scope(organization), targets: None },
                except: Vec::new(),
                priority: Priority::Medium,
                ack: None,
                payload,
                fleeting: false,
                explains: false,
                call: None,
                facts: Facts::default(),
                published_at_ms: at,
                started: Instant::now(),
            };
            self.log.append(0..1, draft, vec![oneshot::channel().0]).expect("room");
        }

        fn heard(&self, organization: &str, at: i64) {
            self.append("kpi:update", "kpi", organization, RawValue::from_string("{}".into()).expect("JSON"), at);
        }

        fn announced(&self, stale: bool, organization: &str, age_ms: i64, at: i64) {
            let payload = notice::payload(stale, "kpi", &scope(organization), age_ms);
            self.append(notice::EVENT, "kpi", organization, payload, at);
        }

        /// What is stale by then, with when it was heard, and what is announced within an interval.
        fn recall(&self, now: i64) -> (Vec<Silent>, Vec<Told>) {
            let config = [config::Freshness { channel: "kpi".into(), expected_interval_ms: INTERVAL }];
            // Its own book is thrown away: it has read the log at another time.
            let freshness = Freshness::new(&config, &self.catalogue, &self.log);
            let mut book = Book::new(vec![INTERVAL as i64]);
            recall(&self.log, &freshness, &mut book, now);
            let stale = |organization: &str| {
                let organization = Id::parse(organization).expect("an id");
                let stale: Vec<_> = book.stale_in(&organization).map(|(_, last)| last).collect();
                stale.first().map(|last| (organization.to_string(), *last))
            };
            let stale = ["a", "b", "c", "d"].into_iter().filter_map(stale).collect();
            let changes = book.due(now + INTERVAL as i64, 10);
            let told =
                changes.iter().map(|change| (change.pair.scope.organization.to_string(), change.stale, change.age_ms));
            let mut told: Vec<_> = told.collect();
            told.sort_unstable();
            (stale, told)
        }
    }

    #[test]
    fn it_goes_on_where_the_earlier_process_was() {
        let past = Past::new();
        let day = FORGOTTEN_MS;
        past.heard("old", day - 1);
        // Live, announced, announced and live again, and live again without a word.
        for organization in ["a", "b", "c", "d"] {
            past.heard(organization, day + 1_000);
        }
        for organization in ["b", "c", "d"] {
            past.announced(true, organization, 1_000, day + 2_000);
        }
        past.heard("c", day + 3_000);
        past.announced(false, "c", 2_000, day + 3_000);
        past.heard("d", day + 4_000);
        let (stale, told) = past.recall(2 * day);
        assert_eq!(stale, [("b".to_owned(), day + 1_000)]);
        let silent = |organization: &str, since: i64| (organization.to_owned(), true, day + 1_000 - since);
        let expected = [silent("a", 1_000), silent("c", 3_000), ("d".to_owned(), false, 3_000), silent("d", 4_000)];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_announcement_tells_what_the_log_has_lost() {
        let past = Past::new();
        past.announced(true, "a", 5_000, FORGOTTEN_MS + 10_000);
        assert_eq!(past.recall(FORGOTTEN_MS + 20_000), (vec![("a".to_owned(), FORGOTTEN_MS + 5_000)], Vec::new()));
    }

    #[test]
    fn reading_begins_within_its_bounds() {
        let past = Past::new();
        for at in 0..5_000 {
            past.heard("a", at);
        }
        assert_eq!(begin(&past.log, 0, 0, 3_000), 2_000, "no more than that");
        assert_eq!(begin(&past.log, 0, 0, 1_000_000), 0, "no more than there is");
        let after = begin(&past.log, 0, 4_000, 1_000_000);
        assert!((1..4_000).contains(&after), "nothing that counts is left out: {after}");
    }
}
