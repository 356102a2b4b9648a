//! Which roots does an origin believe now?
//!
//! 1. The file with roots is read when the origin is set up, and again at each reload, whatever else has changed. If it says something else by
//!    then, what makes connections is made anew.
//! 2. In two steps, so that a reload is taken whole or not at all: [`Believing::next`] does all that can fail, [`Renewal::take`] puts it in
//!    force.
//! 3. Calls that begin then make their own connections. Those that are under way end on the connections that they have, which nobody uses
//!    afterwards.

use arc_swap::ArcSwap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What the file with roots says; nothing where the system's are believed.
pub(super) type Roots = Option<Vec<u8>>;

/// What makes connections, with the roots that it believes.
pub(super) struct Believing<T>(Arc<ArcSwap<(Roots, T)>>);

impl<T: Clone + Send + Sync + 'static> Believing<T> {
    /// What `make` makes with these roots.
    ///
    /// # Errors
    /// Which file cannot be read, or why nothing can be made with it.
    pub(super) fn new(
        file: Option<&Path>,
        make: impl FnOnce(&Roots) -> Result<T, String>,
    ) -> Result<Self, String> {
        let roots = read(file)?;
        let made = make(&roots)?;
        Ok(Self(Arc::new(ArcSwap::from_pointee((roots, made)))))
    }

    /// What makes connections now.
    pub(super) fn now(&self) -> T {
        self.0.load().1.clone()
    }

    /// What takes its place, if the file says something else by now.
    ///
    /// # Errors
    /// As [`Believing::new`]; everything is as it was.
    pub(super) fn next(
        &self,
        file: Option<&Path>,
        make: impl FnOnce(&Roots) -> Result<T, String>,
    ) -> Result<Option<Renewal>, String> {
        let roots = read(file)?;
        if roots == self.0.load().0 {
            return Ok(None);
        }
        let made = make(&roots)?;
        let (place, next) = (Arc::clone(&self.0), Arc::new((roots, made)));
        Ok(Some(Renewal(Box::new(move || place.store(next)))))
    }
}

impl<T> fmt::Debug for Believing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Believing")
    }
}

fn read(file: Option<&Path>) -> Result<Roots, String> {
    let read = |file: &Path| std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
    file.map(read).transpose()
}

/// What can take the place of something, and does not fail at that any more.
pub(crate) struct Renewal(Box<dyn FnOnce() + Send>);

impl Renewal {
    /// Puts it in force.
    pub(crate) fn take(self) {
        (self.0)();
    }
}
