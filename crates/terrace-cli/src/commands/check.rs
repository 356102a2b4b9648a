//! `check`: is this configuration right, and does everything answer that it names?
//!
//! The effective configuration goes to stdout, as TOML that loads again, without secrets; what was found goes to stderr. With `--json` what
//! was found is the data.

use super::finding::{self, State};
use crate::args::CheckArgs;
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use std::fs::File;
use std::path::PathBuf;
use terrace_server::config::Sources;

/// Checks a configuration.
pub(crate) async fn check(args: CheckArgs, talk: Talk) -> anyhow::Result<Exit> {
    let config = super::serve::load(&sources(args.file.config)?)?;
    if !args.json {
        output::line(&config.effective_toml())?;
    }
    let found = terrace_server::check(&config)
        .await
        .map_err(|error| Failure::new(Exit::Failure, "the configuration cannot be used").why(error))?;
    let mut findings = finding::of_configuration(found);
    if config.l2.is_none() {
        findings.push(finding::no_l2());
    }
    for finding in &findings {
        if args.json {
            output::line(&finding.json())?;
        } else if finding.state.is_ill() {
            eprintln!("{}", finding.words());
        } else if finding.state == State::Well {
            talk.say(format!("ok      {}", finding.what));
        } else {
            talk.say(finding.words());
        }
    }
    Ok(finding::exit(&findings))
}

/// A file, if there is one, and the environment. A pipe is opened once, by whoever reads it: who writes to it hears of the first end.
pub(crate) fn sources(file: Option<PathBuf>) -> anyhow::Result<Sources> {
    if let Some(file) = &file {
        let unreadable = |error| Failure::unreadable(file, &error);
        if file.metadata().map_err(unreadable)?.is_file() {
            File::open(file).map_err(unreadable)?;
        }
    }
    Ok(file.map_or_else(Sources::none, Sources::file).environment())
}
