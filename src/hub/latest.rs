//! The last activity of users, for those who begin to watch.
//!
//! Of the newest `activity_update` that named a user the payload is kept: of
//! 10,000 users, 64 MiB together and 64 KiB each at most; those who were silent
//! longest are forgotten first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// The activities that are some user's last, the longest past first.
    activities: BTreeMap<u64, Activity>,
    /// Which one each user's is.
    users: HashMap<User, u64>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Activity {
    /// Where its entry is in the shard of its organization.
    offset: u64,
    payload: Arc<RawValue>,
    at_ms: i64,
    /// Those whose last one it is.
    users: HashSet<User>,
}

impl Latest {
    /// Hears of an entry, most of which are something else, by where it is in its shard: publishers may tell of their
    /// entries in another order than the log has them.
    pub(super) fn hear(&self, draft: &Draft, offset: u64) {
        if &*draft.event.name != EVENT || draft.payload.get().len() > MAX_PAYLOAD {
            return;
        }
        let Audience::Scope { scope, targets: Some(targets) } = &draft.audience else { return };
        if targets.users.is_empty() {
            return;
        }
        let users = targets.users.iter().map(|user| (scope.organization.clone(), user.clone())).collect();
        let activity = Activity { offset, payload: draft.payload.clone().into(), at_ms: draft.published_at_ms, users };
        self.lock().put(activity);
    }

    fn of(&self, user: &User) -> Option<(Arc<RawValue>, i64)> {
        let inner = self.lock();
        let number = inner.users.get(user)?;
        inner.activities.get(number).map(|activity| (activity.payload.clone(), activity.at_ms))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, mut activity: Activity) {
        activity.users.retain(|user| {
            let last = self.users.get(user).and_then(|number| self.activities.get(number));
            last.is_none_or(|last| last.offset < activity.offset)
        });
        if activity.users.is_empty() {
            return;
        }
        let number = self.next;
        self.next += 1;
        for user in &activity.users {
            self.forget(user);
            self.users.insert(user.clone(), number);
        }
        self.bytes += activity.payload.get().len();
        self.activities.insert(number, activity);
        while self.users.len() > MAX_USERS || self.bytes > MAX_BYTES {
            let longest = self.activities.first_key_value().and_then(|(_, activity)| activity.users.iter().next());
            let Some(longest) = longest.cloned() else { return };
            self.forget(&longest);
        }
    }

    fn forget(&mut self, user: &User) {
        let Some(number) = self.users.remove(user) else { return };
        let Some(activity) = self.activities.get_mut(&number) else { return };
        activity.users.remove(user);
        if activity.users.is_empty() {
            self.bytes -= activity.payload.get().len();
            self.activities.remove(&number);
        }
    }
}

impl Hub {
    /// The payload of the last `activity_update` of a user, if it is remembered, and when it was published, in
    /// milliseconds since the epoch.
    pub fn last_activity(&self, organization: &Id, user: &Id) -> Option<(Box<RawValue>, i64)> {
        let (payload, at_ms) = self.latest.of(&(organization.clone(), user.clone()))?;
        Some(((*payload).to_owned(), at_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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
        latest.of(&(id("o"), id(user))).map(|(payload, _)| payload.get().to_owned())
    }

    #[test]
    fn the_newest_activity_that_names_a_user_is_kept() {
        let latest = Latest::default();
        latest.hear(&draft(EVENT, Some(&["u", "v"]), r#"{"a": 1}"#.into()), 1);
        latest.hear(&draft(EVENT, Some(&["u"]), r#"{"a": 2}"#.into()), 2);
        latest.hear(&draft("status_update", Some(&["u"]), "3".into()), 3);
        latest.hear(&draft(EVENT, None, "4".into()), 4);
        latest.hear(&draft(EVENT, Some(&["u"]), format!("\"{}\"", "x".repeat(MAX_PAYLOAD))), 5);
        assert_eq!(last(&latest, "u").as_deref(), Some(r#"{"a": 2}"#));
        assert_eq!(last(&latest, "v").as_deref(), Some(r#"{"a": 1}"#));
        assert!(latest.of(&(id("p"), id("u"))).is_none());
    }

    #[test]
    fn the_order_is_that_of_the_log() {
        let latest = Latest::default();
        latest.hear(&draft(EVENT, Some(&["u"]), "8".into()), 8);
        latest.hear(&draft(EVENT, Some(&["u", "v"]), "7".into()), 7);
        assert_eq!((last(&latest, "u").as_deref(), last(&latest, "v").as_deref()), (Some("8"), Some("7")));
        latest.hear(&draft(EVENT, Some(&["u"]), "6".into()), 6);
        let inner = latest.lock();
        assert_eq!(
            (inner.activities.len(), inner.users.len(), inner.bytes),
            (2, 2, 2),
            "what is no user's is not kept"
        );
    }

    #[test]
    fn users_who_are_named_together_share_the_payload() {
        let latest = Latest::default();
        let users: Vec<String> = (0..1_000).map(|user| user.to_string()).collect();
        let users: Vec<&str> = users.iter().map(String::as_str).chain(["0"]).collect();
        latest.hear(&draft(EVENT, Some(&users[..1_000]), "\"first\"".into()), 1);
        latest.hear(&draft(EVENT, Some(&users[1..]), "\"second\"".into()), 2);
        let of = |user| latest.of(&(id("o"), id(user))).expect("a payload").0;
        assert!(Arc::ptr_eq(&of("0"), &of("999")));
        assert_eq!(latest.lock().bytes, "\"second\"".len());
    }

    #[test]
    fn who_was_silent_longest_is_forgotten_first() {
        let latest = Latest::default();
        let payload = || format!("\"{}\"", "x".repeat(MAX_PAYLOAD - 2));
        let offset = Cell::new(0);
        let hear = |user: &str, payload: String| {
            offset.set(offset.get() + 1);
            latest.hear(&draft(EVENT, Some(&[user]), payload), offset.get());
        };
        let fits = MAX_BYTES / MAX_PAYLOAD;
        for user in 0..fits {
            hear(&user.to_string(), payload());
        }
        hear("0", payload());
        hear("new", payload());
        assert!(last(&latest, "1").is_none() && last(&latest, "0").is_some() && last(&latest, "2").is_some());
        for user in 0..=MAX_USERS {
            hear(&format!("s{user}"), "1".into());
        }
        assert!(last(&latest, "s0").is_none() && last(&latest, "new").is_none() && last(&latest, "s1").is_some());
        let inner = latest.lock();
        assert_eq!((inner.users.len(), inner.activities.len(), inner.bytes), (MAX_USERS, MAX_USERS, MAX_USERS));
    }
}
