//! A road to a server that counts round trips, and can be made as bad as roads get.
//!
//! 1. What is done to the road holds for connections that are open and for those that are made later.
//! 2. Replies of the server are passed on whole, so that single ones can be lost. A stream that is no RESP, as one with
//!    TLS, is passed on as it comes, and loses none.
//! 3. Chance is seeded: the same pushes of one connection are lost each time.

use super::resp::{self, Frame};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How bytes get along in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Road {
    /// At once.
    #[default]
    Open,
    /// Not at all, while connections stay open.
    Blocked,
    /// So much later. What comes together goes together.
    Slow(Duration),
    /// One byte a second.
    Trickle,
}

/// What becomes of what the server sends unasked: which messages of subscriptions are lost. Beats are those whose channel has `beat` in its name.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Pushes {
    /// None.
    #[default]
    Pass,
    /// All, beats too.
    Lost,
    /// So many of a thousand, but no beat.
    Thinned(u16),
    /// All but beats.
    BeatsOnly,
    /// None, but the names of touched values come right behind the next message: as from a server that sends replies before them.
    NamesLate,
    /// None, and before each reply come these bytes as well.
    Amid(&'static [u8]),
}

/// What is done to the road.
#[derive(Clone, Copy, Default, Debug)]
struct Weather {
    /// Where new connections lead.
    target: u16,
    to_server: Road,
    to_client: Road,
    pushes: Pushes,
    /// Connections that were made before as many cuts end.
    cuts: u64,
}

#[derive(Default)]
struct Counts {
    round_trips: AtomicU64,
    connections: AtomicU64,
    lost: AtomicU64,
}

