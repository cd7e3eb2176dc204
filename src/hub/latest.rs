//! The last activity of users, for those who begin to watch.
//!
//! Of the newest `activity_update` that named a user the payload is kept: of
//! 10,000 users, 64 MiB together and 64 KiB each at most; those who were silent
//! longest are forgotten first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;

use super::publish::Hub;
use crate::log::{Audience, Draft};
use crate::rooms::Id;

/// The event that tells of activity.
const EVENT: &str = "activity_update";

const MAX_USERS: usize = 10_000;
const MAX_PAYLOAD: usize = 64 * 1024;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Organization and user.
type User = (Id, Id);

/// What users did last.
#[derive(Debug, Default)]
pub(super) struct Latest {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    payloads: HashMap<User, (u64, Box<RawValue>)>,
    /// The users, the longest silent first.
    order: BTreeMap<u64, User>,
    next: u64,
    bytes: usize,
}

impl Latest {
    /// Hears of an entry, most of which are something else.
    pub(super) fn hear(&self, draft: &Draft) {
        if &*draft.event.name != EVENT || draft.payload.get().len() > MAX_PAYLOAD {
            return;
        }
        let Audience::Scope { scope, targets: Some(targets) } = &draft.audience else { return };
        let mut inner = self.lock();
        for user in &targets.users {
            inner.put((scope.organization.clone(), user.clone()), draft.payload.clone());
        }
    }

    fn of(&self, user: &User) -> Option<Box<RawValue>> {
        self.lock().payloads.get(user).map(|(_, payload)| payload.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, user: User, payload: Box<RawValue>) {
        self.forget(&user);
        self.bytes += payload.get().len();
        self.order.insert(self.next, user.clone());
        self.payloads.insert(user, (self.next, payload));
        self.next += 1;
        while self.payloads.len() > MAX_USERS || self.bytes > MAX_BYTES {
            let Some(longest) = self.order.first_key_value().map(|(_, user)| user.clone()) else { return };
            self.forget(&longest);
        }
    }

    fn forget(&mut self, user: &User) {
        if let Some((number, payload)) = self.payloads.remove(user) {
            self.order.remove(&number);
            self.bytes -= payload.get().len();
        }
    }
}

impl Hub {
    /// The payload of the last `activity_update` of a user, if it is remembered.
    pub fn last_activity(&self, organization: &Id, user: &Id) -> Option<Box<RawValue>> {
        self.latest.of(&(organization.clone(), user.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Catalogue;
    use crate::hub::{Publication, Target};
    use crate::rooms::ScopeFields;

    fn id(text: &str) -> Id {
        Id::parse(text).expect("an id")
    }

    fn draft(event: &str, users: Option<&[&str]>, payload: String) -> Draft {
        let target = Target {
            scope: ScopeFields { organization_id: Some("o".into()), ..ScopeFields::default() },
            user_ids: users.map(|users| users.iter().map(|user| (*user).to_owned()).collect()),
            ..Target::default()
        };
        let payload = RawValue::from_string(payload).expect("JSON");
        let publication = Publication { target, ..Publication::new(event, payload, ScopeFields::default()) };
        publication.draft(&Catalogue::new(&[]), 1).expect("a draft")
    }

    fn last(latest: &Latest, user: &str) -> Option<String> {
        latest.of(&(id("o"), id(user))).map(|payload| payload.get().to_owned())
    }

    #[test]
    fn the_newest_activity_that_names_a_user_is_kept() {
        let latest = Latest::default();
        latest.hear(&draft(EVENT, Some(&["u", "v"]), r#"{"a": 1}"#.into()));
        latest.hear(&draft(EVENT, Some(&["u"]), r#"{"a": 2}"#.into()));
        latest.hear(&draft("status_update", Some(&["u"]), "3".into()));
        latest.hear(&draft(EVENT, None, "4".into()));
        latest.hear(&draft(EVENT, Some(&["u"]), format!("\"{}\"", "x".repeat(MAX_PAYLOAD))));
        assert_eq!(last(&latest, "u").as_deref(), Some(r#"{"a": 2}"#));
        assert_eq!(last(&latest, "v").as_deref(), Some(r#"{"a": 1}"#));
        assert_eq!(latest.of(&(id("p"), id("u"))).map(|payload| payload.get().to_owned()), None);
    }

    #[test]
    fn who_was_silent_longest_is_forgotten_first() {
        let latest = Latest::default();
        let payload = || format!("\"{}\"", "x".repeat(MAX_PAYLOAD - 2));
        let fits = MAX_BYTES / MAX_PAYLOAD;
        for user in 0..fits {
            latest.hear(&draft(EVENT, Some(&[&user.to_string()]), payload()));
        }
        latest.hear(&draft(EVENT, Some(&["0"]), payload()));
        latest.hear(&draft(EVENT, Some(&["new"]), payload()));
        assert!(last(&latest, "1").is_none() && last(&latest, "0").is_some() && last(&latest, "2").is_some());
        for user in 0..=MAX_USERS {
            latest.hear(&draft(EVENT, Some(&[&format!("s{user}")]), "1".into()));
        }
        assert!(last(&latest, "s0").is_none() && last(&latest, "new").is_none() && last(&latest, "s1").is_some());
        let inner = latest.lock();
        assert_eq!((inner.order.len(), inner.bytes), (MAX_USERS, MAX_USERS));
    }
}
