//! Sessions whose client has gone, for as long as it may come back.
//!
//! A client takes its session up again with a secret; only the secret's hash
//! is kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::changes::Changes;
use crate::auth::Identity;
use crate::connection::Journal;
use crate::delivery::Interest;
use crate::presence::Status;
use crate::rooms::Id;
use crate::wire::{Pid, PublicId, now_ms};

/// What is left of a session.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: PublicId,
    pub(super) namespace: Box<str>,
    pub(super) identity: Option<Identity>,
    /// The status that its client gave its user.
    pub(super) status: Status,
    pub(super) interest: Interest,
    /// What was written to its socket.
    pub(super) journal: Journal,
}

/// What a session is kept under: the hash of its secret.
pub(super) type Key = [u8; 32];

#[derive(Debug)]
enum Holder {
    /// A session that has a client, by its public id.
    Live(PublicId),
    /// One whose client is gone, since then, in milliseconds since the epoch.
    Gone(Box<Record>, i64),
}

/// The sessions that can be taken up again.
#[derive(Debug)]
pub(super) struct Records {
    kept_for_ms: i64,
    most: usize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    holders: HashMap<Key, Holder>,
    /// Those of each organization that are gone, and of nobody in particular; who has none is forgotten.
    gone: HashMap<Option<Id>, Gone>,
    /// How many are gone.
    count: usize,
    /// Told of each that changes, if others see them too.
    changes: Option<Arc<Changes>>,
}

/// The sessions of an organization that are gone.
#[derive(Debug, Default)]
struct Gone {
    /// The first to go first; some may have come back since.
    order: VecDeque<(i64, Key)>,
    count: usize,
}

/// What a secret opens.
#[derive(Debug)]
pub(super) enum Found {
    /// A session that still has a client, which may be dead.
    Live(PublicId),
    /// One whose client is gone; it is taken out.
    Gone(Box<Record>),
}

impl Records {
    /// No records; each is kept for so long, and so many at once.
    pub(super) fn new(kept_for: Duration, most: usize, changes: Option<Arc<Changes>>) -> Self {
        let kept_for_ms = i64::try_from(kept_for.as_millis()).unwrap_or(i64::MAX);
        Self { kept_for_ms, most, book: Mutex::new(Book { changes, ..Book::default() }) }
    }

    /// A session begins under a secret.
    pub(super) fn begin(&self, pid: &Pid, id: &PublicId) {
        self.lock().holders.insert(key(pid), Holder::Live(id.clone()));
    }

    /// A session ends; with a record it can be taken up again.
    pub(super) fn end(&self, pid: &Pid, id: &PublicId, record: Option<Record>) {
        let key = key(pid);
        let mut book = self.lock();
        if !matches!(book.holders.get(&key), Some(Holder::Live(live)) if live == id) {
            return;
        }
        book.holders.remove(&key);
        book.note(key);
        if let Some(record) = record {
            self.keep(&mut book, key, now_ms(), Box::new(record));
        }
    }

    fn keep(&self, book: &mut Book, key: Key, now: i64, record: Box<Record>) {
        let whose = organization(&record);
        book.take(key);
        book.holders.insert(key, Holder::Gone(record, now));
        book.note(key);
        book.count += 1;
        let gone = book.gone.entry(whose.clone()).or_default();
        gone.count += 1;
        gone.order.push_back((now, key));
        book.trim(&whose, now_ms() - self.kept_for_ms);
        while book.count > self.most {
            // An organization whose clients come and go loses its own.
            let Some(largest) = book.gone.iter().max_by_key(|(_, gone)| gone.count).map(|(whose, _)| whose.clone())
            else {
                return;
            };
            book.drop_oldest(&largest);
        }
    }

    /// Keeps a session that could not be taken up after all.
    pub(super) fn put_back(&self, pid: &Pid, record: Box<Record>) {
        self.keep(&mut self.lock(), key(pid), now_ms(), record);
    }

    /// What a secret opens, if it opens anything.
    pub(super) fn find(&self, pid: &Pid) -> Option<Found> {
        self.find_under(key(pid))
    }

    /// The same by the hash of the secret.
    pub(super) fn find_under(&self, key: Key) -> Option<Found> {
        let mut book = self.lock();
        if let Holder::Live(id) = book.holders.get(&key)? {
            return Some(Found::Live(id.clone()));
        }
        let (record, since) = book.take(key)?;
        (now_ms() - since < self.kept_for_ms).then_some(Found::Gone(record))
    }

    /// Forgets sessions whose client is gone, for good.
    pub(super) fn forget(&self, which: impl Fn(&Record) -> bool) {
        let book = &mut *self.lock();
        let (before, changes) = (book.holders.len(), &book.changes);
        book.holders.retain(|key, holder| {
            let is_over = matches!(holder, Holder::Gone(record, _) if which(record));
            if let Some(changes) = changes.as_ref().filter(|_| is_over) {
                changes.of_key(*key);
            }
            !is_over
        });
        book.count -= before - book.holders.len();
    }

