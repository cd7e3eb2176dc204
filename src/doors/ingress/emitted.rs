//! What `@socket.io/redis-emitter` publishes, as it is published here.
//!
//! The channel is `<key>#<namespace>#`, or `<key>#<namespace>#<room>#` for one
//! room, and the message MessagePack: `[uid, {type, data: [event, …], nsp},
//! {rooms, except, flags}]`:
//! <https://github.com/socketio/socket.io-redis-emitter/blob/main/lib/index.ts>.

use std::collections::BTreeMap;

use rmpv::Value;

use super::payload::json;
use crate::events::Priority;
use crate::hub::{Publication, Target};
use crate::rooms::{Id, RoomName, Scope, ScopeFields, parse_namespace};

/// How an emitter names itself; servers with the Redis adapter have other names.
const UID: &str = "emitter";

/// The type of a packet that is an event.
const EVENT: u64 = 2;

/// Lists in lists in lists; each takes its part of the stack.
const MAX_DEPTH: usize = 128;

/// So many bytes of MessagePack may be one of JSON, and a little more around it.
const MOST_PER_BYTE: usize = 4;

/// What a message asks for, one publication for each organization; none if it is not an emitter's.
///
/// # Errors
/// Why it cannot be published.
pub(super) fn publications(message: &[u8], max_bytes: usize) -> Result<Option<Vec<Publication>>, String> {
    if message.len() / MOST_PER_BYTE > max_bytes {
        return Err(format!("it has {} bytes; limits.max_message_size_bytes is {max_bytes}", message.len()));
    }
    let value = rmpv::decode::read_value_with_max_depth(&mut &message[..], MAX_DEPTH)
        .map_err(|error| format!("it is no MessagePack: {error}"))?;
    let parts = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let [uid, packet, options] = parts else { return Err("it is no list of an id, a packet and options".to_owned()) };
    if uid.as_str() != Some(UID) {
        return Ok(None);
    }
    if field(packet, "type").and_then(Value::as_u64) != Some(EVENT) {
        return Err("its packet is no event".to_owned());
    }
    let (event, payload) = match field(packet, "data").and_then(Value::as_array).map(Vec::as_slice) {
        Some([event]) => (event, &Value::Nil),
        Some([event, payload]) => (event, payload),
        _ => return Err("an event is published with one argument".to_owned()),
    };
    let event = event.as_str().ok_or("the name of its event is no text")?;
    if !texts(options, "except")?.iter().all(|name| !name.contains(':')) {
        return Err("only sockets, by their ids, can be left out, and no rooms".to_owned());
    }
    let is_volatile = field(options, "flags").and_then(|flags| field(flags, "volatile")) == Some(&true.into());
    let publication = Publication {
        priority: is_volatile.then_some(Priority::Low),
        ..Publication::new(event, json(payload, max_bytes)?, ScopeFields::default())
    };
    let except = texts(options, "except")?;
    let targets = targets(field(packet, "nsp").and_then(Value::as_str).unwrap_or("/"), texts(options, "rooms")?)?;
    let publications = targets.into_iter().map(|target| Publication {
        target: Target { except_socket_ids: except.clone(), ..target },
        ..publication.clone()
    });
    Ok(Some(publications.collect()))
}

/// Whom rooms in a namespace stand for.
fn targets(namespace: &str, rooms: Vec<String>) -> Result<Vec<Target>, String> {
    let scope = match namespace {
        "/" => None,
        path => Some(parse_namespace(path).ok_or_else(|| format!("there is no namespace {path:?}"))?),
    };
    let own = scope.as_ref().map(fields).unwrap_or_default();
    if rooms.is_empty() {
        return Ok(vec![Target { scope: own, ..Target::default() }]);
    }
    let mut of_organizations: BTreeMap<Id, Vec<String>> = BTreeMap::new();
    let mut sockets = Vec::new();
    for name in rooms {
        match RoomName::parse(&name) {
            Some(room) => of_organizations.entry(room.organization().clone()).or_default().push(name),
            None if name.contains(':') => return Err(format!("there is no room {name:?}")),
            None => sockets.push(name),
        }
    }
    if let Some(scope) = scope {
        of_organizations.entry(scope.organization).or_default();
        if of_organizations.len() > 1 {
            return Err(format!("not all of its rooms are in {namespace:?}"));
        }
    }
    if of_organizations.is_empty() {
        // Whose they are, the payload may tell.
        return Ok(vec![Target { rooms: Some(sockets), ..Target::default() }]);
    }
    if !sockets.is_empty() && of_organizations.len() > 1 {
        return Err("nobody can tell which of the organizations its sockets are of".to_owned());
    }
    let target = |(organization, rooms): (Id, Vec<String>)| Target {
        scope: match own.is_empty() {
            true => ScopeFields { organization_id: Some(organization.as_str().to_owned()), ..ScopeFields::default() },
            false => own.clone(),
        },
        rooms: Some([rooms, sockets.clone()].concat()),
        ..Target::default()
    };
    Ok(of_organizations.into_iter().map(target).collect())
}

