//! `config`: what is in force, who set it, and the form of the file.

use crate::args::{ConfigArgs, ConfigVerb, ShowArgs};
use crate::failure::{Exit, Failure};
use crate::output;
use std::fmt::Write as _;
use terrace_server::config::Config;

/// Prints a configuration, or the form of one.
pub(crate) fn config(args: ConfigArgs) -> anyhow::Result<Exit> {
    match args.what {
        ConfigVerb::Schema => output::line(&serde_json::to_string_pretty(&Config::schema())?)?,
        ConfigVerb::Show(args) => show(args)?,
    }
    Ok(Exit::Success)
}

fn show(args: ShowArgs) -> anyhow::Result<()> {
    let sources = super::check::sources(args.file.config)?;
    if !args.origin && !args.json {
        return output::line(&super::serve::load(&sources)?.effective_toml());
    }
    let settings = Config::settings(&sources).map_err(|error| Failure::framed(error.to_string()))?;
    let mut text = String::new();
    for setting in &settings {
        if args.json {
            text.push_str(&serde_json::to_string(setting)?);
        } else {
            let said = format!("{} = {}", setting.key, setting.value);
            write!(text, "{said:<52}  # {}", setting.from)?;
        }
        text.push('\n');
    }
    output::data(text.as_bytes())
}
