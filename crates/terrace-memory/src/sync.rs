//! Locks, atomics, statics and chance: the machine's own, or a model checker's.
//!
//! `--cfg terrace_loom` and `--cfg terrace_shuttle` put in place of each what the checker of that name can steer. All
//! concurrent code of this crate takes its primitives from here.

#[cfg(not(any(terrace_loom, terrace_shuttle)))]
mod machine {
    pub(crate) use foldhash::quality::RandomState;
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::atomic;
    pub(crate) use std::thread::yield_now;

    /// Declares values of each thread's own, without a destructor and without a check on access.
    macro_rules! per_thread {
        ($($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;)+) => {
            std::thread_local! { $($(#[$doc])* static $name: $type = const { $init };)+ }
        };
    }

    /// Declares one value of the whole process.
    macro_rules! global {
        ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => { $(#[$doc])* static $name: $type = $init; };
    }

    pub(crate) use {global, per_thread};
}

#[cfg(any(terrace_loom, terrace_shuttle))]
mod checker {
    #[cfg(terrace_loom)]
    use loom as model;
    #[cfg(terrace_shuttle)]
    use shuttle as model;

    use std::sync::{PoisonError, TryLockError};

    /// Always the same, so that a schedule can be run again.
    pub(crate) use foldhash::quality::FixedState as RandomState;
    pub(crate) use model::sync::MutexGuard;
    pub(crate) use model::sync::atomic;

    /// A checker's lock with the face of the machine's: it is never poisoned.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(model::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(model::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }
    }

    macro_rules! per_thread {
        ($($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;)+) => {
            $crate::sync::model_thread_local! { $($(#[$doc])* static $name: $type = $init;)+ }
        };
    }

    macro_rules! global {
        ($(#[$doc:meta])* static $name:ident: $type:ty = $init:expr;) => {
            $crate::sync::model_lazy_static! { $(#[$doc])* static ref $name: $type = $init; }
        };
    }

    pub(crate) use model::lazy_static as model_lazy_static;
    pub(crate) use model::thread::yield_now;
    pub(crate) use model::thread_local as model_thread_local;
    pub(crate) use {global, per_thread};
}

#[cfg(any(terrace_loom, terrace_shuttle))]
pub(crate) use checker::*;
#[cfg(not(any(terrace_loom, terrace_shuttle)))]
pub(crate) use machine::*;

/// Part of what is shared and freed some day: lets loom report whoever uses it after, or without an order to, its end.
/// Elsewhere it is nothing.
#[derive(Debug)]
pub(crate) struct Lifetime(#[cfg(terrace_loom)] loom::cell::UnsafeCell<()>);

#[cfg(not(terrace_loom))]
impl Lifetime {
    pub(crate) const fn new() -> Self {
        Self()
    }

    #[inline]
    #[expect(clippy::unused_self, reason = "nobody here wants to know")]
    pub(crate) const fn in_use(&self) {}
}

#[cfg(terrace_loom)]
impl Lifetime {
    pub(crate) fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(()))
    }

    pub(crate) fn in_use(&self) {
        self.0.with(|_| ());
    }
}

#[cfg(terrace_loom)]
impl Drop for Lifetime {
    fn drop(&mut self) {
        // A second panic would hide the first.
        if !std::thread::panicking() {
            self.0.with_mut(|_| ());
        }
    }
}
