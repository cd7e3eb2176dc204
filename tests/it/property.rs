//! The delivery rule as a property: whatever the tree, the subscriptions and the targets,
//! exactly those receive that the rule names, each once in each form it wants.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use proptest::{collection::vec, option, prelude::*, sample::select, test_runner::TestCaseError};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::kit::{Client, ConnectOptions, Forms, TestServer, Transport};

const ORGANIZATIONS: [&str; 2] = ["org-1", "org:2/é"];
const DEPARTMENTS: [&str; 2] = ["d-1", "d-2"];
const QUEUES: [&str; 2] = ["q-1", "q,2"];
const USERS: [&str; 3] = ["ann", "bob", "a:b"];
const CHANNELS: [&str; 5] = ["kpi", "backlog", "attendance", "alerts", "notifications"];
const EVENTS: [(&str, &[&str]); 10] = [
    ("kpi:update", &["kpi"]),
    ("kpi:alert", &["kpi", "alerts"]),
    ("backlog:snapshot", &["backlog"]),
    ("backlog:alert", &["backlog", "alerts"]),
    ("attendance:checkin", &["attendance"]),
    ("attendance:alert", &["attendance", "alerts"]),
    ("alert:triggered", &["alerts"]),
    ("alert:escalated", &["alerts"]),
    ("system:notification", &["notifications"]),
    ("system:broadcast", &["notifications"]),
];

/// A place within an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Scope {
    department: Option<&'static str>,
    queue: Option<&'static str>,
}

impl Scope {
    /// Whether `inner` lies within this scope.
    fn contains(&self, inner: &Self) -> bool {
        (self.department.is_none() || self.department == inner.department)
            && (self.queue.is_none() || self.queue == inner.queue)
    }

    /// Adds the fields of this scope to a request.
    fn on(&self, mut request: Value) -> Value {
        if let Some(department) = self.department {
            request["department_id"] = json!(department);
        }
        if let Some(queue) = self.queue {
            request["queue_name"] = json!(queue);
        }
        request
    }

    /// The end of a name: `:dept:…` in rooms, `/dept/…` in namespaces.
    fn name(&self, separator: &str) -> String {
        let part = |kind: &str, id: Option<&str>| {
            id.map(|id| format!("{separator}{kind}{separator}{}", encode(id))).unwrap_or_default()
        };
        part("dept", self.department) + &part("queue", self.queue)
    }
}

