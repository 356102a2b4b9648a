//! A file that nobody changes before it is known to be sound.
//!
//! 1. Until [`Release::release`], what is written and cut goes to memory, and reads see it there; the file keeps its bytes.
//!    Whoever only looks at the file never releases it.
//! 2. If the release fails, nothing more is written: the file would lack what redb takes for written.
//! 3. The release brings it to the file in the order in which it was written, with every sync in its place: an end in the
//!    middle of it is like one in the middle of redb's own repair.

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;
use std::sync::Arc;

/// What was done to the file and has not reached it.
#[derive(Debug)]
struct Held {
    changes: Vec<Change>,
    len: u64,
}

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
    Sync,
}

#[derive(Debug)]
enum Gate {
    Held(Held),
    Open,
    Broken,
}

#[derive(Debug)]
struct Inner {
    file: Box<dyn StorageBackend>,
    gate: Mutex<Gate>,
}

impl Inner {
    /// Whether changes go through. They do for ever then.
    fn is_open(&self) -> bool {
        matches!(*self.gate.lock(), Gate::Open)
    }

    /// Keeps a change for later, or makes it.
    fn change(&self, change: Change) -> io::Result<()> {
        match &mut *self.gate.lock() {
            Gate::Held(held) => {
                if let Change::Len(len) = change {
                    held.len = len;
                }
                held.changes.push(change);
                Ok(())
            }
            Gate::Open => self.make(&change),
            Gate::Broken => {
                Err(io::Error::other("the file could not be brought up to date when it was opened"))
            }
        }
    }

    fn make(&self, change: &Change) -> io::Result<()> {
        match change {
            Change::Write(offset, data) => self.file.write(*offset, data),
            Change::Len(len) => self.file.set_len(*len),
            Change::Sync => self.file.sync_data(),
        }
    }
}

/// The file, as redb has it.
#[derive(Debug)]
pub(super) struct Guarded(Arc<Inner>);

/// Lets changes through to the file.
#[derive(Debug)]
pub(super) struct Release(Arc<Inner>);

impl Guarded {
    pub(super) fn new(file: Box<dyn StorageBackend>) -> (Self, Release) {
        // The length is known once the file is locked; until the first change nothing needs it.
        let gate = Mutex::new(Gate::Held(Held { changes: Vec::new(), len: u64::MAX }));
        let inner = Arc::new(Inner { file, gate });
        (Self(Arc::clone(&inner)), Release(inner))
    }
}

impl Release {
    /// Makes the changes that were held, and holds none from now on.
    pub(super) fn release(self) -> io::Result<()> {
        let mut gate = self.0.gate.lock();
        let Gate::Held(held) = std::mem::replace(&mut *gate, Gate::Broken) else { return Ok(()) };
        for change in &held.changes {
            self.0.make(change)?;
        }
        if !held.changes.is_empty() {
            self.0.file.sync_data()?;
        }
        *gate = Gate::Open;
        Ok(())
    }
}

impl Held {
    /// The length that the file will have.
    fn len(&self, file: &dyn StorageBackend) -> io::Result<u64> {
        if self.len == u64::MAX { file.len() } else { Ok(self.len) }
    }

    /// What a read sees: the file where it has bytes, nothing beyond, and what was written since on top.
    fn read(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        if end > self.len(file)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let there = usize::try_from(file.len()?.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        out[there..].fill(0);
        file.read(offset, &mut out[..there])?;
        for change in &self.changes {
            match change {
                Change::Write(at, data) => overlay(out, offset, *at, data),
                Change::Len(len) => {
                    let from = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX);
                    if let Some(cut) = out.get_mut(from..) {
                        cut.fill(0);
                    }
                }
                Change::Sync => {}
            }
        }
        Ok(())
    }
}

/// Copies what `data`, which is at `at`, has of the bytes that begin at `offset`.
fn overlay(out: &mut [u8], offset: u64, at: u64, data: &[u8]) {
    let from = at.max(offset);
    let to = (at + data.len() as u64).min(offset + out.len() as u64);
    if from < to {
        let place = |start: u64| {
            let index = |position: u64| usize::try_from(position - start).unwrap_or(usize::MAX);
            index(from)..index(to)
        };
        out[place(offset)].copy_from_slice(&data[place(at)]);
    }
}

impl StorageBackend for Guarded {
    fn len(&self) -> io::Result<u64> {
        match &*self.0.gate.lock() {
            Gate::Held(held) => held.len(&*self.0.file),
            Gate::Open | Gate::Broken => self.0.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.0.gate.lock() {
            Gate::Held(held) => held.read(&*self.0.file, offset, out),
            Gate::Open | Gate::Broken => self.0.file.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.change(Change::Len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.0.is_open() { self.0.file.sync_data() } else { self.0.change(Change::Sync) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.0.is_open() {
            return self.0.file.write(offset, data);
        }
        self.0.change(Change::Write(offset, data.to_vec()))
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}
