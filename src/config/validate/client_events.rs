//! Rules for events of clients: each of a name of its own, with the keys of its action and no others.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{Findings, check_own_name, check_url};
use crate::config::{ClientAction, ClientEvent, Config};
use crate::events::Catalogue;

const TIMEOUT_MS: RangeInclusive<u64> = 1..=3_600_000;
const CONCURRENT: RangeInclusive<u64> = 1..=10_000;
const RETRY_MS: RangeInclusive<u64> = 1..=3_600_000;

pub(super) fn check(config: &Config, found: &mut Findings) {
    let catalogue = Catalogue::new(&[]);
    let is_known = |name: &str| {
        catalogue.event(name).is_some() || config.events.custom.iter().any(|declared| declared.name == name)
    };
    let mut names = BTreeSet::new();
    for (index, rule) in config.client_events.iter().enumerate() {
        let key = |field: &str| format!("client_events[{index}].{field}");
        if let Err(reason) = check_own_name(&rule.event) {
            found.add(key("event"), reason);
        } else if !names.insert(&rule.event) {
            found.add(key("event"), format!("{:?} is there twice", rule.event));
        } else if rule.action == ClientAction::Relay && !is_known(rule.published_as()) {
            let field = if rule.published_as.is_some() { "as" } else { "event" };
            let what = "is published, so it has to be an event of the catalogue or of events.custom";
            found.add(key(field), format!("{:?} {what}; \"as\" publishes under another name", rule.published_as()));
        }
        check_keys(rule, &key, found);
        if rule.roles.as_ref().is_some_and(|roles| roles.is_empty() || roles.iter().any(String::is_empty)) {
            found.add(key("roles"), "expected one role or more, each with a name; leave it out for everybody");
        }
        if let Some(url) = &rule.url {
            check_url(&key("url"), url, found);
        }
        let numbers = [
            ("timeout_ms", rule.timeout_ms, TIMEOUT_MS),
            ("max_concurrent", rule.max_concurrent.map(|number| number as u64), CONCURRENT),
            ("retry_ms", rule.retry_ms, RETRY_MS),
        ];
        for (field, number, range) in numbers {
            if let Some(number) = number.filter(|number| !range.contains(number)) {
                let (least, most) = range.into_inner();
                found.add(key(field), format!("expected an integer from {least} to {most}, found {number}"));
            }
        }
    }
}

/// An action has what it needs, and nothing that belongs to another.
fn check_keys(rule: &ClientEvent, key: &impl Fn(&str) -> String, found: &mut Findings) {
    let is_relay = rule.action == ClientAction::Relay;
    let is_forward = rule.action == ClientAction::Forward;
    if is_relay && rule.to.is_none() {
        found.add(key("action"), "\"relay\" needs `to`: \"organization\", \"user\" or \"room\"");
    }
    if is_forward && rule.url.as_deref().is_none_or(str::is_empty) {
        found.add(key("action"), "\"forward\" needs `url`, such as \"https://host/path\"");
    }
    let keys = [
        ("to", rule.to.is_some(), is_relay, "relay"),
        ("as", rule.published_as.is_some(), is_relay, "relay"),
        ("url", rule.url.is_some(), is_forward, "forward"),
        ("secret", rule.secret.is_some(), is_forward, "forward"),
        ("timeout_ms", rule.timeout_ms.is_some(), is_forward, "forward"),
        ("max_concurrent", rule.max_concurrent.is_some(), is_forward, "forward"),
        ("retry_ms", rule.retry_ms.is_some(), is_forward, "forward"),
    ];
    for (field, _, _, action) in keys.into_iter().filter(|(_, is_set, fits, _)| *is_set && !fits) {
        found.add(key(field), format!("belongs to action = {action:?}; leave it out"));
    }
}
