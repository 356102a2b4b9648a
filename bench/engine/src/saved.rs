//! Medians of a run in a file: a line each, what was measured, a tab, nanoseconds.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Nanoseconds by what was measured.
#[derive(PartialEq, Default, Debug)]
pub(crate) struct Saved(BTreeMap<String, f64>);

impl Saved {
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let parse = |line: &str| {
            let (name, nanos) = line.split_once('\t')?;
            Some((name.to_owned(), nanos.parse().ok()?))
        };
        let lines = text.lines().map(|line| {
            parse(line).with_context(|| format!("{}: `{line}` is no saved figure", file.display()))
        });
        Ok(Self(lines.collect::<Result<_>>()?))
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let mut text = String::new();
        for (name, nanos) in &self.0 {
            writeln!(text, "{name}\t{nanos}")?;
        }
        fs::write(file, text).with_context(|| file.display().to_string())
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    pub(crate) fn set(&mut self, name: String, nanos: f64) {
        self.0.insert(name, nanos);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("medians");
        let mut saved = Saved::default();
        saved.set("get hit, small, 1T, LRU".to_owned(), 12.5);
        saved.write(&file).unwrap();
        let read = Saved::read(&file).unwrap();
        assert_eq!(read, saved);
        assert_eq!((read.get("get hit, small, 1T, LRU"), read.get("else")), (Some(12.5), None));
        fs::write(&file, "no figure\n").unwrap();
        assert!(Saved::read(&file).unwrap_err().to_string().ends_with("`no figure` is no saved figure"));
    }
}
