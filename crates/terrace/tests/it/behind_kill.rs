//! A process that writes behind is killed, again and again, with thousands of acknowledged writes pending.
//!
//! The test starts itself as the process that is killed, and reads what that says: which writes were acknowledged, and what
//! it found in its journal. The origin is a file that the process appends to. After each death is counted
//! what K6 is about (`terrace_testkit::history::sink`): acknowledged writes that neither the origin nor the journal has (lost), writes that
//! came to the origin after a newer one of their key (reordered), and repetitions, which must be the same writes (else: changed).

use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use terrace::behind::{
    Journal, JournalOptions, Lane, LaneOptions, Operation, Outcome, Outcomes, Sink, Write,
};
use terrace::{Chance, Clock};
use terrace_testkit::history::SinkHistory;
use tokio::sync::Notify;

const CHILD: &str = "TERRACE_TEST_BEHIND_CHILD";
const WRITERS: usize = 64;
const HOUR: Duration = Duration::from_hours(1);

/// The origin: a file of lines. It takes writes only while more than `pending_min` wait.
struct Lines {
    file: File,
    life: u64,
    pending_min: u64,
    lane: OnceLock<Lane>,
    called: Notify,
}

impl Lines {
    fn pending(&self) -> u64 {
        self.lane.get().map_or(0, |lane| lane.figures().pending)
    }
}

impl Sink for Lines {
    fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
        Box::pin(async move {
            while self.pending() <= self.pending_min {
                self.called.notified().await;
            }
            let line = |write: &Write| {
                format!(
                    "W {} {} {} {}\n",
                    self.life,
                    write.id.number,
                    text(&write.key),
                    value_of(&write.operation)
                )
            };
            let lines: String = writes.iter().map(line).collect();
            let written = (&self.file).write_all(lines.as_bytes());
            let outcome =
                written.map_or_else(|error| Outcome::Failed(error.to_string()), |()| Outcome::Stored);
            vec![outcome; writes.len()]
        })
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("keys and values of this test are text")
}

fn value_of(operation: &Operation) -> &str {
    operation.value().map_or("-", |value| text(value))
}

/// The process that is killed. Without its setting this is no test.
#[test]
fn child() {
    let Ok(setting) = std::env::var(CHILD) else { return };
    let mut parts = setting.splitn(4, ' ');
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).expect("a number");
    let (life, pending_min, keys) = (number(), number(), number());
    let folder = parts.next().expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(live(life, pending_min, keys, Path::new(folder)));
}

fn say(line: &str) {
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
}

async fn live(life: u64, pending_min: u64, keys: u64, folder: &Path) {
    say("\n");
    let (clock, options) = (Clock::system(), JournalOptions::default().pending_max(50_000));
    let began = clock.precise();
    let journal = Journal::open(folder.join("journal"), options).expect("the journal opens");
    let took = clock.precise().since(began);
    let origin = OpenOptions::new().append(true).create(true).open(folder.join("origin")).expect("a file");
    (&origin).write_all(b"\n").expect("room");
    let sink =
        Arc::new(Lines { file: origin, life, pending_min, lane: OnceLock::new(), called: Notify::new() });
    let lane = LaneOptions::default().interval(HOUR).attempt_timeout(HOUR);
    let lane = journal.lane("space", lane, Arc::<Lines>::clone(&sink)).expect("first");
    let waiting = lane.waiting(usize::MAX);
    let found = |write: &Write| {
        format!("R {} {} {}\n", write.id.number, text(&write.key), value_of(&write.operation))
    };
    say(&waiting.iter().map(found).collect::<String>());
    say(&format!("S {} {}\n", waiting.len(), took.as_micros()));
    sink.lane.set(lane.clone()).expect("once");
    if pending_min == 0 {
        sink.called.notify_one();
        let left = lane.flush().await.left();
        let drained = journal.shutdown(HOUR).await;
        say(&format!("E {}\n", left + drained.left));
        return;
    }
    let unique = Arc::new(AtomicU64::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        writers.spawn(write_for_ever(lane.clone(), Arc::clone(&sink), keys, Arc::clone(&unique)));
    }
    writers.join_all().await;
}

async fn write_for_ever(lane: Lane, sink: Arc<Lines>, keys: u64, unique: Arc<AtomicU64>) {
    let chance = Chance::system();
    loop {
        let key = format!("key:{}", chance.below(keys));
        let value = format!("{}.{}", sink.life, unique.fetch_add(1, Ordering::Relaxed));
        let is_delete = chance.below(10) == 0;
        let operation =
            if is_delete { Operation::Delete } else { Operation::Store(Bytes::from(value.clone())) };
        let written =
            lane.write(Bytes::from(key.clone()), operation, None, HOUR).await.expect("acknowledged");
        let value = if is_delete { "-" } else { &value };
        say(&format!("A {} {key} {value}\n", written.id.number));
        if sink.pending() > sink.pending_min {
            sink.called.notify_one();
            say("P\n");
        }
    }
}

/// What is known of all lives.
#[derive(Default)]
struct Ledger {
    history: SinkHistory,
    read: u64,
}

/// The value that a line tells of.
fn value(text: &str) -> Option<&str> {
    (text != "-").then_some(text)
}

