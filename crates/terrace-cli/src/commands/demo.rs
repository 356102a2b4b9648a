//! `demo`: a cache at work in front of a database, all in this process.
//!
//! 1. Nothing is needed, and no value is left: the database is a temporary file, and what was stored in a second tier
//!    is removed from it at the end.
//! 2. The load asks the service over HTTP, as a client would, so its latencies are what a client sees.
//! 3. The rows that the curl lines name are left alone by the load, so the first line is always cold.

use crate::args::{DemoArgs, TlsArgs};
use crate::client::Client;
use crate::demo::load::{Load, LoadSettings};
use crate::demo::origin::DemoOrigin;
use crate::demo::screen::{Screen, table};
use crate::failure::{Exit, reasons};
use crate::output::{self, Talk};
use crate::replay::remote::{RemoteAsker, Service};
use crate::runtime::{self, Stop};
use crate::tally::Tally;
use crate::words;
use reqwest::Method;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use terrace_server::Server;
use terrace_server::config::{Address, Sources};

/// The port that the documentation names; another one is taken if it is not free.
const USUAL_ADDRESS: &str = "127.0.0.1:4000";
const FREE_ADDRESS: &str = "127.0.0.1:0";
/// Rows at the end of the table that the load never asks for.
const ROWS_LEFT_ALONE: u32 = 100;
/// How long a value is fresh: short enough to see values come again, long enough to paste two lines.
const TTL: &str = "1m";
/// How long a copy stays in L1 if there is an L2 to come back from.
const L1_TTL_BEFORE_L2: &str = "15s";
/// What every key of the demo in a second tier begins with.
const REDIS_PREFIX: &str = "terrace-demo:";
/// Time between two pictures.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows it.
pub(crate) async fn demo(args: DemoArgs, talk: Talk) -> anyhow::Result<Exit> {
    let (stop_handle, stop) = Stop::on_signals()?;
    let rows = args.rows;
    let origin = runtime::blocking(move || DemoOrigin::create(rows)).await?;
    let server = start(&args, &origin.file()).await?;
    let url = format!("http://{}", server.local_addr());
    let (end_server, server_end) = Stop::new();
    let running = runtime::spawn(async move {
        server
            .run(async move {
                server_end.wait().await;
                terrace_server::Stop::Now
            })
            .await
    });
    let client = Client::at(&url, &TlsArgs::default())?;
    forget(&client).await?;
    output::line(&introduction(&args, &url))?;
    if let Some(duration) = args.duration {
        stop_handle.stop_after(duration.0);
    }
    let total = show(&args, &url, &stop).await?;
    output::line(&format!("\n{}", table(&total)))?;
    for example in &total.examples {
        talk.say(format!("failed: {example}"));
    }
    if let Err(error) = forget(&client).await {
        talk.say(format!("warning: the second tier keeps values of the demo: {}", reasons(error.as_ref())));
    }
    end_server.stop();
    running.await?;
    let is_clean = total.failed == 0 && total.wrong == 0;
    Ok(if is_clean { Exit::Success } else { Exit::Failure })
}

async fn start(args: &DemoArgs, file: &Path) -> anyhow::Result<Server> {
    let config = |listen: &str| super::serve::load(&Sources::text(toml(args, file, listen)?));
    if let Some(address) = args.listen {
        return super::serve::bind(&config(&address.to_string())?).await;
    }
    match Server::bind(&config(USUAL_ADDRESS)?).await {
        Ok(server) => Ok(server),
        Err(_) => super::serve::bind(&config(FREE_ADDRESS)?).await,
    }
}

/// The configuration of the service.
fn toml(args: &DemoArgs, file: &Path, listen: &str) -> anyhow::Result<String> {
    let file = serde_json::to_string(&file.to_string_lossy())?;
    let delay = args.delay;
    let l1_ttl = if args.redis.is_some() { L1_TTL_BEFORE_L2 } else { TTL };
    let mut toml = format!(
        "[server]\nlisten = \"{listen}\"\n\n\
         [l1]\nmax_entries = {}\nttl = \"{l1_ttl}\"\n\n\
         [origin.users]\ntype = \"sqlite\"\nfile = {file}\ndelay = \"{delay}\"\n\n\
         [keyspace.users]\npattern = \"user:{{id}}\"\nstrategy = \"read-through\"\nttl = \"{TTL}\"\n\
         source = {{ origin = \"users\", load = \"select * from users where id = :id\" }}\n",
        args.rows
    );
    if let Some(url) = &args.redis {
        let url = serde_json::to_string(url)?;
        write!(toml, "\n[l2]\nurl = {url}\nkey_prefix = \"{REDIS_PREFIX}\"\n")?;
    }
    Ok(toml)
}

