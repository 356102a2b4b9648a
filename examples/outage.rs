//! An origin that is slow, and then away: `cargo run --example outage`.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use terrace::{Cache, Clock, EntryOptions, OriginFn};
use terrace_examples::Failure;

const FINE: u8 = 0;
const SLOW: u8 = 1;
const AWAY: u8 = 2;

pub(crate) async fn run(out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let mood = Arc::new(AtomicU8::new(FINE));
    let of_origin = Arc::clone(&mood);
    let origin = OriginFn::load(move |name: String| {
        let mood = of_origin.load(Ordering::SeqCst);
        async move {
            match mood {
                FINE => Ok(Some(format!("the price of {name}"))),
                SLOW => std::future::pending().await,
                _ => Err("no route to the database"),
            }
        }
    });

    // So that nobody has to wait for a TTL, the time passes when this program says so.
    let clock = Clock::manual();
    let cache = Cache::builder().clock(clock.clone()).build()?;
    let options = EntryOptions::new()
        .ttl(Duration::from_mins(1))
        .grace(Duration::from_hours(1)) // an old value is better than none for an hour,
        .soft_timeout(Duration::from_millis(50)); // and than one for which one has to wait any longer
    let prices = cache
        .keyspace("prices")
        .options(options)
        .load_timeout(Duration::from_millis(200))
        .read_through(origin)
        .build()?;

    for (what, now) in [("fine", FINE), ("slow", SLOW), ("away", AWAY), ("fine", FINE)] {
        mood.store(now, Ordering::SeqCst);
        clock.advance(Duration::from_secs(61));
        let entry = prices.get_entry("tea").await?.expect("the origin has it");
        let why = entry.stale.map_or("fresh", |reason| reason.as_str());
        writeln!(out, "the origin is {what}: {}, {why}", entry.value)?;
        // What a caller did not wait for goes on; let it end before the next one comes.
        while what == "slow" && cache.stats().total.loads_failed == 0 {
            tokio::task::yield_now().await;
        }
    }

    mood.store(AWAY, Ordering::SeqCst);
    prices.invalidate().keys(["tea"]).send().await?;
    let error = prices.get("tea").await.expect_err("what was invalidated is never returned");
    writeln!(out, "the origin is away, and the price has changed: {error}")?;

    mood.store(FINE, Ordering::SeqCst);
    prices.get("tea").await?;
    mood.store(AWAY, Ordering::SeqCst);
    clock.advance(Duration::from_hours(2));
    let error = prices.get("tea").await.expect_err("the grace is over");
    writeln!(out, "the origin is away for too long: {error}")?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    run(&mut std::io::stdout()).await
}
