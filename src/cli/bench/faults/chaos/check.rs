//! What must not be in a history.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::history::{Event, History, List, Loss, Member, Place, Room};

/// What was answered so shortly before Redis lost its data may be lost with it; everything older was read by then, but
/// for nodes that could not read.
const GRACE: u64 = 1_000_000_000;

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A client did not receive what it should have.
    Lost,
    /// A session received something twice.
    Twice,
    /// A session received something older than what it had.
    Reordered,
    /// A client received what is not for it, or what nobody published.
    Foreign,
    /// Two events are said to lie at one place.
    Torn,
    /// One event lies at two places.
    Doubled,
    /// What a publisher was answered first lies behind what it was answered later.
    Overtaken,
    /// A session was not recovered though Redis had lost nothing.
    NewSession,
    /// After a fault a node does not publish, or a client is not connected or has not received everything.
    NotBack,
    /// The log began a new life though Redis had lost nothing.
    NewLife,
}

/// One thing that must not be.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    /// Its kind.
    pub(super) kind: Kind,
    /// What exactly.
    pub(super) what: String,
}

/// The log of one organization, put together from what publishers were answered and clients received.
struct Log {
    /// What lies where, and when it was answered.
    entries: BTreeMap<Place, (Event, Option<u64>)>,
    /// The lives that there were, oldest first.
    lives: BTreeSet<usize>,
}

/// Everything that must not be in a history.
pub(super) fn check(history: &History) -> Vec<Finding> {
    let mut found = Vec::new();
    let rooms: HashMap<Event, Room> = history.publications.iter().map(|sent| (sent.event, sent.room)).collect();
    let organizations: BTreeSet<usize> = history.members.iter().map(|member| member.room.organization).collect();
    for organization in organizations {
        let log = Log::of(history, organization, &rooms, &mut found);
        overtaken(history, organization, &mut found);
        log.new_lives(history, &mut found);
        for member in history.members.iter().filter(|member| member.room.organization == organization) {
            for list in &member.lists {
                order(member, list, &mut found);
                foreign(member, list, &rooms, &mut found);
            }
            let ended = member.lists.split_last().map_or(&[][..], |(_, ended)| ended);
            ended.iter().for_each(|list| log.lost(history, member, list, true, &rooms, &mut found));
            member.lists.last().inspect(|list| log.lost(history, member, list, false, &rooms, &mut found));
            new_sessions(history, member, &mut found);
        }
    }
    found
}

impl Log {
    fn of(history: &History, organization: usize, rooms: &HashMap<Event, Room>, found: &mut Vec<Finding>) -> Self {
        let mut log = Self { entries: BTreeMap::new(), lives: BTreeSet::new() };
        let mut places: HashMap<Event, Place> = HashMap::new();
        let mut put = |event: Event, place: Place, answered: Option<u64>| {
            log.lives.insert(place.life);
            let (there, at) = log.entries.entry(place).or_insert((event, answered));
            *at = at.or(answered);
            if *there != event {
                found.push(Finding::new(
                    Kind::Torn,
                    format!("{there} and {event} both lie at {}", shown(history, place)),
                ));
            }
            let known = *places.entry(event).or_insert(place);
            if known != place {
                let (known, place) = (shown(history, known), shown(history, place));
                found.push(Finding::new(Kind::Doubled, format!("{event} lies at {known} and at {place}")));
            }
        };
        let here = |room: Option<&Room>| room.is_some_and(|room| room.organization == organization);
        for sent in history.publications.iter().filter(|sent| here(Some(&sent.room))) {
            if let Some((place, at)) = sent.acknowledged {
                put(sent.event, place, Some(at));
            }
        }
        let members = history.members.iter().filter(|member| member.room.organization == organization);
        let lists: Vec<&List> = members.flat_map(|member| &member.lists).collect();
        for (event, place) in lists.iter().flat_map(|list| &list.received) {
            if here(rooms.get(event)) {
                put(*event, *place, None);
            }
        }
        log.lives.extend(lists.iter().filter_map(|list| list.since).map(|since| since.life));
        found.dedup_by(|a, b| a.what == b.what);
        log
    }

