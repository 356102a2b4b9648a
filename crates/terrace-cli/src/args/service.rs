//! Verbs that ask a running service about many keys, or about itself.

use super::{FileArgs, ServiceArgs};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use terrace_server::config::{ByteSize, Period, TtlSetting};

/// A verb that says nothing but which service.
#[derive(Args, Debug)]
pub(crate) struct PlainArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
}

#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// Which keys, as in Redis: `user:*`
    #[arg(default_value = "*", value_name = "PATTERN")]
    pub(crate) pattern: String,

    /// Only keys of this keyspace
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: Option<String>,

    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct MgetArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// The keys
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TouchArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// How long the value is fresh from now on: `5m`, `1h 30m`, seconds, or `never` for no end
    #[arg(long)]
    pub(crate) ttl: TtlSetting,

    /// The key
    pub(crate) key: String,
}

#[derive(Args, Debug)]
pub(crate) struct QueueArgs {
    #[command(subcommand)]
    pub(crate) what: QueueVerb,
}

#[derive(Subcommand, Debug)]
pub(crate) enum QueueVerb {
    /// Print what waits for origins, and what was given up
    Ls(QueueLsArgs),
    /// Say what has become of one write, by the id that its acknowledgement had
    Show(WriteArgs),
    /// Send what waits of a keyspace, and say what came of it
    Flush(FlushArgs),
    /// Bring a key's dead letters back
    Retry(LetterArgs),
    /// Forget a key's dead letters: the origin never gets them
    Drop(DropArgs),
}

#[derive(Args, Debug)]
pub(crate) struct QueueLsArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// Only of this keyspace
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: Option<String>,

    /// Dead letters of each keyspace at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) limit: u16,
}

#[derive(Args, Debug)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// The keyspace
    pub(crate) keyspace: String,

    /// The `write_id`; `terrace set -v` prints it
    #[arg(value_name = "ID")]
    pub(crate) write: String,
}

#[derive(Args, Debug)]
pub(crate) struct FlushArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// The keyspace
    pub(crate) keyspace: String,
}

#[derive(Args, Debug)]
pub(crate) struct LetterArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// The keyspace
    pub(crate) keyspace: String,

    /// The key
    pub(crate) key: String,
}

#[derive(Args, Debug)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    pub(crate) letter: LetterArgs,

    /// Do not ask; needed where nobody can answer
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct WarmArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// Requests at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,

    /// Read the keys that this query finds at the origin of `--keyspace`: a `select` of SQLite or PostgreSQL whose columns are called as
    /// the parts of the pattern
    #[arg(long, value_name = "QUERY", requires = "keyspace")]
    pub(crate) sql: Option<String>,

    /// The keyspace of `--sql`
    #[arg(long, value_name = "NAME", requires = "sql")]
    pub(crate) keyspace: Option<String>,

    #[command(flatten)]
    pub(crate) config: FileArgs,

    /// One key per line, which is read, so that its origin is asked; or one JSON object per line with `key`, `value` and perhaps `ttl`
    /// and `tags`, which is stored. `-` reads stdin
    #[arg(required_unless_present = "sql", conflicts_with = "sql")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct DictArgs {
    #[command(subcommand)]
    pub(crate) what: DictVerb,
}

#[derive(Subcommand, Debug)]
pub(crate) enum DictVerb {
    /// Learn from the values of a keyspace what they have in common, and say what that saves
    Train(TrainArgs),
}

#[derive(Args, Debug)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// The keyspace whose values are read. They can be recognised in the file: keep it as you keep them
    pub(crate) keyspace: String,

    /// Only values of these keys, as in Redis
    #[arg(long, default_value = "*", value_name = "PATTERN")]
    pub(crate) pattern: String,

    /// Values that are read at most
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(crate) samples: u32,

    /// The largest that the dictionary may become, up to 128KiB
    #[arg(long, default_value = "16KiB")]
    pub(crate) size: ByteSize,

    /// The file that it is written to
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// Requests at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,

    /// Read for so long
    #[arg(long, default_value = "5s")]
    pub(crate) duration: Period,

    /// How many keys are read, chosen evenly
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) keys: u32,

    /// What the keys begin with; a number follows. They are stored first, and removed in the end, unless `--read-only` is given
    #[arg(long, default_value = "bench:")]
    pub(crate) prefix: String,

    /// The size of the values that are stored, in bytes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) value_bytes: u32,

    /// Store and remove nothing: read what is there, or what the origin has
    #[arg(long)]
    pub(crate) read_only: bool,
}

#[cfg(feature = "top")]
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// How often it is redrawn, or with `--json` printed
    #[arg(long, default_value = "1s", value_parser = super::interval)]
    pub(crate) interval: std::time::Duration,
}
