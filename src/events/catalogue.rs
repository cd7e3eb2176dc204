//! The catalogue: every event that may be published, and the channels it is in.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::facts::Facts;
use super::priority::Priority;

/// A set of channels, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChannelMask(u64);

impl ChannelMask {
    /// No channel.
    pub const NONE: Self = Self(0);
    /// The channel `all`: it stands for the first five and has rooms of its own.
    pub const ALL: Self = Self(1 << 63);

    /// The channel of a bit.
    fn bit(index: usize) -> Self {
        Self(1 << index)
    }

    /// Both sets together.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the other.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What both sets have.
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the sets share a channel.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set has no channel.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What the catalogue knows of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Which of the catalogue's events it is.
    pub number: u16,
    /// The channels whose subscribers receive it, `all` included where it applies.
    pub channels: ChannelMask,
    /// Its priority when neither publisher nor payload says otherwise.
    pub priority: Priority,
    /// Field of the payload that identifies what it is about; the scope when there is none.
    pub entity: Option<Arc<str>>,
    /// Whether a newer one may replace an older one that waits.
    pub conflated: bool,
    /// Whether it is kept for later readers.
    pub history: bool,
    /// Whether it goes down, to every socket of its scope.
    pub down: bool,
    /// Whether nothing of its payload is looked at, since it may be huge.
    pub opaque: bool,
}

impl EventSpec {
    /// What an event is about: the family it is of (`kpi` of `kpi:update`), and the value of the declared field if
    /// the payload has it as text or as a number.
    pub fn entity_of<'a>(&'a self, facts: &'a Facts, payload: &str) -> (&'a str, Option<Cow<'a, str>>) {
        let family = self.name.split(':').next().unwrap_or_default();
        let value = match self.entity.as_deref() {
            None => None,
            Some("alert_id") => facts.alert_id.as_deref().map(Cow::Borrowed),
            Some(field) => field_of(payload, field).map(Cow::Owned),
        };
        (family, value)
    }
}

/// A field of a payload that is an object, if it is text or a number.
fn field_of(payload: &str, field: &str) -> Option<String> {
    let fields: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(payload).ok()?;
    let raw = fields.get(field)?.get();
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok(),
        b'-' | b'0'..=b'9' => Some(raw.to_owned()),
        _ => None,
    }
}

/// An event declared beside the built-in ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its channel.
    pub channel: String,
    /// Its default priority.
    pub priority: Priority,
    /// Field of the payload that identifies what it is about.
    pub entity: Option<String>,
    /// Whether a newer one may replace an older one that waits.
    pub conflated: bool,
    /// Whether it is kept for later readers.
    pub history: bool,
}

/// Channels in the order of their bits; the first five are `all`, and those behind the sixth are the plain doors'.
const BUILT_IN_CHANNELS: [&str; 17] = [
    "kpi",
    "backlog",
    "attendance",
    "alerts",
    "notifications",
    "presence",
    "activity",
    "issues",
    "issue",
    "project",
    "global",
    "checkins",
    "events",
    "event_update",
    "event_created",
    "event_deleted",
    "metrics",
];
const FIRST_FIVE: u64 = 0b1_1111;
const PRESENCE: u64 = 0b10_0000;

/// An event of the catalogue as it is written down here.
struct BuiltIn {
    name: &'static str,
    channels: &'static [&'static str],
    conflated: bool,
    entity: Option<&'static str>,
    history: bool,
}