    /// What a session should have received and did not.
    fn lost(
        &self,
        history: &History,
        member: &Member,
        list: &List,
        is_over: bool,
        rooms: &HashMap<Event, Room>,
        found: &mut Vec<Finding>,
    ) {
        let Some(since) = list.since else { return };
        let received: BTreeSet<Place> = list.received.iter().map(|(_, place)| *place).collect();
        let last = received.last().copied();
        for (place, (event, answered)) in self.entries.range(since..).skip_while(|(place, _)| **place == since) {
            // What came after a session had ended was for the next one.
            let is_after = is_over && last.is_none_or(|last| *place > last);
            if is_after || received.contains(place) || !rooms.get(event).is_some_and(|room| member.room.hears(*room)) {
                continue;
            }
            let later_in_life = received.range(*place..).next().is_some_and(|later| later.life == place.life);
            let gone = self.end_of(history, place.life);
            let is_excused = gone.is_some_and(|loss| answered.is_none_or(|at| at + GRACE > loss.unread_since));
            if later_in_life || !is_excused {
                let known = answered.map_or("received by others", |_| "answered with 200");
                let at = shown(history, *place);
                let what = format!("client {} lacks {event}, at {at}, {known}", member.client);
                found.push(Finding::new(Kind::Lost, what));
            }
        }
    }

    /// The loss that ended a life, if it has ended.
    fn end_of(&self, history: &History, life: usize) -> Option<Loss> {
        let next = *self.lives.range(life + 1..).next()?;
        let losses = history.losses.iter().filter(|loss| loss.at <= history.lives[next].seen);
        losses.max_by_key(|loss| loss.at).copied()
    }

    fn new_lives(&self, history: &History, found: &mut Vec<Finding>) {
        for (old, new) in self.lives.iter().zip(self.lives.iter().skip(1)) {
            let (from, to) = (history.lives[*old].seen, history.lives[*new].seen);
            if !history.losses.iter().any(|loss| (from..=to).contains(&loss.at)) {
                let (old, new) = (&history.lives[*old].name, &history.lives[*new].name);
                found.push(Finding::new(Kind::NewLife, format!("life {new} began behind {old}, and nothing was lost")));
            }
        }
    }
}

/// That a session received nothing twice, and nothing older than what it had.
fn order(member: &Member, list: &List, found: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for (event, _) in &list.received {
        if !seen.insert(*event) {
            found.push(Finding::new(Kind::Twice, format!("client {} received {event} twice", member.client)));
        }
    }
    for pair in list.received.windows(2) {
        let [(before, earlier), (event, later)] = pair else { continue };
        if later < earlier && before != event {
            let what = format!("client {} received {event} behind {before}, which is newer", member.client);
            found.push(Finding::new(Kind::Reordered, what));
        }
    }
}

/// That it is for this client; until it has subscribed it hears its whole organization.
fn foreign(member: &Member, list: &List, rooms: &HashMap<Event, Room>, found: &mut Vec<Finding>) {
    for (event, place) in &list.received {
        let before = list.since.is_none_or(|since| *place <= since);
        let room = if before { Room { department: None, ..member.room } } else { member.room };
        if !rooms.get(event).is_some_and(|published| room.hears(*published)) {
            let what = format!("client {} received {event}, which is not for it", member.client);
            found.push(Finding::new(Kind::Foreign, what));
        }
    }
}

/// That a publisher's events lie in the order in which it was answered, whatever nodes it went to.
fn overtaken(history: &History, organization: usize, found: &mut Vec<Finding>) {
    let mut answered: BTreeMap<Event, Place> = BTreeMap::new();
    for sent in history.publications.iter().filter(|sent| sent.room.organization == organization) {
        answered.extend(sent.acknowledged.map(|(place, _)| (sent.event, place)));
    }
    for ((before, earlier), (event, later)) in answered.iter().zip(answered.iter().skip(1)) {
        if before.publisher == event.publisher && later <= earlier {
            found.push(Finding::new(Kind::Overtaken, format!("{event} lies before {before}")));
        }
    }
}

fn new_sessions(history: &History, member: &Member, found: &mut Vec<Finding>) {
    for list in member.lists.iter().skip(1) {
        if !history.losses.iter().any(|loss| (loss.at..=loss.until).contains(&list.began)) {
            let at = list.began / 1_000_000;
            let what = format!("client {} had to begin anew, {at} ms after the start", member.client);
            found.push(Finding::new(Kind::NewSession, what));
        }
    }
}

fn shown(history: &History, place: Place) -> String {
    format!("{}.{}", history.lives[place.life].name, place.offset)
}

impl Finding {
    /// A finding.
    pub(super) fn new(kind: Kind, what: String) -> Self {
        Self { kind, what }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Life, Publication};
    use super::*;

