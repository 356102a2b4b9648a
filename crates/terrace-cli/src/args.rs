//! What can be asked of the program.
//!
//! One word, one meaning: `--url` is always a running service, `--origin` the system of record behind the cache,
//! `--redis` the shared tier. Secrets come by environment or file.

mod service;
mod setup;
mod talk;

#[cfg(feature = "top")]
pub(crate) use service::TopArgs;
pub(crate) use service::{
    BenchArgs, DictArgs, DictVerb, DropArgs, FlushArgs, KeysArgs, LetterArgs, MgetArgs, PlainArgs, QueueArgs,
    QueueLsArgs, QueueVerb, TouchArgs, TrainArgs, WarmArgs, WriteArgs,
};
pub(crate) use setup::{
    Begin, CompletionsArgs, ConfigArgs, ConfigVerb, DoctorArgs, ExplainArgs, FileArgs, InitArgs, InspectArgs,
    JournalArgs, JournalVerb, ManArgs, ShowArgs,
};
pub(crate) use talk::{ColorArg, TalkArgs, colour_of};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use terrace_server::config::{Period, TtlSetting};

const EXAMPLES: &str = "Examples:
  terrace demo                                 watch a cache work in front of a database; needs nothing else
  terrace serve -c terrace.toml                run the service
  terrace set user:42 '{\"name\":\"Ada\"}' && terrace get user:42

Exit codes: 0 done, 1 failed, 2 usage, 3 no such key, 4 denied, 5 unreachable.";

/// A coherent multi-tier cache: memory, Redis or Valkey, and the origin you already have.
#[derive(Parser, Debug)]
#[command(name = "terrace", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,

    #[command(flatten)]
    pub(crate) talk: TalkArgs,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Run the service
    Serve(ServeArgs),
    /// Show a cache at work: a SQLite origin, a service and a load, all in this process
    Demo(DemoArgs),
    /// Write a configuration to begin with
    Init(InitArgs),
    /// Print what is in force of a configuration, or the form of its file
    Config(ConfigArgs),
    /// Say what a configuration does with a key: keyspace, parts, TTL, what the origin is asked
    Explain(ExplainArgs),
    /// Print the value of a key
    Get(GetArgs),
    /// Print the values of several keys, one JSON object per line
    Mget(MgetArgs),
    /// Print for how many seconds a key is fresh, without loading it
    Ttl(GetArgs),
    /// Give what is kept of a key another TTL
    Touch(TouchArgs),
    /// Print the keys that the tiers hold
    Keys(KeysArgs),
    /// Say why a key is answered as it is: tiers, tags, trust, and what changed it last
    Why(GetArgs),
    /// Store a value
    Set(SetArgs),
    /// Remove keys
    Del(DelArgs),
    /// Say that values are no longer true: by key, pattern or tag
    Invalidate(InvalidateArgs),
    /// Print the counters of a service
    Stats(StatsArgs),
    /// Print the keys that a service looks up most
    Hot(HotArgs),
    /// Print what happens to the entries of all instances, as it happens
    Watch(WatchArgs),
    /// Show a service at a glance, again and again, until q
    #[cfg(feature = "top")]
    Top(TopArgs),
    /// Print the keyspaces of a service, and how they do
    Keyspaces(PlainArgs),
    /// Print which systems a service leaves alone because they fail
    Breakers(PlainArgs),
    /// See, send, retry and drop what is written behind
    Queue(QueueArgs),
    /// Load or store many keys
    Warm(WarmArgs),
    /// Measure a service: requests per second, and latencies by tier
    Bench(BenchArgs),
    /// Validate a configuration and reach for everything it names
    Check(CheckArgs),
    /// Look for what is wrong with everything that a configuration names, and say what to do
    Doctor(DoctorArgs),
    /// Make dictionaries, with which short values take less room in Redis
    Dict(DictArgs),
    /// Look into a journal of writes
    Journal(JournalArgs),
    /// Let Redis forget the settings that all instances share of a keyspace, after they were changed on purpose
    ForgetSettings(ForgetSettingsArgs),
    /// Run recorded requests against a cache, check every value, and report hit ratios and latencies
    Replay(ReplayArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// The configuration; without it, defaults and environment variables
    #[arg(short, long, value_name = "FILE", env = "TERRACE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Address and port to listen on, above what the configuration says; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Stop after this long; without it, on Ctrl-C
    #[arg(long)]
    pub(crate) duration: Option<Period>,

    /// Requests per second of the load
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,

    /// Rows in the origin
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    pub(crate) rows: u32,

    /// Address and port of the service; without it, 127.0.0.1:4000, or a free port if that is taken
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,

    /// How much slower than it is the origin pretends to be
    #[arg(long, default_value = "20ms")]
    pub(crate) delay: Period,

    /// A second tier
    #[arg(long, value_name = "URL", env = "REDIS_URL", hide_env_values = true)]
    pub(crate) redis: Option<String>,
}

