//! The book, told what happens.

use super::*;
use Status::{Away, Busy, Offline, Online};

const GRACE: i64 = 100;

fn id(text: &str) -> Id {
    Id::parse(text).expect("an id")
}

fn whom(user: &str) -> Whom {
    (id("o"), id(user))
}

struct Told(Book);

impl Told {
    fn new() -> Self {
        Self(Book::new(GRACE, 10))
    }

    fn change(&mut self, user: &str, change: Change, now: i64) {
        self.0.change(&whom(user), change, now);
    }

    /// What is announced at a time, as user and status.
    fn announced(&mut self, now: i64) -> Vec<(String, Status)> {
        let mut all = Vec::new();
        while let Some(portion) = self.0.due(now, 2, |_| true) {
            all.extend(portion.into_iter().map(|(_, shown)| (shown.user.to_string(), shown.status)));
        }
        all
    }

    fn seen(&self, user: &str, now: i64) -> Option<(Status, i64, u32)> {
        let shown = self.0.user(&id("o"), &id(user), now)?;
        Some((shown.status, shown.seen_at_ms, shown.sockets))
    }
}

fn told(user: &str, status: Status) -> Vec<(String, Status)> {
    vec![(user.to_owned(), status)]
}

#[test]
fn the_strongest_socket_is_the_user() {
    let mut book = Told::new();
    book.change("u", Change::Enter(Online), 0);
    assert_eq!(book.announced(0), told("u", Online));
    book.change("u", Change::Enter(Online), 1);
    assert_eq!(book.announced(1), []);
    for (from, to, announced) in [
        (Online, Away, vec![]),
        (Away, Busy, told("u", Busy)),
        (Busy, Offline, told("u", Online)),
        (Offline, Offline, vec![]),
    ] {
        book.change("u", Change::Switch(from, to), 2);
        assert_eq!(book.announced(2), announced, "{from:?} to {to:?}");
    }
    book.change("u", Change::Switch(Online, Away), 3);
    assert_eq!(book.announced(3), told("u", Away), "away is stronger than offline");
    book.change("u", Change::Switch(Away, Offline), 4);
    assert_eq!(book.announced(4), told("u", Offline), "at once, since it says so");
    assert_eq!(book.seen("u", 9), Some((Offline, 4, 2)));
}

#[test]
fn who_comes_back_within_the_grace_period_was_never_away() {
    let mut book = Told::new();
    book.change("u", Change::Enter(Away), 0);
    book.announced(0);
    book.change("u", Change::Leave(Away), 10);
    assert_eq!((book.0.wakes_at(), book.announced(10 + GRACE - 1)), (Some(10 + GRACE), vec![]));
    assert_eq!(book.seen("u", 50), Some((Away, 10, 0)));
    book.change("u", Change::Enter(Away), 60);
    assert_eq!((book.0.wakes_at(), book.announced(1_000)), (None, vec![]));
    book.change("u", Change::Leave(Away), 2_000);
    assert_eq!(book.announced(2_000 + GRACE), told("u", Offline));
    assert_eq!(book.seen("u", 9_000), Some((Offline, 2_000, 0)));
}

#[test]
fn a_strong_socket_that_reconnects_beside_another_is_not_seen_either() {
    let mut book = Told::new();
    book.change("u", Change::Enter(Online), 0);
    book.change("u", Change::Enter(Busy), 0);
    assert_eq!(book.announced(0), told("u", Busy), "once");
    book.change("u", Change::Leave(Busy), 10);
    book.change("u", Change::Enter(Busy), 20);
    assert_eq!(book.announced(1_000), []);
    book.change("u", Change::Leave(Busy), 2_000);
    assert_eq!(book.announced(2_000 + GRACE), told("u", Online));
}

#[test]
fn what_has_not_been_announced_is_not_taken_back() {
    let mut book = Told::new();
    book.change("u", Change::Enter(Online), 0);
    book.change("u", Change::Leave(Online), 0);
    assert_eq!((book.0.wakes_at(), book.announced(1_000)), (None, vec![]));
    assert_eq!(book.seen("u", 1_000), Some((Offline, 0, 0)));
    // A weaker socket that leaves does not keep a stronger one back.
    book.change("v", Change::Enter(Online), 0);
    book.announced(0);
    book.change("v", Change::Enter(Busy), 5);
    book.change("v", Change::Leave(Online), 5);
    assert_eq!(book.announced(5), told("v", Busy));
}

#[test]
fn where_nobody_listens_it_counts_as_announced() {
    let mut book = Book::new(GRACE, 10);
    for user in ["a", "b", "c"] {
        assert_eq!(book.change(&whom(user), Change::Enter(Online), 0), user == "a", "{user}");
    }
    assert_eq!(book.due(0, 2, |_| false), Some(vec![]));
    assert_eq!(book.due(0, 2, |_| false), Some(vec![]));
    assert_eq!(book.due(0, 2, |_| true), None);
    let names = |after: Option<&Id>| -> Vec<String> {
        book.announced(&id("o"), after, None, 0).map(|shown| shown.user.to_string()).collect()
    };
    assert_eq!(names(None), ["a", "b", "c"]);
    assert_eq!(names(Some(&id("a"))), ["b", "c"]);
    assert_eq!(names(Some(&id("bb"))), ["c"]);
    assert_eq!(book.announced(&id("other"), None, Some(0), 0).count(), 0);
}