    /// Forgets the session under a key if its client is gone.
    pub(super) fn drop_gone(&self, key: &Key) {
        self.lock().take(*key);
    }

    /// Keeps a session of another node under a key that nobody here has.
    pub(super) fn bring(&self, key: Key, record: Box<Record>) {
        let mut book = self.lock();
        if !matches!(book.holders.get(&key), Some(Holder::Live(_))) {
            self.keep(&mut book, key, now_ms(), record);
        }
    }

    /// The public id of the session under a key, if it has a client.
    pub(super) fn holder(&self, key: &Key) -> Option<PublicId> {
        match self.lock().holders.get(key)? {
            Holder::Live(id) => Some(id.clone()),
            Holder::Gone(..) => None,
        }
    }

    /// Looks at the session under a key, if its client is gone or there is none; none if it has a client.
    pub(super) fn look<T>(&self, key: &Key, look: impl FnOnce(Option<&Record>) -> T) -> Option<T> {
        match self.lock().holders.get(key) {
            Some(Holder::Live(_)) => None,
            Some(Holder::Gone(record, _)) => Some(look(Some(record))),
            None => Some(look(None)),
        }
    }

    /// The keys of sessions that have a client, as far as they are asked for.
    pub(super) fn live(&self, which: impl Fn(&Key) -> bool) -> Vec<Key> {
        let book = self.lock();
        let live = book.holders.iter().filter(|(key, holder)| matches!(holder, Holder::Live(_)) && which(key));
        live.map(|(key, _)| *key).collect()
    }

    /// All sessions whose client is gone, and since when; they are taken out.
    pub(super) fn take_all(&self) -> Vec<(Key, i64, Box<Record>)> {
        let holders = std::mem::take(&mut *self.lock()).holders;
        let gone = holders.into_iter().filter_map(|(key, holder)| match holder {
            Holder::Live(_) => None,
            Holder::Gone(record, since) => Some((key, since, record)),
        });
        let mut gone: Vec<_> = gone.collect();
        gone.sort_by_key(|(_, since, _)| *since);
        gone
    }

