//! Verbs about configurations: what is in force, what would be done, how to begin.

use super::TlsArgs;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Which configuration.
#[derive(Args, Debug)]
pub(crate) struct FileArgs {
    /// The configuration; without it, defaults and environment variables
    #[arg(short, long, value_name = "FILE", env = "TERRACE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) what: ConfigVerb,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigVerb {
    /// Print what is in force, with every default filled in and without secrets
    Show(ShowArgs),
    /// Print the file's form as a JSON Schema, for editors
    Schema,
}

#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,

    /// Say of each setting who set it: a line of the file, a variable, a flag, or the default
    #[arg(long)]
    pub(crate) origin: bool,

    /// Print one JSON object per setting, with who set it
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// The key
    pub(crate) key: String,
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Where values come from
    #[arg(long, value_enum, default_value_t = Begin::None)]
    pub(crate) origin: Begin,

    /// Write over a file that is there
    #[arg(long)]
    pub(crate) force: bool,

    /// The file to write; `-` prints it
    #[arg(default_value = "terrace.toml")]
    pub(crate) file: PathBuf,
}

/// The system of record that a new file is for.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begin {
    /// None: the program puts what it wants kept
    None,
    /// A PostgreSQL server
    Postgres,
    /// A SQLite file
    Sqlite,
    /// An HTTP API
    Http,
}

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,

    /// Print one JSON object per finding
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Write one page per verb into this folder, instead of the first page to stdout
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct JournalArgs {
    #[command(subcommand)]
    pub(crate) what: JournalVerb,
}

#[derive(Subcommand, Debug)]
pub(crate) enum JournalVerb {
    /// Say what a journal's file holds, and change nothing of it. No service may have it open
    Inspect(InspectArgs),
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// Print one JSON object per keyspace, or per write
    #[arg(long)]
    pub(crate) json: bool,

    /// Print one line per write, those that were given up last: what is to be done with which key, and since when. No values
    #[arg(long)]
    pub(crate) writes: bool,

    /// Only writes of this keyspace
    #[arg(long, value_name = "NAME", requires = "writes")]
    pub(crate) keyspace: Option<String>,

    /// Only writes that were given up
    #[arg(long, requires = "writes")]
    pub(crate) dead: bool,

    /// How many writes, the oldest first
    #[arg(long, value_name = "N", default_value_t = 100, requires = "writes", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) limit: u16,

    /// The journal: `write_behind.path` of the configuration
    pub(crate) file: PathBuf,
}
