//! Locks, atomics and statics: the machine's own, or a model checker's.
//!
//! `--cfg terrace_loom` and `--cfg terrace_shuttle` put in place of each what the checker of that name can steer. All
//! concurrent code of this crate takes its primitives from here.

#[cfg(not(any(terrace_loom, terrace_shuttle)))]
mod machine {
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::sync::atomic;

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
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
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
    pub(crate) use model::thread_local as model_thread_local;
    pub(crate) use {global, per_thread};
}

#[cfg(any(terrace_loom, terrace_shuttle))]
pub(crate) use checker::*;
#[cfg(not(any(terrace_loom, terrace_shuttle)))]
pub(crate) use machine::*;