impl Ledger {
    /// Reads what the origin got since.
    fn read_origin(&mut self, path: &Path) {
        self.history.begin_life();
        let Ok(mut file) = File::open(path) else { return };
        file.seek(SeekFrom::Start(self.read)).expect("a file");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("readable");
        self.read += bytes.len() as u64;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let parts: Vec<&str> = text(line).trim_end().split(' ').collect();
            if let (true, ["W", _, number, key, of]) = (line.ends_with(b"\n"), &parts[..]) {
                self.history.stored(number.parse().expect("a number"), key, value(of));
            }
        }
    }
}

fn spawn(life: u64, pending_min: u64, keys: u64, folder: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "behind_kill::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{life} {pending_min} {keys} {}", folder.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the process starts")
}

/// When a life ends.
#[derive(Clone, Copy)]
enum End {
    /// While it reads out what it found: after so many lines.
    Found(u64),
    /// After so many acknowledgements, counted from when enough writes wait.
    Acknowledged(u64),
    /// By itself.
    Itself,
}

/// What one life did.
#[derive(Default)]
struct Life {
    found: Vec<(u64, String, Option<String>)>,
    started_with: Option<u64>,
    opened_in_micros: u64,
    acknowledged: u64,
    left: Option<u64>,
}

/// Runs one life to its end, and reads all that it said.
fn run_life(mut child: Child, end: End, ledger: &mut Ledger) -> Life {
    let (mut life, mut found, mut counted, mut is_enough) = (Life::default(), 0, 0, false);
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let (mut line, mut is_killed) = (String::new(), false);
    while {
        line.clear();
        lines.read_line(&mut line).expect("readable")
    } > 0
    {
        if !line.ends_with('\n') {
            break;
        }
        match *line.trim_end().split(' ').collect::<Vec<_>>() {
            ["R", number, key, of] => {
                found += 1;
                let of = value(of).map(str::to_owned);
                life.found.push((number.parse().expect("a number"), key.into(), of));
            }
            ["S", count, micros] => {
                life.started_with = count.parse().ok();
                life.opened_in_micros = micros.parse().expect("a number");
            }
            ["A", number, key, of] => {
                life.acknowledged += 1;
                counted += u64::from(is_enough);
                ledger.history.acknowledged(number.parse().expect("a number"), key, value(of));
            }
            ["P"] => is_enough = true,
            ["E", left] => life.left = left.parse().ok(),
            _ => {}
        }
        let is_over = match end {
            End::Found(lines) => found >= lines || life.started_with.is_some(),
            End::Acknowledged(count) => is_enough && counted >= count,
            End::Itself => false,
        };
        if is_over && !is_killed {
            child.kill().expect("it can be killed");
            is_killed = true;
        }
    }
    child.wait().expect("it ended");
    life
}

fn kill_again_and_again(points: u64, pending_min: u64) {
    let seed = std::env::var("TERRACE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(42);
    let chance = Chance::seeded(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let keys = pending_min * 3;
    let (mut ledger, mut acknowledged, mut starts) = (Ledger::default(), 0, Vec::new());
    let mut opening: Vec<u64> = Vec::new();
    for point in 0..=points {
        let end = match point {
            _ if point == points => End::Itself,
            0 => End::Acknowledged(chance.below(1_000)),
            _ if chance.below(8) == 0 => End::Found(chance.below(pending_min)),
            _ => End::Acknowledged(chance.below(1_000)),
        };
        let enough = if point == points { 0 } else { pending_min };
        let known = ledger.history.known();
        let life = run_life(spawn(point, enough, keys, folder.path()), end, &mut ledger);
        let now = ledger.history.reset_acknowledged(known);
        if let Some(count) = life.started_with.filter(|_| point > 0) {
            ledger.history.found(&life.found);
            starts.push(count);
            opening.push(life.opened_in_micros);
        }
        ledger.history.reset_acknowledged(now);
        ledger.read_origin(&folder.path().join("origin"));
        acknowledged += life.acknowledged;
        if point == points {
            assert_eq!(life.left, Some(0), "the last life brings all to the origin");
        }
    }
    ledger.history.found(&[]);
    let figures = ledger.history.figures();
    opening.sort_unstable();
    starts.sort_unstable();
    println!(
        "seed {seed}: {points} kills, {acknowledged} acknowledged, {} stored, pending at the start {} to {} (median {}), \
         opened in {} us (median, {} at most): lost {}, reordered {}, repeated {}, changed {}",
        ledger.history.count_stored(),
        starts.first().unwrap_or(&0),
        starts.last().unwrap_or(&0),
        starts.get(starts.len() / 2).unwrap_or(&0),
        opening.get(opening.len() / 2).unwrap_or(&0),
        opening.last().unwrap_or(&0),
        figures.lost,
        figures.reordered,
        figures.repeated,
        figures.changed,
    );
    assert!(acknowledged > points * 100 && ledger.history.count_stored() > 0, "too little happened");
    assert!(figures.is_kept(), "seed {seed}: {figures:?}");
}

#[test]
fn twenty_kills_lose_nothing() {
    kill_again_and_again(20, 2_000);
}

#[test]
#[ignore = "takes minutes: cargo test -p terrace --test it -- --ignored --nocapture behind_kill"]
fn two_hundred_kills_lose_nothing() {
    kill_again_and_again(200, 10_000);
}
