//! Admission: from a CONNECT to a session.
//!
//! The handlers are socketioxide's traits, implemented instead of closures:
//! closures would each be spawned as a task, which loses the order of events
//! and those sent right after CONNECT.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use socketioxide::handler::{ConnectHandler, DisconnectHandler, MessageHandler};
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide_core::Value;

use super::event;
use super::greeting;
use super::namespaces::Visit;
use super::queue::{Incoming, Said};
use super::recover::Recovered;
use super::session::{First, Session};
use super::sessions::Sessions;
use super::subscribe;
use crate::auth::{Credentials, Identity};
use crate::connection::{Connection, EngineIo, Handle, Journal};
use crate::delivery::{AnswerTo, Interest, Recipient, RoomAdapter};
use crate::rooms::{Id, Scope, parse_namespace};
use crate::wire::packet::Admission;
use crate::wire::{Forms, Pid, PublicId, WireError, now_iso};

/// How long a transport that is cut may take to be gone.
const UNTIL_CUT: Duration = Duration::from_secs(1);

/// How long a transport takes to close.
const CLOSED: Duration = Duration::from_secs(3);

/// Receives the sockets of a namespace.
#[derive(Debug, Clone)]
pub struct Reception {
    sessions: Arc<Sessions>,
}

/// Distinguishes our handlers from socketioxide's closures.
#[derive(Debug)]
pub struct Ours;

impl Reception {
    pub(super) fn new(sessions: &Arc<Sessions>) -> Self {
        Self { sessions: sessions.clone() }
    }
}

impl ConnectHandler<RoomAdapter, Ours> for Reception {
    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket<RoomAdapter>>,
        auth: &'a Option<Value>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Box<dyn Display + Send>>> + Send + 'a>> {
        let auth = auth.as_ref().and_then(Value::as_str).map(|auth| auth.as_str());
        let sessions = &self.sessions;
        Box::pin(async move {
            // First of all: nobody else would sweep a namespace that was made for a connection which is gone by now.
            let visit = (socket.ns() != "/").then(|| sessions.namespaces.enter(socket.ns()));
            let connection = connection_of(&socket);
            let admitted = match &connection {
                Some(connection) => sessions.receive(&socket, connection, auth, visit).await,
                None => Err(WireError::Internal),
            };
            if let (Err(WireError::Stopping), Some(connection)) = (&admitted, &connection) {
                // Its client comes back; a refusal that was faster would keep a stock client away for good.
                connection.cut();
                tokio::time::sleep(UNTIL_CUT).await;
            }
            if let (Err(_), Some(connection)) = (&admitted, &connection) {
                connection.let_in();
            }
            admitted.map_err(|error| {
                sessions.services.counters.error(&error.to_string());
                Box::new(error.connect_error()) as Box<dyn Display + Send>
            })
        })
    }

    fn call(&self, socket: Arc<Socket<RoomAdapter>>, _auth: Option<Value>) {
        let connection = connection_of(&socket);
        if let Some(session) = self.sessions.welcome(&socket) {
            self.sessions.check_namespace(&session, socket);
        }
        if let Some(connection) = connection {
            connection.let_in();
        }
    }
}

impl Sessions {
    /// The connect middleware: whoever passes has a session, and loses no event sent early.
    async fn receive(
        self: &Arc<Self>,
        socket: &Socket<RoomAdapter>,
        connection: &Arc<Connection>,
        auth: Option<&str>,
        visit: Option<Visit<'_>>,
    ) -> Result<(), WireError> {
        connection.set_sid(socket.id);
        let _fetching = self.fetch(connection, socket.ns(), auth).await?;
        let asked = self.read_connect(connection, socket.ns(), auth)?;
        // What was published before is not news to the socket.
        let _follower = self.services.hub.up_to_date(asked.organization()).await;
        self.admit(socket, connection.clone(), asked, visit)
    }

