//! An origin to test with: a table that a test can look into, hold up and break.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use terrace::{Fence, Fetched, Origin, OriginAnswer, OriginWrite, Tag, WriteFailure};
use tokio::sync::watch;

/// How the table answers a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    Fine,
    /// It does not take it.
    Failing,
    /// It takes it, and says that it does not know.
    Unsure,
    /// It never will.
    Refusing,
    /// It is not there.
    Away,
    Panicking,
    /// It takes it, and never answers.
    Hanging,
}

#[derive(Default)]
struct State {
    rows: HashMap<String, String>,
    writes: Vec<(String, Option<String>, Option<Fence>)>,
    batches: Vec<usize>,
    mood: HashMap<Option<String>, Mood>,
    untrue: Vec<Tag>,
    groups: Vec<Tag>,
}

/// A table. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Table {
    state: Arc<Mutex<State>>,
    loads: Arc<AtomicU64>,
    batches_of_loads: Arc<Mutex<Vec<Vec<String>>>>,
    is_held: Arc<AtomicBool>,
    held: Arc<AtomicU64>,
    let_go: Arc<watch::Sender<Option<u64>>>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            loads: Arc::default(),
            batches_of_loads: Arc::default(),
            is_held: Arc::default(),
            held: Arc::default(),
            let_go: Arc::new(watch::Sender::new(None)),
        }
    }
}

impl Table {
    pub(crate) fn row(&self, key: &str) -> Option<String> {
        self.state.lock().rows.get(key).cloned()
    }

    /// Changes a row behind the cache's back.
    pub(crate) fn set(&self, key: &str, value: &str) {
        self.state.lock().rows.insert(key.to_owned(), value.to_owned());
    }

    /// What was written, in its order.
    pub(crate) fn writes(&self) -> Vec<(String, Option<String>)> {
        self.state.lock().writes.iter().map(|(key, value, _)| (key.clone(), value.clone())).collect()
    }

    #[cfg(feature = "journal")]
    pub(crate) fn fences(&self) -> Vec<Option<Fence>> {
        self.state.lock().writes.iter().map(|(_, _, fence)| *fence).collect()
    }

    /// How many writes came together, each time.
    pub(crate) fn batches(&self) -> Vec<usize> {
        self.state.lock().batches.clone()
    }

    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }

    /// Which keys were loaded together, each time.
    pub(crate) fn batches_of_loads(&self) -> Vec<Vec<String>> {
        self.batches_of_loads.lock().clone()
    }

    /// From now on writes are answered so: those of one key, or all.
    pub(crate) fn is(&self, mood: Mood, key: Option<&str>) {
        self.state.lock().mood.insert(key.map(str::to_owned), mood);
    }

    /// From now on every write makes untrue what has these tags.
    pub(crate) fn makes_untrue(&self, tags: &[&str]) {
        let tags = tags.iter().map(|tag| Tag::new(tag).expect("a tag"));
        self.state.lock().untrue = tags.collect();
    }

    /// From now on every row that is loaded has these tags.
    pub(crate) fn is_of(&self, tags: &[&str]) {
        let tags = tags.iter().map(|tag| Tag::new(tag).expect("a tag"));
        self.state.lock().groups = tags.collect();
    }

    fn answer(&self, made: Result<(), WriteFailure<&'static str>>) -> OriginAnswer<&'static str> {
        let mut answer = OriginAnswer::from(made);
        answer.invalidates.clone_from(&self.state.lock().untrue);
        answer
    }

    /// From now on loads and writes wait, having been seen by nobody.
    pub(crate) fn hold(&self) {
        self.let_go.send_replace(None);
        self.held.store(0, Ordering::SeqCst);
        self.is_held.store(true, Ordering::SeqCst);
    }

    pub(crate) async fn wait_until_held(&self, count: u64) {
        terrace_testkit::wait::until("a call to the table to be held", || {
            self.held.load(Ordering::SeqCst) >= count
        })
        .await;
    }

    /// Lets all go on that wait, and whoever comes.
    pub(crate) fn let_go(&self) {
        self.is_held.store(false, Ordering::SeqCst);
        self.let_go.send_replace(Some(u64::MAX));
    }

    /// Lets the call go on that came as the `number`th, from 1 on.
    #[cfg(feature = "journal")]
    pub(crate) fn let_one_go(&self, number: u64) {
        self.let_go.send_replace(Some(number));
    }

    async fn pass(&self) {
        if self.is_held.load(Ordering::SeqCst) {
            let number = self.held.fetch_add(1, Ordering::SeqCst) + 1;
            let mut let_go = self.let_go.subscribe();
            let is_own = |let_go: &Option<u64>| let_go.is_some_and(|own| own == number || own == u64::MAX);
            let_go.wait_for(is_own).await.expect("the gate lives as long as the table");
        }
    }

    async fn write(
        &self,
        key: &str,
        value: Option<&String>,
        fence: Option<Fence>,
    ) -> Result<(), WriteFailure<&'static str>> {
        self.pass().await;
        let mood = {
            let state = self.state.lock();
            let own = state.mood.get(&Some(key.to_owned()));
            own.or_else(|| state.mood.get(&None)).copied().unwrap_or(Mood::Fine)
        };
        if matches!(mood, Mood::Fine | Mood::Unsure | Mood::Hanging) {
            let mut state = self.state.lock();
            match value {
                Some(value) => state.rows.insert(key.to_owned(), value.clone()),
                None => state.rows.remove(key),
            };
            state.writes.push((key.to_owned(), value.cloned(), fence));
        }
        match mood {
            Mood::Fine => Ok(()),
            Mood::Failing => Err("the table is locked")?,
            Mood::Unsure => Err(WriteFailure::Unknown("the answer was lost")),
            Mood::Refusing => Err(WriteFailure::Refused("too large")),
            Mood::Away => Err(WriteFailure::Unavailable("no route")),
            Mood::Panicking => panic!("the table fell over"),
            Mood::Hanging => std::future::pending().await,
        }
    }
}

