//! Positions, ids, scopes, rooms and namespaces: what is read is what was written, and nothing can be forged.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tiercast::log::Named;
use tiercast::rooms::{
    Id, RoomName, Scope, ScopeFields, channel_room, namespace_of, parse_namespace, scope_room, user_room,
};
use tiercast::wire::{Form, from_hex, to_hex};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    position(text);
    id(text);
    if let Some(room) = RoomName::parse(text) {
        assert_eq!(room.to_string(), text);
    }
    if let Some(scope) = parse_namespace(text) {
        assert_eq!(namespace_of(&scope), text);
    }
    if let Some(bytes) = from_hex::<32>(text) {
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
    }
    let fields: Vec<&str> = text.split('\u{0}').collect();
    scope(&fields);
});

fn position(text: &str) {
    let Some(named) = Named::parse(text) else { return };
    let Named { position, form } = &named;
    let written = form.map_or_else(|| position.to_string(), |form| position.of_frame(form));
    assert_eq!(Named::parse(&written).as_ref(), Some(&named), "{text}");
    for form in [Form::Named, Form::Envelope] {
        let frame = Named::parse(&position.of_frame(form)).expect("a position");
        assert_eq!((&frame.position, frame.form), (position, Some(form)));
    }
}

fn id(text: &str) {
    if let Some(id) = Id::decode(text) {
        assert_eq!(id.encoded(), text, "one id has one encoding");
    }
    let Ok(id) = Id::parse(text) else { return };
    assert_eq!(Id::parse(id.as_str()).as_ref(), Ok(&id), "what is normal stays as it is");
    assert_eq!(Id::decode(&id.encoded()).as_ref(), Some(&id));
    assert!(!id.encoded().contains([':', '/', ',', '%', '?']) || id.encoded().contains('%'));
    assert!(!id.encoded().contains([':', '/', ',', '?', ' ']));
    assert!(id.as_str().len() <= 128 && !id.as_str().chars().any(char::is_control));
}

/// A scope of any three ids has rooms and a namespace that stand for it alone.
fn scope(fields: &[&str]) {
    let field = |number: usize| fields.get(number).filter(|text| !text.is_empty()).map(|text| (*text).to_owned());
    let fields = ScopeFields { organization_id: field(0), department_id: field(1), queue_name: field(2) };
    let Ok(scope) = fields.resolve(None) else { return };
    assert_eq!(ScopeFields::from(&scope).resolve(None).as_ref(), Ok(&scope));
    assert_eq!(parse_namespace(&namespace_of(&scope)).as_ref(), Some(&scope));
    assert_eq!(RoomName::parse(&scope_room(&scope)), Some(RoomName::Scope(scope.clone())));
    let room = channel_room("kpi", &scope);
    assert_eq!(RoomName::parse(&room), Some(RoomName::Channel("kpi".into(), scope.clone())));
    if let Some(user) = &scope.department {
        let room = user_room(&scope.organization, user);
        assert_eq!(RoomName::parse(&room), Some(RoomName::User(scope.organization.clone(), user.clone())));
    }
    let whole = Scope::organization(scope.organization.clone());
    assert_eq!(whole.intersection(&scope).as_ref(), Some(&scope));
    for outer in scope.containing() {
        assert!(outer.contains(&scope) && outer.organization == scope.organization);
        assert_eq!(outer.intersection(&scope).as_ref(), Some(&scope));
    }
}
