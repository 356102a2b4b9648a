//! Writes acknowledged per second, by terrace and by redb, with as many records in each commit.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use redb::{Database, TableDefinition};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use terrace::behind::{Ack, Journal, JournalOptions, LaneOptions, Operation, Outcome, Outcomes, Sink, Write};
use terrace_bench_harness::rounds::{self, Contender};
use terrace_bench_harness::{table, timing};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Records in a commit, and callers that write at the same time: each waits for its acknowledgement.
const AT_ONCE: [usize; 3] = [1, 100, 1_000];
const VALUE_BYTES: usize = 256;
const PATIENCE: Duration = Duration::from_hours(1);

/// What terrace keeps of a write: keyspace, key, value, version.
type Record = (&'static str, &'static [u8], Option<&'static [u8]>, u64);

/// A sink that takes everything at once.
struct Nowhere;

impl Sink for Nowhere {
    fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
        Box::pin(async move { vec![Outcome::Stored; writes.len()] })
    }
}

/// Compares acknowledged writes per second.
pub(crate) fn run(rounds: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let folder = tempfile::tempdir_in(".")?;
    println!("## Acknowledged writes\n");
    for at_once in AT_ONCE {
        let commits = if at_once == 1 { 300 } else { 60 };
        let title = format!("{at_once} in each commit, values of {VALUE_BYTES} bytes");
        let ours = |ack, flush_at| {
            let (runtime, folder) = (&runtime, folder.path());
            move || terrace(runtime, folder, at_once, commits, ack, flush_at)
        };
        let contenders = vec![
            Contender::new("redb, two phases", || redb(folder.path(), at_once, commits, true)),
            Contender::new("redb, one phase", || redb(folder.path(), at_once, commits, false)),
            Contender::new("terrace, `fsync`", ours(Ack::Fsync, usize::MAX)),
            Contender::new("terrace, `fsync`, sent meanwhile", ours(Ack::Fsync, 500)),
            Contender::new("terrace, `os`", ours(Ack::Os, usize::MAX)),
            Contender::new("terrace, `memory`", ours(Ack::Memory, usize::MAX)),
        ];
        table::print(&title, "writes per second", 0, &rounds::measure(&title, rounds, contenders)?);
    }
    Ok(())
}

fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn redb(folder: &Path, at_once: usize, commits: usize, is_two_phase: bool) -> Result<f64> {
    const RECORDS: TableDefinition<'static, u64, Record> = TableDefinition::new("records");
    let path = folder.join("redb");
    let database = Database::builder().create(&path)?;
    let value = vec![7; VALUE_BYTES];
    let (took, result) = timing::time(|| -> Result<()> {
        for commit in 0..commits {
            let mut transaction = database.begin_write()?;
            transaction.set_two_phase_commit(is_two_phase);
            {
                let mut records = transaction.open_table(RECORDS)?;
                for record in 0..at_once {
                    let number = (commit * at_once + record) as u64;
                    let key = format!("key:{number}");
                    records.insert(number, ("space", key.as_bytes(), Some(&value[..]), number))?;
                }
            }
            transaction.commit()?;
        }
        Ok(())
    });
    result?;
    drop(database);
    std::fs::remove_file(&path)?;
    Ok(per_second(at_once * commits, took))
}

fn terrace(
    runtime: &Runtime,
    folder: &Path,
    at_once: usize,
    commits: usize,
    ack: Ack,
    flush_at: usize,
) -> Result<f64> {
    let path = folder.join("journal");
    // No writer comes but those that wait, so a commit that has them all need not wait for more.
    let options =
        JournalOptions::default().commit_max(at_once).pending_max(1_000_000).pending_bytes_max(1 << 30);
    let journal = Journal::open(&path, options)?;
    let options = LaneOptions::default().ack(ack).flush_at(flush_at).interval(PATIENCE);
    let (took, written) = runtime.block_on(async {
        let lane = journal.lane("space", options, Arc::new(Nowhere))?;
        let value = Bytes::from(vec![7; VALUE_BYTES]);
        let mut writers: JoinSet<bool> = JoinSet::new();
        let go = Arc::new(tokio::sync::Semaphore::new(0));
        for writer in 0..at_once {
            let (lane, value, go) = (lane.clone(), value.clone(), Arc::clone(&go));
            writers.spawn(async move {
                let _begun = go.acquire().await;
                for count in 0..commits {
                    let key = Bytes::from(format!("key:{writer}:{count}"));
                    let written = lane.write(key, Operation::Store(value.clone()), None, PATIENCE).await;
                    if written.is_err() {
                        return false;
                    }
                }
                true
            });
        }
        let (took, written) = {
            let begun = timing::Stopwatch::start();
            go.add_permits(at_once);
            let written = writers.join_all().await;
            (begun.elapsed(), written)
        };
        anyhow::Ok((took, written))
    })?;
    written.iter().all(|is_written| *is_written).then_some(()).context("a write was refused")?;
    runtime.block_on(journal.shutdown(Duration::ZERO));
    std::fs::remove_file(&path)?;
    Ok(per_second(at_once * commits, took))
}
