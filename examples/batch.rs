//! Many keys, one statement: `cargo run --example batch`.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use terrace::{Cache, Origin};
use terrace_examples::Failure;

/// An origin that is asked for many rows at a time, and counts how often.
#[derive(Clone, Default)]
struct Squares {
    calls: Arc<AtomicU64>,
}

impl Origin<u64, u64> for Squares {
    type Error = &'static str;

    async fn load(&self, key: &u64) -> Result<Option<u64>, Self::Error> {
        self.load_many(&[*key]).await.pop().unwrap_or(Ok(None))
    }

    async fn load_many(&self, keys: &[u64]) -> Vec<Result<Option<u64>, Self::Error>> {
        // Here: SELECT id, value FROM squares WHERE id = ANY($1)
        self.calls.fetch_add(1, Ordering::SeqCst);
        keys.iter().map(|key| key.checked_mul(*key).map(Some).ok_or("too large")).collect()
    }
}

pub(crate) async fn run(out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let cache = Cache::memory()?;
    let origin = Squares::default();
    let squares = cache.keyspace::<u64, u64>("squares").read_through(origin.clone()).build()?;
    let calls = || origin.calls.load(Ordering::SeqCst);

    let keys: Vec<u64> = (1..=100).collect();
    let values = squares.get_many(&keys).await?;
    let sum: u64 = values.iter().flatten().map(|value| **value).sum();
    writeln!(out, "100 keys make {sum}, loaded by {} call", calls())?;

    squares.get_many(&(91..=110).collect::<Vec<_>>()).await?;
    let last = squares.peek(&110);
    writeln!(out, "20 keys, of which 10 are new ({last:?} the last): {} calls in all", calls())?;

    // The same without an origin: the loader is given what no tier has, and each key succeeds or fails by itself.
    let texts = cache.keyspace::<u64, String>("texts").build()?;
    let loader = |keys: Vec<u64>| async move {
        let text =
            |key| if key == 13 { Err("we do not speak of that") } else { Ok(Some(format!("number {key}"))) };
        keys.into_iter().map(text).collect()
    };
    for (key, found) in [12, 13, 14].iter().zip(texts.get_or_load_many(&[12, 13, 14], loader).await) {
        match found {
            Ok(value) => writeln!(out, "{key}: {}", value.as_deref().map_or("nothing", String::as_str))?,
            Err(error) => writeln!(out, "{key}: {error}")?,
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    run(&mut std::io::stdout()).await
}
