//! `completions` and `man`: what shells and `man` want to know of this program.

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::failure::{Exit, Failure};
use crate::output;
use clap::CommandFactory as _;

/// Prints completions.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "terrace", &mut script);
    output::data(&script)?;
    Ok(Exit::Success)
}

/// Prints the manual page, or writes all of them.
pub(crate) fn man(args: ManArgs) -> anyhow::Result<Exit> {
    let Some(folder) = args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        output::data(&page)?;
        return Ok(Exit::Success);
    };
    let cannot = |error: std::io::Error| {
        Failure::new(Exit::Failure, format!("cannot write manual pages to {}", folder.display())).why(error)
    };
    std::fs::create_dir_all(&folder).map_err(cannot)?;
    clap_mangen::generate_to(Cli::command(), &folder).map_err(cannot)?;
    Ok(Exit::Success)
}
