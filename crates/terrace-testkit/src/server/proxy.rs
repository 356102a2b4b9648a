//! A road to a server that counts round trips and can be blocked.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Default)]
struct Counts {
    round_trips: AtomicU64,
    connections: AtomicU64,
    /// Where new connections lead.
    target: AtomicU16,
}

/// A TCP relay on loopback. It ends when it is dropped, and so do the connections through it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    counts: Arc<Counts>,
    is_blocked: watch::Sender<bool>,
    /// Connections that were made before the last of them end.
    cuts: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} round trips", self.round_trips.load(Ordering::Relaxed))
    }
}

impl Proxy {
    /// Starts to relay to a port on loopback.
    ///
    /// # Panics
    /// If loopback has no free port.
    ///
    /// # Cancel safety
    /// Dropping the future starts nothing.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let counts = Arc::new(Counts { target: AtomicU16::new(target), ..Counts::default() });
        let (is_blocked, cuts) = (watch::Sender::new(false), watch::Sender::new(()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&counts), is_blocked.subscribe(), cuts.subscribe()));
        Self { address, counts, is_blocked, cuts, _tasks: tasks }
    }

    /// Ends all connections. New ones lead to another port on loopback, as after a failover.
    pub fn lead_to(&self, target: u16) {
        self.counts.target.store(target, Ordering::SeqCst);
        self.cuts.send_replace(());
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How often bytes of the client came after bytes of the server, or first, over all connections: a request that
    /// is sent in one go, however long, is one.
    pub fn round_trips(&self) -> u64 {
        self.counts.round_trips.load(Ordering::SeqCst)
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Lets no byte through any more, in either direction, while connections stay open: a half-open server.
    pub fn block(&self) {
        self.is_blocked.send_replace(true);
    }

    /// Lets bytes through again.
    pub fn unblock(&self) {
        self.is_blocked.send_replace(false);
    }
}

async fn accept(
    listener: TcpListener,
    counts: Arc<Counts>,
    blocked: watch::Receiver<bool>,
    mut cuts: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        counts.connections.fetch_add(1, Ordering::SeqCst);
        cuts.mark_unchanged();
        let (counts, blocked, mut cuts) = (Arc::clone(&counts), blocked.clone(), cuts.clone());
        connections.spawn(async move {
            tokio::select! {
                () = relay(client, counts, blocked) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn relay(client: TcpStream, counts: Arc<Counts>, blocked: watch::Receiver<bool>) {
    let target = counts.target.load(Ordering::SeqCst);
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let server_spoke = AtomicBool::new(true);
    let requests = forward(&mut from_client, &mut to_server, blocked.clone(), || {
        if server_spoke.swap(false, Ordering::SeqCst) {
            counts.round_trips.fetch_add(1, Ordering::SeqCst);
        }
    });
    let replies =
        forward(&mut from_server, &mut to_client, blocked, || server_spoke.store(true, Ordering::SeqCst));
    tokio::select! {
        () = requests => {}
        () = replies => {}
    }
}

async fn forward(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut blocked: watch::Receiver<bool>,
    seen: impl Fn(),
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if blocked.wait_for(|is_blocked| !is_blocked).await.is_err() {
            return;
        }
        seen();
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
