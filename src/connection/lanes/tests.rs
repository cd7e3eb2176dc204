//! The order of the lanes: examples, and any order of steps against what the rules allow.

use proptest::prelude::*;

use super::*;

/// What a test says of an event: its text is its number.
#[derive(Debug, Clone, Copy)]
struct Spec {
    socket: u32,
    priority: Priority,
    requires_ack: bool,
    entity: u64,
    conflated: bool,
}

fn event(number: usize, spec: Spec) -> Outgoing {
    let kind = Kind {
        offset: number as u64,
        event: number as u16,
        priority: spec.priority,
        requires_ack: spec.requires_ack,
        entity: spec.entity,
        conflation: NonZeroU64::new(spec.entity + 100).filter(|_| spec.conflated && !spec.requires_ack),
    };
    Outgoing { frames: number.to_string().into(), kind }
}

fn rank(spec: &Spec) -> u8 {
    if spec.requires_ack { (spec.priority as u8).max(Priority::Medium as u8) } else { spec.priority as u8 }
}

fn spec(priority: Priority, entity: u64, conflated: bool) -> Spec {
    Spec { socket: 1, priority, requires_ack: false, entity, conflated }
}

fn all(lanes: &mut Lanes) -> Vec<usize> {
    let read = |next: Next| std::str::from_utf8(&next.frames).expect("text").parse().expect("a number");
    std::iter::from_fn(|| lanes.pop()).map(read).collect()
}

#[test]
fn the_urgent_go_first_and_entities_stay_in_order() {
    let mut lanes = Lanes::new();
    let pushed = [
        spec(Priority::Medium, 1, false),
        spec(Priority::Medium, 2, false),
        spec(Priority::Low, 3, false),
        spec(Priority::Urgent, 2, false),
        spec(Priority::High, 4, false),
    ];
    for (number, spec) in pushed.into_iter().enumerate() {
        assert_eq!(lanes.push(1, event(number, spec), false), None);
    }
    assert_eq!(all(&mut lanes), [1, 3, 4, 0, 2]);
    assert_eq!(lanes.bytes(), 0);
}

#[test]
fn a_newer_value_takes_the_older_ones_place_only_under_pressure() {
    let tile = spec(Priority::Medium, 1, true);
    let other = spec(Priority::Medium, 2, false);
    for (pressed, order) in [(false, vec![0, 1, 2]), (true, vec![2, 1])] {
        let mut lanes = Lanes::new();
        lanes.push(1, event(0, tile), false);
        lanes.push(1, event(1, other), false);
        let lost = lanes.push(1, event(2, tile), pressed);
        assert_eq!(lost, pressed.then_some(Lost::Conflated(2)));
        assert_eq!(all(&mut lanes), order);
    }
}

#[test]
fn what_came_in_between_goes_before_the_newer_value() {
    let mut lanes = Lanes::new();
    lanes.push(1, event(0, spec(Priority::Medium, 1, true)), false);
    lanes.push(1, event(1, spec(Priority::Medium, 2, false)), false);
    lanes.push(1, event(2, spec(Priority::Medium, 1, false)), false);
    lanes.push(1, event(3, spec(Priority::Medium, 1, true)), true);
    assert_eq!(all(&mut lanes), [2, 3, 1]);
}

#[test]
fn a_more_urgent_value_goes_to_its_own_lane() {
    let mut lanes = Lanes::new();
    lanes.push(1, event(0, spec(Priority::Medium, 1, true)), false);
    lanes.push(1, event(1, spec(Priority::High, 2, false)), false);
    assert_eq!(lanes.push(1, event(2, spec(Priority::Urgent, 1, true)), true), Some(Lost::Conflated(2)));
    assert_eq!(all(&mut lanes), [2, 1]);
}

#[test]
fn the_low_are_dropped_under_pressure_unless_somebody_waits_for_an_acknowledgement() {
    let mut lanes = Lanes::new();
    lanes.push(1, event(0, spec(Priority::Low, 1, false)), false);
    assert_eq!(lanes.push(1, event(1, spec(Priority::Low, 1, false)), true), Some(Lost::Dropped(1)));
    let acked = Spec { requires_ack: true, ..spec(Priority::Low, 2, false) };
    assert_eq!(lanes.push(1, event(2, acked), true), None);
    assert_eq!(lanes.shed(), Some(Lost::Dropped(0)));
    assert_eq!(lanes.shed(), None);
    assert_eq!(all(&mut lanes), [2]);
}

