//! One Engine.IO connection: frames in, frames out, pings answered, over WebSocket or long-polling.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot, watch,
    },
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    Endpoint, Probe, Refused, clients,
    endpoint::WebSocket,
    polling::{self, Poller, Poster, Stop},
    secrets,
};

/// What came in from the connection.
#[derive(Debug)]
pub enum Incoming {
    /// A Socket.IO packet, without the Engine.IO digit.
    Packet(String),
    /// The transport is gone, with the close code if there was one.
    Closed(Option<u16>),
}

/// What is asked of the connection's task.
pub enum Order {
    Text(String),
    Binary(Vec<u8>),
    /// Tell when everything before has been written.
    Tell(oneshot::Sender<()>),
    /// Never read again, but stay connected.
    Freeze,
    /// Read nothing until told to.
    Hold,
    /// Read so many messages more.
    Read(usize),
    /// Stop polling and posting, with nothing under way: the transport is about to change.
    Pause,
    Close,
}

/// One Engine.IO connection; dropping it is what a crashed client looks like.
pub struct Wire {
    /// The OPEN packet.
    pub open: Value,
    endpoint: Endpoint,
    incoming: UnboundedReceiver<Incoming>,
    inbox: UnboundedSender<Incoming>,
    outgoing: UnboundedSender<Order>,
    tasks: Vec<JoinHandle<()>>,
    polling: bool,
}

impl Wire {
    /// Opens by WebSocket.
    pub async fn websocket(endpoint: Endpoint) -> Result<Self, Refused> {
        let mut socket = endpoint.websocket(None).await?;
        let open = loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) if text.starts_with('0') => break text[1..].to_owned(),
                Some(Ok(_)) => {}
                _ => return Err(Refused::Closed),
            }
        };
        let mut wire = Self::new(endpoint, &open);
        wire.run_websocket(socket);
        Ok(wire)
    }

    /// Opens by HTTP long-polling.
    pub async fn polling(endpoint: Endpoint) -> Result<Self, Refused> {
        let reply = endpoint.poll(None).send().await.expect("an HTTP answer");
        if reply.status != 200 {
            return Err(Refused::Http(reply));
        }
        let mut packets = polling::packets(endpoint.protocol, &reply.text).into_iter();
        let open = packets.next().and_then(|packet| packet.strip_prefix('0').map(str::to_owned));
        let mut wire = Self::new(endpoint, &open.expect("an OPEN packet"));
        for packet in packets.filter_map(|packet| packet.strip_prefix('4').map(str::to_owned)) {
            let _ = wire.inbox.send(Incoming::Packet(packet));
        }
        wire.run_polling();
        Ok(wire)
    }

    /// The Engine.IO session id.
    pub fn sid(&self) -> &str {
        self.open["sid"].as_str().expect("OPEN carries a sid")
    }

    /// Moves from polling to WebSocket the way the official client does.
    pub async fn upgrade(&mut self) {
        let mut probe = self.probe().await;
        probe.ask().await;
        self.pause().await;
        probe.say(&["5"]).await;
        self.go_over(probe);
    }

    /// Opens a WebSocket for this session on polling, and says nothing over it.
    pub async fn probe(&self) -> Probe {
        let opened = self.endpoint.websocket(Some(self.sid())).await;
        Probe { socket: opened.unwrap_or_else(|refused| panic!("the upgrade was refused: {refused:?}")) }
    }

    /// Stops polling. The poll under way has to come back, empty or not: no packet may be lost in it.
    pub async fn pause(&mut self) {
        let _ = self.outgoing.send(Order::Pause);
        for task in self.tasks.drain(..) {
            tokio::time::timeout(super::DEADLINE, task).await.expect("the pending poll is answered").unwrap();
        }
    }

    /// Goes on polling.
    pub fn poll_again(&mut self) {
        self.run_polling();
    }

    /// Goes on over a WebSocket on which all has been said.
    pub fn go_over(&mut self, probe: Probe) {
        self.polling = false;
        self.run_websocket(probe.socket);
    }

    /// Sends one frame as it is.
    pub fn send(&self, frame: impl Into<String>) {
        let _ = self.outgoing.send(Order::Text(frame.into()));
    }

    /// Sends one binary frame as it is.
    pub fn send_binary(&self, frame: Vec<u8>) {
        let _ = self.outgoing.send(Order::Binary(frame));
    }

    /// Waits until every frame so far is out; a connection that is gone counts as having got them.
    pub async fn written(&self) {
        let (tell, told) = oneshot::channel();
        let _ = self.outgoing.send(Order::Tell(tell));
        let _ = tokio::time::timeout(super::DEADLINE, told).await.expect("frames can be written");
    }

    /// Stops reading for good, with the transport left open.
    pub fn freeze(&self) {
        let _ = self.outgoing.send(Order::Freeze);
    }

    /// Stops reading until told to; when this returns, nothing more is read.
    pub async fn hold(&self) {
        let _ = self.outgoing.send(Order::Hold);
        self.written().await;
    }

    /// Reads so many messages more, as fast as it can.
    pub fn read(&self, messages: usize) {
        let _ = self.outgoing.send(Order::Read(messages));
    }

    /// The next thing that comes in.
    pub async fn next(&mut self) -> Incoming {
        self.incoming.recv().await.unwrap_or(Incoming::Closed(None))
    }

    /// The next thing that has come in already.
    pub fn read_already(&mut self) -> Option<Incoming> {
        self.incoming.try_recv().ok()
    }

    /// Is gone without a word, on either transport.
    pub fn crash(mut self) {
        self.polling = false;
    }

    /// Closes the transport in the orderly way.
    pub fn close(&self) {
        let _ = self.outgoing.send(Order::Close);
    }

    fn new(endpoint: Endpoint, open: &str) -> Self {
        let open: Value = serde_json::from_str(open).expect("OPEN is JSON");
        secrets::hold("the session id", &open["sid"]);
        let (inbox, incoming) = unbounded_channel();
        let (outgoing, _) = unbounded_channel();
        Self { open, endpoint, incoming, inbox, outgoing, tasks: Vec::new(), polling: false }
    }

    fn run_websocket(&mut self, socket: WebSocket) {
        let (outgoing, orders) = unbounded_channel();
        self.outgoing = outgoing;
        self.tasks.push(clients().spawn(pump(socket, orders, self.inbox.clone())));
    }

    fn run_polling(&mut self) {
        let (outgoing, orders) = unbounded_channel();
        let (endpoint, sid) = (self.endpoint.clone(), self.sid().to_owned());
        let poster = Poster { endpoint: endpoint.clone(), sid: sid.clone(), orders };
        let poller = Poller { endpoint, sid, inbox: self.inbox.clone() };
        let (stop, stopped) = watch::channel(Stop::No);
        self.outgoing = outgoing;
        self.polling = true;
        self.tasks.push(clients().spawn(poster.run(stop)));
        self.tasks.push(clients().spawn(poller.run(stopped)));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut self.tasks);
        if !self.polling {
            return tasks.iter().for_each(JoinHandle::abort);
        }
        // Nothing tells a server that a polling client is gone but a CLOSE packet or its silence.
        let close = polling::payload(self.endpoint.protocol, &["1".into()]);
        let post = self.endpoint.post(self.sid(), &close);
        clients().spawn(async move {
            let _ = tokio::time::timeout(Duration::from_secs(5), post.send()).await;
            tasks.iter().for_each(JoinHandle::abort);
        });
    }
}

