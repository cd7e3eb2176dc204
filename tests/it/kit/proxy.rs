//! A way from one place to another over TCP that can be cut, frozen and led elsewhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::clients;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They lead there.
    Open(SocketAddr),
    /// They are open, and nothing passes.
    Frozen(SocketAddr),
    /// They break, new ones too.
    Cut,
}

/// A proxy; connections break when it goes.
pub struct Proxy {
    pub address: SocketAddr,
    to: SocketAddr,
    way: watch::Sender<Way>,
}

impl Proxy {
    /// A proxy on a free port that leads there.
    pub async fn to(to: SocketAddr) -> Self {
        let listener = clients().spawn(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).await.unwrap().expect("a port");
        let address = listener.local_addr().expect("an address");
        let (way, seen) = watch::channel(Way::Open(to));
        clients().spawn(listen(listener, seen));
        Self { address, to, way }
    }

    /// Breaks all connections, and new ones as soon as they are there.
    pub fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    /// Lets nothing pass in either direction; what was sent comes later.
    pub fn freeze(&self) {
        self.way.send_replace(Way::Frozen(self.to));
    }

    /// Ends that.
    pub fn mend(&self) {
        self.way.send_replace(Way::Open(self.to));
    }

    /// Breaks all connections, and leads new ones elsewhere.
    pub fn lead_to(&mut self, to: SocketAddr) {
        self.to = to;
        self.mend();
    }
}

async fn listen(listener: TcpListener, way: watch::Receiver<Way>) {
    let mut ended = way.clone();
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted.expect("a connection"),
            _ = ended.wait_for(|_| false) => return,
        };
        tokio::spawn(lead(stream, way.clone()));
    }
}

async fn lead(mut near: TcpStream, mut way: watch::Receiver<Way>) {
    let (Way::Open(to) | Way::Frozen(to)) = *way.borrow_and_update() else { return broken(&near) };
    let Ok(mut far) = TcpStream::connect(to).await else { return broken(&near) };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        let stays = |now: &Way| *now == Way::Open(to) || *now == Way::Frozen(to);
        tokio::select! {
            _ = pass(near_in, far_out, way.clone()) => {}
            _ = pass(far_in, near_out, way.clone()) => {}
            _ = way.wait_for(|now| !stays(now)) => {}
        }
    }
    broken(&near);
    broken(&far);
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 || way.wait_for(|now| matches!(now, Way::Open(_))).await.is_err() {
            return Ok(());
        }
        to.write_all(&bytes[..read]).await?;
    }
}

/// A connection that ends as one whose cable was pulled: what is under way is lost.
fn broken(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
