//! Users without a socket: what their last sessions wanted, for as long as events wait for them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::delivery::Interest;
use crate::events::Catalogue;
use crate::log::Draft;
use crate::rooms::Id;
use crate::wire::PublicId;

/// Sessions of one user that are remembered; the oldest go first.
const SESSIONS: usize = 8;

/// A session that has ended.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The client's own id of it, if it gave one.
    pub session_id: Option<String>,
    /// The socket it had.
    pub socket: PublicId,
    /// Path of the namespace it was in.
    pub namespace: Box<str>,
    /// What it wanted.
    pub interest: Interest,
    /// When it ended, in milliseconds since the epoch.
    pub at_ms: i64,
}

/// Organization and user.
type Whom = (Id, Id);

/// The sessions of users that have ended.
#[derive(Debug)]
pub(super) struct Absent {
    kept_for_ms: i64,
    /// Sessions that are remembered; the first to end are forgotten first.
    most: usize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// By organization and user, each with its number.
    organizations: HashMap<Id, HashMap<Id, VecDeque<(u64, Seen)>>>,
    /// Whose each number is.
    order: BTreeMap<u64, Whom>,
    next: u64,
}

impl Absent {
    /// Nothing is remembered; so many sessions for so long.
    pub(super) fn new(kept_for_ms: i64, most: usize) -> Self {
        Self { kept_for_ms, most, book: Mutex::default() }
    }

    /// A session of a user has ended.
    pub(super) fn add(&self, organization: &Id, user: &Id, seen: Seen) {
        let mut book = self.lock();
        book.forget(organization, user, |other| {
            (&other.session_id, &other.namespace) == (&seen.session_id, &seen.namespace)
        });
        let number = book.next;
        book.next += 1;
        book.order.insert(number, (organization.clone(), user.clone()));
        let users = book.organizations.entry(organization.clone()).or_default();
        let sessions = users.entry(user.clone()).or_default();
        sessions.push_back((number, seen));
        let surplus = if sessions.len() > SESSIONS { sessions.pop_front() } else { None };
        if let Some((number, _)) = surplus {
            book.order.remove(&number);
        }
        while book.order.len() > self.most {
            book.forget_first();
        }
    }

    /// Forgets a session for good, and what it wanted.
    pub(super) fn forget(&self, organization: &Id, user: &Id, session_id: Option<&str>) {
        self.lock().forget(organization, user, |seen| seen.session_id.as_deref() == session_id);
    }

    /// What a session of a user wanted when it ended.
    pub(super) fn session(&self, organization: &Id, user: &Id, session_id: &str, namespace: &str) -> Option<Interest> {
        let book = self.lock();
        let sessions = book.organizations.get(organization)?.get(user)?;
        let same = |seen: &Seen| seen.session_id.as_deref() == Some(session_id) && *seen.namespace == *namespace;
        sessions.iter().find(|(_, seen)| same(seen)).map(|(_, seen)| seen.interest.clone())
    }

    /// The users who would have received an entry with one of their last sessions.
    pub(super) fn reached_by(&self, organization: &Id, draft: &Draft, catalogue: &Catalogue) -> Vec<Id> {
        let book = self.lock();
        let wants = |seen: &Seen| seen.interest.is_reached_by(draft, &seen.socket, catalogue);
        let users = book.organizations.get(organization).into_iter().flatten();
        users
            .filter(|(_, sessions)| sessions.iter().any(|(_, seen)| wants(seen)))
            .map(|(user, _)| user.clone())
            .collect()
    }

    /// Everything that is remembered, the first to be forgotten first.
    pub(super) fn all(&self) -> Vec<(Whom, Seen)> {
        let book = self.lock();
        let seen = |(number, whom): (&u64, &Whom)| {
            let sessions = book.organizations.get(&whom.0)?.get(&whom.1)?;
            let (_, seen) = sessions.iter().find(|(other, _)| other == number)?;
            Some((whom.clone(), seen.clone()))
        };
        book.order.iter().filter_map(seen).collect()
    }

    /// Forgets what has ended too long ago.
    pub(super) fn trim(&self, now_ms: i64) {
        let mut book = self.lock();
        while book.first_ended_at().is_some_and(|at_ms| now_ms - at_ms >= self.kept_for_ms) {
            book.forget_first();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn first_ended_at(&self) -> Option<i64> {
        let (number, (organization, user)) = self.order.first_key_value()?;
        let sessions = self.organizations.get(organization)?.get(user)?;
        sessions.iter().find(|(other, _)| other == number).map(|(_, seen)| seen.at_ms)
    }

    fn forget_first(&mut self) {
        let Some((first, (organization, user))) = self.order.pop_first() else { return };
        self.retain(&organization, &user, |number, _| number != first);
    }

    fn forget(&mut self, organization: &Id, user: &Id, which: impl Fn(&Seen) -> bool) {
        self.retain(organization, user, |_, seen| !which(seen));
    }

    fn retain(&mut self, organization: &Id, user: &Id, keep: impl Fn(u64, &Seen) -> bool) {
        let Some(users) = self.organizations.get_mut(organization) else { return };
        let Some(sessions) = users.get_mut(user) else { return };
        sessions.retain(|(number, seen)| {
            let keeps = keep(*number, seen);
            if !keeps {
                self.order.remove(number);
            }
            keeps
        });
        if sessions.is_empty() {
            users.remove(user);
        }
        if users.is_empty() {
            self.organizations.remove(organization);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Forms;

    fn id(text: &str) -> Id {
        Id::parse(text).expect("an id")
    }

    fn seen(session_id: Option<&str>, at_ms: i64) -> Seen {
        let interest = Interest { since: at_ms.unsigned_abs(), ..Interest::none(Forms::Both) };
        Seen {
            session_id: session_id.map(str::to_owned),
            socket: PublicId::fresh(),
            namespace: "/".into(),
            interest,
            at_ms,
        }
    }

    #[test]
    fn the_last_session_of_an_id_is_remembered_for_its_time() {
        let absent = Absent::new(100, 10);
        let (o, u) = (id("o"), id("u"));
        let since = |session: &str| absent.session(&o, &u, session, "/").map(|interest| interest.since);
        absent.add(&o, &u, seen(Some("a"), 1));
        absent.add(&o, &u, seen(Some("b"), 2));
        absent.add(&o, &u, seen(Some("a"), 3));
        assert_eq!((since("a"), since("b"), since("c")), (Some(3), Some(2), None));
        assert!(absent.session(&o, &id("v"), "a", "/").is_none() && absent.session(&id("p"), &u, "a", "/").is_none());
        assert_eq!(absent.all().iter().map(|(_, seen)| seen.at_ms).collect::<Vec<_>>(), [2, 3]);
        absent.trim(102);
        assert_eq!((since("a"), since("b")), (Some(3), None));
        absent.forget(&o, &u, Some("a"));
        assert_eq!(since("a"), None);
        assert!(absent.lock().organizations.is_empty());
    }

    #[test]
    fn only_so_many_are_remembered() {
        let absent = Absent::new(1_000, 3);
        for at_ms in 1..=5 {
            absent.add(&id("o"), &id(&at_ms.to_string()), seen(None, at_ms));
            // One that comes and goes takes nobody's place.
            absent.add(&id("o"), &id("1"), seen(None, at_ms));
        }
        assert_eq!(absent.all().iter().map(|(_, seen)| seen.at_ms).collect::<Vec<_>>(), [4, 5, 5]);
    }
}
