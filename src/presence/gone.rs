//! Users who are gone and still remembered: so many of the whole server, and no organization at the cost of the others.

use std::collections::{BTreeSet, HashMap};

use super::book::Whom;
use crate::rooms::Id;

/// Who is remembered, and since when each is gone.
#[derive(Debug)]
pub(super) struct Gone {
    most: usize,
    organizations: HashMap<Id, BTreeSet<(i64, Id)>>,
    /// How many each organization has.
    sizes: BTreeSet<(usize, Id)>,
    count: usize,
}

impl Gone {
    /// Nobody yet, and so many at most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, organizations: HashMap::new(), sizes: BTreeSet::new(), count: 0 }
    }

    /// A user is gone since then; who is forgotten for it: the first to go of the organization that has most.
    pub(super) fn add(&mut self, (organization, user): &Whom, at_ms: i64) -> Option<Whom> {
        let users = self.organizations.entry(organization.clone()).or_default();
        let before = users.len();
        users.insert((at_ms, user.clone()));
        let now = users.len();
        self.resize(organization, before, now);
        if self.count <= self.most {
            return None;
        }
        let (_, largest) = self.sizes.last()?.clone();
        let (at_ms, user) = self.organizations.get(&largest)?.first()?.clone();
        let forgotten = (largest, user);
        self.remove(&forgotten, at_ms);
        Some(forgotten)
    }

    /// A user who was gone since then is there again, or forgotten.
    pub(super) fn remove(&mut self, (organization, user): &Whom, at_ms: i64) {
        let Some(users) = self.organizations.get_mut(organization) else { return };
        let before = users.len();
        users.remove(&(at_ms, user.clone()));
        let now = users.len();
        if now == 0 {
            self.organizations.remove(organization);
        }
        self.resize(organization, before, now);
    }

    fn resize(&mut self, organization: &Id, before: usize, now: usize) {
        self.sizes.remove(&(before, organization.clone()));
        if now > 0 {
            self.sizes.insert((now, organization.clone()));
        }
        self.count = self.count + now - before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whom(organization: &str, user: &str) -> Whom {
        (Id::parse(organization).expect("an id"), Id::parse(user).expect("an id"))
    }

    #[test]
    fn the_first_to_go_of_the_largest_organization_is_forgotten() {
        let mut gone = Gone::new(4);
        assert_eq!(gone.add(&whom("small", "early"), 0), None);
        for (at, user) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(gone.add(&whom("large", user), 10 + at as i64), None);
        }
        assert_eq!(gone.add(&whom("large", "d"), 20), Some(whom("large", "a")));
        assert_eq!(gone.add(&whom("other", "x"), 30), Some(whom("large", "b")));
        assert_eq!(gone.add(&whom("small", "late"), 40), Some(whom("small", "early")), "of two equals");
    }

    #[test]
    fn who_comes_back_leaves_room() {
        let mut gone = Gone::new(1);
        gone.add(&whom("o", "a"), 1);
        gone.remove(&whom("o", "a"), 1);
        gone.remove(&whom("o", "a"), 1);
        assert!(gone.organizations.is_empty() && gone.sizes.is_empty());
        assert_eq!(gone.add(&whom("o", "b"), 2), None);
    }
}
