//! What the command line may say.

use std::path::PathBuf;
use terrace_bench_harness::rounds;

pub(crate) const USAGE: &str =
    "usage: terrace-bench-engine [rounds] [--only TEXT] [--save FILE] [--against FILE]";

#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Arguments {
    pub(crate) rounds: usize,
    /// Only what has this in its name.
    pub(crate) only: String,
    /// Where the medians go.
    pub(crate) save: Option<PathBuf>,
    /// Where earlier ones are.
    pub(crate) against: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut parsed = Self { rounds: rounds::DEFAULT, only: String::new(), save: None, against: None };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--only" => parsed.only = arguments.next()?,
                "--save" => parsed.save = Some(arguments.next()?.into()),
                "--against" => parsed.against = Some(arguments.next()?.into()),
                text => parsed.rounds = text.parse().ok().filter(|rounds| *rounds > 0)?,
            }
        }
        Some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_names_and_files() {
        let parse =
            |arguments: &[&str]| Arguments::parse(arguments.iter().map(|&argument| argument.to_owned()));
        let default = Arguments { rounds: rounds::DEFAULT, only: String::new(), save: None, against: None };
        assert_eq!(parse(&[]), Some(default));
        let all = Arguments {
            rounds: 3,
            only: "get hit".to_owned(),
            save: Some("new".into()),
            against: Some("old".into()),
        };
        assert_eq!(parse(&["--against", "old", "3", "--save", "new", "--only", "get hit"]), Some(all));
        for wrong in [&["0"][..], &["--save"], &["many"], &["--other", "x"]] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
