//! What the file below the journal goes through: who has seen what, and what failed.
//!
//! 1. A commit makes itself the file's newest state by turning one bit of the header, the last thing that it writes. So when
//!    a sync begins after that bit was turned, the operating system has all of the commit: a write that waits for no more
//!    than this is acknowledged there ([`Tap::on_handed_over`]).
//! 2. A sync that failed is remembered. After one nobody knows what of the file the disk has, whatever a later sync says.

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where redb's header keeps the byte whose lowest bit tells which of two commits is the newest (its `docs/design.md`).
const GOD_BYTE: u64 = 9;
const PRIMARY_BIT: u8 = 1;

type HandedOver = Box<dyn FnOnce() + Send>;

/// What is known of a file.
#[derive(Default)]
pub(super) struct Tap {
    sync_failed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    primary: Option<u8>,
    is_turned: bool,
    handed_over: Option<HandedOver>,
}

impl Tap {
    /// Whether the disk has ever failed to keep what it was given.
    pub(super) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    /// Calls `done` when the operating system has the commit that follows, or when it is dropped without.
    pub(super) fn on_handed_over(&self, done: HandedOver) {
        let mut state = self.state.lock();
        state.is_turned = false;
        state.handed_over = Some(done);
    }

    /// Forgets what was to be called.
    pub(super) fn forget(&self) {
        self.state.lock().handed_over = None;
    }

    fn written(&self, offset: u64, data: &[u8]) {
        let byte = GOD_BYTE.checked_sub(offset).and_then(|at| data.get(usize::try_from(at).ok()?));
        let Some(&byte) = byte else { return };
        let mut state = self.state.lock();
        let primary = byte & PRIMARY_BIT;
        state.is_turned |= state.primary.is_some_and(|before| before != primary);
        state.primary = Some(primary);
    }

    fn sync_begins(&self) {
        let mut state = self.state.lock();
        let done = if std::mem::take(&mut state.is_turned) { state.handed_over.take() } else { None };
        drop(state);
        if let Some(done) = done {
            done();
        }
    }
}

/// A file that is watched.
#[derive(Debug)]
pub(super) struct Tapped {
    file: Box<dyn StorageBackend>,
    tap: Arc<Tap>,
}

impl Tapped {
    pub(super) fn new(file: Box<dyn StorageBackend>, tap: Arc<Tap>) -> Self {
        tap.state.lock().primary = None;
        Self { file, tap }
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").field("sync_failed", &self.sync_failed()).finish_non_exhaustive()
    }
}

impl StorageBackend for Tapped {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)?;
        self.tap.written(offset, out);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.tap.sync_begins();
        self.file.sync_data().inspect_err(|_| self.tap.sync_failed.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)?;
        self.tap.written(offset, data);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
