//! A node's way to Redis, which can be cut and frozen.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// They lead there.
    Open(SocketAddr),
    /// They are open, and nothing passes.
    Frozen(SocketAddr),
    /// They break, new ones too.
    Cut,
}

/// One node's way.
pub(super) struct Proxy {
    /// Where the node finds Redis.
    pub(super) address: SocketAddr,
    way: watch::Sender<Way>,
    listening: JoinHandle<()>,
}

impl Proxy {
    /// A way that leads there.
    ///
    /// # Errors
    /// If there is no free port.
    pub(super) async fn to(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (way, seen) = watch::channel(Way::Open(to));
        let listening = spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn_local(lead(stream, seen.clone()));
            }
        });
        Ok(Self { address, way, listening })
    }

    /// Changes what becomes of connections.
    pub(super) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Leads elsewhere, unless it is cut.
    pub(super) fn lead_to(&self, to: SocketAddr) {
        self.way.send_if_modified(|way| match way {
            Way::Open(old) | Way::Frozen(old) => std::mem::replace(old, to) != to,
            Way::Cut => false,
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn lead(mut near: TcpStream, mut way: watch::Receiver<Way>) {
    let (Way::Open(to) | Way::Frozen(to)) = *way.borrow_and_update() else { return breaks(&near) };
    let Ok(mut far) = TcpStream::connect(to).await else { return breaks(&near) };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        let leads_there = |way: &Way| *way == Way::Open(to) || *way == Way::Frozen(to);
        tokio::select! {
            _ = pass(near_in, far_out, way.clone()) => {}
            _ = pass(far_in, near_out, way.clone()) => {}
            _ = way.wait_for(|way| !leads_there(way)) => {}
        }
    }
    breaks(&near);
    breaks(&far);
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 || way.wait_for(|way| matches!(way, Way::Open(_))).await.is_err() {
            return Ok(());
        }
        to.write_all(&bytes[..read]).await?;
    }
}

/// Has a connection end as one whose cable was pulled: what is under way is lost.
fn breaks(stream: &TcpStream) {
    // A system that does not know how to do that closes it instead.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
