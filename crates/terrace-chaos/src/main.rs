//! `terrace-chaos`: the long form of the tests. `cargo xtask chaos` builds what it needs and runs it.

#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use terrace_chaos::chapter::Chapter;
use terrace_chaos::nemesis::Fault;
use terrace_chaos::story::{self, Plot};
use terrace_chaos::world::World;
use terrace_chaos::{Dice, Fleet, Intensity, Settings, Topology, lag, report, single};

/// Ill-treats a fleet of real processes, and checks what it answers meanwhile
#[derive(Debug, Parser)]
struct Args {
    /// The built program
    #[arg(long)]
    program: PathBuf,

    /// Where all chance comes from; a new one each time unless it is given
    #[arg(long)]
    seed: Option<u64>,

    /// How long the faults last altogether on each topology, about
    #[arg(long, default_value_t = 120)]
    seconds: u64,

    /// What the fleet runs on
    #[arg(long, value_enum, default_value_t = On::Single)]
    topology: On,

    /// Only these faults, by name
    #[arg(long)]
    fault: Vec<String>,

    /// Only the faults: no lags, no loads at once
    #[arg(long)]
    only_faults: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum On {
    Single,
    Sentinel,
    Cluster,
    All,
}

impl On {
    fn topologies(self) -> &'static [Topology] {
        match self {
            Self::Single => &[Topology::Single],
            Self::Sentinel => &[Topology::Sentinel],
            Self::Cluster => &[Topology::Cluster],
            Self::All => &[Topology::Single, Topology::Sentinel, Topology::Cluster],
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&args)));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("terrace-chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: &Args) -> Result<bool> {
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}; again with --seed {seed} --seconds {}", args.seconds);
    let mut is_good = true;
    for &topology in args.topology.topologies() {
        let plot = plot(args, seed, topology)?;
        println!("\n== {topology:?}\n\n{}", report::titles());
        let tell = |chapter: &Chapter| println!("{}\n{}", report::row(chapter), report::details(chapter));
        let Some(story) = story::live(&plot, tell).await? else { bail!("there is no server to be had") };
        println!("the largest node took {} MiB", story.resident_kib >> 10);
        if !story.is_good() {
            println!("\nseed {seed}: promises were broken\n{}", story.logs);
            is_good = false;
        }
        if !args.only_faults {
            lags(&plot.settings).await?;
            is_good &= loads(&plot.settings).await?;
        }
    }
    Ok(is_good)
}

/// Each fault in a random order, for as long as its share allows.
fn plot(args: &Args, seed: u64, topology: Topology) -> Result<Plot> {
    let mut dice = Dice::new(seed);
    let is_wanted = |fault: &&Fault| {
        let is_named = args.fault.is_empty() || args.fault.iter().any(|name| name == fault.name());
        is_named && fault.fits(topology)
    };
    let mut faults: Vec<Fault> = Fault::ALL.iter().filter(is_wanted).copied().collect();
    if faults.is_empty() {
        let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        bail!("there is no such fault; there are {names:?}");
    }
    for at in (1..faults.len()).rev() {
        faults.swap(at, usize::try_from(dice.below(at as u64 + 1))?);
    }
    // What it leaves behind is found later than what others do.
    faults.sort_by_key(|fault| *fault == Fault::ThinPushes);
    let share = Duration::from_secs(args.seconds) / u32::try_from(faults.len())?;
    let faults = faults.into_iter().map(|fault| (fault, share.clamp(Duration::from_secs(2), longest(fault))));
    let intensity = Intensity { workers: 4, pace: Duration::from_millis(3), changes_percent: 10 };
    let settings = Settings { topology, ..Settings::new(&args.program) };
    Ok(Plot { settings, seed, intensity, faults: faults.collect() })
}

/// How long a fault may last: longer ones tell nothing new.
fn longest(fault: Fault) -> Duration {
    match fault {
        Fault::LosePushes => Duration::from_secs(30),
        Fault::HaltNode | Fault::KillRedis => Duration::from_secs(10),
        _ => Duration::from_secs(20),
    }
}

async fn lags(settings: &Settings) -> Result<()> {
    for (nodes, watched) in [(1, &[0][..]), (2, &[1]), (4, &[1, 2, 3])] {
        let settings = Settings { nodes, ..settings.clone() };
        let Some(fleet) = Fleet::start(settings).await? else { bail!("there is no server to be had") };
        let world = Arc::new(World::new(fleet));
        let lags = lag::measure(&world, watched, 500, false).await?;
        println!("{}", report::lags(&format!("invalidation lag, {nodes} nodes"), &lags));
        if nodes == 4 && world.fleet.is_single() {
            let lags = lag::measure(&world, watched, 10, true).await?;
            println!("{}", report::lags("the last message lost (T4)", &lags));
        }
    }
    Ok(())
}

/// One load per key, also if its node dies.
async fn loads(settings: &Settings) -> Result<bool> {
    let Some(fleet) = Fleet::start(settings.clone().patient()).await? else {
        bail!("there is no server to be had")
    };
    let world = Arc::new(World::new(fleet));
    let mut is_good = true;
    for (row, connections, requests) in [(0, 250, 10), (1, 250, 10), (2, 250, 10), (3, 500, 5)] {
        let single = single::read_at_once(&world, row, connections, requests).await?;
        println!("{}", report::single(&single));
        is_good &= single.loads == 1;
    }
    let death = single::kill_holder(&world, 4, 20).await?;
    println!("{}", report::death(&death));
    Ok(is_good && death.loads == 1)
}
