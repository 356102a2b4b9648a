//! `check`: is this configuration right, and does everything answer that it names?
//!
//! The effective configuration goes to stdout, as TOML that loads again, without secrets. What was found goes to stderr.

use crate::args::CheckArgs;
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use std::path::PathBuf;
use terrace_server::config::Sources;

/// Checks a configuration.
pub(crate) async fn check(args: CheckArgs, talk: Talk) -> anyhow::Result<Exit> {
    let config = super::serve::load(&sources(args.config))?;
    output::line(&config.effective_toml())?;
    let findings = terrace_server::check(&config)
        .await
        .map_err(|error| Failure::new(Exit::Failure, "the configuration cannot be used").why(error))?;
    let mut exit = Exit::Success;
    for finding in &findings {
        match &finding.result {
            Ok(()) => talk.say(format!("ok       {}", finding.what)),
            Err(reason) => {
                eprintln!("not ok   {}: {reason}", finding.what);
                exit = Exit::Unavailable;
            }
        }
        for warning in &finding.warnings {
            talk.say(format!("warning  {}: {warning}", finding.what));
        }
    }
    if config.l2.is_none() {
        talk.say("note     no L2 is configured: a service runs on memory alone");
    }
    Ok(exit)
}

/// A file, if there is one, and the environment.
pub(crate) fn sources(file: Option<PathBuf>) -> Sources {
    file.map_or_else(Sources::none, Sources::file).environment()
}
