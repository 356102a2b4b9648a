//! The Redis and Valkey tier of terrace: one attempt per call, no policy.
//!
//! [`Redis`] implements [`terrace_core::Remote`] for a single server and for the primary that sentinels elect, from Redis 6.2
//! and any Valkey on, and for a Cluster, from Redis 7.0 and Valkey 7.2 on. Retry, breakers, fallback and the order of
//! tiers are the library's; what happens on the wire is decided here:
//!
//! | module | decides |
//! |---|---|
//! | `config` | which settings there are, and which values are allowed |
//! | `keys` | what keys and channels are called on the server, and which of them a sweep may touch |
//! | `scripts` | what each change does there, atomically |
//! | `supervisor` | when a connection is opened, trusted, given up and opened again; owns spawning and waiting |
//! | `topology` | which server has a partition, and who says so |
//! | `bounds` | what the server's settings leave open |
//! | `call` | when a call is given up |
//! | `error` | what a failure means |
//! | `incarnation` | which life of a server a connection is to |
//! | `commands`, `replies` | which commands a call sends, and what the replies say |
//! | `remote` | how calls are put together |
//! | `reading` | what is read, and whether it is alive |
//! | `scanning`, `listing` | how names are looked through: in one go, and page by page |
//! | `bus` | how a node hears of changes that others make |
//! | `plain` | all of that for servers without scripts and streams, and what is not promised then |
//!
//! 1. [`RedisBuilder::build`] opens nothing and needs no runtime. The first call does, on the runtime it runs on.
//!    With [`RedisBuilder::build_plain`] instead it is [`PlainRedis`], for servers that have or allow no scripts or no streams.
//! 2. A call never waits for a reconnect. Without a connection it fails at once; only while the very first attempt is
//!    under way does it wait for that.
//! 3. Every call ends within its deadline, whatever the server does; a sweep, within one per step.
//! 4. Every change is one script: it gets its number, is logged and is published in one step. (Of [`PlainRedis`] every change is
//!    one transaction: it is made and published in one step.)
//! 5. A password is in no error, log line, `Debug` or `Display`.
//!
//! Deliberately absent: retries, values in messages, `KEYS`, and any type of the client crate in a public signature.
//!
//! # What an ACL user needs
//! `~<prefix>*` and `&<prefix>*` (`terrace:` by default), and
//! `+@read +@write +@scripting +@connection +publish +subscribe +time +info`, or by name:
//! `+get +getrange +pttl +pexpire +set +unlink +hget +hmget +hset +hsetnx +hdel +hexists +hlen +xadd +xrange +xrevrange +zadd +zcard +zrem`
//! `+zrange +zrangebyscore +scan +evalsha +script|load +publish +subscribe +time +ping`. With `+info` besides, a connection that is
//! lost while the server goes on costs no copies: without it, nodes cannot know that it is the same server with the same memory.
//! On a Cluster also `+spublish +ssubscribe +asking +cluster|slots +cluster|info +cluster|nodes`. At sentinels, where users are
//! others: `+sentinel|master`, and `+sentinel|get-master-addr-by-name` for the one that leads a failover to be
//! believed meanwhile. With `+config|get` the adapter can warn of settings that give no bound on a split brain.
//! [`PlainRedis`] needs [other rights](PlainRedis#what-an-acl-user-needs). The setting `tracking` needs `+client|tracking`.

#![forbid(unsafe_code)]

mod bounds;
mod bus;
mod call;
mod commands;
mod config;
mod error;
mod incarnation;
mod keys;
mod link;
mod listing;
mod plain;
mod reading;
mod remote;
mod replies;
mod rules;
mod scanning;
mod scripts;
mod sending;
mod supervisor;
mod tls;
mod topology;

pub use config::{ConfigError, Passwords, RedisBuilder};
pub use plain::PlainRedis;
pub use remote::Redis;
#[cfg(fuzzing)]
pub use replies::read_any_reply;
