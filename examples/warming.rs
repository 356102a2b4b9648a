//! A cache that is warm before its first reader comes: `cargo run --example warming`.

use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;
use terrace::{Cache, L1, OriginFn};
use terrace_examples::Failure;

/// A page of rows, as a database would bring it: the users after this one.
async fn page(after: Option<u64>) -> Result<Vec<(u64, String)>, Infallible> {
    // Here: SELECT id, name FROM users WHERE id > $1 ORDER BY id LIMIT 500
    let next = after.map_or(1, |after| after + 1);
    Ok((next..2_001.min(next + 500)).map(|id| (id, format!("user {id}"))).collect())
}

pub(crate) async fn run(out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let cache = Cache::builder().l1(L1::entries(8_000)).build()?;
    let origin = OriginFn::load(|id: u64| async move {
        tokio::task::yield_now().await; // a database would take longer
        if id == 2_500 { Err("row 2500 is broken") } else { Ok(Some(format!("user {id}"))) }
    });
    let users = cache.keyspace::<u64, String>("users").read_through(origin).build()?;

    // What a query brings is kept as if it had been loaded: not over what is newer, and not after an invalidation.
    users.put(&7, "the new name of user 7".into()).await?;
    writeln!(out, "a query: {}", users.warm().pages(page).await?)?;
    writeln!(out, "user 7 is {:?}", users.peek(&7))?;

    // A list of keys, with a look at the progress now and then.
    let warm = users.warm().at_once(100);
    let progress = warm.progress();
    let mut warming = std::pin::pin!(warm.keys(1..=3_000));
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let warmed = loop {
        tokio::select! {
            warmed = &mut warming => break warmed?,
            _ = tick.tick() => writeln!(out, "… {}", progress.now())?,
        }
    };
    writeln!(out, "a list: {warmed}")?;
    writeln!(out, "why one failed: {}", warmed.first_failure.expect("one did"))?;

    // Nobody leaves L1 for what is warmed: what finds no room is left out.
    let warmed = users.warm().keys(3_001..=20_000).await?;
    writeln!(out, "a long list: {} loaded, {} found no room", warmed.loaded, warmed.no_room)?;
    writeln!(out, "evicted: {}", cache.stats().total.evictions)?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    run(&mut std::io::stdout()).await
}
