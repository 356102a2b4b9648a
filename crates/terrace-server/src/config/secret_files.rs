//! Secrets in files of their own: `x_file` says where `x` is written.
//!
//! 1. Such a file has the secret alone. Line breaks at its end are not part of it.
//! 2. It is read with the configuration, so by each SIGHUP. One that cannot be read is refused where it is named, and where that leads is said.
//! 3. A secret and its file are not both named in the configuration's file. Of what stands beside it, such as a variable, the secret itself
//!    counts.

use super::check::Checker;
use super::report::Refusal;
use super::secret::Secret;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;

/// Headers by name, or the files that they are in.
pub(super) type Named<T> = Spanned<BTreeMap<Spanned<String>, Spanned<T>>>;

/// Where a path that is relative leads.
pub(super) fn leads_to(path: impl AsRef<Path>) -> Option<String> {
    let (path, absolute) = (path.as_ref(), std::path::absolute(path.as_ref()).ok()?);
    (path != absolute).then(|| format!("it was looked for at {}", absolute.display()))
}

impl Checker<'_> {
    /// What a file has, without line breaks at its end.
    pub(super) fn read_secret(&mut self, file: &Spanned<String>) -> Option<String> {
        match std::fs::read_to_string(file.get_ref()) {
            Ok(text) => Some(text.trim_end_matches(['\n', '\r']).to_owned()),
            Err(error) => {
                let refusal = Refusal::new(file.span(), format!("cannot read this file: {error}"));
                self.refuse(&match leads_to(file.get_ref()) {
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
        let both_in_file = |file: &Spanned<String>| {
            self.document.extra(&text.span()).is_none() && self.document.extra(&file.span()).is_none()
        };
        if let Some(file) = file.filter(both_in_file) {
            let title = format!("both `{name}` and `{name}_file` are set");
            self.refuse(&Refusal::new(file.span(), title).help("keep one of them"));
        }
        Some(text)
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