fn fields(scope: &Scope) -> ScopeFields {
    let text = |id: &Option<Id>| id.as_ref().map(|id| id.as_str().to_owned());
    ScopeFields {
        organization_id: Some(scope.organization.as_str().to_owned()),
        department_id: text(&scope.department),
        queue_name: text(&scope.queue),
    }
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    map.as_map()?.iter().find(|(other, _)| other.as_str() == Some(name)).map(|(_, value)| value)
}

/// A list of texts; an absent one is empty.
fn texts(map: &Value, name: &str) -> Result<Vec<String>, String> {
    let Some(list) = field(map, name) else { return Ok(Vec::new()) };
    let texts = list.as_array().and_then(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect());
    texts.ok_or_else(|| format!("its {name} are no list of texts"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&str, Value)]) -> Value {
        Value::Map(fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
    }

    fn list(texts: &[&str]) -> Value {
        Value::Array(texts.iter().map(|text| (*text).into()).collect())
    }

    fn read(
        namespace: &str,
        rooms: &[&str],
        except: &[&str],
        arguments: &[Value],
    ) -> Result<Option<Vec<Publication>>, String> {
        let data = [&["kpi:update".into()], arguments].concat();
        let packet = map(&[("type", 2.into()), ("data", Value::Array(data)), ("nsp", namespace.into())]);
        let options = map(&[("rooms", list(rooms)), ("except", list(except)), ("flags", map(&[]))]);
        publications(&written(&Value::Array(vec!["emitter".into(), packet, options])), 100)
    }

    fn written(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).expect("bytes");
        bytes
    }

    /// Organization, department and names.
    type Named = (Option<String>, Option<String>, Option<Vec<String>>);

    fn targets_of(namespace: &str, rooms: &[&str]) -> Vec<Named> {
        let publications = read(namespace, rooms, &[], &[1.into()]).expect("publications").expect("an emitter's");
        let target = |publication: Publication| {
            let Target { scope, rooms, .. } = publication.target;
            (scope.organization_id, scope.department_id, rooms)
        };
        publications.into_iter().map(target).collect()
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            publications(&bytes, 100).ok();
            let message = [b"\x93\xa7emitter".as_slice(), &bytes].concat();
            publications(&message, 100).ok();
        }
    }

    #[test]
    fn rooms_and_namespaces_tell_the_organization() {
        let some = |text: &str| Some(text.to_owned());
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(targets_of("/", &[]), [(None, None, None)]);
        assert_eq!(targets_of("/", &["org:a", "s"]), [(some("a"), None, names(&["org:a", "s"]))]);
        assert_eq!(targets_of("/", &["s"]), [(None, None, names(&["s"]))]);
        assert_eq!(targets_of("/org/a/dept/d", &[]), [(some("a"), some("d"), None)]);
        assert_eq!(targets_of("/org/a/dept/d", &["s"]), [(some("a"), some("d"), names(&["s"]))]);
        let of_two = [(some("a"), None, names(&["kpi:org:a"])), (some("b"), None, names(&["user:b:u"]))];
        assert_eq!(targets_of("/", &["user:b:u", "kpi:org:a"]), of_two);
    }

    #[test]
    fn what_could_reach_others_than_meant_is_refused() {
        for (namespace, rooms, except) in [
            ("/chat", &[][..], &[][..]),
            ("/", &["kpi:o:a"], &[]),
            ("/", &["org:a", "org:b", "s"], &[]),
            ("/org/a", &["org:b"], &[]),
            ("/", &["org:a"], &["user:a:u"]),
        ] {
            assert!(read(namespace, rooms, except, &[1.into()]).is_err(), "{namespace} {rooms:?} {except:?}");
        }
        assert!(read("/", &["org:a"], &[], &[1.into(), 2.into()]).is_err());
        assert!(read("/", &["org:a"], &[], &[Value::Binary(vec![1])]).is_err());
        assert!(read("/", &["org:a"], &[], &["x".repeat(100).as_str().into()]).is_err());
    }

    #[test]
    fn what_is_not_an_emitters_is_left_alone_and_what_is_nothing_is_refused() {
        let message = Value::Array(vec!["qX1".into(), map(&[]), map(&[])]);
        assert!(publications(&written(&message), 100).is_ok_and(|read| read.is_none()));
        let message = Value::Array(vec!["emitter".into(), map(&[("type", 5.into())]), map(&[])]);
        for bytes in [&written(&message)[..], b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"] {
            assert!(publications(bytes, 100).is_err());
        }
        for long in [&[0x91; 5_000][..], &[0xc0; 5_000]] {
            assert!(publications(long, 10_000).is_err());
            assert!(publications(long, 100).is_err_and(|why| why.contains("5000 bytes")));
        }
    }
}
