//! A load as a popular service has it: a few keys often, most keys hardly ever.
//!
//! 1. Each worker asks at its own even pace; one that had to wait for the origin catches up. So the rate is kept as
//!    long as the origin's answers overlap enough.
//! 2. What was answered is taken away by whoever looks ([`Load::take`]), and counted once.

use crate::replay::asker::Asker;
use crate::runtime::{self, Stop};
use crate::tally::Tally;
use crate::zipf::{Random, Zipf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Requests per second of one worker: slow enough that most of its time is waiting for its next turn.
const RATE_PER_WORKER: u32 = 50;
/// Tallies that the workers share, so that they seldom wait for each other.
const TALLIES: usize = 16;
/// Workers at most.
const WORKERS_MAX: u32 = 1024;
/// How skewed the load is: the most popular key is asked for twice as often as the second.
const EXPONENT: f64 = 1.0;

/// A running load.
#[derive(Debug)]
pub(crate) struct Load {
    tallies: Vec<Arc<Mutex<Tally>>>,
    workers: Vec<JoinHandle<()>>,
}

/// What a load asks for.
#[derive(Clone, Debug)]
pub(crate) struct LoadSettings {
    /// Requests per second.
    pub(crate) rate: u32,
    /// Keys `1..=keys` are asked for.
    pub(crate) keys: u32,
    /// What the text of a key begins with.
    pub(crate) prefix: &'static str,
}

impl Load {
    /// Starts asking, until told to stop.
    pub(crate) fn start<A: Asker>(settings: &LoadSettings, asker: impl Fn() -> A, stop: &Stop) -> Self {
        let count = settings.rate.div_ceil(RATE_PER_WORKER).clamp(1, WORKERS_MAX);
        let interval = Duration::from_secs(1) * count / settings.rate.max(1);
        let zipf = Arc::new(Zipf::new(settings.keys, EXPONENT));
        let tallies = (0..TALLIES).map(|_| Arc::default()).collect();
        let mut load = Self { tallies, workers: Vec::new() };
        for (number, tally) in (0..count).zip(load.tallies.iter().cycle()) {
            let worker = Worker {
                asker: asker(),
                zipf: Arc::clone(&zipf),
                random: Random::seeded(u64::from(number)),
                prefix: settings.prefix,
                tally: Arc::clone(tally),
                stop: stop.clone(),
            };
            let first = interval * number / count;
            load.workers.push(runtime::spawn(worker.run(first, interval)));
        }
        load
    }

    /// What was answered since the last look.
    pub(crate) fn take(&self) -> Tally {
        let mut all = Tally::default();
        for tally in &self.tallies {
            all.merge(std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        all
    }

    /// Waits for the workers, which must have been told to stop.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        for worker in self.workers.drain(..) {
            worker.await?;
        }
        Ok(())
    }
}

struct Worker<A> {
    asker: A,
    zipf: Arc<Zipf>,
    random: Random,
    prefix: &'static str,
    tally: Arc<Mutex<Tally>>,
    stop: Stop,
}

impl<A: Asker> Worker<A> {
    async fn run(mut self, first: Duration, interval: Duration) {
        let mut due = runtime::now() + first;
        while !self.stop.is_set() {
            let now = runtime::now();
            if due > now && self.stop.wait_for(due - now).await {
                return;
            }
            due += interval;
            self.ask().await;
            tokio::task::consume_budget().await;
        }
    }

    async fn ask(&mut self) {
        let key = format!("{}{}", self.prefix, self.zipf.draw(&mut self.random) + 1);
        let start = runtime::now();
        let answer = self.asker.ask(&key).await;
        let took = start.elapsed();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(Some(answer)) => tally.serve(answer.tier, took, answer.value.len() as u64, 0),
            Ok(None) => tally.mistake(|| format!("{key} has no value, and the origin holds one")),
            Err(error) => tally.fail(|| format!("{key}: {}", crate::failure::reasons(error.as_ref()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::asker::Answer;
    use bytes::Bytes;
    use terrace::Tier;

    struct Always;

    impl Asker for Always {
        async fn ask(&mut self, _: &str) -> anyhow::Result<Option<Answer>> {
            Ok(Some(Answer { tier: Tier::L1, value: Bytes::from_static(b"1") }))
        }
    }

    #[tokio::test]
    async fn the_load_keeps_its_rate_and_is_counted_once() {
        let (handle, stop) = Stop::new();
        let settings = LoadSettings { rate: 1000, keys: 100, prefix: "user:" };
        let start = runtime::now();
        let mut load = Load::start(&settings, || Always, &stop);
        let mut served = 0;
        while served < 100 {
            served += load.take().served(Tier::L1);
            tokio::task::yield_now().await;
        }
        let took = start.elapsed();
        handle.stop();
        load.end().await.unwrap();
        assert!(took >= Duration::from_millis(90), "100 requests at 1,000 a second took {took:?}");
        load.take();
        assert_eq!(load.take().requests(), 0);
    }
}