#[test]
fn who_is_told_again_hears_of_those_who_went_since() {
    let mut book = Told::new();
    for (user, at) in [("early", 10), ("late", 500)] {
        book.change(user, Change::Enter(Online), 0);
        book.announced(0);
        book.change(user, Change::Leave(Online), at);
        book.announced(at + GRACE);
    }
    book.change("there", Change::Enter(Busy), 600);
    book.announced(600);
    let names = |since| -> Vec<(String, Status)> {
        let organization = id("o");
        let shown = book.0.announced(&organization, None, since, 700);
        shown.map(|shown| (shown.user.to_string(), shown.status)).collect()
    };
    assert_eq!(names(None), told("there", Busy));
    assert_eq!(names(Some(100)), [told("late", Offline), told("there", Busy)].concat());
}

#[test]
fn of_those_who_are_gone_so_many_are_remembered() {
    let mut book = Told(Book::new(GRACE, 2));
    for (user, at) in [("a", 1), ("b", 2), ("c", 3)] {
        book.change(user, Change::Enter(Online), at);
        book.announced(at);
        book.change(user, Change::Leave(Online), at);
        assert_eq!(book.announced(at + GRACE), told(user, Offline));
    }
    assert_eq!((book.seen("a", 999), book.seen("b", 999)), (None, Some((Offline, 2, 0))));
    book.change("b", Change::Enter(Online), 500);
    book.announced(500);
    for user in ["d", "e"] {
        book.change(user, Change::Enter(Offline), 600);
        book.change(user, Change::Leave(Offline), 600);
    }
    assert_eq!(book.seen("c", 999), None);
    assert_eq!(book.seen("b", 999), Some((Online, 999, 1)), "who is there is not forgotten");
    book.change("b", Change::Leave(Online), 1_000);
    book.announced(1_000 + GRACE);
    assert_eq!(book.0.count(&id("o"), true, 9_999), 2);
}

#[test]
fn users_are_listed_behind_one() {
    let mut book = Told::new();
    for (user, status) in [("a", Online), ("b", Offline), ("c", Busy), ("d", Away)] {
        book.change(user, Change::Enter(status), 0);
    }
    book.announced(0);
    book.change("d", Change::Leave(Away), 10);
    let names = |after: Option<&str>, with_offline| -> Vec<(String, Status)> {
        let (organization, after) = (id("o"), after.map(id));
        let users = book.0.users(&organization, after.as_ref(), with_offline, 50);
        users.map(|shown| (shown.user.to_string(), shown.status)).collect()
    };
    assert_eq!(names(None, false), [told("a", Online), told("c", Busy), told("d", Away)].concat());
    assert_eq!(names(Some("a"), true), [told("b", Offline), told("c", Busy), told("d", Away)].concat());
    assert_eq!(names(Some("bb"), true), [told("c", Busy), told("d", Away)].concat());
    assert_eq!((book.0.count(&id("o"), true, 50), book.0.count(&id("o"), false, 50)), (4, 3));
    assert_eq!((book.0.count(&id("other"), true, 50), book.seen("e", 50)), (0, None));
}

#[test]
fn who_could_not_be_announced_is_announced_again_as_it_is_then() {
    let mut book = Told::new();
    let portion = |book: &mut Told, now| book.0.due(now, 9, |_| true).expect("a portion");
    for user in ["same", "other", "gone"] {
        book.change(user, Change::Enter(Online), 0);
    }
    let missed = portion(&mut book, 0);
    book.change("other", Change::Enter(Busy), 1);
    book.change("gone", Change::Switch(Online, Offline), 1);
    for (organization, shown) in &missed {
        book.0.missed(organization, shown, 50);
    }
    assert_eq!(book.announced(1), [told("gone", Offline), told("other", Busy)].concat(), "nobody waits");
    // Whoever was told the status in the meantime hears it again, also if it is what was announced before.
    book.change("same", Change::Enter(Away), 2);
    assert_eq!((book.announced(49), book.announced(50)), (vec![], told("same", Online)));
    assert_eq!(book.0.wakes_at(), None);
}

#[test]
fn who_could_not_be_announced_as_gone_is_remembered_until_then() {
    let mut book = Told(Book::new(GRACE, 0));
    book.change("u", Change::Enter(Online), 0);
    book.announced(0);
    book.change("u", Change::Leave(Online), 1);
    let missed = book.0.due(1 + GRACE, 9, |_| true).expect("a portion");
    assert_eq!(book.seen("u", 200), None, "forgotten");
    let (organization, shown) = &missed[0];
    book.0.missed(organization, shown, 500);
    assert_eq!(book.seen("u", 200), Some((Offline, 1, 0)));
    assert_eq!(book.announced(500), told("u", Offline));
    assert_eq!((book.seen("u", 500), book.0.wakes_at()), (None, None));
}