#[test]
fn what_waits_for_a_socket_that_is_gone_is_forgotten() {
    let mut lanes = Lanes::new();
    for number in 0..100 {
        lanes.push(number as u32 % 2, event(number, spec(Priority::Medium, 1, false)), false);
    }
    lanes.forget(1);
    assert_eq!(all(&mut lanes), (0..100).step_by(2).collect::<Vec<_>>());
    assert_eq!(lanes.items.capacity(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Push(Spec, bool),
    Pop,
    Shed,
    Forget(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let priority =
        prop_oneof![Just(Priority::Low), Just(Priority::Medium), Just(Priority::High), Just(Priority::Urgent)];
    let specs = (0u32..2, priority, prop::bool::weighted(0.1), 0u64..4, any::<bool>()).prop_map(
        |(socket, priority, requires_ack, entity, conflated)| Spec {
            socket,
            priority,
            requires_ack,
            // Keys are per socket.
            entity: entity * 2 + u64::from(socket),
            conflated,
        },
    );
    let step = prop_oneof![
        6 => (specs, any::<bool>()).prop_map(|(spec, pressed)| Step::Push(spec, pressed)),
        3 => Just(Step::Pop),
        1 => Just(Step::Shed),
        1 => (0u32..2).prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// The order of the design on one page: whatever is pushed and however fast it is read.
    #[test]
    fn order(steps in steps()) {
        let mut lanes = Lanes::new();
        let mut specs: Vec<Spec> = Vec::new();
        // What is expected to wait, in the order in which it was published.
        let mut waiting: Vec<usize> = Vec::new();
                for step in steps {
            match step {
                Step::Push(spec, pressed) => {
                    let number = specs.len();
                    specs.push(spec);
                    match lanes.push(spec.socket, event(number, spec), pressed) {
                        None => waiting.push(number),
                        Some(Lost::Dropped(lost)) => {
                            // Only the low, only under pressure, and only the newcomer itself.
                            prop_assert!(pressed && spec.priority == Priority::Low && !spec.requires_ack);
                            prop_assert_eq!(usize::from(lost), number);
                        }
                        Some(Lost::Conflated(_)) => {
                            prop_assert!(pressed && spec.conflated && !spec.requires_ack);
                            // The newest waiting value of the same thing is gone; it was never one to acknowledge.
                            let same = |other: &usize| {
                                let other = specs[*other];
                                other.entity == spec.entity && other.conflated && !other.requires_ack
                            };
                            let at = waiting.iter().rposition(same);
                            prop_assert!(at.is_some(), "nothing to take the place of");
                            waiting.remove(at.unwrap_or_default());
                            waiting.push(number);
                        }
                    }
                }
                Step::Pop => {
                    let popped = lanes.pop().map(|next| String::from_utf8_lossy(&next.frames).parse::<usize>());
                    prop_assert_eq!(popped.is_some(), !waiting.is_empty());
                    let Some(Ok(number)) = popped else { continue };
                    let at = waiting.iter().position(|other| *other == number);
                    prop_assert!(at.is_some(), "{} comes twice or not at all", number);
                    waiting.remove(at.unwrap_or_default());
                    // Nothing overtakes what is older and of the same entity.
                    let overtaken = waiting.iter().find(|other| {
                        **other < number && specs[**other].entity == specs[number].entity
                    });
                    prop_assert_eq!(overtaken, None);
                    // Nothing more urgent waits, unless what came out made room for its like: it was lifted by,
                    // or took the place of, something as urgent.
                    let most = waiting.iter().map(|other| rank(&specs[*other])).max().unwrap_or_default();
                    let like = specs.iter().filter(|other| other.entity == specs[number].entity);
                    prop_assert!(like.map(rank).max().unwrap_or_default() >= most);
                }
                Step::Shed => {
                    let shed = lanes.shed();
                    if let Some(Lost::Dropped(number)) = shed {
                        let number = usize::from(number);
                        prop_assert!(!specs[number].requires_ack);
                        waiting.retain(|other| *other != number);
                    }
                }
                Step::Forget(socket) => {
                    lanes.forget(socket);
                    waiting.retain(|other| specs[*other].socket != socket);
                }
            }
            let bytes: usize = waiting.iter().map(|number| number.to_string().len()).sum();
            prop_assert_eq!(lanes.bytes(), bytes);
        }
    }
}