const fn built_in(name: &'static str, channels: &'static [&'static str]) -> BuiltIn {
    BuiltIn { name, channels, conflated: false, entity: None, history: true }
}

impl BuiltIn {
    const fn conflated(self) -> Self {
        Self { conflated: true, ..self }
    }

    const fn about(self, entity: &'static str) -> Self {
        Self { entity: Some(entity), ..self }
    }

    const fn fleeting(self) -> Self {
        Self { history: false, ..self }
    }
}

/// Every built-in event, those of the dashboards first.
const BUILT_IN_EVENTS: [BuiltIn; 36] = [
    built_in("kpi:update", &["kpi"]).conflated(),
    built_in("kpi:computed", &["kpi"]),
    built_in("kpi:alert", &["kpi"]),
    built_in("backlog:update", &["backlog"]).conflated(),
    built_in("backlog:snapshot", &["backlog"]).conflated(),
    built_in("backlog:alert", &["backlog"]),
    built_in("attendance:update", &["attendance"]).conflated(),
    built_in("attendance:checkin", &["attendance"]),
    built_in("attendance:checkout", &["attendance"]),
    built_in("attendance:alert", &["attendance"]),
    built_in("alert:triggered", &["alerts"]).about("alert_id"),
    built_in("alert:acknowledged", &["alerts"]).about("alert_id"),
    built_in("alert:resolved", &["alerts"]).about("alert_id"),
    built_in("alert:escalated", &["alerts"]).about("alert_id"),
    built_in("system:notification", &["notifications"]),
    built_in("system:broadcast", &["notifications"]),
    built_in("system:maintenance", &["notifications"]),
    built_in("presence:update", &["presence"]).fleeting(),
    // WorkMatrix.
    built_in("activity_update", &["activity"]).conflated().fleeting(),
    built_in("screenshot_update", &["activity"]).fleeting(),
    built_in("status_update", &["activity"]),
    // Dexter.
    built_in("issue_update", &["issues", "issue"]).about("issue_id"),
    built_in("alert_trigger", &["alerts"]).about("alert_id"),
    built_in("notification", &["notifications"]),
    built_in("assignment_notification", &["notifications"]),
    built_in("announcement", &["global"]),
    built_in("broadcast", &["global"]),
    // AV-Gym.
    built_in("check_in_update", &["checkins"]),
    built_in("member_checked_in", &["checkins"]),
    built_in("member_checked_out", &["checkins"]),
    built_in("check_in_stats", &["checkins"]).conflated(),
    built_in("member_update", &["checkins"]),
    // API/er.
    built_in("event_update", &["events", "event_update"]).about("id"),
    built_in("event_created", &["events", "event_created"]).about("id"),
    built_in("event_deleted", &["events", "event_deleted"]).about("id"),
    built_in("metrics_update", &["metrics"]).conflated(),
];

/// Screenshots may be as large as a message.
const OPAQUE: &str = "screenshot_update";

/// Every event that may be published; everything else is refused.
#[derive(Debug, Clone)]
pub struct Catalogue {
    channels: Vec<String>,
    events: HashMap<String, EventSpec>,
}

impl Catalogue {
    /// The built-in catalogue and what was declared beside it.
    pub fn new(declared: &[Declared]) -> Self {
        let mut catalogue = Self { channels: BUILT_IN_CHANNELS.map(String::from).to_vec(), events: HashMap::new() };
        for BuiltIn { name, channels, conflated, entity, history } in BUILT_IN_EVENTS {
            let event = Declared {
                name: name.into(),
                channel: String::new(),
                priority: Priority::Medium,
                entity: entity.map(Into::into),
                conflated,
                history,
            };
            catalogue.declare(&event, channels);
        }
        for event in declared {
            catalogue.declare(event, &[&event.channel]);
        }
        catalogue
    }

    fn declare(&mut self, event: &Declared, channels: &[&str]) {
        let mut channels = channels.iter().fold(ChannelMask::NONE, |mask, name| mask.with(self.channel_bit(name)));
        if event.name.ends_with(":alert") {
            channels = channels.with(self.channel_bit("alerts"));
        }
        if channels.meets(ChannelMask(FIRST_FIVE)) {
            channels = channels.with(ChannelMask::ALL);
        }
        let number = self.events.get(&event.name).map_or(self.events.len() as u16, |known| known.number);
        let spec = EventSpec {
            name: event.name.as_str().into(),
            number,
            channels,
            priority: event.priority,
            entity: event.entity.as_deref().map(Arc::from),
            conflated: event.conflated,
            history: event.history,
            down: event.name.starts_with("system:"),
            opaque: event.name == OPAQUE,
        };
        self.events.insert(event.name.clone(), spec);
    }

    fn channel_bit(&mut self, name: &str) -> ChannelMask {
        let index = self.channels.iter().position(|known| known == name).unwrap_or_else(|| {
            self.channels.push(name.to_owned());
            self.channels.len() - 1
        });
        ChannelMask::bit(index)
    }

    /// The event of this name.
    pub fn event(&self, name: &str) -> Option<&EventSpec> {
        self.events.get(name)
    }

    /// The name of an event by its number.
    pub fn name_of(&self, number: u16) -> Option<&str> {
        self.events.values().find(|event| event.number == number).map(|event| &*event.name)
    }

    /// The channel of this name, `all` included.
    pub fn channel(&self, name: &str) -> Option<ChannelMask> {
        if name == "all" {
            return Some(ChannelMask::ALL);
        }
        self.channels.iter().position(|known| known == name).map(ChannelMask::bit)
    }

    /// The channels whose subscribers an event sent out on this channel reaches.
    pub fn audience_of(&self, name: &str) -> Option<ChannelMask> {
        let five = ChannelMask(FIRST_FIVE);
        match self.channel(name)? {
            ChannelMask::ALL => Some(five.with(ChannelMask::ALL)),
            channel if channel.meets(five) => Some(channel.with(ChannelMask::ALL)),
            channel => Some(channel),
        }
    }

    /// The names of the channels in a set.
    pub fn names(&self, mask: ChannelMask) -> impl Iterator<Item = &str> {
        let all = mask.meets(ChannelMask::ALL).then_some("all");
        let named = self.channels.iter().enumerate().filter(move |(index, _)| mask.meets(ChannelMask::bit(*index)));
        named.map(|(_, name)| name.as_str()).chain(all)
    }

    /// What an implicit subscription covers: every channel but those received only by name.
    pub fn implicit(&self) -> ChannelMask {
        let known = self.channels.iter().enumerate().fold(0, |mask, (index, _)| mask | 1 << index);
        ChannelMask(known & !PRESENCE)
    }

    /// The channels that a subscription to these replaces in an implicit one.
    pub fn replaced_by(&self, mask: ChannelMask) -> ChannelMask {
        if mask.meets(ChannelMask::ALL) { self.implicit() } else { mask }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_of_every_family_are_in_the_alerts_channel_too() {
        let catalogue = Catalogue::new(&[]);
        let alerts = catalogue.channel("alerts").expect("a channel");
        for name in ["kpi:alert", "backlog:alert", "attendance:alert", "alert:triggered"] {
            assert!(catalogue.event(name).expect("an event").channels.meets(alerts), "{name}");
        }
        assert!(!catalogue.event("kpi:update").expect("an event").channels.meets(alerts));
    }

    #[test]
    fn all_stands_for_the_first_five_channels() {
        let catalogue = Catalogue::new(&[Declared {
            name: "order:shipped".into(),
            channel: "orders".into(),
            priority: Priority::High,
            entity: None,
            conflated: false,
            history: true,
        }]);
        assert!(catalogue.event("system:notification").expect("an event").channels.meets(ChannelMask::ALL));
        assert!(!catalogue.event("presence:update").expect("an event").channels.meets(ChannelMask::ALL));
        let order = catalogue.event("order:shipped").expect("an event");
        assert!(!order.channels.meets(ChannelMask::ALL));
        assert!(catalogue.implicit().meets(order.channels));
        assert!(!catalogue.implicit().meets(catalogue.channel("presence").expect("a channel")));
        assert_eq!(catalogue.channel("nothing"), None);
        assert!(catalogue.event("kpi:nothing").is_none());
    }

    #[test]
    fn an_event_is_about_what_its_declared_field_says() {
        let declared = |entity: Option<&str>| Declared {
            name: "order:shipped".into(),
            channel: "orders".into(),
            priority: Priority::High,
            entity: entity.map(Into::into),
            conflated: false,
            history: true,
        };
        let about = |entity: Option<&str>, payload: &str| {
            let catalogue = Catalogue::new(&[declared(entity)]);
            let event = catalogue.event("order:shipped").expect("an event").clone();
            let facts = Facts::default();
            let (family, value) = event.entity_of(&facts, payload);
            assert_eq!(family, "order");
            value.map(Cow::into_owned)
        };
        assert_eq!(about(Some("order_id"), r#"{"order_id":"a\u0062"}"#).as_deref(), Some("ab"));
        assert_eq!(about(Some("order_id"), r#"{"order_id":7}"#).as_deref(), Some("7"));
        for none in [r#"{"order_id":null}"#, r#"{"order_id":[1]}"#, "{}", "7", "[]"] {
            assert_eq!(about(Some("order_id"), none), None, "{none}");
        }
        assert_eq!(about(None, r#"{"order_id":7}"#), None);
    }

    #[test]
    fn numbers_lead_back_to_names() {
        let catalogue = Catalogue::new(&[]);
        let event = catalogue.event("backlog:update").expect("an event");
        assert_eq!(catalogue.name_of(event.number), Some("backlog:update"));
        assert_eq!(catalogue.name_of(BUILT_IN_EVENTS.len() as u16), None);
    }

    #[test]
    fn there_are_seventeen_dashboard_events_and_presence_and_those_of_the_plain_doors() {
        let catalogue = Catalogue::new(&[]);
        assert_eq!(catalogue.events.keys().filter(|name| name.contains(':')).count(), 18);
        assert_eq!(catalogue.channels, BUILT_IN_CHANNELS);
        assert_eq!(catalogue.events.len(), BUILT_IN_EVENTS.len());
    }
}
