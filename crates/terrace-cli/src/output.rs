//! Data goes to stdout, talk to stderr.
//!
//! 1. What a script reads is on stdout, complete and flushed, or the exit code is not zero.
//! 2. What a terminal is shown has no orders to it, whoever chose keys and values: there control characters are escaped. Elsewhere data is as
//!    it is.
//! 3. Talk obeys `--quiet` and `-v`. Colour is used on a terminal only, and never if `NO_COLOR` is set.
//! 4. The log is readable where a person sees it, and JSON elsewhere, unless the configuration says which.

use crate::args::{ColorArg, TalkArgs};
use crate::words;
use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use terrace_server::config::LogForm;
use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// How much to say on stderr.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Talk {
    /// Errors only.
    Quiet,
    /// What is going on.
    Normal,
    /// And what is known about the answer.
    Verbose,
}

impl Talk {
    /// As the command line asks.
    pub(crate) fn new(args: &TalkArgs) -> Self {
        match (args.quiet, args.verbose) {
            (true, _) => Self::Quiet,
            (false, 0) => Self::Normal,
            (false, _) => Self::Verbose,
        }
    }

    /// Says something to whoever watches.
    pub(crate) fn say(self, words: impl AsRef<str>) {
        if self >= Self::Normal {
            eprintln!("{}", words.as_ref());
        }
    }

    /// Says something that only the curious want to know.
    pub(crate) fn detail(self, words: impl AsRef<str>) {
        if self >= Self::Verbose {
            eprintln!("{}", words.as_ref());
        }
    }
}

/// Writes data to stdout as it is.
pub(crate) fn data(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// Writes a text to stdout.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    let shown = if is_watched() { Cow::Owned(words::visible(text)) } else { Cow::Borrowed(text) };
    data(shown.as_bytes())
}

/// Writes a text to stdout, and ends its last line.
pub(crate) fn line(line: &str) -> anyhow::Result<()> {
    text(&format!("{}\n", line.trim_end_matches('\n')))
}

/// Whether a person sees stdout.
pub(crate) fn is_watched() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether what was written to stdout can be written over.
pub(crate) fn can_redraw() -> bool {
    is_watched() && std::env::var_os("TERM").is_some_and(|terminal| terminal != "dumb")
}

/// Whether a person sees stderr.
pub(crate) fn is_talk_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether a person can be asked.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && is_talk_watched()
}

/// Asks a question that only a clear yes answers with yes.
pub(crate) fn ask(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Whether talk is coloured.
pub(crate) fn has_colour(when: ColorArg) -> bool {
    match when {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto => {
            is_talk_watched() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}

/// The log of a command that says what went wrong itself. What judges certificates says it once more.
pub(crate) const QUIET: &str = "error,rustls_platform_verifier=off";

/// Something else that listens to what the program does.
pub(crate) type Listener = Box<dyn Layer<Registry> + Send + Sync>;

/// What happens in the program, as the log hears of it.
type Heard = Layered<Option<Listener>, Registry>;

fn is_event(what: &Metadata<'_>) -> bool {
    what.is_event()
}

/// Whether the log is for people, in this form.
fn is_readable(form: LogForm, color: ColorArg) -> bool {
    match form {
        LogForm::Pretty => true,
        LogForm::Json => false,
        _ => is_talk_watched() || color == ColorArg::Always,
    }
}

/// Sends the program's log to stderr, in this form. `RUST_LOG` has the last word on what is logged. Spans are for whoever else listens.
pub(crate) fn start_log(args: &TalkArgs, default: &str, form: LogForm, other: Option<Listener>) {
    let level = match args.verbose {
        _ if args.quiet && default == QUIET => QUIET,
        _ if args.quiet => "error",
        0 => default,
        1 => "info",
        _ => "debug,hyper=info,h2=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let filter = filter.and(filter_fn(is_event).with_max_level_hint(LevelFilter::TRACE));
    let has_colour = has_colour(args.color);
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log: Box<dyn Layer<Heard> + Send + Sync> = if is_readable(form, args.color) {
        Box::new(log.with_ansi(has_colour).with_target(false).with_filter(filter))
    } else {
        Box::new(log.json().flatten_event(true).with_filter(filter))
    };
    if let Err(error) = tracing_subscriber::registry().with(other).with(log).try_init() {
        eprintln!("warning: there will be no log: {error}");
    }
}
