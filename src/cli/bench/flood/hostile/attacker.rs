//! One attacker: where it comes from, how fast it is, and who counts what it does.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream},
    time,
};

use super::{
    crowd::Scene,
    kind::Kind,
    tally::{End, Tally},
};
use crate::cli::bench::{
    flood::setup::{PLAIN_PATHS, Tokens},
    http::{Connection, Response},
};

/// How long a connection may take to be accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may stay unanswered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// One attacker.
pub(super) struct Attacker {
    /// What it does.
    pub(super) kind: Kind,
    /// Its number among all.
    pub(super) number: usize,
    /// What all have in common.
    pub(super) scene: Rc<Scene>,
    source: Ipv4Addr,
    acts: Cell<u64>,
    open: Cell<u64>,
}

impl Attacker {
    /// An attacker who comes from that address.
    pub(super) fn new(kind: Kind, number: usize, scene: Rc<Scene>, source: Ipv4Addr) -> Self {
        Self { kind, number, scene, source, acts: Cell::new(0), open: Cell::new(0) }
    }

    /// Attacks, again and again, until nobody waits for it any more.
    pub(super) async fn live(self) {
        let spread = self.scene.pace.mul_f64(self.number as f64 % 97.0 / 97.0);
        time::sleep(spread).await;
        loop {
            let ended = self.kind.attack(&self).await;
            self.count(|tally| {
                tally.open -= self.open.take();
                match &ended {
                    Ok(()) | Err(End::Refused) => {}
                    Err(End::Cut(how)) => tally.cut(how),
                    Err(End::Unreachable) => tally.refuse("no connection"),
                }
            });
            self.pause().await;
        }
    }

    /// Its token.
    pub(super) fn token(&self) -> &str {
        let Tokens { hostile, deaf } = &self.scene.tokens;
        if self.kind.reads_nothing() { deaf } else { hostile }
    }

    /// A connection of its own.
    pub(super) async fn connect(&self) -> Result<TcpStream, End> {
        self.connect_with(|_| Ok(())).await
    }

    /// The same, with a socket that is prepared.
    pub(super) async fn connect_with(
        &self,
        prepare: impl FnOnce(&TcpSocket) -> std::io::Result<()>,
    ) -> Result<TcpStream, End> {
        let connecting = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(IpAddr::V4(self.source), 0))?;
            prepare(&socket)?;
            let stream = socket.connect(self.scene.target.address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        match time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => {
                self.open.update(|open| open + 1);
                self.count(|tally| {
                    tally.connections += 1;
                    tally.open += 1;
                });
                Ok(stream)
            }
            Ok(Err(_)) | Err(_) => Err(End::Unreachable),
        }
    }

    /// The same for requests.
    pub(super) async fn connect_http(&self) -> Result<Connection, End> {
        Ok(Connection::over(self.connect().await?)?)
    }

    /// A request and its answer, which is counted if it is a refusal.
    pub(super) async fn ask(&self, connection: &mut Connection, request: &[u8]) -> Result<Response, End> {
        let answer = time::timeout(ANSWER_TIMEOUT, connection.exchange(request)).await;
        let (response, _) = answer.map_err(|_| End::Cut("no answer".to_owned()))??;
        if response.status >= 400 {
            self.refuse(&format!("HTTP {}", response.status));
        }
        Ok(response)
    }

    /// Counts a hostile act; its number among those of this attacker.
    pub(super) fn act(&self) -> u64 {
        self.count(|tally| tally.acts += 1);
        self.acts.replace(self.acts.get() + 1)
    }

    /// Counts an answer that refuses.
    pub(super) fn refuse(&self, how: &str) {
        self.count(|tally| tally.refuse(how));
    }

    /// Waits until the next act is due, without listening.
    pub(super) async fn pause(&self) {
        time::sleep(self.scene.pace).await;
    }

    /// Its number among those of its kind.
    pub(super) fn turn(&self) -> usize {
        self.number / self.scene.kinds
    }

    /// The path of a plain door, another one for each attacker of its kind in turn.
    pub(super) fn plain_path(&self) -> String {
        let path = PLAIN_PATHS[self.turn() % PLAIN_PATHS.len()];
        // Dexter's clients name themselves, and a name is one client's.
        path.replace("{client_id}", &format!("hostile-{}", self.number))
    }

    /// A text that no other attacker has, and this one only once.
    pub(super) fn fresh(&self) -> String {
        format!("{}-{}", self.number, self.acts.get())
    }

    fn count(&self, change: impl FnOnce(&mut Tally)) {
        change(self.scene.tallies.borrow_mut().entry(self.kind).or_default());
    }
}
