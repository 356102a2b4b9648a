//! What the tests have in common.

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use std::time::Duration;
use terrace_core::bus::{self, Bus, BusEvent, BusEvents, Message};
use terrace_core::envelope::Sealed;
use terrace_core::remote::{BoxFuture, Remote, RemoteError, RemoteResult};
use terrace_core::{Key, Namespace, Partition, Ttl, Version};
use terrace_redis::{Redis, RedisBuilder};
use terrace_testkit::conformance::differential::{Change, Rig, Touches};
use terrace_testkit::conformance::samples;
use terrace_testkit::server::{RedisServer, redis_url, unique_prefix};
use terrace_testkit::wait;

pub(crate) const LONG: Ttl = Ttl::After(Duration::from_hours(1));

pub(crate) fn namespace(text: &str) -> Namespace {
    Namespace::new(text).expect("a valid namespace")
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).expect("a valid key")
}

/// A connection past the adapter, to see and do what it does not.
pub(crate) async fn raw(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("a valid URL");
    client.get_multiplexed_async_connection().await.expect("the server is up")
}

/// The adapter on the shared server, under a prefix that no other test has.
pub(crate) struct Shared {
    pub(crate) url: String,
    pub(crate) prefix: String,
}

impl Shared {
    pub(crate) async fn find() -> Option<Self> {
        Some(Self { url: redis_url().await?, prefix: unique_prefix() })
    }

    pub(crate) fn builder(&self) -> RedisBuilder {
        patient(Redis::url(&self.url).expect("a valid URL")).key_prefix(&self.prefix)
    }

    pub(crate) fn redis(&self) -> Redis {
        self.builder().build().expect("valid settings")
    }

    pub(crate) async fn raw(&self) -> MultiplexedConnection {
        raw(&self.url).await
    }
}

/// With deadlines that a loaded machine keeps, for tests that are not about them.
pub(crate) fn patient(builder: RedisBuilder) -> RedisBuilder {
    builder.read_timeout(wait::DEADLINE).write_timeout(wait::DEADLINE)
}

/// The adapter on a server of the test's own.
pub(crate) fn adapter(server: &RedisServer) -> RedisBuilder {
    Redis::address(&server.address())
}

/// The name of a value, lease or table on the server.
pub(crate) fn physical(prefix: &str, namespace: &Namespace, partition: Partition, rest: &str) -> String {
    format!("{prefix}1:{{{namespace}.{}}}:{rest}", partition.0)
}

pub(crate) async fn set(remote: &dyn Remote, namespace: &Namespace, key: &Key, text: &str) -> Version {
    let value = samples::sealed(namespace, key, text, LONG);
    remote.set(namespace, key, value, LONG).await.expect("a set succeeds")
}

pub(crate) async fn read(remote: &dyn Remote, namespace: &Namespace, key: &Key) -> Option<String> {
    let stored = remote.get(namespace, key).await.expect("a read succeeds");
    stored.map(|stored| samples::opened(namespace, key, &stored.bytes).1)
}

/// Waits until the adapter is served again.
pub(crate) async fn until_served(redis: &Redis) {
    wait::until_some("the adapter to be served", async || redis.health().await.ok()).await;
}

/// What is heard of the bus, within the deadline of all tests.
pub(crate) struct Ear {
    pub(crate) events: BusEvents,
}

impl Ear {
    pub(crate) fn of(redis: &dyn Bus) -> Self {
        Self { events: redis.listen() }
    }

    pub(crate) async fn next_of_all(&mut self) -> BusEvent {
        let next = wait::within("something to be heard", wait::DEADLINE, self.events.next()).await;
        next.expect("the stream never ends")
    }

    /// The counters of a namespace, of which it is the turn to be joined.
    pub(crate) async fn joined(&mut self, expected: &Namespace) -> Vec<Version> {
        match self.next().await {
            BusEvent::Joined { namespace, counters, .. } if namespace == *expected => counters,
            other => panic!("`{expected}` is to be joined, not {other:?}"),
        }
    }

    /// The next event that is not the greeting of a partition.
    pub(crate) async fn next(&mut self) -> BusEvent {
        loop {
            let event = self.next_of_all().await;
            let is_greeting = matches!(&event, BusEvent::Heard { bytes, .. }
                if Message::parse(bytes).is_ok_and(|message| message.change == bus::Change::Hello));
            if !is_greeting {
                return event;
            }
        }
    }

    pub(crate) async fn message(&mut self, expected: &Namespace) -> (Partition, Message) {
        match self.next().await {
            BusEvent::Heard { namespace, partition, bytes } if namespace == *expected => {
                (partition, messages(&[bytes])[0].clone())
            }
            other => panic!("a message of `{expected}` is to be heard, not {other:?}"),
        }
    }
}

pub(crate) fn messages(log: &[Bytes]) -> Vec<Message> {
    log.iter().map(|bytes| Message::parse(bytes).expect("all that is published are messages")).collect()
}

/// The script that stores a value.
const SET: &str =
    concat!(include_str!("../../src/scripts/counter.lua"), include_str!("../../src/scripts/set.lua"));

/// The adapter as a [`Rig`].
pub(crate) struct RedisRig {
    pub(crate) builder: RedisBuilder,
    pub(crate) redis: Redis,
    pub(crate) raw: MultiplexedConnection,
    pub(crate) prefix: String,
    pub(crate) partitions: u16,
    pub(crate) touches: Touches,
}

