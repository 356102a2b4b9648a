//! Secrets in files of their own: `x_file` says where `x` is written.
//!
//! 1. Such a file has the secret alone. Line breaks at its end are not part of it. One that has nothing is refused: it may not be filled yet.
//! 2. It is read with the configuration, so by each SIGHUP. It is a file that ends, of [`BYTES_MAX`] at most: nothing else is opened.
//! 3. One that cannot be read is refused where it is named, and where relative paths begin is said. The path is not said once more: somebody
//!    may have written the secret itself there.
//! 4. A secret and its file are not both named in the configuration's file. What stands beside that, such as a variable, counts before what
//!    stands in it; where both stand beside it, the secret itself.

use super::check::Checker;
use super::report::Refusal;
use super::secret::Secret;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;

/// Headers by name, or the files that they are in.
pub(super) type Named<T> = Spanned<BTreeMap<Spanned<String>, Spanned<T>>>;

/// The longest secret, in bytes.
const BYTES_MAX: u64 = 64 << 10;

/// Where a path that is relative begins.
pub(super) fn begins_at(path: impl AsRef<Path>) -> Option<String> {
    let folder = std::env::current_dir().ok().filter(|_| path.as_ref().is_relative())?;
    Some(format!("relative paths begin at {}", folder.display()))
}

/// What a file has, without line breaks at its end.
fn read(path: &str) -> io::Result<String> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if found.len() > BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path)?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() { Err(io::Error::other("there is nothing in it")) } else { Ok(text.to_owned()) }
}

impl Checker<'_> {
    /// What a file has, without line breaks at its end.
    pub(super) fn read_secret(&mut self, file: &Spanned<String>) -> Option<String> {
        match read(file.get_ref()) {
            Ok(text) => Some(text),
            Err(error) => {
                let refusal = Refusal::new(file.span(), format!("cannot read this file: {error}"));
                self.refuse(&match begins_at(file.get_ref()) {
                    Some(help) => refusal.help(help),
                    None => refusal,
                });
                None
            }
        }
    }

    /// A secret, or what its file has.
    pub(super) fn or_file<T>(
        &mut self,
        name: &str,
        text: Option<Spanned<T>>,
        file: Option<Spanned<String>>,
        of: impl FnOnce(String) -> T,
    ) -> Option<Spanned<T>> {
        let Some(text) = text else {
            let file = file?;
            let read = self.read_secret(&file)?;
            return Some(Spanned::new(file.span(), of(read)));
        };
        let Some(file) = file else { return Some(text) };
        let is_beside = |at: &Range<usize>| self.document.extra(at).is_some();
        match (is_beside(&text.span()), is_beside(&file.span())) {
            (false, true) => self.or_file(name, None, Some(file), of),
            (false, false) => {
                let title = format!("both `{name}` and `{name}_file` are set");
                self.refuse(&Refusal::new(file.span(), title).help("keep one of them"));
                Some(text)
            }
            (true, _) => Some(text),
        }
    }

    /// A password, or what its file has; `None` if that is nothing.
    pub(super) fn password(
        &mut self,
        text: Option<Spanned<Secret>>,
        file: Option<Spanned<String>>,
    ) -> Option<Secret> {
        let password = self.or_file("password", text, file, Secret::new)?.into_inner();
        Some(password).filter(|password| !password.reveal().is_empty())
    }

    /// Headers, with those that are in files.
    pub(super) fn with_files(
        &mut self,
        headers: Option<Named<Secret>>,
        files: Option<Named<String>>,
    ) -> Vec<(Spanned<String>, Spanned<Secret>)> {
        let mut all: Vec<_> = headers.map(Spanned::into_inner).unwrap_or_default().into_iter().collect();
        for (name, file) in files.map(Spanned::into_inner).unwrap_or_default() {
            if all.iter().any(|(other, _)| other.get_ref().eq_ignore_ascii_case(name.get_ref())) {
                let title = "this header is in `headers`, too";
                self.refuse(&Refusal::new(name.span(), title).help("keep one of them"));
            } else if let Some(text) = self.read_secret(&file) {
                all.push((name, Spanned::new(file.span(), Secret::new(text))));
            }
        }
        all
    }
}