/// A TCP relay on loopback. It ends when it is dropped, and so do the connections through it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    counts: Arc<Counts>,
    weather: watch::Sender<Weather>,
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
        let counts = Arc::new(Counts::default());
        let weather = watch::Sender::new(Weather { target, ..Weather::default() });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&counts), weather.subscribe()));
        Self { address, counts, weather, _tasks: tasks }
    }

    /// Ends all connections. New ones lead to another port on loopback, as after a failover.
    pub fn lead_to(&self, target: u16) {
        self.weather.send_modify(|weather| (weather.target, weather.cuts) = (target, weather.cuts + 1));
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

    /// How many messages of subscriptions were lost on purpose.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::SeqCst)
    }

    /// Lets no byte through any more, in either direction, while connections stay open: a half-open server.
    pub fn block(&self) {
        self.roads(Road::Blocked, Road::Blocked);
    }

    /// Lets bytes through again.
    pub fn unblock(&self) {
        self.roads(Road::Open, Road::Open);
    }

    /// Sets how bytes get to the server, and back to the client.
    pub fn roads(&self, to_server: Road, to_client: Road) {
        self.weather.send_modify(|weather| (weather.to_server, weather.to_client) = (to_server, to_client));
    }

    /// Sets which messages of subscriptions are lost from now on.
    pub fn pushes(&self, pushes: Pushes) {
        self.weather.send_modify(|weather| weather.pushes = pushes);
    }

    /// Ends all connections that are open.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>, weather: watch::Receiver<Weather>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let number = counts.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(relay(client, Arc::clone(&counts), weather.clone(), number));
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(client: TcpStream, counts: Arc<Counts>, weather: watch::Receiver<Weather>, number: u64) {
    let Weather { target, cuts, .. } = *weather.borrow();
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let server_spoke = AtomicBool::new(true);
    let requests = async {
        let mut weather = weather.clone();
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            if !pass(&mut to_server, &buffer[..length], &mut weather, |weather| weather.to_server).await {
                return;
            }
            if server_spoke.swap(false, Ordering::SeqCst) {
                counts.round_trips.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let replies = async {
        let mut weather = weather.clone();
        let mut replies = Replies { held: Vec::new(), late: Vec::new(), is_foreign: false, chance: number };
        while let Ok(1..) = from_server.read_buf(&mut replies.held).await {
            let bytes = replies.take(|| weather.borrow().pushes, &counts);
            server_spoke.store(true, Ordering::SeqCst);
            if !pass(&mut to_client, &bytes, &mut weather, |weather| weather.to_client).await {
                return;
            }
        }
    };
    let mut cut = weather.clone();
    tokio::select! {
        () = requests => {}
        () = replies => {}
        _ = cut.wait_for(|weather| weather.cuts > cuts) => {}
    }
}

/// Passes bytes on as the road allows. False if that cannot go on.
async fn pass(
    to: &mut (impl AsyncWriteExt + Unpin),
    mut bytes: &[u8],
    weather: &mut watch::Receiver<Weather>,
    road: impl Fn(&Weather) -> Road,
) -> bool {
    while !bytes.is_empty() {
        let now = match weather.wait_for(|weather| road(weather) != Road::Blocked).await {
            Ok(weather) => road(&weather),
            Err(_) => return false,
        };
        let length = match now {
            Road::Open | Road::Blocked => bytes.len(),
            Road::Slow(delay) => {
                wait(weather, delay).await;
                bytes.len()
            }
            Road::Trickle => {
                wait(weather, Duration::from_secs(1)).await;
                1
            }
        };
        if to.write_all(&bytes[..length]).await.is_err() {
            return false;
        }
        bytes = &bytes[length..];
    }
    true
}

/// Waits for a while, or until the weather changes.
async fn wait(weather: &mut watch::Receiver<Weather>, while_: Duration) {
    weather.mark_unchanged();
    tokio::select! {
        () = crate::wait::pause(while_) => {}
        _ = weather.changed() => {}
    }
}

/// What came from the server and was not passed on yet.
struct Replies {
    held: Vec<u8>,
    /// What comes behind the next message.
    late: Vec<u8>,
    is_foreign: bool,
    chance: u64,
}

impl Replies {
    /// Takes the whole replies, but for those that are lost.
    fn take(&mut self, pushes: impl Fn() -> Pushes, counts: &Counts) -> Vec<u8> {
        let mut taken = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while !self.is_foreign {
            match resp::measure(&self.held[at..]) {
                Frame::Whole(length) => {
                    let frame = &self.held[at..at + length];
                    let channel = resp::channel(frame);
                    let pushes = pushes();
                    match (channel, pushes) {
                        (Some(channel), _) if is_lost(channel, pushes, &mut self.chance) => {
                            counts.lost.fetch_add(1, Ordering::SeqCst);
                        }
                        (None, Pushes::NamesLate) if resp::is_names(frame) => {
                            self.late.extend_from_slice(frame);
                        }
                        _ => {
                            if let Pushes::Amid(bytes) = pushes
                                && !frame.starts_with(b">")
                            {
                                taken.extend_from_slice(bytes);
                            }
                            taken.extend_from_slice(frame);
                            if channel.is_some() {
                                taken.append(&mut self.late);
                            }
                        }
                    }
                    at += length;
                }
                Frame::Unfinished => break,
                Frame::Foreign => self.is_foreign = true,
            }
        }
        if self.is_foreign {
            taken.extend_from_slice(&self.held[at..]);
            at = self.held.len();
        }
        self.held.drain(..at);
        taken
    }
}

fn is_lost(channel: &[u8], pushes: Pushes, chance: &mut u64) -> bool {
    let is_beat = channel.windows(4).any(|four| four == b"beat");
    match pushes {
        Pushes::Pass | Pushes::NamesLate | Pushes::Amid(_) => false,
        Pushes::Lost => true,
        Pushes::BeatsOnly => !is_beat,
        Pushes::Thinned(per_mille) => !is_beat && next(chance) % 1000 < u64::from(per_mille),
    }
}

/// The next number of the generator that is called `SplitMix64`.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &str = "$2\r\nhi\r\n";
    const SUBSCRIBED: &str = ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
    const MESSAGE: &str = ">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n";
    const BEAT: &str = ">3\r\n$7\r\nmessage\r\n$6\r\nbeat:1\r\n$1\r\n7\r\n";

    /// What arrives of a stream that comes byte by byte, and how many messages were lost.
    fn arrives(stream: &str, pushes: Pushes) -> (String, u64) {
        let counts = Counts::default();
        let mut replies = Replies { held: Vec::new(), late: Vec::new(), is_foreign: false, chance: 0 };
        let mut arrived = Vec::new();
        for byte in stream.bytes() {
            replies.held.push(byte);
            arrived.extend(replies.take(|| pushes, &counts));
        }
        (String::from_utf8(arrived).expect("text"), counts.lost.load(Ordering::SeqCst))
    }

    #[test]
    fn only_messages_are_lost_and_only_those_that_are_meant() {
        let stream = [REPLY, SUBSCRIBED, MESSAGE, BEAT, REPLY].concat();
        assert_eq!(arrives(&stream, Pushes::Pass), (stream.clone(), 0));
        assert_eq!(arrives(&stream, Pushes::Lost), ([REPLY, SUBSCRIBED, REPLY].concat(), 2));
        assert_eq!(arrives(&stream, Pushes::BeatsOnly), ([REPLY, SUBSCRIBED, BEAT, REPLY].concat(), 1));
        let (_, lost) = arrives(&MESSAGE.repeat(2000), Pushes::Thinned(10));
        assert!((5..50).contains(&lost), "{lost} of 2000");
        assert_eq!(arrives(&BEAT.repeat(100), Pushes::Thinned(1000)).1, 0);
    }

    #[test]
    fn names_come_late_and_others_come_in_between() {
        const NAMES: &str = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n";
        let stream = [NAMES, REPLY, NAMES, BEAT, REPLY].concat();
        assert_eq!(arrives(&stream, Pushes::NamesLate), ([REPLY, BEAT, NAMES, NAMES, REPLY].concat(), 0));
        let amid = arrives(&[REPLY, BEAT, REPLY].concat(), Pushes::Amid(NAMES.as_bytes()));
        assert_eq!(amid, ([NAMES, REPLY, BEAT, NAMES, REPLY].concat(), 0));
    }

    #[test]
    fn what_is_no_resp_arrives_as_it_is() {
        let stream = ["\x16\x03\x01\r\n", MESSAGE].concat();
        assert_eq!(arrives(&stream, Pushes::Lost), (stream.clone(), 0));
    }
}