/// What another node has of a user.
fn row(user: &str, status: Status, sockets: u32, told: Status) -> Row {
    Row { whom: whom(user), status, sockets, told }
}

#[test]
fn a_user_has_the_strongest_status_on_any_node() {
    let mut book = Told::new();
    book.change("u", Change::Enter(Online), 0);
    book.0.learn(1, &row("u", Busy, 1, Offline), 0);
    book.0.learn(2, &row("u", Away, 2, Offline), 0);
    assert_eq!(book.announced(0), told("u", Busy), "once");
    book.0.learn(1, &row("u", Busy, 2, Busy), 5);
    book.0.learn(1, &row("u", Away, 2, Busy), 6);
    assert_eq!(book.announced(6), told("u", Online), "at once, since no socket has left");
    book.change("u", Change::Leave(Online), 10);
    assert_eq!((book.announced(10), book.announced(10 + GRACE)), (vec![], told("u", Away)));
    assert!(book.seen("u", 500).is_none() && book.0.users(&id("o"), None, true, 500).count() == 0, "others list it");
    book.0.learn(1, &row("u", Offline, 0, Away), 600);
    assert_eq!(book.0.wakes_at(), None);
    assert!(book.0.forget(2, 700), "its node is gone");
    assert_eq!(book.seen("u", 750), Some((Away, 700, 0)), "all know it as announced");
    assert_eq!((book.announced(700), book.announced(700 + GRACE)), (vec![], told("u", Offline)));
}

#[test]
fn who_comes_back_on_another_node_was_never_away() {
    let mut book = Told::new();
    book.0.learn(1, &row("u", Online, 1, Offline), 0);
    book.announced(0);
    book.0.forget(1, 10);
    book.0.learn(2, &row("u", Online, 1, Online), 50);
    assert_eq!((book.0.wakes_at(), book.announced(1_000)), (None, vec![]));
    book.0.learn_part(2, part_of(&whom("u")), &[], 2_000);
    assert_eq!(book.announced(2_000 + GRACE), told("u", Offline), "of whom a node says nothing it has none");
}

#[test]
fn what_was_announced_by_another_is_not_announced_again() {
    let mut book = Told::new();
    for user in ["a", "b"] {
        book.0.learn(1, &row(user, Online, 1, Offline), 0);
    }
    assert_eq!(book.0.heard(&whom("a"), Online, 1), (false, false));
    assert_eq!(book.0.heard(&whom("a"), Online, 2), (true, false), "said twice");
    assert_eq!(book.announced(3), told("b", Online));
    assert_eq!(book.0.heard(&whom("b"), Online, 4), (false, false), "this is how it comes to be delivered");
    // An announcement may come before the news that it is made of, and after what it is not true of any more.
    assert!(book.0.heard(&whom("c"), Busy, 5).1);
    book.0.learn(1, &row("c", Busy, 1, Offline), 6);
    assert!(book.0.heard(&whom("a"), Offline, 7).1);
    assert_eq!(book.announced(7 + GRACE), told("a", Online));
}

#[test]
fn a_new_node_takes_over_what_was_announced() {
    let (mut old, mut new) = (Told::new(), Told::new());
    for user in ["there", "leaving"] {
        old.change(user, Change::Enter(Online), 0);
    }
    old.announced(0);
    old.change("fresh", Change::Enter(Busy), 10);
    old.change("leaving", Change::Leave(Online), 10);
    for part in 0..PARTS {
        new.0.learn_part(1, part, &old.0.rows(part), 20);
    }
    let shown: Vec<_> = new.0.announced(&id("o"), None, None, 20).map(|shown| shown.user.to_string()).collect();
    assert_eq!(shown, ["leaving", "there"]);
    assert_eq!(new.announced(20), told("fresh", Busy));
    assert_eq!(new.announced(20 + GRACE), told("leaving", Offline));
}

#[test]
fn where_announcements_were_missed_the_book_goes_on_from_what_is() {
    let mut book = Told::new();
    for user in ["a", "b"] {
        book.0.learn(1, &row(user, Online, 1, Offline), 0);
    }
    book.0.heard(&whom("a"), Online, 0);
    book.0.missed_some(false, 5);
    assert_eq!(book.0.announced(&id("o"), None, None, 5).count(), 2);
    assert_eq!(book.0.heard(&whom("a"), Online, 6), (false, false), "who was told is not known any more");
    book.0.learn(1, &row("b", Busy, 1, Online), 7);
    book.0.missed_some(true, 7);
    assert_eq!(book.announced(7), told("b", Busy), "who announces still does");
}