    const ORGANIZATION: Room = Room { organization: 0, department: None };
    const DEPARTMENT: Room = Room { organization: 0, department: Some(1) };

    fn event(number: u64) -> Event {
        Event { publisher: 0, number }
    }

    fn place(offset: u64) -> Place {
        Place { life: 0, offset }
    }

    fn list(numbers: &[u64]) -> List {
        let received = numbers.iter().map(|number| (event(*number), place(*number))).collect();
        List { began: 0, since: Some(place(0)), received }
    }

    fn member(client: usize, lists: Vec<List>) -> Member {
        Member { client, room: ORGANIZATION, lists }
    }

    /// Events 1 to 9 at the places of their numbers, answered second by second, and one client for each of these lists.
    fn history(lists: &[&[u64]]) -> History {
        let sent = |number| Publication {
            event: event(number),
            room: ORGANIZATION,
            acknowledged: Some((place(number), number * 1_000_000_000)),
        };
        History {
            publications: (1..=9).map(sent).collect(),
            members: lists.iter().enumerate().map(|(client, numbers)| member(client, vec![list(numbers)])).collect(),
            lives: vec![Life { name: "a".into(), seen: 0 }, Life { name: "b".into(), seen: 20_000_000_000 }],
            losses: Vec::new(),
        }
    }