/// What a socket does before anything is published.
#[derive(Debug, Clone)]
enum Step {
    Subscribe { channels: Vec<&'static str>, scope: Scope },
    Unsubscribe { channel: &'static str },
    UnsubscribeFromEverything,
}

#[derive(Debug, Clone)]
struct Socket {
    organization: &'static str,
    user: &'static str,
    transport: Transport,
    /// On polling: the publication during which it goes over to a WebSocket.
    goes_over: Option<usize>,
    forms: Forms,
    place: Place,
}

/// Where a socket is, and what it receives there.
#[derive(Debug, Clone)]
enum Place {
    Main {
        steps: Vec<Step>,
    },
    /// Subscribed to everything there by entering.
    Namespace {
        scope: Scope,
    },
}

#[derive(Debug, Clone)]
struct Publication {
    event: (&'static str, &'static [&'static str]),
    audience: Audience,
    /// Places in the list of sockets, taken modulo its length.
    except: Vec<usize>,
}

#[derive(Debug, Clone)]
enum Audience {
    /// Only a system event may go to everyone.
    Everyone,
    Scope {
        organization: &'static str,
        scope: Scope,
    },
    Named {
        organization: &'static str,
        users: Vec<&'static str>,
        sockets: Vec<usize>,
        rooms: Vec<Room>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Organization(&'static str),
    User(&'static str, &'static str),
    Subscription(&'static str, &'static str, Scope),
}

impl Room {
    fn name(&self) -> String {
        match self {
            Self::Organization(organization) => format!("org:{}", encode(organization)),
            Self::User(organization, user) => format!("user:{}:{}", encode(organization), encode(user)),
            Self::Subscription(organization, channel, scope) => {
                format!("{channel}:org:{}{}", encode(organization), scope.name(":"))
            }
        }
    }
}

fn encode(id: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.@".contains(byte);
    id.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

// === The model: who must receive ===

/// What a socket has come to be subscribed to.
struct Subscriptions {
    explicit: BTreeSet<(&'static str, Scope)>,
    implicit: BTreeSet<&'static str>,
}

impl Subscriptions {
    fn of(socket: &Socket) -> Self {
        let mut state = Self { explicit: BTreeSet::new(), implicit: CHANNELS.into() };
        match &socket.place {
            Place::Namespace { scope } => {
                state.implicit.clear();
                state.explicit.insert(("all", *scope));
            }
            Place::Main { steps } => steps.iter().for_each(|step| state.take(step)),
        }
        state
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Subscribe { channels, scope } => {
                for channel in channels {
                    self.explicit.insert((channel, *scope));
                    self.implicit.retain(|implicit| *channel != "all" && implicit != channel);
                }
            }
            Step::Unsubscribe { channel } => {
                self.explicit.retain(|(subscribed, _)| subscribed != channel);
                self.implicit.remove(channel);
            }
            Step::UnsubscribeFromEverything => {
                self.explicit.clear();
                self.implicit.clear();
            }
        }
    }

    /// Events go up: to every subscription whose scope contains theirs.
    fn contain(&self, channels: &[&str], scope: &Scope) -> bool {
        let of_channel = |channel: &str| channel == "all" || channels.contains(&channel);
        self.explicit.iter().any(|(channel, subscribed)| of_channel(channel) && subscribed.contains(scope))
            || channels.iter().any(|channel| self.implicit.contains(channel))
    }

    /// System events also go down: to every subscription within their scope.
    fn lie_within(&self, scope: &Scope) -> bool {
        self.explicit.iter().any(|(_, subscribed)| scope.contains(subscribed))
    }
}

fn is_in(socket: &Socket, room: &Room) -> bool {
    match room {
        Room::Organization(organization) => socket.organization == *organization,
        Room::User(organization, user) => socket.organization == *organization && socket.user == *user,
        Room::Subscription(organization, channel, scope) => {
            socket.organization == *organization && Subscriptions::of(socket).explicit.contains(&(*channel, *scope))
        }
    }
}

fn must_receive(publication: &Publication, place: usize, sockets: &[Socket]) -> bool {
    let socket = &sockets[place];
    let excepted = publication.except.iter().any(|except| except % sockets.len() == place);
    let (event, channels) = publication.event;
    !excepted
        && match &publication.audience {
            Audience::Everyone => true,
            Audience::Scope { organization, scope } => {
                let subscriptions = Subscriptions::of(socket);
                let whole = *scope == Scope { department: None, queue: None };
                let down = event.starts_with("system:") && (whole || subscriptions.lie_within(scope));
                socket.organization == *organization && (down || subscriptions.contain(channels, scope))
            }
            // Whoever is named receives whatever it subscribes to, if it belongs to the organization.
            Audience::Named { organization, users, sockets: named, rooms } => {
                socket.organization == *organization
                    && (users.contains(&socket.user)
                        || named.iter().any(|named| named % sockets.len() == place)
                        || rooms.iter().any(|room| is_in(socket, room)))
            }
        }
}

// === The real thing ===

async fn enter(server: &TestServer, socket: &Socket) -> Client {
    let options = ConnectOptions { forms: Some(socket.forms), ..ConnectOptions::default() }.transport(socket.transport);
    match &socket.place {
        Place::Namespace { scope } => {
            let auth = json!({ "user_id": socket.user, "organization_id": socket.organization });
            let namespace = format!("/org/{}{}", encode(socket.organization), scope.name("/"));
            server.connect_with(options.namespace(&namespace).auth(auth)).await
        }
        Place::Main { steps } => {
            let mut client = server.connect_with(options).await.authenticate_as(socket.user, socket.organization).await;
            for step in steps {
                match step {
                    Step::Subscribe { channels, scope } => {
                        client.subscribe(scope.on(json!({ "channels": channels }))).await;
                    }
                    // Refused if there is nothing to end, which changes nothing.
                    Step::Unsubscribe { channel } => {
                        client.emit("unsubscribe", json!({ "channels": [channel] })).await;
                    }
                    Step::UnsubscribeFromEverything => {
                        client.emit("unsubscribe", json!({})).await;
                    }
                }
            }
            client
        }
    }
}

fn target(publication: &Publication, ids: &[String]) -> Value {
    let ids = |places: &[usize]| -> Vec<&str> { places.iter().map(|place| ids[place % ids.len()].as_str()).collect() };
    let mut target = match &publication.audience {
        Audience::Everyone => json!({}),
        Audience::Scope { organization, scope } => scope.on(json!({ "organization_id": organization })),
        Audience::Named { organization, users, sockets, rooms } => json!({
            "organization_id": organization,
            "user_ids": users,
            "socket_ids": ids(sockets),
            "rooms": rooms.iter().map(Room::name).collect::<Vec<_>>(),
        }),
    };
    if !publication.except.is_empty() {
        target["except_socket_ids"] = json!(ids(&publication.except));
    }
    target
}

/// The frames that each publication must have brought to a socket, in order.
fn expected(place: usize, sockets: &[Socket], publications: &[Publication]) -> Vec<(String, usize)> {
    let mut frames = Vec::new();
    for (number, publication) in publications.iter().enumerate() {
        if must_receive(publication, place, sockets) {
            if sockets[place].forms != Forms::Envelope {
                frames.push((publication.event.0.to_owned(), number));
            }
            if sockets[place].forms != Forms::Named {
                frames.push(("message".to_owned(), number));
            }
        }
    }
    frames
}

async fn check(sockets: Vec<Socket>, publications: Vec<Publication>) -> Result<(), TestCaseError> {
    let server = TestServer::start(|_| {}).await;
    let mut clients = Vec::new();
    for socket in &sockets {
        clients.push(enter(&server, socket).await);
    }
    let ids: Vec<String> = clients.iter().map(|client| client.socket_id.clone()).collect();
    let (begin, begun) = watch::channel(0);
    let publishing = async {
        for (number, publication) in publications.iter().enumerate() {
            begin.send_replace(number);
            let answer = server.broadcast(publication.event.0, json!({ "n": number }), target(publication, &ids)).await;
            let count = (0..sockets.len()).filter(|place| must_receive(publication, *place, &sockets)).count();
            prop_assert_eq!(&answer["recipients_count"], &json!(count), "publication {}: {:?}", number, publication);
        }
        begin.send_replace(usize::MAX);
        Ok(())
    };
    let going_over = sockets.iter().zip(&mut clients).map(|(socket, client)| {
        let (goes_over, mut begun) = (socket.goes_over, begun.clone());
        async move {
            if let Some(number) = goes_over {
                begun.wait_for(|begun| *begun >= number).await.expect("a publisher");
                client.wire.upgrade().await;
            }
        }
    });
    let (published, _) = tokio::join!(publishing, join_all(going_over));
    published?;
    let mut wrong = BTreeMap::new();
    for (place, client) in clients.iter_mut().enumerate() {
        let events = client.drain(&server).await;
        let number = |event: &crate::kit::Event| event.data()["n"].as_u64().expect("a number") as usize;
        let received: Vec<_> = events.iter().map(|event| (event.name.clone(), number(event))).collect();
        let expected = expected(place, &sockets, &publications);
        if received != expected {
            wrong.insert(place, format!("received {received:?}, expected {expected:?}"));
        }
    }
    prop_assert!(wrong.is_empty(), "{:#?}", wrong);
    drop(clients);
    server.finish().await;
    Ok(())
}

// === What is tried ===

fn scopes() -> impl Strategy<Value = Scope> {
    (option::of(select(&DEPARTMENTS[..])), option::of(select(&QUEUES[..])))
        .prop_map(|(department, queue)| Scope { department, queue })
}

fn channels() -> impl Strategy<Value = Vec<&'static str>> {
    let any = prop_oneof![4 => select(&CHANNELS[..]), 1 => Just("all")];
    vec(any, 1..=2).prop_map(|mut channels| {
        channels.sort_unstable();
        channels.dedup();
        channels
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (channels(), scopes()).prop_map(|(channels, scope)| Step::Subscribe { channels, scope }),
        1 => select(&CHANNELS[..]).prop_map(|channel| Step::Unsubscribe { channel }),
        1 => Just(Step::UnsubscribeFromEverything),
    ];
    vec(step, 0..=4)
}

fn sockets() -> impl Strategy<Value = Socket> {
    let place = prop_oneof![
        3 => steps().prop_map(|steps| Place::Main { steps }),
        1 => scopes().prop_map(|scope| Place::Namespace { scope }),
    ];
    let transport = prop_oneof![
        select(vec![Transport::WebSocket, Transport::Polling, Transport::Upgrade])
            .prop_map(|transport| (transport, None)),
        (0..16usize).prop_map(|during| (Transport::Polling, Some(during))),
    ];
    let forms = select(vec![Forms::Named, Forms::Envelope, Forms::Both]);
    (select(&ORGANIZATIONS[..]), select(&USERS[..]), transport, forms, place).prop_map(
        |(organization, user, (transport, goes_over), forms, place)| Socket {
            organization,
            user,
            transport,
            goes_over,
            forms,
            place,
        },
    )
}

fn rooms(organization: &'static str) -> impl Strategy<Value = Room> {
    prop_oneof![
        1 => Just(Room::Organization(organization)),
        2 => select(&USERS[..]).prop_map(move |user| Room::User(organization, user)),
        4 => (select(&CHANNELS[..]), scopes())
            .prop_map(move |(channel, scope)| Room::Subscription(organization, channel, scope)),
    ]
}

fn publications() -> impl Strategy<Value = Publication> {
    let named = select(&ORGANIZATIONS[..]).prop_flat_map(|organization| {
        let names = (vec(select(&USERS[..]), 0..=2), vec(0..8usize, 0..=3), vec(rooms(organization), 0..=2));
        let somebody = names.prop_filter("somebody is named", |(users, sockets, rooms)| {
            !(users.is_empty() && sockets.is_empty() && rooms.is_empty())
        });
        somebody.prop_map(move |(users, sockets, rooms)| Audience::Named { organization, users, sockets, rooms })
    });
    let audience = prop_oneof![
        6 => (select(&ORGANIZATIONS[..]), scopes())
            .prop_map(|(organization, scope)| Audience::Scope { organization, scope }),
        3 => named,
        1 => Just(Audience::Everyone),
    ];
    let except = prop_oneof![3 => Just(Vec::new()), 1 => vec(0..8usize, 1..=2)];
    (select(&EVENTS[..]), audience, except).prop_map(|(event, audience, except)| {
        let only_for_system = matches!(audience, Audience::Everyone) && !event.0.starts_with("system:");
        let event = if only_for_system { EVENTS[8] } else { event };
        Publication { event, audience, except }
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn exactly_those_receive_that_the_rule_names(
        sockets in vec(sockets(), 1..=8),
        publications in vec(publications(), 1..=16),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check(sockets, publications))?;
    }
}