    /// Gives whoever may have it a session.
    fn admit(
        self: &Arc<Self>,
        socket: &Socket<RoomAdapter>,
        connection: Arc<Connection>,
        asked: Asked,
        visit: Option<Visit<'_>>,
    ) -> Result<(), WireError> {
        let namespace = socket.ns();
        let Application { scope, identity, forms, channels, recovered } =
            self.check_connect(&connection, namespace, asked, true)?;
        let Some(rooms) = self.services.directory.namespace(namespace) else {
            // The namespace was swept while this socket was on its way in: its client tries again.
            connection.cut();
            return Err(WireError::Stopping);
        };
        let positioned = self.config().recovery.enabled
            && connection.peer().protocol == EngineIo::V4
            && connection.plain().is_none();
        let fresh = || Admission { id: PublicId::fresh(), pid: positioned.then(Pid::fresh) };
        let (admission, record, journal, first) = match recovered {
            Some(Recovered { pid, record, read, first, proven: _ }) => {
                let admission = Admission { id: record.id.clone(), pid: Some(pid) };
                (admission, Some(record), Journal::after(read), Some(Box::new(first)))
            }
            None => (fresh(), None, Journal::default(), None),
        };
        connection.enter(namespace, admission.clone(), journal);
        let pid = admission.pid.clone();
        let recipient = Recipient::new(admission, socket.id, connection, rooms, Interest::none(forms));
        let session = Session::new(self, Arc::new(recipient), scope, pid, first);
        let exit = Exit(session.clone());
        if let Some(visit) = visit {
            visit.stay();
        }
        self.insert(session.clone());
        // Whoever has dismissed the connection before this knows nothing of the socket.
        if session.recipient.connection.is_dismissed() {
            return Err(WireError::Internal);
        }
        match (record, identity) {
            (Some(record), identity) => {
                if let Err(error) = session.restore(&record, identity) {
                    session.exit("not let in again");
                    if let Some(pid) = &session.admission().pid {
                        self.records.put_back(pid, record);
                    }
                    return Err(error);
                }
            }
            (None, Some(identity)) => {
                let earlier = session.last_interest(&identity);
                session.identify(&identity, earlier, None)?;
                if session.scope.is_some() {
                    subscribe::in_namespace(&session, channels)?;
                }
            }
            (None, None) => {}
        }
        // Nobody yet, and so in the first shard.
        session.lock().follower.get_or_insert_with(|| self.services.hub.follow(None));
        socket.on_fallback(Listener(session));
        socket.on_disconnect(exit);
        Ok(())
    }

    /// A namespace may be swept while a socket is on its way in. What is sent to the socket there is lost, and
    /// nobody would end it: its session ends here, and its client is cut and comes back.
    fn check_namespace(&self, session: &Session, socket: Arc<Socket<RoomAdapter>>) {
        let known = self.io().of(socket.ns()).is_some_and(|namespace| namespace.get_socket(socket.id).is_some());
        // One that has left since is not there either.
        if known || session.has_exited() {
            return;
        }
        session.exit("its namespace was swept");
        session.recipient.connection.cut();
        self.services.tasks.spawn(async move {
            // Only after the transport has closed, or the client would take it for a dismissal.
            tokio::time::sleep(CLOSED).await;
            socket.disconnect().ok();
        });
    }

