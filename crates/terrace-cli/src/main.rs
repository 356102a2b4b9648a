//! The `terrace` command.
//!
//! Parsing and the exit code are here; each verb is a file in `commands`. What a verb prints, and where, is decided in
//! `output`; how it ends, in `failure`.

#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod demo;
mod failure;
mod output;
mod replay;
mod runtime;
mod supervisor;
mod tally;
mod trace;
mod words;
mod zipf;

use args::{Cli, DictVerb, TalkArgs, Verb};
use clap::{CommandFactory as _, FromArgMatches as _};
use failure::Exit;
use output::Talk;
use std::process::ExitCode;
use terrace_server::config::LogForm;

/// The allocator of the machine's C library keeps what large values leave behind, and takes longer over what a request allocates.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut command = Cli::command().color(args::colour_of(std::env::args_os()).into());
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => error.format(&mut command).exit(),
    };
    let has_colour = output::has_colour(cli.talk.color);
    match start(cli) {
        Ok(code) => code,
        Err(error) => failure::report(&error, has_colour).into(),
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    use_one_tls_provider();
    // `serve` begins its log itself, once it knows what else listens to what it does.
    if !matches!(cli.verb, Verb::Serve(_)) {
        output::start_log(&cli.talk, output::QUIET, LogForm::Auto, None);
    }
    runtime::run(run(cli.verb, &cli.talk))
}

async fn run(verb: Verb, talk_args: &TalkArgs) -> anyhow::Result<Exit> {
    let talk = Talk::new(talk_args);
    match verb {
        Verb::Serve(args) => commands::serve::serve(args, talk_args).await,
        Verb::Demo(args) => commands::demo::demo(args, talk).await,
        Verb::Init(args) => commands::init::init(&args, talk),
        Verb::Config(args) => commands::config::config(args),
        Verb::Explain(args) => commands::explain::explain(args),
        Verb::Get(args) => commands::data::get(args, talk).await,
        Verb::Mget(args) => commands::many::mget(args).await,
        Verb::Ttl(args) => commands::many::ttl(args, talk).await,
        Verb::Touch(args) => commands::many::touch(args, talk).await,
        Verb::Keys(args) => commands::many::keys(args).await,
        Verb::Why(args) => commands::why::why(args).await,
        Verb::Set(args) => commands::data::set(args, talk).await,
        Verb::Del(args) => commands::data::del(args, talk).await,
        Verb::Invalidate(args) => commands::invalidate::invalidate(args, talk).await,
        Verb::Stats(args) => commands::stats::stats(args).await,
        Verb::Hot(args) => commands::hot::hot(args).await,
        Verb::Watch(args) => commands::watch::watch(args, talk).await,
        #[cfg(feature = "top")]
        Verb::Top(args) => commands::top::top(args).await,
        Verb::Keyspaces(args) => commands::overview::keyspaces(args).await,
        Verb::Breakers(args) => commands::overview::breakers(args).await,
        Verb::Queue(args) => commands::queue::queue(args, talk).await,
        Verb::Warm(args) => commands::warm::warm(args, talk).await,
        Verb::Bench(args) => commands::bench::bench(args, talk).await,
        Verb::Doctor(args) => commands::doctor::doctor(args, talk).await,
        Verb::Dict(args) => match args.what {
            DictVerb::Train(args) => commands::dict::train(args, talk).await,
        },
        Verb::Journal(args) => commands::journal::journal(args, talk),
        Verb::Check(args) => commands::check::check(args, talk).await,
        Verb::ForgetSettings(args) => commands::forget_settings::forget_settings(args, talk).await,
        Verb::Replay(args) => commands::replay::replay(args, talk).await,
        Verb::Completions(args) => commands::manual::completions(&args),
        Verb::Man(args) => commands::manual::man(args),
    }
}

/// Chooses ring for everything that speaks TLS. Only a second choice in the same process could fail, and would do no
/// harm.
fn use_one_tls_provider() {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was chosen already");
    }
}
