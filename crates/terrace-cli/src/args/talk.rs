//! How much is said, and in which colour.

use clap::{Args, ColorChoice, ValueEnum};
use std::ffi::OsString;

#[derive(Args, Debug)]
pub(crate) struct TalkArgs {
    /// Say more, on stderr; twice: log what the program does
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,

    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Colour in what is said on stderr; `auto` is on a terminal, unless `NO_COLOR` is set
    #[arg(long, global = true, value_enum, default_value_t = ColorArg::Auto, value_name = "WHEN")]
    pub(crate) color: ColorArg,
}

/// When there is colour.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ColorArg {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl From<ColorArg> for ColorChoice {
    fn from(when: ColorArg) -> Self {
        match when {
            ColorArg::Auto => Self::Auto,
            ColorArg::Always => Self::Always,
            ColorArg::Never => Self::Never,
        }
    }
}

/// When there is colour by a command line that may make no sense otherwise, so that what is said of it has the colour it asks for.
pub(crate) fn colour_of(line: impl IntoIterator<Item = OsString>) -> ColorArg {
    let mut line = line.into_iter().map(|word| word.to_string_lossy().into_owned());
    let mut when = None;
    while let Some(word) = line.next().filter(|word| word != "--") {
        when = match word.strip_prefix("--color") {
            Some("") => line.next(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => when,
        };
    }
    when.and_then(|when| ColorArg::from_str(&when, false).ok()).unwrap_or(ColorArg::Auto)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_makes_no_sense_still_says_when_there_is_colour() {
        let of = |line: &[&str]| colour_of(line.iter().map(Into::into));
        assert_eq!(of(&["terrace", "--color", "never", "nosuch"]), ColorArg::Never);
        assert_eq!(of(&["terrace", "nosuch", "--color=always"]), ColorArg::Always);
        for line in [
            &["terrace", "get", "--", "--color=always"][..],
            &["terrace", "--color"],
            &["terrace", "--color=x"],
        ] {
            assert_eq!(of(line), ColorArg::Auto, "{line:?}");
        }
    }
}
