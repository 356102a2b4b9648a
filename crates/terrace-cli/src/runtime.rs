//! The one owner of tasks, waiting, time and signals in this program.
//!
//! 1. Nothing else here spawns, sleeps or reads a clock.
//! 2. The first SIGINT or SIGTERM asks to stop ([`Stop`]); the second ends the process at once, with the exit code
//!    that a shell gives for it. SIGHUP is heard by whoever listens to [`Hangups`].

use crate::failure::Exit;
use std::future::Future;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Runs a future to its end on a multi-threaded runtime.
pub(crate) fn run(future: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(future)?;
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(exit.into())
}

/// Starts a task.
#[expect(clippy::disallowed_methods, reason = "this module is the owner of tasks")]
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(future)
}

/// Runs work that blocks, beside the tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Waits for a while.
#[expect(clippy::disallowed_methods, reason = "this module is the owner of waiting")]
pub(crate) async fn sleep(while_: Duration) {
    tokio::time::sleep(while_).await;
}

/// The exact time, to measure with.
#[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// What the wall clock says, since 1970.
#[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Whether and when to stop: after a signal, a deadline, or a word from the program itself.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

/// The hand that says "stop".
#[derive(Clone, Debug)]
pub(crate) struct StopHandle(watch::Sender<bool>);

impl StopHandle {
    /// Asks everything that holds the [`Stop`] to end.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Asks it after a while.
    pub(crate) fn stop_after(self, while_: Duration) {
        spawn(async move {
            sleep(while_).await;
            self.stop();
        });
    }
}

impl Stop {
    /// A stop that nothing but its handle triggers.
    pub(crate) fn new() -> (StopHandle, Self) {
        let (sender, receiver) = watch::channel(false);
        (StopHandle(sender), Self(receiver))
    }

    /// A stop that SIGINT and SIGTERM trigger. A second signal ends the process.
    pub(crate) fn on_signals() -> anyhow::Result<(StopHandle, Self)> {
        let (handle, stop) = Self::new();
        let on_signal = handle.clone();
        let signals = Signals::listen()?;
        spawn(async move {
            signals.first().await;
            on_signal.stop();
        });
        Ok((handle, stop))
    }

    /// Whether it is time to stop.
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is time to stop.
    pub(crate) async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|is_set| *is_set).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for a while, or until it is time to stop. Says whether it is.
    pub(crate) async fn wait_for(&self, while_: Duration) -> bool {
        tokio::select! {
            () = self.wait() => true,
            () = sleep(while_) => self.is_set(),
        }
    }
}

/// A wish from outside that the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signal {
    /// SIGINT: somebody pressed Ctrl-C.
    Interrupt = 2,
    /// SIGTERM: a supervisor wants it.
    Terminate = 15,
}

/// What a shell adds to the number of a signal to make an exit code.
const SHELL_SIGNAL_BASE: i32 = 128;

/// The ear for signals. What comes after it began to listen is heard, however late it is asked.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Signals {
    /// Begins to listen.
    #[cfg(unix)]
    pub(crate) fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Begins to listen.
    #[cfg(windows)]
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c()? })
    }

    /// Waits for the first signal. From then on the second ends the process.
    pub(crate) async fn first(mut self) -> Signal {
        let signal = self.next().await;
        spawn(async move {
            let second = self.next().await;
            std::process::exit(SHELL_SIGNAL_BASE + second as i32);
        });
        signal
    }

    #[cfg(unix)]
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }

    #[cfg(windows)]
    async fn next(&mut self) -> Signal {
        self.interrupt.recv().await;
        Signal::Interrupt
    }
}

/// The ear for SIGHUP.
#[derive(Debug)]
pub(crate) struct Hangups {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Begins to listen: from now on SIGHUP does not end the process.
    #[cfg(unix)]
    pub(crate) fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { hangup: signal(SignalKind::hangup())? })
    }

    /// Listens to nothing: there is no such signal here.
    #[cfg(windows)]
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one; `false` if none will ever come.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> bool {
        self.hangup.recv().await.is_some()
    }

    /// None will ever come.
    #[cfg(windows)]
    pub(crate) async fn next(&mut self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_reaches_every_clone_once_and_for_ever() {
        let (handle, stop) = Stop::new();
        let other = stop.clone();
        assert!(!stop.is_set());
        handle.stop();
        other.wait().await;
        assert!(stop.wait_for(Duration::from_hours(1)).await);
    }
}