impl RedisRig {
    pub(crate) async fn new(url: &str, prefix: &str, builder: RedisBuilder, partitions: u16) -> Self {
        let builder = builder.key_prefix(prefix).partitions(partitions);
        let build = |builder: RedisBuilder| builder.build().expect("valid settings");
        Self {
            redis: build(builder.clone()),
            touches: Touches::of(build(builder.clone().tracking(true))),
            builder,
            raw: raw(url).await,
            prefix: prefix.to_owned(),
            partitions,
        }
    }

    async fn unlink(&self, namespace: &Namespace, partition: Partition, rest: &str) {
        let name = physical(&self.prefix, namespace, partition, rest);
        let unlinked = redis::cmd("UNLINK").arg(name).exec_async(&mut self.raw.clone()).await;
        unlinked.expect("an unlink succeeds");
    }

    fn partition(&self, namespace: &Namespace, key: &Key) -> Partition {
        Partition::of(namespace, key.as_str(), self.partitions)
    }
}

impl Rig for RedisRig {
    fn remote(&self) -> &dyn Remote {
        &self.redis
    }

    fn bus(&self) -> &dyn Bus {
        &self.redis
    }

    fn touches(&self) -> &Touches {
        &self.touches
    }

    /// What partitions remember is made that of another server.
    fn renew<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for partition in (0..self.partitions).map(Partition) {
                let counter = physical(&self.prefix, namespace, partition, "s");
                let mut forget = redis::cmd("HDEL");
                let forgotten = forget.arg(counter).arg("inc").exec_async(&mut self.raw.clone()).await;
                forgotten.expect("it is deleted");
            }
            let other = self.builder.clone().build().expect("valid settings");
            other.join(namespace);
            Ear::of(&other).joined(namespace).await;
        })
    }

    fn end_value<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> BoxFuture<'a, ()> {
        Box::pin(
            async move { self.unlink(namespace, self.partition(namespace, key), &format!("d:{key}")).await },
        )
    }

    fn end_lease<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> BoxFuture<'a, ()> {
        Box::pin(
            async move { self.unlink(namespace, self.partition(namespace, key), &format!("l:{key}")).await },
        )
    }

    /// Calls the script as the adapter does, at the time of the server from which on it is too late.
    fn set_late<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, Version> {
        Box::pin(async move {
            let millis = match ttl.duration().map(|ttl| ttl.as_millis()) {
                Some(0) => return self.redis.set(namespace, key, value, ttl).await,
                millis => millis.map(|millis| millis.to_string()).unwrap_or_default(),
            };
            let raw = &mut self.raw.clone();
            let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(raw).await.expect("a time");
            let partition = self.partition(namespace, key);
            let mut call = redis::cmd("EVAL");
            call.arg(SET).arg(5);
            for name in ["s", "log", "c", &format!("d:{key}"), &format!("l:{key}")] {
                call.arg(physical(&self.prefix, namespace, partition, name));
            }
            let bytes = value.as_bytes();
            call.arg(format!("{:016x}", self.redis.node_id())).arg(key.as_str()).arg(millis);
            call.arg(&bytes[..Sealed::VERSION_AT.start]).arg(&bytes[Sealed::VERSION_AT.end..]);
            call.arg(seconds * 1_000_000 + micros);
            let stored: Result<u64, _> = call.query_async(raw).await;
            stored.map(Version::from).map_err(|error| {
                assert_eq!(error.code(), Some("LATE"), "{error}");
                RemoteError::Late { reason: error.to_string() }
            })
        })
    }

    fn lose_counter<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, ()> {
        Box::pin(self.unlink(namespace, partition, "s"))
    }

    fn lose_generations<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, ()> {
        Box::pin(self.unlink(namespace, partition, "g"))
    }

    fn log<'a>(&'a self, namespace: &'a Namespace, partition: Partition) -> BoxFuture<'a, Vec<Change>> {
        Box::pin(async move {
            let name = physical(&self.prefix, namespace, partition, "log");
            read_log(&mut self.raw.clone(), &name).await.into_iter().map(|(_, change)| change).collect()
        })
    }
}

/// A partition's log: the id and the content of each entry.
pub(crate) async fn read_log(raw: &mut MultiplexedConnection, name: &str) -> Vec<(String, Change)> {
    type Entry = (String, Vec<(String, String)>);
    let asked = redis::cmd("XRANGE").arg(name).arg("-").arg("+").query_async::<Vec<Entry>>(raw).await;
    let entry = |(id, fields): Entry| {
        assert_eq!(fields.len(), 1, "an entry holds its message and nothing else");
        assert_eq!(fields[0].0, "m");
        (id, change(&fields[0].1))
    };
    asked.expect("the log is a stream").into_iter().map(entry).collect()
}

/// What a message says.
pub(crate) fn change(message: &str) -> Change {
    let parts: Vec<&str> = message.splitn(6, ' ').collect();
    let [format, previous, sequence, origin, operation, argument] = parts[..] else {
        panic!("a message has six parts: {message:?}")
    };
    assert_eq!(format, "1");
    assert!(origin.len() == 16 && origin.bytes().all(|byte| byte.is_ascii_hexdigit()), "{message:?}");
    let number = |text: &str| text.parse().expect("a whole number in decimal digits");
    Change { previous: number(previous), sequence: number(sequence), what: format!("{operation} {argument}") }
}
