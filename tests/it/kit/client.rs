//! One Socket.IO socket (protocol v5): connect, emit, ack, wait.

use std::{collections::VecDeque, net::SocketAddr};

use serde_json::{Value, json};

use super::{
    DEADLINE, Endpoint, Protocol, Reply, TestServer, Wire,
    packet::{self, Event, Kind, Packet},
    secrets,
    wire::Incoming,
};

/// How a client gets in.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    pub path: String,
    pub namespace: String,
    pub auth: Option<Value>,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub transport: Transport,
    /// The forms of an event it asks for, in the query.
    pub forms: Option<Forms>,
    pub protocol: Protocol,
    /// Whether it speaks TLS.
    pub secure: bool,
    /// Bytes that the kernel keeps for a reader; few make a slow reader felt early.
    pub receive_buffer: Option<u32>,
    /// Another node, to which everything goes that names a session.
    pub elsewhere: Option<SocketAddr>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            path: "/ws/".into(),
            namespace: "/".into(),
            auth: None,
            query: Vec::new(),
            headers: Vec::new(),
            transport: Transport::WebSocket,
            forms: None,
            protocol: Protocol::V4,
            secure: false,
            receive_buffer: None,
            elsewhere: None,
        }
    }
}

impl ConnectOptions {
    /// Asks for the named form only, which is what most tests count.
    pub fn named() -> Self {
        Self { forms: Some(Forms::Named), ..Self::default() }
    }

    pub fn namespace(self, namespace: &str) -> Self {
        Self { namespace: namespace.into(), ..self }
    }

    pub fn auth(self, auth: Value) -> Self {
        Self { auth: Some(auth), ..self }
    }

    pub fn transport(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }
}

/// How frames travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Polling,
    /// Long-polling first, then WebSocket.
    Upgrade,
}

/// In which forms events come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forms {
    Named,
    Envelope,
    Both,
}

/// Why a client did not get in.
#[derive(Debug)]
pub enum Refused {
    Http(Reply),
    /// The data of a CONNECT_ERROR packet.
    Connect(Value),
    Closed,
}

impl Refused {
    /// The message of a CONNECT_ERROR.
    pub fn message(&self) -> &str {
        match self {
            Self::Connect(data) => data["message"].as_str().expect("a connect_error has a message"),
            other => panic!("refused, but not by connect_error: {other:?}"),
        }
    }

