//! Keys with a pattern, a TTL and a strategy each, declared once.
//!
//! | key | TTL | strategy |
//! |---|---|---|
//! | `entry:{id}` | 5 min | write-through |
//! | `metrics:{ispb}` | 10 min | write-behind |
//! | `config:{name}` | 1 h | read-through |
//! | `participant:{ispb}` | 15 min | cache-aside |
//! | `dict:key:{key}`, `dict:ispb:{ispb}` | 5 min | cache-aside |
//! | `vsync:{id}` | none | write-around |
//!
//! A keyspace is the first word, and the key's type is the rest: a number, a text, or a pair of them. The library makes the text and
//! reads it back ([`TextKey`](terrace::TextKey)), so that no part of a key can be taken for another.

use crate::Failure;
use crate::table::{Database, Table};
use std::time::Duration;
use terrace::behind::LaneOptions;
use terrace::{Cache, Keyspace, Ttl};

/// The tables, one for each keyspace.
pub const TABLES: [&str; 6] = ["entry", "metrics", "config", "participant", "dict", "vsync"];

/// The keyspaces of a program.
#[derive(Debug)]
pub struct Patterns {
    /// `entry:{id}`
    pub entry: Keyspace<u64, String>,
    /// `metrics:{ispb}`
    pub metrics: Keyspace<String, String>,
    /// `config:{name}`
    pub config: Keyspace<String, String>,
    /// `participant:{ispb}`
    pub participant: Keyspace<String, String>,
    /// `dict:key:{key}` and `dict:ispb:{ispb}`
    pub dict: Keyspace<(String, String), String>,
    /// `vsync:{id}`
    pub vsync: Keyspace<u64, String>,
}

impl Patterns {
    /// Opens all of them over one database. The cache needs a journal.
    ///
    /// # Errors
    /// If one is open already.
    pub fn open(cache: &Cache, database: &impl Database) -> Result<Self, Failure> {
        let table = |name| Table { database: database.clone(), name };
        let behind = LaneOptions::default().interval(Duration::from_secs(10));
        Ok(Self {
            entry: cache
                .keyspace("entry")
                .ttl(Duration::from_mins(5))
                .write_through(table("entry"))
                .build()?,
            metrics: cache
                .keyspace("metrics")
                .ttl(Duration::from_mins(10))
                .write_behind(table("metrics"), behind)
                .build()?,
            config: cache
                .keyspace("config")
                .ttl(Duration::from_hours(1))
                .read_through(table("config"))
                .build()?,
            participant: cache.keyspace("participant").ttl(Duration::from_mins(15)).build()?,
            dict: cache.keyspace("dict").ttl(Duration::from_mins(5)).build()?,
            vsync: cache.keyspace("vsync").ttl(Ttl::Never).write_around(table("vsync")).build()?,
        })
    }
}
