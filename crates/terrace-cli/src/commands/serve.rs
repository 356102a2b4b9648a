//! `serve`: the service, until a signal ends it.
//!
//! SIGTERM, as supervisors send it, lets load balancers notice first; Ctrl-C does not wait for them. A second signal of
//! either kind ends the process at once. SIGHUP lets it read its configuration anew.

use crate::args::{ServeArgs, TalkArgs};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::runtime::{self, Hangups, Signal, Signals};
use crate::supervisor;
use terrace::ShutdownError;
#[cfg(feature = "otlp")]
use terrace_server::Traces;
use terrace_server::config::{Config, Sources};
use terrace_server::{Reloader, Server, StartError, Stop};
#[cfg(feature = "otlp")]
use tracing_subscriber::Layer as _;

/// What is logged unless somebody says something else.
const LOG: &str = "info";

/// Runs the service.
pub(crate) async fn serve(args: ServeArgs, talk: &TalkArgs) -> anyhow::Result<Exit> {
    let mut sources = super::check::sources(args.config)?;
    if let Some(listen) = args.listen {
        sources = sources.flag("--listen", "server.listen", listen.to_string());
    }
    let config = load(&sources)?;
    let server = traced(&config, talk).await?;
    let signals = Signals::listen()?;
    reload_on_hangup(server.reloader(), sources)?;
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    let side = server.admin_addr().map(|address| format!("; admin on {scheme}://{address}"));
    let (address, side) = (server.local_addr(), side.unwrap_or_default());
    output::line(&format!("listening on {scheme}://{address}, with {}{side}", tiers(&config)))?;
    supervisor::tell("READY=1");
    let ended = server
        .run(async {
            let signal = signals.first().await;
            supervisor::tell("STOPPING=1");
            match signal {
                Signal::Terminate => Stop::Drain,
                Signal::Interrupt => Stop::Now,
            }
        })
        .await;
    let exit = if ended.is_clean() { Exit::Success } else { Exit::Failure };
    if ended.connections_cut > 0 {
        tracing::warn!(connections = ended.connections_cut, "connections were cut");
    }
    if let Err(error) = ended.cache {
        let ShutdownError { after, loads, writes, invalidations, .. } = &error;
        tracing::warn!(after_seconds = after.as_secs_f64(), loads, writes, invalidations, "{error}");
    }
    Ok(exit)
}

/// Lets the service read its configuration anew whenever SIGHUP asks for it. What comes of it is in the log.
fn reload_on_hangup(reloader: Reloader, sources: Sources) -> anyhow::Result<()> {
    let mut hangups = Hangups::listen()?;
    runtime::spawn(async move {
        while hangups.next().await {
            if let Err(error) = reloader.reload(&sources).await {
                tracing::debug!(%error, "the service goes on as before");
            }
        }
    });
    Ok(())
}

/// Reads a configuration, or says what is wrong with it.
pub(crate) fn load(sources: &Sources) -> anyhow::Result<Config> {
    Config::load(sources).map_err(|error| Failure::framed(error.to_string()).into())
}

/// Begins the log, and sets the service up, with traces if the configuration wants them.
#[cfg(feature = "otlp")]
async fn traced(config: &Config, talk: &TalkArgs) -> anyhow::Result<Server> {
    let failed = |error| Failure::new(Exit::Failure, "the service cannot start").why(error);
    let traces = Traces::start(&config.telemetry).map_err(failed)?;
    let layer = traces.as_ref().map(|traces| traces.layer().boxed());
    output::start_log(talk, LOG, config.telemetry.log, layer);
    Server::bind_traced(config, traces).await.map_err(explained)
}

/// Begins the log, and sets the service up.
#[cfg(not(feature = "otlp"))]
async fn traced(config: &Config, talk: &TalkArgs) -> anyhow::Result<Server> {
    output::start_log(talk, LOG, config.telemetry.log, None);
    bind(config).await
}

/// Sets the service up, or says what is in the way.
pub(crate) async fn bind(config: &Config) -> anyhow::Result<Server> {
    Server::bind(config).await.map_err(explained)
}

fn explained(error: StartError) -> anyhow::Error {
    match error {
        StartError::Listen { address, error } => {
            Failure::new(Exit::Failure, format!("cannot listen on {address}"))
                .why(error)
                .next("choose another with --listen, or port 0 for a free one")
                .into()
        }
        error => Failure::new(Exit::Failure, "the service cannot start").why(error).into(),
    }
}

/// What the service runs on, in words.
fn tiers(config: &Config) -> String {
    match (&config.l2, config.l1.enabled) {
        (None, _) => "memory alone".to_owned(),
        (Some(l2), true) => format!("memory and Redis at {}", l2.url),
        (Some(l2), false) => format!("Redis alone at {}", l2.url),
    }
}
