//! What each strategy does, seen from both sides: what the cache has, and what the database has.

use crate::Failure;
use crate::patterns::Patterns;
use crate::table::{Database, Row};
use std::io::Write;
use terrace::CacheKey;

/// Goes through all strategies, and tells what it sees.
///
/// # Errors
/// Whatever fails first.
pub async fn tour<D>(cache: &Patterns, database: &D, out: &mut (impl Write + Send)) -> Result<(), Failure>
where
    D: Database<Error: std::error::Error>,
{
    let row = async |table, key: &str| -> Result<Option<String>, D::Error> {
        Ok(database.load(table, vec![key.to_owned()]).await?.remove(key))
    };
    let insert = async |table, key: &str, value: &str| {
        let row = Row { key: key.to_owned(), value: Some(value.to_owned()), version: None };
        database.store(table, vec![row]).await.map_err(|failure| failure.to_string())
    };

    cache.entry.put(&7, "ann".into()).await?;
    writeln!(out, "write-through: entry:7 is {:?} in the database at once", row("entry", "7").await?)?;

    let written = cache.metrics.put("60701190", "1 call".into()).await?;
    let journaled = written.journaled.ok_or("it is not written behind")?;
    cache.metrics.put("60701190", "2 calls".into()).await?;
    let seen = cache.metrics.get("60701190").await?;
    writeln!(out, "write-behind: acknowledged by {:?}, read as {seen:?}", journaled.ack)?;
    writeln!(out, "write-behind: the database has {:?}", row("metrics", "60701190").await?)?;
    cache.metrics.behind().ok_or("it is not written behind")?.flush().await;
    writeln!(out, "write-behind: and after a flush {:?}", row("metrics", "60701190").await?)?;

    insert("config", "limit", "100").await?;
    for _ in 0..2 {
        let entry = cache.config.get_entry("limit").await?.ok_or("it is not there")?;
        writeln!(out, "read-through: config:limit is {} from {}", entry.value, entry.tier)?;
    }

    insert("participant", "60701190", "a bank").await?;
    writeln!(
        out,
        "cache-aside: participant:60701190 is {:?} before",
        cache.participant.get("60701190").await?
    )?;
    let (from, key) = (database.clone(), "60701190".to_owned());
    let load =
        async move || from.load("participant", vec![key.clone()]).await.map(|mut rows| rows.remove(&key));
    let bank = cache.participant.get_or_load("60701190", async move || {
        load().await.map(|row| row.unwrap_or_else(|| "unknown".to_owned()))
    });
    writeln!(out, "cache-aside: and {} once the program has loaded it", bank.await?)?;

    let pair = ("key".to_owned(), "a:b".to_owned());
    cache.dict.put(&pair, "60701190".into()).await?;
    let text = pair.with_text(|text| format!("{}:{text}", cache.dict.name()));
    writeln!(out, "cache-aside: {text} is {:?}", cache.dict.get(&pair).await?)?;

    cache.vsync.put(&1, "done".into()).await?;
    writeln!(out, "write-around: vsync:1 is in the cache: {}", cache.vsync.contains(&1).await?)?;
    let entry = cache.vsync.get_entry(&1).await?.ok_or("it is not there")?;
    writeln!(out, "write-around: and is {} from {} when it is read", entry.value, entry.tier)?;
    Ok(())
}
