//! Two strategy objects over one keyspace: `cargo run --example objects`.

use std::io::Write;
use std::sync::{Arc, Mutex};
use terrace::Cache;
use terrace::strategies::{CacheStrategy, Lru, WriteThrough};
use terrace_examples::Failure;

pub(crate) async fn run(out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let pages = Cache::memory()?.keyspace::<String, String>("pages").build()?;

    // What is published is stored first: here in a list, elsewhere in a database.
    let published = Arc::new(Mutex::new(Vec::new()));
    let store = Arc::clone(&published);
    let publisher = WriteThrough::by(pages.clone(), move |page: String, text: Option<String>| {
        if let Ok(mut published) = store.lock() {
            published.push(format!("{page}: {}", text.as_deref().unwrap_or("removed")));
        }
        async { Ok::<(), terrace::WriteFailure<&str>>(()) }
    })?;

    // Previews are made on the fly. Three are enough.
    let previews = Lru::new(pages.clone(), 3)?;

    publisher.put(&"home".into(), "welcome".into()).await?;
    for n in 1..=5 {
        previews.put(&format!("preview {n}"), format!("draft {n}")).await?;
    }

    // Both see all pages, and each keeps to its rule.
    for (name, strategy) in [("publisher", &publisher as &dyn CacheStrategy<_, _>), ("previews", &previews)] {
        let (home, draft) = (strategy.get(&"home".into()).await?, strategy.get(&"preview 5".into()).await?);
        writeln!(
            out,
            "{name}: home is {home:?}, preview 5 is {draft:?}, keys of its own: {:?}",
            strategy.len()
        )?;
    }
    writeln!(out, "preview 1 is {:?}", pages.get("preview 1").await?)?;
    publisher.remove(&"home".into()).await?;
    writeln!(out, "stored: {:?}", published.lock().map_err(|_| "a panic")?)?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    run(&mut std::io::stdout()).await
}