    /// Keeps the sessions of an earlier process.
    pub(super) fn bring_back(&self, records: Vec<(Key, i64, Box<Record>)>) {
        let mut book = self.lock();
        for (key, since, record) in records {
            self.keep(&mut book, key, since, record);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// What is under a key has changed.
    fn note(&self, key: Key) {
        if let Some(changes) = &self.changes {
            changes.of_key(key);
        }
    }

    /// Takes the record out that is kept under a key, if there is one.
    fn take(&mut self, key: Key) -> Option<(Box<Record>, i64)> {
        match self.holders.remove(&key)? {
            Holder::Gone(record, since) => {
                self.note(key);
                self.count -= 1;
                let whose = organization(&record);
                if let Some(gone) = self.gone.get_mut(&whose) {
                    gone.count -= 1;
                    if gone.count == 0 {
                        self.gone.remove(&whose);
                    }
                }
                Some((record, since))
            }
            live @ Holder::Live(_) => {
                self.holders.insert(key, live);
                None
            }
        }
    }

    /// The oldest record of an organization, or what is left of one that has been taken out.
    fn oldest(&self, whose: &Option<Id>) -> Option<(i64, Key, bool)> {
        let (since, key) = *self.gone.get(whose)?.order.front()?;
        let is_there = matches!(self.holders.get(&key), Some(Holder::Gone(_, at)) if *at == since);
        Some((since, key, is_there))
    }

    /// Drops an organization's records from before a time.
    fn trim(&mut self, whose: &Option<Id>, before: i64) {
        while let Some((since, _, is_there)) = self.oldest(whose) {
            if is_there && since > before {
                return;
            }
            self.drop_first(whose);
        }
    }

    /// Drops an organization's oldest record.
    fn drop_oldest(&mut self, whose: &Option<Id>) {
        while let Some((_, _, is_there)) = self.oldest(whose) {
            self.drop_first(whose);
            if is_there {
                return;
            }
        }
    }

    fn drop_first(&mut self, whose: &Option<Id>) {
        let Some((_, key, is_there)) = self.oldest(whose) else { return };
        if let Some(gone) = self.gone.get_mut(whose) {
            gone.order.pop_front();
        }
        if is_there {
            self.take(key);
        }
    }
}

/// Whose session a record is of.
fn organization(record: &Record) -> Option<Id> {
    record.identity.as_ref().map(|identity| identity.organization.clone())
}

/// Hash of a secret.
pub(super) fn key(pid: &Pid) -> Key {
    Sha256::digest(pid.reveal()).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::Credentials;
    use crate::wire::Forms;

    fn record(id: &PublicId) -> Record {
        let (identity, journal) = (None, Journal::default());
        let (status, interest) = (Status::Online, Interest::none(Forms::Both));
        Record { id: id.clone(), namespace: "/".into(), identity, status, interest, journal }
    }

    #[test]
    fn a_secret_opens_its_session_once() {
        let records = Records::new(Duration::from_secs(60), 10, None);
        let (pid, id) = (Pid::fresh(), PublicId::fresh());
        records.begin(&pid, &id);
        assert!(matches!(records.find(&pid), Some(Found::Live(live)) if live == id));
        records.end(&pid, &id, Some(record(&id)));
        assert!(records.find(&Pid::fresh()).is_none());
        assert!(matches!(records.find(&pid), Some(Found::Gone(record)) if record.id == id));
        assert!(records.find(&pid).is_none());
    }

    #[test]
    fn a_record_goes_when_its_time_is_over_or_there_are_too_many() {
        let short = Records::new(Duration::ZERO, 10, None);
        let (pid, id) = (Pid::fresh(), PublicId::fresh());
        short.begin(&pid, &id);
        short.end(&pid, &id, Some(record(&id)));
        assert!(short.find(&pid).is_none());
        let few = Records::new(Duration::from_secs(60), 2, None);
        let pids: Vec<Pid> = (0..3).map(|_| Pid::fresh()).collect();
        for pid in &pids {
            few.begin(pid, &id);
            few.end(pid, &id, Some(record(&id)));
        }
        assert!(few.find(&pids[0]).is_none() && few.find(&pids[1]).is_some() && few.find(&pids[2]).is_some());
        // One that keeps coming back takes nobody's place.
        few.put_back(&pids[0], Box::new(record(&id)));
        for _ in 0..10 {
            few.put_back(&pids[1], Box::new(record(&id)));
            assert!(few.find(&pids[1]).is_some());
        }
        assert!(few.find(&pids[0]).is_some());
    }

    #[test]
    fn a_flood_of_one_organization_takes_nothing_from_another() {
        let records = Records::new(Duration::from_secs(60), 10, None);
        let of = |organization: &str| {
            let identity = json!({ "user_id": "u", "organization_id": organization }).to_string();
            let identity = Credentials::read(&identity).expect("credentials").trusted().expect("an identity");
            let (pid, id) = (Pid::fresh(), PublicId::fresh());
            records.begin(&pid, &id);
            records.end(&pid, &id, Some(Record { identity: Some(identity), ..record(&id) }));
            pid
        };
        let honest: Vec<Pid> = (0..3).map(|_| of("honest")).collect();
        let flood: Vec<Pid> = (0..100).map(|_| of("flood")).collect();
        assert!(honest.iter().all(|pid| matches!(records.find(pid), Some(Found::Gone(_)))));
        let left = flood.iter().filter(|pid| records.find(pid).is_some()).count();
        assert_eq!(left, 7);
        assert!(records.lock().gone.is_empty() && records.lock().count == 0);
    }

    #[test]
    fn every_change_of_a_record_is_noted() {
        let changes = Arc::new(Changes::default());
        let records = Records::new(Duration::from_secs(60), 1, Some(changes.clone()));
        let (pid, other, id) = (Pid::fresh(), Pid::fresh(), PublicId::fresh());
        let noted = || {
            let mut keys: Vec<Key> = changes.take().keys.into_iter().collect();
            keys.sort_unstable();
            keys
        };
        let both = || {
            let mut both = vec![key(&pid), key(&other)];
            both.sort_unstable();
            both
        };
        records.begin(&pid, &id);
        records.end(&pid, &id, Some(record(&id)));
        assert_eq!(noted(), [key(&pid)]);
        records.put_back(&other, Box::new(record(&id)));
        assert_eq!(noted(), both(), "the one that had to go is noted too");
        records.forget(|_| true);
        assert_eq!(noted(), [key(&other)]);
        records.bring(key(&pid), Box::new(record(&id)));
        assert!(records.look(&key(&pid), |record| record.is_some()) == Some(true));
        records.drop_gone(&key(&pid));
        assert_eq!(noted(), [key(&pid)]);
    }

    #[test]
    fn the_end_of_an_earlier_holder_takes_nothing_from_a_later_one() {
        let records = Records::new(Duration::from_secs(60), 10, None);
        let (pid, early, late) = (Pid::fresh(), PublicId::fresh(), PublicId::fresh());
        records.begin(&pid, &early);
        records.begin(&pid, &late);
        records.end(&pid, &early, None);
        assert!(matches!(records.find(&pid), Some(Found::Live(live)) if live == late));
    }
}