    /// A socket that is in its namespace asks for it again: its session ends, and a new one begins.
    pub(super) fn admit_again(self: &Arc<Self>, connection: &Arc<Connection>, namespace: &str, auth: &str) {
        let Some(socket) = connection.sid().and_then(|sid| self.io().of(namespace)?.get_socket(sid)) else { return };
        let Some(old) = connection.public_id(namespace).and_then(|id| self.get(id.as_str())) else { return };
        let asked = self.read_connect(connection, namespace, Some(auth)).and_then(|asked| {
            self.check_connect(connection, namespace, asked.clone(), false)?;
            Ok(asked)
        });
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => {
                old.recipient.refuse(&error.connect_error());
                socket.disconnect().ok();
                return;
            }
        };
        if !self.services.hub.is_up_to_date(asked.organization()) {
            // Nobody waits here; its client comes back, and is received.
            connection.cut();
            return;
        }
        old.exit("asked for the namespace again");
        let visit = (namespace != "/").then(|| self.namespaces.enter(namespace));
        if let Err(error) = self.admit(&socket, connection.clone(), asked, visit) {
            tracing::debug!(%error, "not let in again");
            socket.disconnect().ok();
            return;
        }
        // The answer takes its way through socketioxide's queue: what follows waits for it.
        if connection.is_switching() {
            connection.begin_connect();
        }
        if let Some(session) = connection.public_id(namespace).and_then(|id| self.get(id.as_str())) {
            session.recipient.confirm(&session.admission());
        }
        self.welcome(&socket);
        connection.let_in();
    }

    /// What a CONNECT says.
    pub(super) fn read_connect(
        &self,
        connection: &Connection,
        namespace: &str,
        auth: Option<&str>,
    ) -> Result<Asked, WireError> {
        let scope = scope_of(namespace)?;
        self.check_place(connection, namespace)?;
        let credentials = auth.map(Credentials::read).transpose()?.unwrap_or_default();
        let credentials = credentials.or_token(connection.peer().bearer.as_ref());
        let said = match connection.plain() {
            Some(plain) => plain.door.identify(&credentials),
            None => self.services.authenticator.identify(&credentials),
        };
        Ok(Asked { scope, credentials, said })
    }

    /// Whether a connection may enter a namespace, whoever is on it.
    fn check_place(&self, connection: &Connection, namespace: &str) -> Result<(), WireError> {
        if self.is_stopping() {
            // A client that is refused stays away, one that is cut comes back.
            connection.cut();
            return Err(WireError::Stopping);
        }
        let limit = self.config().limits.max_namespaces_per_connection;
        if connection.namespaces() >= limit && !connection.has_entered(namespace) {
            return Err(WireError::TooManyNamespaces(limit));
        }
        Ok(())
    }

    /// What a CONNECT asks for, if it may be had; `recovers` says that it is had now.
    pub(super) fn check_connect(
        &self,
        connection: &Connection,
        namespace: &str,
        asked: Asked,
        recovers: bool,
    ) -> Result<Application, WireError> {
        // Others may have come in meanwhile.
        self.check_place(connection, namespace)?;
        let Asked { scope, credentials, said } = asked;
        let recovered = if recovers { self.recover(connection, &credentials, &said, namespace) } else { None };
        Ok(Application {
            identity: match &recovered {
                Some(recovered) => recovered.proven.clone(),
                None if connection.plain().is_some() => said?,
                None => self.identify(connection, &credentials, said, namespace, scope.as_ref())?,
            },
            forms: credentials.forms()?.or(connection.peer().forms).unwrap_or(self.config().events.forms),
            channels: credentials.channels()?,
            scope,
            recovered,
        })
    }

    /// Who the handshake says the socket is; a namespace of the tree lets nobody in without.
    fn identify(
        &self,
        connection: &Connection,
        credentials: &Credentials,
        said: Result<Option<Identity>, WireError>,
        namespace: &str,
        scope: Option<&Scope>,
    ) -> Result<Option<Identity>, WireError> {
        let identity = said.inspect_err(|_| {
            // A client that is refused stays away, one that is cut comes back, and finds the key.
            if self.services.authenticator.awaits_key(credentials) {
                connection.cut();
            }
        })?;
        match (&identity, scope) {
            (None, Some(_)) => Err(WireError::NamespaceNeedsCredentials(namespace.to_owned())),
            (Some(identity), Some(scope)) if !identity.claims.overlap(scope) => {
                Err(WireError::OutsideClaims(format!("namespace {namespace:?}")))
            }
            _ => Ok(identity),
        }
    }

    /// The connect handler: the socket can be answered from here on.
    fn welcome(self: &Arc<Self>, socket: &Socket<RoomAdapter>) -> Option<Arc<Session>> {
        let id = connection_of(socket)?.public_id(socket.ns())?;
        let session = self.get(id.as_str())?;
        session.recipient.connection.arrive(socket.ns());
        let first = session.take_first();
        if first.is_some() {
            session.recipient.begin_replay();
        }
        let Some(waiting) = session.enter(first.is_none()) else { return Some(session) };
        session.changed();
        let recipient = &session.recipient;
        // In one write with what follows.
        let _cork = recipient.connection.cork();
        recipient.connection.entered(socket.ns());
        let config = self.config();
        let mut connected = serde_json::json!({
            "socket_id": recipient.id,
            "server_time": now_iso(),
            "recovered": first.is_some(),
            "forms": recipient.interest().forms,
            "client": config.client,
        });
        if recipient.connection.plain().is_some() {
            let is_known = session.identity().is_some_and(|identity| !identity.anonymous);
            connected["authenticated"] = serde_json::json!(is_known);
            // It gets every event once, in the words of its dialect.
            connected["forms"] = serde_json::json!(Forms::Envelope);
        }
        recipient.emit("connected", &connected);
        if session.identity().is_some() {
            greeting::greet(&session);
        }
        if first.is_none() && self.services.hub.watches_freshness() {
            let listens = recipient.interest().clone();
            self.services.hub.tell_stale(recipient, &listens);
        }
        self.services.presence.tell_entered(recipient, first.is_some());
        if session.identity().is_none() && config.auth.auth_required {
            self.deadlines.add(&session);
        }
        if config.logging.log_connection_events {
            let transport = recipient.connection.transport();
            tracing::info!(socket_id = %recipient.id, namespace = recipient.namespace(), transport, "socket entered");
        }
        // What the client of a fresh session sends meanwhile is handled when it has been told.
        if let Some(waiting) = waiting {
            session.hand_over(waiting);
            return Some(session);
        }
        // And so is what the client of a session that is taken up again sends: it may subscribe anew.
        match first {
            Some(First::Owed(owed)) => session.hand_over(owed),
            Some(First::Missed(missed)) => session.replay(self, missed),
            None => session.go_on(),
        }
        Some(session)
    }
}