/// Reads and writes one WebSocket until it ends.
async fn pump(mut socket: WebSocket, mut orders: UnboundedReceiver<Order>, inbox: UnboundedSender<Incoming>) {
    let mut readable = usize::MAX;
    let code = loop {
        let message = tokio::select! {
            order = orders.recv() => {
                let sent = match order {
                    Some(Order::Text(text)) => socket.feed(Message::text(text)).await,
                    Some(Order::Binary(bytes)) => socket.feed(Message::binary(bytes)).await,
                    Some(Order::Tell(tell)) => {
                        let _ = socket.flush().await;
                        let _ = tell.send(());
                        continue;
                    }
                    Some(Order::Freeze) => return std::future::pending().await,
                    Some(Order::Hold) => {
                        readable = 0;
                        continue;
                    }
                    Some(Order::Read(messages)) => {
                        readable = readable.saturating_add(messages);
                        continue;
                    }
                    Some(Order::Pause | Order::Close) | None => socket.close(None).await,
                };
                // What is queued goes out in as few writes as possible: bursts are what tests are after.
                if sent.is_ok() && orders.is_empty() {
                    let _ = socket.flush().await;
                }
                continue;
            }
            message = socket.next(), if readable > 0 => message,
        };
        readable -= 1;
        match message {
            Some(Ok(Message::Text(text))) => match text.as_bytes().first() {
                Some(b'4') => drop(inbox.send(Incoming::Packet(text[1..].to_owned()))),
                Some(b'2') => drop(socket.send(Message::text(format!("3{}", &text[1..]))).await),
                _ => {}
            },
            Some(Ok(Message::Close(frame))) => break frame.map(|frame| frame.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break None,
        }
    };
    let _ = inbox.send(Incoming::Closed(code));
}
