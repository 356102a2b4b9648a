//! A disk in memory. It knows what was synced, and what a loss of power can leave of the rest.

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use terrace_core::Chance;

const SECTOR: usize = 512;

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// What the operating system shows.
    shown: Vec<u8>,
    /// What was there at the last sync.
    synced: Vec<u8>,
    /// What was done since.
    since: Vec<Done>,
    is_locked: bool,
    faults: Faults,
    writes: u64,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// After so many changes the power is gone, and every call fails.
    pub(super) power: Option<usize>,
    /// After so many writes there is no room for another.
    pub(super) room: Option<usize>,
    /// Syncs fail.
    pub(super) sync: bool,
}

#[derive(Clone, Debug)]
enum Done {
    Write(u64, Vec<u8>),
    Len(u64),
}

impl Disk {
    /// A disk with these bytes on it.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let inner = Inner { shown: bytes.clone(), synced: bytes, ..Inner::default() };
        Self(Arc::new(Mutex::new(inner)))
    }

    pub(super) fn fail(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().shown.clone()
    }

    /// How many changes were made.
    pub(super) fn writes(&self) -> u64 {
        self.0.lock().writes
    }

    /// What there is after the process ended and the machine did not.
    pub(super) fn after_kill(&self) -> Self {
        Self::of(self.bytes())
    }

    /// What there may be after a loss of power: what was synced, and of what was done since some, and some in part.
    pub(super) fn after_power_loss(&self, chance: &Chance) -> Self {
        let inner = self.0.lock();
        let mut bytes = inner.synced.clone();
        for done in &inner.since {
            match chance.below(4) {
                0 => {}
                1 | 2 => apply(&mut bytes, done),
                _ => apply_in_part(&mut bytes, done, chance),
            }
        }
        Self::of(bytes)
    }

    /// How to open it.
    pub(super) fn opener(&self) -> super::super::store::Opener {
        let disk = self.clone();
        Box::new(move || Ok(Box::new(disk.clone())))
    }
}

fn apply(bytes: &mut Vec<u8>, done: &Done) {
    match done {
        Done::Len(len) => bytes.resize(usize::try_from(*len).expect("small"), 0),
        Done::Write(offset, data) => {
            let from = usize::try_from(*offset).expect("small");
            if bytes.len() < from + data.len() {
                bytes.resize(from + data.len(), 0);
            }
            bytes[from..from + data.len()].copy_from_slice(data);
        }
    }
}

fn apply_in_part(bytes: &mut Vec<u8>, done: &Done, chance: &Chance) {
    let Done::Write(offset, data) = done else { return apply(bytes, done) };
    let mut at = *offset;
    for sector in data.chunks(SECTOR) {
        if chance.below(2) == 0 {
            apply(bytes, &Done::Write(at, sector.to_vec()));
        }
        at += sector.len() as u64;
    }
}

impl Inner {
    fn power(&mut self) -> io::Result<()> {
        match &mut self.faults.power {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change(&mut self, done: Done) -> io::Result<()> {
        self.power()?;
        match &mut self.faults.room {
            Some(0) => return Err(io::ErrorKind::StorageFull.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        self.writes += 1;
        apply(&mut self.shown, &done);
        self.since.push(done);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().shown.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.lock();
        let from = usize::try_from(offset).expect("small");
        let there = inner.shown.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(there);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().change(Done::Len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.power()?;
        if inner.faults.sync {
            return Err(io::Error::from_raw_os_error(5));
        }
        inner.synced = inner.shown.clone();
        inner.since.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().change(Done::Write(offset, data.to_vec()))
    }

    fn close(&self) -> io::Result<()> {
        self.0.lock().is_locked = false;
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        if !matches!(start, Bound::Unbounded | Bound::Included(0)) || end != Bound::Unbounded {
            return Err(BackendError::Unsupported);
        }
        let mut inner = self.0.lock();
        Ok(!std::mem::replace(&mut inner.is_locked, true))
    }

    fn unlock_range(&self, _start: Bound<u64>, _end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock().is_locked = false;
        Ok(())
    }
}