/// Removes what an earlier demo, or this one, has left in a second tier.
async fn forget(client: &Client) -> anyhow::Result<()> {
    let everything = "{\"pattern\":\"user:*\"}".to_owned();
    client.send(Method::POST, "/api/cache/invalidate", everything).await?;
    Ok(())
}

fn introduction(args: &DemoArgs, url: &str) -> String {
    let tiers = match &args.redis {
        Some(redis) => format!("memory, then Redis at {}", Address::new(redis.as_str())),
        None => "memory alone; set REDIS_URL for a second tier".to_owned(),
    };
    let build = if cfg!(debug_assertions) {
        "not optimised: `--release` takes longer to compile, and answers several times as fast"
    } else {
        "optimised"
    };
    let key = args.rows;
    let entry = format!("{url}/api/cache/user:{key}");
    let json = "-H 'content-type: application/json'";
    format!(
        "A cache at {url}\n  \
           look    {url}/ in a browser: the dashboard\n  \
           tiers   {tiers}\n  \
           origin  a SQLite file of {} users, made {} slower than it is\n  \
           load    {} requests per second, a few users often and most hardly ever\n  \
           build   {build}\n\n\
         Paste these into another terminal, one after another:\n\n  \
           curl -s {entry}\n      \
             cold: \"source\":\"origin\", after {}\n  \
           curl -s {entry}\n      \
             the same again: \"source\":\"l1\"\n  \
           curl -s -X PUT {json} -d '{{\"value\":{{\"id\":{key},\"name\":\"You\"}}}}' {entry}\n      \
             a write: the next GET shows it\n  \
           curl -s -X POST {json} -d '{{\"keys\":[\"user:{key}\"]}}' {url}/api/cache/invalidate\n      \
             an invalidation: the next GET asks the origin again\n",
        words::count(args.rows.into()),
        words::time(args.delay.0),
        words::count(args.rate.into()),
        words::time(args.delay.0),
    )
}

/// Runs the load and shows it, until a signal or the end of its time.
async fn show(args: &DemoArgs, url: &str, stop: &Stop) -> anyhow::Result<Tally> {
    let service = Service::at(url, &TlsArgs::default())?;
    let keys = args.rows.saturating_sub(ROWS_LEFT_ALONE).max(1);
    let settings = LoadSettings { rate: args.rate, keys, prefix: "user:" };
    let mut load = Load::start(&settings, || RemoteAsker::new(service.clone(), ""), stop);
    let mut screen = Screen::default();
    let mut total = Tally::default();
    let start = runtime::now();
    let mut last = start;
    loop {
        let is_over = stop.wait_for(INTERVAL).await;
        if is_over {
            load.end().await?;
        }
        let tally = load.take();
        let now = runtime::now();
        if tally.requests() > 0 {
            screen.draw(now - start, now - last, &tally)?;
        }
        last = now;
        total.merge(tally);
        if is_over {
            return Ok(total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use clap::Parser as _;
    use terrace_server::config::Config;

    #[test]
    fn the_configuration_is_one_that_a_service_takes() {
        for line in [&["terrace", "demo"][..], &["terrace", "demo", "--redis", "redis://u:p@127.0.0.1:1"]] {
            let Verb::Demo(args) = Cli::parse_from(line).verb else { panic!("not a demo") };
            let text = toml(&args, Path::new("/tmp/a \"b\".db"), FREE_ADDRESS).unwrap();
            let config = Config::load(&Sources::text(text)).unwrap();
            assert!(config.keyspaces.contains_key("users"));
            assert!(!introduction(&args, "http://x").contains("u:p"), "secrets are not shown");
        }
    }
}