/// Which service to talk to.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServiceArgs {
    /// Where the service is
    #[arg(long, value_name = "URL", env = "TERRACE_URL", default_value = "http://127.0.0.1:4000")]
    pub(crate) url: String,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,

    /// Print what the service answered, as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a service is known that speaks TLS, and how this command is known to it.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct TlsArgs {
    /// A file with the roots that may have signed the certificate of the service, instead of those of the system
    #[arg(long, value_name = "FILE", env = "TERRACE_CACERT")]
    pub(crate) cacert: Option<PathBuf>,

    /// A file with a certificate to show to the service, and its key, unless that is in `--cert-key`
    #[arg(long, value_name = "FILE", env = "TERRACE_CERT")]
    pub(crate) cert: Option<PathBuf>,

    /// A file with the key of `--cert`
    #[arg(long, value_name = "FILE", env = "TERRACE_CERT_KEY")]
    pub(crate) cert_key: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// The key
    pub(crate) key: String,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// The key
    pub(crate) key: String,

    /// JSON, or a text if it is not JSON; `-` or nothing reads stdin, where there may be any bytes
    pub(crate) value: Option<String>,

    /// Store the bytes as they are, under this media type; bytes that are no text have `application/octet-stream` without it
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "text")]
    pub(crate) media: Option<String>,

    /// How long the value is fresh: `5m`, `1h 30m`, seconds, or `never` for no end
    #[arg(long)]
    pub(crate) ttl: Option<TtlSetting>,

    /// A tag to invalidate it by; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// Take the value as a text even if it is JSON
    #[arg(long)]
    pub(crate) text: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DelArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// The keys
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<String>,
}

#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["keys", "pattern", "tags"]))]
pub(crate) struct InvalidateArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// A key; may be repeated
    #[arg(long = "key", value_name = "KEY")]
    pub(crate) keys: Vec<String>,

    /// All keys that match, as in Redis: `user:*`
    #[arg(long, value_name = "GLOB")]
    pub(crate) pattern: Option<String>,

    /// All entries with this tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// Say what would be invalidated, and invalidate nothing
    #[arg(long, conflicts_with = "after")]
    pub(crate) dry_run: bool,

    /// Invalidate after so long, e.g. `5s`
    #[arg(long, value_name = "DELAY")]
    pub(crate) after: Option<String>,

    /// Do not ask before a pattern; needed where nobody can answer
    #[arg(long)]
    pub(crate) yes: bool,

    /// Allow a pattern that matches every key
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// Print again and again, every two seconds or as often as said
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", value_parser = interval)]
    pub(crate) watch: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct HotArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// Only keys of this keyspace
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: Option<String>,

    /// How many keys
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
}

/// The types of events that there are.
const EVENTS: [&str; 7] = ["set", "invalidate", "refresh", "bus", "breaker", "queue", "config"];