impl Origin<String, String> for Table {
    type Error = &'static str;

    async fn load(&self, key: &String) -> Result<Option<String>, &'static str> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let seen = self.row(key);
        self.pass().await;
        Ok(seen)
    }

    async fn load_many(&self, keys: &[String]) -> Vec<Result<Option<String>, &'static str>> {
        self.batches_of_loads.lock().push(keys.to_vec());
        self.loads.fetch_add(1, Ordering::SeqCst);
        let seen: Vec<_> = keys.iter().map(|key| self.row(key)).collect();
        self.pass().await;
        let broken = |row: &Option<String>| row.as_deref() == Some("broken");
        seen.into_iter().map(|row| if broken(&row) { Err("a broken row") } else { Ok(row) }).collect()
    }

    async fn fetch(&self, key: &String) -> Result<Fetched<String>, &'static str> {
        let tags = self.state.lock().groups.clone();
        Ok(Fetched::from(self.load(key).await?).tags(tags))
    }

    async fn fetch_many(&self, keys: &[String]) -> Vec<Result<Fetched<String>, &'static str>> {
        let tags = self.state.lock().groups.clone();
        let fetched = |row| Fetched::from(row).tags(tags.clone());
        self.load_many(keys).await.into_iter().map(|answer| answer.map(fetched)).collect()
    }

    async fn store(&self, key: &String, value: &String) -> Result<(), WriteFailure<&'static str>> {
        self.write(key, Some(value), None).await
    }

    async fn delete(&self, key: &String) -> Result<(), WriteFailure<&'static str>> {
        self.write(key, None, None).await
    }

    async fn store_many(
        &self,
        writes: &[OriginWrite<String, String>],
    ) -> Vec<Result<(), WriteFailure<&'static str>>> {
        self.state.lock().batches.push(writes.len());
        let mut answers = Vec::new();
        for write in writes {
            answers.push(self.write(&write.key, write.value.as_deref(), write.fence).await);
        }
        answers
    }

    async fn write(&self, write: &OriginWrite<String, String>) -> OriginAnswer<&'static str> {
        let made = match &write.value {
            Some(value) => self.store(&write.key, value).await,
            None => self.delete(&write.key).await,
        };
        self.answer(made)
    }

    async fn write_many(&self, writes: &[OriginWrite<String, String>]) -> Vec<OriginAnswer<&'static str>> {
        self.store_many(writes).await.into_iter().map(|made| self.answer(made)).collect()
    }
}
