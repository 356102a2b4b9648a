//! Asks for every key of a trace, in its order, and checks every answer.
//!
//! 1. Requests begin in the order of the trace. With more than one worker their answers may overlap.
//! 2. A failed request and a wrong answer are counted and kept in words; they never stop the replay, and they are
//!    never asked again.
//! 3. Time is taken around the question alone, not around the check.

use super::asker::{Answer, Asker};
use super::expected::Expected;
use super::progress::Progress;
use crate::output::Talk;
use crate::runtime::{self, Stop};
use crate::tally::Tally;
use crate::trace::Trace;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often the progress is looked at.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// One replay, shared by its workers.
#[derive(Debug)]
pub(crate) struct Job {
    trace: Trace,
    expected: Expected,
    stop: Stop,
    next: AtomicUsize,
}

/// What came of a replay.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What became of the requests.
    pub(crate) tally: Tally,
    /// How long all of it took.
    pub(crate) took: Duration,
    /// Whether it was stopped before its end.
    pub(crate) was_stopped: bool,
}

impl Job {
    /// A replay of a trace against what the origin holds.
    pub(crate) fn new(trace: Trace, expected: Expected, stop: Stop) -> Arc<Self> {
        Arc::new(Self { trace, expected, stop, next: AtomicUsize::new(0) })
    }

    /// Runs it with one worker per asker.
    pub(crate) async fn run<A: Asker>(
        self: &Arc<Self>,
        askers: Vec<A>,
        talk: Talk,
    ) -> anyhow::Result<Outcome> {
        let mut progress = Progress::new(&self.trace.name, self.trace.requests.len() as u64, talk);
        let (ended, end) = Stop::new();
        let job = Arc::clone(self);
        let watcher = runtime::spawn(async move {
            loop {
                let is_over = end.wait_for(PROGRESS_INTERVAL).await;
                progress.at(job.next.load(Ordering::Relaxed) as u64);
                if is_over {
                    progress.end();
                    break;
                }
            }
        });
        let start = runtime::now();
        let workers: Vec<_> =
            askers.into_iter().map(|asker| runtime::spawn(Arc::clone(self).work(asker))).collect();
        let mut tally = Tally::default();
        for worker in workers {
            tally.merge(worker.await?);
        }
        let took = start.elapsed();
        ended.stop();
        watcher.await?;
        let was_stopped = tally.requests() < self.trace.requests.len() as u64;
        Ok(Outcome { tally, took, was_stopped })
    }

    async fn work<A: Asker>(self: Arc<Self>, mut asker: A) -> Tally {
        let mut tally = Tally::default();
        while !self.stop.is_set()
            && let Some(&key) = self.trace.requests.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            let id = super::rows::id(&self.trace.name, key);
            let start = runtime::now();
            let answer = asker.ask(&id).await;
            let took = start.elapsed();
            self.judge(&mut tally, key, &id, answer, took);
            tokio::task::consume_budget().await;
        }
        tally
    }

    fn judge(
        &self,
        tally: &mut Tally,
        key: u32,
        id: &str,
        answer: anyhow::Result<Option<Answer>>,
        took: Duration,
    ) {
        match answer {
            Ok(Some(answer)) if self.expected.is_right(key, &answer.value) => {
                let object_bytes = self.trace.sizes.as_ref().map_or(0, |sizes| sizes[key as usize]);
                tally.serve(answer.tier, took, answer.value.len() as u64, object_bytes.into());
            }
            Ok(Some(answer)) => tally.mistake(|| {
                let value = String::from_utf8_lossy(&answer.value).into_owned();
                format!("{id} from {} is not what the origin holds: {value}", answer.tier)
            }),
            Ok(None) => tally.mistake(|| format!("{id} has no value, and the origin holds one")),
            Err(error) => tally.fail(|| format!("{id}: {}", crate::failure::reasons(error.as_ref()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::expected::Fingerprint;
    use bytes::Bytes;
    use terrace::Tier;

    const DOCUMENT: &[u8] = b"{\"n\":1}";

    /// Answers by the number of the key: 0 right, 1 wrong, 2 nothing, 3 an error.
    struct Scripted;

    impl Asker for Scripted {
        async fn ask(&mut self, id: &str) -> anyhow::Result<Option<Answer>> {
            let answer = |value| Ok(Some(Answer { tier: Tier::L1, value: Bytes::from_static(value) }));
            match id {
                "t:0" => answer(DOCUMENT),
                "t:1" => answer(b"{\"n\":2}"),
                "t:2" => Ok(None),
                _ => anyhow::bail!("no answer"),
            }
        }
    }

    fn job(requests: Vec<u32>, stop: Stop) -> Arc<Job> {
        let trace = Trace { name: "t".to_owned(), requests, distinct: 4, sizes: Some(vec![7; 4]) };
        let expected = Expected::new(vec![Fingerprint::of(DOCUMENT).unwrap(); 4]);
        Job::new(trace, expected, stop)
    }

    #[tokio::test]
    async fn right_wrong_missing_and_failed_are_told_apart() {
        let (_handle, stop) = Stop::new();
        let job = job([0, 1, 2, 3, 0].repeat(100), stop);
        let outcome = job.run(vec![Scripted, Scripted, Scripted], Talk::Quiet).await.unwrap();
        let tally = &outcome.tally;
        assert_eq!(
            (tally.requests(), tally.served(Tier::L1), tally.wrong, tally.failed),
            (500, 200, 200, 100)
        );
        assert_eq!(tally.tier(Tier::L1).object_bytes, 1400);
        assert!(!outcome.was_stopped && !tally.examples.is_empty());
    }

    #[tokio::test]
    async fn a_stopped_replay_says_so() {
        let (handle, stop) = Stop::new();
        handle.stop();
        let outcome = job(vec![0; 10], stop).run(vec![Scripted], Talk::Quiet).await.unwrap();
        assert!(outcome.was_stopped);
        assert_eq!(outcome.tally.requests(), 0);
    }
}