    fn kinds(history: &History) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = check(history).into_iter().map(|finding| finding.kind).collect();
        kinds.sort_unstable();
        kinds
    }

    const ALL: &[u64] = &[1, 2, 3, 4, 5, 6, 7, 8, 9];

    #[test]
    fn what_is_right_is_not_found_fault_with() {
        assert_eq!(kinds(&history(&[ALL, ALL])), []);
    }

    #[test]
    fn what_is_missing_at_the_beginning_the_end_or_between_is_lost() {
        for missing in [1, 5, 9] {
            let rest: Vec<u64> = ALL.iter().copied().filter(|number| *number != missing).collect();
            assert_eq!(kinds(&history(&[ALL, &rest])), [Kind::Lost], "{missing}");
        }
        assert_eq!(kinds(&history(&[&[]])).len(), 9);
    }

    #[test]
    fn what_comes_again_is_found_wherever_it_comes() {
        assert_eq!(kinds(&history(&[&[1, 2, 3, 3, 4, 5, 6, 7, 8, 9]])), [Kind::Twice]);
        let late: &[u64] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 1];
        assert_eq!(kinds(&history(&[late])), [Kind::Twice, Kind::Reordered]);
    }

    #[test]
    fn what_comes_behind_something_newer_is_reordered() {
        assert_eq!(kinds(&history(&[&[1, 3, 2, 4, 5, 6, 7, 8, 9]])), [Kind::Reordered]);
    }

    #[test]
    fn what_was_not_answered_comes_to_all_or_to_nobody() {
        let mut unanswered = history(&[&[1, 2, 3, 4, 6, 7, 8, 9], &[1, 2, 3, 4, 6, 7, 8, 9]]);
        unanswered.publications[4].acknowledged = None;
        assert_eq!(kinds(&unanswered), []);
        unanswered.members[0].lists[0] = list(ALL);
        assert_eq!(kinds(&unanswered), [Kind::Lost]);
        unanswered.members[1].lists[0] = list(ALL);
        assert_eq!(kinds(&unanswered), []);
    }

    #[test]
    fn two_clients_that_disagree_about_a_place_have_a_torn_log() {
        let mut torn = history(&[ALL, ALL]);
        torn.publications[3].acknowledged = None;
        torn.publications[4].acknowledged = None;
        torn.members[1].lists[0].received[3].0 = event(5);
        torn.members[1].lists[0].received[4].0 = event(4);
        let kinds = kinds(&torn);
        assert!(kinds.contains(&Kind::Torn) && kinds.contains(&Kind::Doubled), "{kinds:?}");
    }

    #[test]
    fn an_event_that_was_appended_twice_is_doubled() {
        let mut doubled = history(&[ALL]);
        doubled.members[0].lists[0].received.push((event(9), place(10)));
        assert_eq!(kinds(&doubled), [Kind::Twice, Kind::Doubled]);
        // A client that came between the two saw it once only.
        doubled.members[0].lists[0].received.remove(8);
        let kinds = kinds(&doubled);
        assert!(kinds.contains(&Kind::Doubled), "{kinds:?}");
    }

    #[test]
    fn a_department_hears_its_own_only() {
        let mut narrow = history(&[ALL, &[2]]);
        narrow.publications[1].room = DEPARTMENT;
        narrow.publications[2].room = Room { organization: 0, department: Some(0) };
        narrow.members[1].room = DEPARTMENT;
        assert_eq!(kinds(&narrow), []);
        narrow.members[1].lists[0] = list(&[2, 3]);
        assert_eq!(kinds(&narrow), [Kind::Foreign]);
        narrow.members[1].lists[0] = list(&[]);
        assert_eq!(kinds(&narrow), [Kind::Lost]);
        // Until it subscribes it hears everything.
        narrow.members[1].lists[0] = List { since: Some(place(3)), ..list(&[1, 3]) };
        assert_eq!(kinds(&narrow), []);
    }

    #[test]
    fn what_nobody_published_is_foreign() {
        let mut strange = history(&[ALL]);
        strange.members[0].lists[0].received.push((event(77), place(77)));
        assert_eq!(kinds(&strange), [Kind::Foreign]);
    }

    #[test]
    fn a_publisher_is_not_overtaken_by_itself() {
        let mut turned = history(&[&[]]);
        turned.members[0].lists[0].since = Some(place(99));
        turned.publications[4].acknowledged = Some((place(6), 0));
        turned.publications[5].acknowledged = Some((place(5), 0));
        assert_eq!(kinds(&turned), [Kind::Overtaken]);
    }

    #[test]
    fn a_new_session_begins_only_where_something_was_lost() {
        let mut anew = history(&[]);
        let second = List { began: 5_500_000_000, since: Some(place(5)), ..list(&[6, 7, 8, 9]) };
        anew.members = vec![member(0, vec![list(&[1, 2, 3]), second])];
        assert_eq!(kinds(&anew), [Kind::NewSession]);
        anew.losses = vec![Loss { at: 5_000_000_000, unread_since: 5_000_000_000, until: 6_000_000_000 }];
        assert_eq!(kinds(&anew), []);
        anew.losses = vec![Loss { at: 4_000_000_000, unread_since: 4_000_000_000, until: 5_000_000_000 }];
        assert_eq!(kinds(&anew), [Kind::NewSession]);
        // What a session had before its end it had without a gap.
        anew.members[0].lists[0] = list(&[1, 3]);
        assert_eq!(kinds(&anew), [Kind::Lost, Kind::NewSession]);
    }

    #[test]
    fn what_redis_lost_may_be_missing_at_the_end_of_a_life_and_nowhere_else() {
        let later = |history: &mut History| {
            for sent in &mut history.publications[7..] {
                sent.acknowledged = Some((Place { life: 1, offset: sent.event.number }, 30_000_000_000));
            }
            for member in &mut history.members {
                for (_, place) in member.lists[0].received.iter_mut().filter(|(event, _)| event.number > 7) {
                    place.life = 1;
                }
            }
        };
        let mut emptied = history(&[ALL, &[1, 2, 3, 4, 5, 6, 8, 9]]);
        later(&mut emptied);
        assert_eq!(kinds(&emptied), [Kind::Lost, Kind::NewLife], "nothing was lost");
        emptied.losses = vec![Loss { at: 7_500_000_000, unread_since: 7_500_000_000, until: 8_000_000_000 }];
        assert_eq!(kinds(&emptied), [], "7 was answered half a second before");
        emptied.losses[0] = Loss { at: 9_000_000_000, unread_since: 7_500_000_000, ..emptied.losses[0] };
        assert_eq!(kinds(&emptied), [], "7 was answered half a second before some node could not read");
        emptied.losses[0].unread_since = 8_000_000_000;
        assert_eq!(kinds(&emptied), [Kind::Lost], "7 was answered a second before");
        emptied.losses[0] = Loss { at: 7_500_000_000, unread_since: 7_500_000_000, ..emptied.losses[0] };
        emptied.members[1].lists[0].received.remove(5);
        emptied.members[1].lists[0].received.insert(5, (event(7), place(7)));
        assert_eq!(kinds(&emptied), [Kind::Lost], "7 came without 6");
        // A new life loses nothing.
        let mut emptied = history(&[ALL, &[1, 2, 3, 4, 5, 6, 7, 9]]);
        later(&mut emptied);
        emptied.losses = vec![Loss { at: 7_500_000_000, unread_since: 7_500_000_000, until: 8_000_000_000 }];
        assert_eq!(kinds(&emptied), [Kind::Lost]);
    }
}
