//! Publications: what a publisher asks for, and the entry that it becomes.

use std::time::Instant;

use serde_json::value::RawValue;

use crate::events::{Catalogue, ChannelMask, Facts, Priority};
use crate::log::{Audience, Draft, Targets};
use crate::rooms::{Id, ScopeFields};
use crate::wire::{WireError, fresh_message_id, now_ms};

/// Most things one publication may name.
pub const MAX_TARGETS: usize = 1_000;

/// What a publisher asks for.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Name of the event.
    pub event: String,
    /// The payload, any JSON.
    pub payload: Box<RawValue>,
    /// Who it is for.
    pub target: Target,
    /// Its priority, if the publisher insists.
    pub priority: Option<Priority>,
    /// Time to acknowledge in milliseconds, if acknowledgement is required.
    pub ack_timeout_ms: Option<u64>,
    /// Whether the publisher asks why it reached whom.
    pub explains: bool,
}

/// Who a publication is for.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// The scope; the payload's own fields are taken when none is given.
    pub scope: ScopeFields,
    /// The channels it goes out on; the event's own when none is given.
    pub channels: Vec<String>,
    /// Users of the organization; an empty list is nobody.
    pub user_ids: Option<Vec<String>>,
    /// Sockets, by public id; an empty list is none.
    pub socket_ids: Option<Vec<String>>,
    /// Rooms, by name; an empty list is none.
    pub rooms: Option<Vec<String>>,
    /// Sockets that are left out, by public id.
    pub except_socket_ids: Vec<String>,
}

impl Publication {
    /// A publication with nothing but an event, a payload and a scope.
    pub fn new(event: &str, payload: Box<RawValue>, scope: ScopeFields) -> Self {
        Self {
            event: event.to_owned(),
            payload,
            target: Target { scope, ..Target::default() },
            priority: None,
            ack_timeout_ms: None,
            explains: false,
        }
    }

    /// The entry that this becomes; `ack_id` is used if acknowledgement is required.
    ///
    /// # Errors
    /// If the event or a channel is not known, an id is malformed, or nobody is named.
    pub(super) fn draft(self, catalogue: &Catalogue, ack_id: u64) -> Result<Draft, WireError> {
        let Some(event) = catalogue.event(&self.event) else { return Err(WireError::UnknownEvent(self.event)) };
        let facts = if event.opaque { Facts::default() } else { Facts::read(self.payload.get()) };
        let channels = self.target.channels(catalogue, event.channels)?;
        let audience = self.target.audience(&facts, event.down)?;
        let priority = self.priority.or_else(|| Priority::of_payload(&self.event, &facts)).unwrap_or(event.priority);
        Ok(Draft {
            message_id: fresh_message_id(),
            channels,
            audience,
            except: self.target.except_socket_ids,
            priority,
            ack: self.ack_timeout_ms.map(|timeout| (ack_id, timeout)),
            payload: self.payload,
            fleeting: false,
            explains: self.explains,
            call: None,
            facts,
            published_at_ms: now_ms(),
            started: Instant::now(),
            event: event.clone(),
        })
    }
}

impl Target {
    fn channels(&self, catalogue: &Catalogue, own: ChannelMask) -> Result<ChannelMask, WireError> {
        if self.channels.is_empty() {
            return Ok(own);
        }
        let mut channels = ChannelMask::NONE;
        for name in &self.channels {
            channels = channels.with(catalogue.audience_of(name).ok_or(WireError::UnknownChannel(name.clone()))?);
        }
        Ok(channels)
    }

    fn audience(&self, facts: &Facts, down: bool) -> Result<Audience, WireError> {
        let fields = if self.scope.is_empty() { &facts.scope } else { &self.scope };
        if fields.organization_id.is_none() {
            let anybody = fields.is_empty() && !self.names_anything();
            return if down && anybody { Ok(Audience::Everyone) } else { Err(WireError::NoTarget) };
        }
        let scope = fields.resolve(None).map_err(|(field, error)| WireError::malformed(field, &error))?;
        let lists = [&self.user_ids, &self.socket_ids, &self.rooms];
        let named: usize = lists.into_iter().flatten().map(Vec::len).sum();
        if named.max(self.except_socket_ids.len()) > MAX_TARGETS {
            return Err(WireError::malformed("target", &format!("names more than {MAX_TARGETS} recipients")));
        }
        let user = |text: &String| Id::parse(text).map_err(|error| WireError::malformed("target.user_ids", &error));
        let targets = Targets {
            users: self.user_ids.iter().flatten().map(user).collect::<Result<_, _>>()?,
            sockets: self.socket_ids.clone().unwrap_or_default(),
            rooms: self.rooms.clone().unwrap_or_default(),
        };
        Ok(Audience::Scope { scope, targets: self.names_anything().then_some(targets) })
    }

    /// Whether recipients are named, be it with an empty list.
    fn names_anything(&self) -> bool {
        self.user_ids.is_some() || self.socket_ids.is_some() || self.rooms.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(event: &str, payload: &str, target: Target) -> Result<Draft, WireError> {
        let payload = RawValue::from_string(payload.into()).expect("JSON");
        let publication = Publication { target, ..Publication::new(event, payload, ScopeFields::default()) };
        publication.draft(&Catalogue::new(&[]), 1)
    }

    #[test]
    fn the_scope_comes_from_the_target_and_else_from_the_payload() {
        let target = || Target {
            scope: ScopeFields { organization_id: Some("a".into()), ..ScopeFields::default() },
            ..Target::default()
        };
        let payload = r#"{"organization_id":"b","queue_name":"q"}"#;
        let scope = |draft: Draft| draft.audience.scope().cloned().expect("a scope");
        let named = draft("kpi:update", payload, target()).map(scope).expect("a draft");
        assert_eq!((named.organization.as_str(), named.queue), ("a", None));
        let own = draft("kpi:update", payload, Target::default()).map(scope).expect("a draft");
        assert_eq!((own.organization.as_str(), own.queue.map(|queue| queue.to_string())), ("b", Some("q".into())));
    }

    #[test]
    fn without_a_target_only_system_events_go_to_everyone() {
        assert_eq!(draft("kpi:update", "{}", Target::default()).err(), Some(WireError::NoTarget));
        let everyone = draft("system:broadcast", "{}", Target::default()).expect("a draft");
        assert_eq!(everyone.audience, Audience::Everyone);
        let target = Target { user_ids: Some(vec!["u".into()]), ..Target::default() };
        assert_eq!(draft("system:broadcast", "{}", target).err(), Some(WireError::NoTarget));
        let payload = r#"{"department_id":"d"}"#;
        assert_eq!(draft("system:broadcast", payload, Target::default()).err(), Some(WireError::NoTarget));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(matches!(draft("kpi:nothing", "{}", Target::default()), Err(WireError::UnknownEvent(_))));
        let target = Target { channels: vec!["nothing".into()], ..Target::default() };
        assert!(matches!(draft("kpi:update", "{}", target), Err(WireError::UnknownChannel(_))));
        let payload = r#"{"organization_id":"a\u0000"}"#;
        assert!(matches!(draft("kpi:update", payload, Target::default()), Err(WireError::Malformed { .. })));
    }
}