/// What a CONNECT says, and who its client is by that.
#[derive(Clone)]
pub(super) struct Asked {
    scope: Option<Scope>,
    credentials: Credentials,
    said: Result<Option<Identity>, WireError>,
}

impl Asked {
    fn organization(&self) -> Option<&Id> {
        self.said.as_ref().ok()?.as_ref().map(|identity| &identity.organization)
    }
}

/// What a CONNECT asks for.
pub(super) struct Application {
    scope: Option<Scope>,
    identity: Option<Identity>,
    forms: Forms,
    channels: Vec<String>,
    recovered: Option<Recovered>,
}

fn connection_of(socket: &Socket<RoomAdapter>) -> Option<Arc<Connection>> {
    socket.req_parts().extensions.get::<Handle>()?.connection()
}

fn scope_of(namespace: &str) -> Result<Option<Scope>, WireError> {
    if namespace == "/" {
        return Ok(None);
    }
    parse_namespace(namespace)
        .map(Some)
        .ok_or_else(|| WireError::UnknownNamespace(namespace.chars().take(64).collect()))
}

/// Takes every event of a socket into its session's queue, in the order sent.
#[derive(Debug)]
struct Listener(Arc<Session>);

impl MessageHandler<RoomAdapter, Ours> for Listener {
    fn call(&self, _: Arc<Socket<RoomAdapter>>, value: Value, ack_id: Option<i64>) {
        event::arrive(&self.0, Incoming::new(Said::Packet(value), ack_id.map(AnswerTo::Ack)));
    }
}

/// Ends the session with its socket, also when the socket is dropped before it was let in.
#[derive(Debug)]
struct Exit(Arc<Session>);

impl DisconnectHandler<RoomAdapter, Ours> for Exit {
    /// Not spawned, unlike socketioxide's closures: a CONNECT that follows finds the place free.
    fn call_with_defer(
        &self,
        socket: Arc<Socket<RoomAdapter>>,
        reason: DisconnectReason,
        defer: fn(Arc<Socket<RoomAdapter>>),
    ) {
        match reason {
            DisconnectReason::ClientNSDisconnect | DisconnectReason::ServerNSDisconnect => {
                self.0.exit(&reason.to_string());
            }
            _ => self.0.exit_kept(&reason.to_string()),
        }
        defer(socket);
        let connection = &self.0.recipient.connection;
        // Only a swept namespace ends a socket that nobody dismissed: its client must learn of it.
        if reason == DisconnectReason::ServerNSDisconnect && !connection.is_dismissed() {
            connection.cut();
        }
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        self.0.exit_kept("never let in");
    }
}
