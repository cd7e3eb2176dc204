//! Sessions that have ended, of users who are away and of others: what each wanted.

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
pub(super) struct Ended {
    kept_for_ms: i64,
    /// Sessions that are remembered; the first to end of the organization that has most are forgotten first.
    most: usize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    organizations: HashMap<Id, Organization>,
    /// How many sessions there are.
    count: usize,
    next: u64,
}

/// The sessions of one organization.
#[derive(Debug, Default)]
struct Organization {
    /// Each with its number.
    users: HashMap<Id, VecDeque<(u64, Seen)>>,
    /// Whose each number is.
    order: BTreeMap<u64, Id>,
}

impl Ended {
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
        book.count += 1;
        let place = book.organizations.entry(organization.clone()).or_default();
        place.order.insert(number, user.clone());
        let sessions = place.users.entry(user.clone()).or_default();
        sessions.push_back((number, seen));
        let surplus = (sessions.len() > SESSIONS).then(|| sessions[0].0);
        if let Some(surplus) = surplus {
            book.retain(organization, user, |number, _| number != surplus);
        }
        if book.count > self.most {
            book.forget_of_largest();
        }
    }

    /// Forgets the sessions of a user under this id of the client's own for good; without one, all that had none.
    pub(super) fn forget(&self, organization: &Id, user: &Id, session_id: Option<&str>) {
        self.lock().forget(organization, user, |seen| seen.session_id.as_deref() == session_id);
    }

    /// What a session of a user wanted when it ended.
    pub(super) fn session(&self, organization: &Id, user: &Id, session_id: &str, namespace: &str) -> Option<Interest> {
        let book = self.lock();
        let sessions = book.organizations.get(organization)?.users.get(user)?;
        let same = |seen: &Seen| seen.session_id.as_deref() == Some(session_id) && *seen.namespace == *namespace;
        sessions.iter().find(|(_, seen)| same(seen)).map(|(_, seen)| seen.interest.clone())
    }

    /// The users who would have received an entry with one of their last sessions.
    pub(super) fn reached_by(&self, organization: &Id, draft: &Draft, catalogue: &Catalogue) -> Vec<Id> {
        let book = self.lock();
        let wants = |seen: &Seen| seen.interest.is_reached_by(draft, &seen.socket, catalogue);
        let users = book.organizations.get(organization).into_iter().flat_map(|organization| &organization.users);
        users
            .filter(|(_, sessions)| sessions.iter().any(|(_, seen)| wants(seen)))
            .map(|(user, _)| user.clone())
            .collect()
    }

    /// Everything that is remembered, the first to be forgotten first.
    pub(super) fn all(&self) -> Vec<(Whom, Seen)> {
        let book = self.lock();
        let mut all: Vec<(u64, Whom, Seen)> = Vec::new();
        for (organization, place) in &book.organizations {
            for (user, sessions) in &place.users {
                let whom = (organization.clone(), user.clone());
                all.extend(sessions.iter().map(|(number, seen)| (*number, whom.clone(), seen.clone())));
            }
        }
        all.sort_by_key(|(number, ..)| *number);
        all.into_iter().map(|(_, whom, seen)| (whom, seen)).collect()
    }

    /// Forgets what has ended too long ago.
    pub(super) fn trim(&self, now_ms: i64) {
        let mut book = self.lock();
        let organizations: Vec<Id> = book.organizations.keys().cloned().collect();
        for organization in organizations {
            while book.first_ended_at(&organization).is_some_and(|at_ms| now_ms - at_ms >= self.kept_for_ms) {
                book.forget_first(&organization);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn first_ended_at(&self, organization: &Id) -> Option<i64> {
        let organization = self.organizations.get(organization)?;
        let (number, user) = organization.order.first_key_value()?;
        organization.users.get(user)?.iter().find(|(other, _)| other == number).map(|(_, seen)| seen.at_ms)
    }

    fn forget_first(&mut self, organization: &Id) {
        let first = self.organizations.get(organization).and_then(|organization| organization.order.first_key_value());
        let Some((first, user)) = first.map(|(first, user)| (*first, user.clone())) else { return };
        self.retain(organization, &user, |number, _| number != first);
    }

    /// One organization's sessions do not make those of the others be forgotten.
    fn forget_of_largest(&mut self) {
        let largest = self.organizations.iter().max_by_key(|(_, organization)| organization.order.len());
        if let Some(organization) = largest.map(|(id, _)| id.clone()) {
            self.forget_first(&organization);
        }
    }

    fn forget(&mut self, organization: &Id, user: &Id, which: impl Fn(&Seen) -> bool) {
        self.retain(organization, user, |_, seen| !which(seen));
    }

    fn retain(&mut self, organization: &Id, user: &Id, keep: impl Fn(u64, &Seen) -> bool) {
        let Some(Organization { users, order }) = self.organizations.get_mut(organization) else { return };
        let Some(sessions) = users.get_mut(user) else { return };
        sessions.retain(|(number, seen)| {
            let keeps = keep(*number, seen);
            if !keeps {
                order.remove(number);
                self.count -= 1;
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
        let ended = Ended::new(100, 10);
        let (o, u) = (id("o"), id("u"));
        let since = |session: &str| ended.session(&o, &u, session, "/").map(|interest| interest.since);
        ended.add(&o, &u, seen(Some("a"), 1));
        ended.add(&o, &u, seen(Some("b"), 2));
        ended.add(&o, &u, seen(Some("a"), 3));
        assert_eq!((since("a"), since("b"), since("c")), (Some(3), Some(2), None));
        assert!(ended.session(&o, &id("v"), "a", "/").is_none() && ended.session(&id("p"), &u, "a", "/").is_none());
        assert_eq!(ended.all().iter().map(|(_, seen)| seen.at_ms).collect::<Vec<_>>(), [2, 3]);
        ended.trim(102);
        assert_eq!((since("a"), since("b")), (Some(3), None));
        ended.forget(&o, &u, Some("a"));
        assert_eq!(since("a"), None);
        assert!(ended.lock().organizations.is_empty());
    }

    #[test]
    fn the_sessions_of_one_organization_cost_the_others_nothing() {
        let ended = Ended::new(1_000, 3);
        ended.add(&id("quiet"), &id("u"), seen(Some("a"), 1));
        for at_ms in 2..=20 {
            ended.add(&id("busy"), &id(&at_ms.to_string()), seen(None, at_ms));
        }
        assert!(ended.session(&id("quiet"), &id("u"), "a", "/").is_some());
        assert_eq!(ended.all().iter().map(|(_, seen)| seen.at_ms).collect::<Vec<_>>(), [1, 19, 20]);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let ended = Ended::new(1_000, 3);
        for at_ms in 1..=5 {
            ended.add(&id("o"), &id(&at_ms.to_string()), seen(None, at_ms));
            // One that comes and goes takes nobody's place.
            ended.add(&id("o"), &id("1"), seen(None, at_ms));
        }
        assert_eq!(ended.all().iter().map(|(_, seen)| seen.at_ms).collect::<Vec<_>>(), [4, 5, 5]);
    }
}