#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,

    /// Only events of this type; may be repeated
    #[arg(long = "type", value_name = "TYPE", value_parser = EVENTS)]
    pub(crate) types: Vec<String>,

    /// Only events that could concern a key that matches
    #[arg(long)]
    pub(crate) pattern: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,

    /// Print one JSON object per finding, instead of what is in force
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ForgetSettingsArgs {
    /// The configuration; without it, defaults and environment variables
    #[arg(short, long, value_name = "FILE", env = "TERRACE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Do not ask whether no instance runs that has the old settings
    #[arg(long)]
    pub(crate) yes: bool,

    /// The keyspace, as the refusal names it
    pub(crate) keyspace: String,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// Traces: `NAME.k64.zst` (one little-endian u64 per request), or one key per line; plain, gzip or zstd
    #[arg(required = true, value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,

    /// Ask this running service instead of a cache in this process
    #[arg(long, value_name = "URL", conflicts_with_all = ["l1_entries", "l1_share", "policy", "redis", "ttl"])]
    pub(crate) url: Option<String>,

    #[command(flatten)]
    pub(crate) tls: TlsArgs,

    /// Where the rows are: `sqlite` (a file made for this run), `sqlite:FILE`, or `postgres://…`
    #[arg(long, env = "TERRACE_REPLAY_ORIGIN", default_value = "sqlite", hide_env_values = true)]
    pub(crate) origin: String,

    /// The second tier of the cache in this process
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,

    /// Entries that L1 holds
    #[arg(long, value_name = "N", conflicts_with = "l1_share")]
    pub(crate) l1_entries: Option<u32>,

    /// Entries that L1 holds, as a part of the different keys of the trace
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = share)]
    pub(crate) l1_share: f64,

    /// Who is evicted from L1
    #[arg(long, value_enum, default_value_t = PolicyArg::Default)]
    pub(crate) policy: PolicyArg,

    /// How long a value is fresh: `5m`, `1h 30m`, seconds, or `never` for no end
    #[arg(long, default_value = "never")]
    pub(crate) ttl: TtlSetting,

    /// Requests at the same time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) concurrency: u16,

    /// Only the first N requests of each trace
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,

    /// Keep what earlier runs left in L2 or in the service, instead of starting cold
    #[arg(long)]
    pub(crate) warm: bool,

    /// Print one JSON object per trace instead of tables
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) instead: InsteadArgs,
}

/// What to do instead of a replay.
#[derive(Args, Debug)]
pub(crate) struct InsteadArgs {
    /// Only make and fill the origin's table
    #[arg(long, conflicts_with = "print_config")]
    pub(crate) prepare: bool,

    /// Only print a configuration of a service that `--url` can be pointed at
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// How L1 chooses whom to evict.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PolicyArg {
    /// The one that terrace recommends
    Default,
    /// Least recently used
    Lru,
}

/// A duration that makes sense between two refreshes.
fn interval(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_millis(100);
    let Period(interval) = text.parse()?;
    if interval < SHORTEST { Err("at least 100ms".to_owned()) } else { Ok(interval) }
}

/// `1%` or `0.01`: more than nothing, at most everything.
fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number.trim(), 100.0));
    let share = number.parse::<f64>().map_err(|_| "write it like 1% or 0.01".to_owned())? / scale;
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err("above 0% and up to 100%".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn intervals_are_neither_odd_nor_too_short() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert!(interval("1ms").is_err());
        assert!(interval("soon").is_err());
    }

    #[test]
    fn shares_are_percentages_or_fractions() {
        assert_eq!(share("0.1%"), Ok(0.001));
        assert_eq!(share("0.25"), Ok(0.25));
        for wrong in ["0", "0%", "101%", "NaN", "-1%", "x"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_invalidation_names_something() {
        assert!(Cli::try_parse_from(["terrace", "invalidate"]).is_err());
        assert!(Cli::try_parse_from(["terrace", "invalidate", "--key", "a", "--tag", "b"]).is_ok());
    }

    #[test]
    fn options_of_the_cache_in_process_mean_nothing_to_a_service() {
        let with = |option: &[&str]| {
            let line = ["terrace", "replay", "t", "--url", "http://127.0.0.1:1"].iter().chain(option);
            Cli::try_parse_from(line).is_ok()
        };
        assert!(with(&["--concurrency", "8"]));
        assert!(!with(&["--l1-entries", "8"]));
        assert!(!with(&["--redis", "redis://127.0.0.1"]));
    }
}
