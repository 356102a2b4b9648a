//! What evicts nothing: maps, to see what a cache adds to one.

use foldhash::fast::RandomState;
use parking_lot::RwLock;
use std::cell::RefCell;
use std::time::Duration;
use terrace_bench_harness::streams::{self, Operation, Stream, Streams};
use terrace_bench_harness::subject::{Subject, Value};

/// [`papaya`](https://crates.io/crates/papaya), a concurrent map, pinned for each operation.
#[derive(Debug)]
pub struct Papaya(papaya::HashMap<String, Value, RandomState>);

impl Papaya {
    /// Room for so many entries.
    pub fn new(capacity: usize) -> Self {
        Self(papaya::HashMap::builder().capacity(capacity).hasher(RandomState::default()).build())
    }
}

impl Subject for Papaya {
    #[inline]
    fn get(&self, key: &str) -> Option<Value> {
        self.0.pin().get(key).cloned()
    }

    #[inline]
    fn read(&self, key: &str) -> Option<u8> {
        self.0.pin().get(key).map(|value| value[0])
    }

    #[inline]
    fn insert(&self, key: &str, value: Value) {
        self.0.pin().insert(key.to_owned(), value);
    }

    #[inline]
    fn remove(&self, key: &str) {
        self.0.pin().remove(key);
    }
}

type Map = hashbrown::HashMap<String, Value, RandomState>;

/// [`hashbrown`](https://crates.io/crates/hashbrown), the map of one thread. It is locked once per measurement, not per
/// operation: shared while all threads read, else for one thread alone.
#[derive(Debug)]
pub struct Hashbrown(RwLock<Map>);

impl Hashbrown {
    /// Room for so many entries.
    pub fn new(capacity: usize) -> Self {
        Self(RwLock::new(Map::with_capacity_and_hasher(capacity, RandomState::default())))
    }
}

impl Streams for Hashbrown {
    fn run(&self, operation: Operation, stream: &Stream, from: usize, count: usize) -> usize {
        match operation {
            Operation::Get | Operation::Read => {
                streams::run(&Shared(&self.0.read()), operation, stream, from, count)
            }
            _ => streams::run(&Exclusive(RefCell::new(&mut self.0.write())), operation, stream, from, count),
        }
    }

    fn time_reads(&self, stream: &Stream, from: usize, count: usize, took: &mut dyn FnMut(Duration)) {
        streams::time_reads(&Exclusive(RefCell::new(&mut self.0.write())), stream, from, count, took);
    }

    fn settle(&self) {}
}

/// The map while nobody writes.
struct Shared<'a>(&'a Map);

impl Subject for Shared<'_> {
    #[inline]
    fn get(&self, key: &str) -> Option<Value> {
        self.0.get(key).cloned()
    }

    #[inline]
    fn read(&self, key: &str) -> Option<u8> {
        self.0.get(key).map(|value| value[0])
    }

    fn insert(&self, _: &str, _: Value) {
        unreachable!("streams of reads only come here");
    }

    fn remove(&self, _: &str) {
        unreachable!("streams of reads only come here");
    }
}

/// The map of the only thread that uses it.
struct Exclusive<'a>(RefCell<&'a mut Map>);

impl Subject for Exclusive<'_> {
    #[inline]
    fn get(&self, key: &str) -> Option<Value> {
        self.0.borrow().get(key).cloned()
    }

    #[inline]
    fn insert(&self, key: &str, value: Value) {
        self.0.borrow_mut().insert(key.to_owned(), value);
    }

    #[inline]
    fn remove(&self, key: &str) {
        self.0.borrow_mut().remove(key);
    }
}