    /// The HTTP answer.
    pub fn reply(&self) -> &Reply {
        match self {
            Self::Http(reply) => reply,
            other => panic!("refused, but not by HTTP: {other:?}"),
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closure {
    /// A Socket.IO DISCONNECT packet came first: a stock client does not return by itself.
    pub terminal: bool,
    /// The code of the WebSocket close frame.
    pub code: Option<u16>,
}

/// One socket in one namespace, on a connection of its own.
pub struct Client {
    pub wire: Wire,
    pub namespace: String,
    /// The id in the CONNECT reply.
    pub socket_id: String,
    /// The CONNECT reply.
    pub connected: Value,
    pub user: String,
    pub organization: String,
    pub forms: Forms,
    protocol: Protocol,
    seen: VecDeque<Packet>,
    next_ack: u64,
    closure: Option<Closure>,
    terminal: bool,
}

impl Client {
    /// Connects to `address` and enters the namespace.
    pub async fn connect(address: SocketAddr, options: ConnectOptions) -> Result<Self, Refused> {
        let mut client = Self::open(address, &options).await?;
        client.enter(&options.namespace, options.auth.as_ref()).await?;
        if options.transport == Transport::Upgrade {
            client.wire.upgrade().await;
        }
        Ok(client)
    }

    /// Opens the connection without entering a namespace.
    pub async fn open(address: SocketAddr, options: &ConnectOptions) -> Result<Self, Refused> {
        let scheme = if options.secure { "https" } else { "http" };
        let mut url = reqwest::Url::parse(&format!("{scheme}://{address}{}", options.path)).expect("a URL");
        let forms = options.forms.map(|forms| match forms {
            Forms::Named => "named",
            Forms::Envelope => "envelope",
            Forms::Both => "both",
        });
        let query = options.query.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let query: Vec<_> = query.chain(forms.map(|forms| ("forms", forms))).collect();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let (headers, protocol, receive_buffer) = (options.headers.clone(), options.protocol, options.receive_buffer);
        let endpoint = Endpoint { url, headers, protocol, receive_buffer, elsewhere: options.elsewhere };
        let wire = match options.transport {
            Transport::WebSocket => Wire::websocket(endpoint).await?,
            Transport::Polling | Transport::Upgrade => Wire::polling(endpoint).await?,
        };
        Ok(Self {
            wire,
            namespace: "/".into(),
            socket_id: String::new(),
            connected: Value::Null,
            user: String::new(),
            organization: String::new(),
            forms: options.forms.unwrap_or(Forms::Both),
            protocol,
            seen: VecDeque::new(),
            next_ack: 0,
            closure: None,
            terminal: false,
        })
    }

    /// Enters a namespace; from here on the client speaks for its socket there.
    pub async fn enter(&mut self, namespace: &str, auth: Option<&Value>) -> Result<(), Refused> {
        // A client of version 3 is in the main namespace without asking.
        if self.protocol == Protocol::V4 || namespace != "/" {
            self.wire.send(packet::connect(namespace, auth));
        }
        self.namespace = namespace.into();
        let answer = self.take_until_closed(|packet| {
            packet.namespace == namespace && matches!(packet.kind, Kind::Connect | Kind::ConnectError)
        });
        let packet = answer.await.ok_or(Refused::Closed)?;
        if packet.kind == Kind::ConnectError {
            return Err(Refused::Connect(packet.data));
        }
        let id = match self.protocol {
            Protocol::V3 => self.next_named("connected").await.payload()["socket_id"].clone(),
            Protocol::V4 => packet.data["sid"].clone(),
        };
        self.socket_id = id.as_str().expect("a socket is told its id").into();
        secrets::hold("the pid", &packet.data["pid"]);
        self.connected = packet.data;
        if let Some(auth) = auth {
            self.user = auth["user_id"].as_str().unwrap_or_default().into();
            self.organization = auth["organization_id"].as_str().unwrap_or_default().into();
        }
        Ok(())
    }

    /// Authenticates as a user of its own.
    pub async fn authenticate(self, organization: &str) -> Self {
        let user = format!("user-of-{}", self.socket_id);
        self.authenticate_as(&user, organization).await
    }

    /// Authenticates as `user`, whatever other sockets that user has.
    pub async fn authenticate_as(mut self, user: &str, organization: &str) -> Self {
        let ack = self.try_authenticate(user, organization).await;
        assert_eq!(ack["success"], true, "authenticate: {ack}");
        self
    }

    /// Asks to be authenticated; the ack tells.
    pub async fn try_authenticate(&mut self, user: &str, organization: &str) -> Value {
        let ack = self.emit("authenticate", json!({ "user_id": user, "organization_id": organization })).await;
        if ack["success"] == true {
            (self.user, self.organization) = (user.into(), organization.into());
            self.next_named("authenticated").await;
        }
        ack
    }

    /// Subscribes, and insists on it.
    pub async fn subscribe(&mut self, request: Value) -> Value {
        let ack = self.emit("subscribe", request).await;
        assert_eq!(ack["success"], true, "subscribe: {ack}");
        ack
    }

    /// Ends what it receives without asking, so that only what it subscribes to comes.
    pub async fn without_implicit(mut self) -> Self {
        let ack = self.emit("unsubscribe", json!({})).await;
        assert_eq!(ack["success"], true, "unsubscribe: {ack}");
        self
    }

    /// Emits an event with one argument and waits for the first argument of its ack.
    pub async fn emit(&mut self, event: &str, payload: Value) -> Value {
        let id = self.emit_unanswered(event, &[payload]);
        self.answer(id).await
    }

    /// Emits an event that asks for an ack, without waiting for it.
    pub fn emit_unanswered(&mut self, event: &str, args: &[Value]) -> u64 {
        let id = self.next_ack;
        self.next_ack += 1;
        self.wire.send(packet::event(&self.namespace, Some(id), event, args));
        id
    }

    /// Waits for the ack of an event emitted earlier.
    pub async fn answer(&mut self, id: u64) -> Value {
        let packet = self.take(|packet| packet.kind == Kind::Ack && packet.ack == Some(id)).await;
        packet.data[0].clone()
    }

    /// The ack of an event emitted earlier, or nothing if the connection ends instead.
    pub async fn answer_or_end(&mut self, id: u64) -> Option<Value> {
        let answer = self.take_until_closed(|packet| packet.kind == Kind::Ack && packet.ack == Some(id));
        let packet = tokio::time::timeout(DEADLINE, answer).await.expect("an answer or an end")?;
        Some(packet.data[0].clone())
    }

    /// Emits an event without asking for an ack.
    pub fn send(&self, event: &str, payload: Value) {
        self.wire.send(packet::event(&self.namespace, None, event, &[payload]));
    }

    /// Acknowledges an event that the server wants acknowledged.
    pub fn ack(&self, event: &Event, answer: Value) {
        let id = event.ack.expect("the event asks for an ack");
        self.wire.send(packet::ack(&self.namespace, id, &[answer]));
    }

    /// The next catalogue event; greetings and answers to one's own deeds are left out.
    pub async fn next_event(&mut self) -> Event {
        self.take(|packet| packet.event().is_some_and(|event| !is_greeting(&event.name)))
            .await
            .event()
            .expect("an event")
    }

    /// The next event of this name; what came before it stays for later.
    pub async fn next_named(&mut self, name: &str) -> Event {
        let packet = self.take(|packet| packet.event().is_some_and(|event| event.name == name)).await;
        packet.event().expect("an event")
    }

    /// The next `error` event, which must carry this code.
    pub async fn next_error(&mut self, code: &str) -> Value {
        let error = self.next_named("error").await;
        assert_eq!(error.payload()["code"], code, "{}", error.payload());
        super::assert_shape("error", error.payload());
        error.payload().clone()
    }

    /// A round trip, after which everything sent before has been handled.
    pub async fn settle(&mut self) {
        let pong = self.emit("client:ping", json!({})).await;
        assert_eq!(pong["pong"], true, "client:ping: {pong}");
    }

    /// Catalogue events up to a marker that [`TestServer::mark`] published.
    pub async fn events_until(&mut self, marker: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next_event().await;
            if event.data()["marker"] != marker {
                events.push(event);
                continue;
            }
            if self.forms == Forms::Both && event.name != "message" {
                let twin = self.next_event().await;
                assert_eq!(twin.data()["marker"], marker, "nothing comes between two forms: {}", twin.raw);
            }
            return events;
        }
    }

    /// Asserts that nothing came before the marker.
    pub async fn expect_silence_until(&mut self, marker: &str) {
        let events = self.events_until(marker).await;
        assert!(events.is_empty(), "{} received {events:#?}", self.user);
    }

    /// Publishes a marker to this socket and returns the events before it.
    pub async fn drain(&mut self, server: &TestServer) -> Vec<Event> {
        let marker = server.mark(self).await;
        self.events_until(&marker).await
    }

    /// The names of the events that have come, in order.
    pub async fn drain_names(&mut self, server: &TestServer) -> Vec<String> {
        self.drain(server).await.into_iter().map(|event| event.entry().to_owned()).collect()
    }

    /// Asserts that nothing has come.
    pub async fn expect_silence(&mut self, server: &TestServer) {
        let marker = server.mark(self).await;
        self.expect_silence_until(&marker).await;
    }

    /// Waits for the end of the connection.
    pub async fn closed(&mut self) -> Closure {
        tokio::time::timeout(DEADLINE, async { while self.receive().await {} })
            .await
            .expect("the server closes the connection");
        self.closure.expect("it ended")
    }

    /// Leaves the namespace, keeping the connection.
    pub fn leave(&self) {
        self.wire.send(packet::disconnect(&self.namespace));
    }

    /// Leaves and closes the transport, as an application does that is done.
    pub async fn disconnect(mut self) {
        self.leave();
        self.wire.close();
        let _ = tokio::time::timeout(DEADLINE, async { while self.receive().await {} }).await;
    }

    /// Is gone without a word; the catalogue events that it has read and nobody has taken.
    pub async fn break_off(mut self) -> Vec<Event> {
        self.wire.hold().await;
        while let Some(Incoming::Packet(raw)) = self.wire.read_already() {
            self.seen.push_back(Packet::parse(&raw));
        }
        self.wire.crash();
        let events = self.seen.iter().filter_map(Packet::event);
        events.filter(|event| !is_greeting(&event.name)).collect()
    }

    /// The first packet that fits; others keep their place.
    pub async fn take(&mut self, fits: impl Fn(&Packet) -> bool) -> Packet {
        match tokio::time::timeout(DEADLINE, self.take_until_closed(fits)).await {
            Ok(Some(packet)) => packet,
            Ok(None) => panic!("the connection ended ({:?}) after {:#?}", self.closure, self.raw_seen()),
            Err(_) => panic!("nothing fitting came, but {:#?}", self.raw_seen()),
        }
    }

    async fn take_until_closed(&mut self, fits: impl Fn(&Packet) -> bool) -> Option<Packet> {
        let namespace = self.namespace.clone();
        let mut looked_at = 0;
        loop {
            let ours = |packet: &Packet| packet.namespace == namespace && fits(packet);
            if let Some(place) = self.seen.iter().skip(looked_at).position(ours) {
                return self.seen.remove(looked_at + place);
            }
            looked_at = self.seen.len();
            if !self.receive().await {
                return None;
            }
        }
    }

    /// Takes in one thing; false if the connection is at its end.
    async fn receive(&mut self) -> bool {
        if self.closure.is_some() {
            return false;
        }
        match self.wire.next().await {
            Incoming::Packet(raw) => {
                let packet = Packet::parse(&raw);
                self.terminal |= packet.kind == Kind::Disconnect;
                if packet.kind != Kind::Connect {
                    secrets::told("to a Socket.IO client", &packet.raw);
                }
                self.seen.push_back(packet);
            }
            Incoming::Closed(code) => self.closure = Some(Closure { terminal: self.terminal, code }),
        }
        true
    }

    fn raw_seen(&self) -> Vec<String> {
        self.seen.iter().map(|packet| packet.raw.chars().take(400).collect()).collect()
    }
}

/// Whether an event is a greeting or an answer to one's own deeds, and not of the catalogue.
fn is_greeting(event: &str) -> bool {
    matches!(event, "connected" | "authenticated" | "error" | "client:pong")
}
