//! How a configuration that cannot be is shown: the place, the line, a caret, and what to do.
//!
//! 1. Every refusal goes through here, so all of them look alike, whether TOML, a type or a rule was violated.
//! 2. Secrets in the quoted line are starred out.
//! 3. Positions are bytes of the file. Positions past its end stand for values that did not come from the file: see
//!    [`Document`].

use super::elsewhere;
use super::secret::mask;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// Why a configuration cannot be used: one or more refusals, each with its place.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    reports: Vec<String>,
}

impl ConfigError {
    pub(super) fn new(report: String) -> Self {
        Self { reports: vec![report] }
    }

    pub(super) fn all(reports: Vec<String>) -> Self {
        Self { reports }
    }

    /// How many things are wrong.
    pub fn count(&self) -> usize {
        self.reports.len()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reports.join("\n\n"))
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigError({self})")
    }
}

impl std::error::Error for ConfigError {}

/// A value that did not come from the file.
#[derive(Clone, Debug)]
pub(super) struct Extra {
    /// Where it came from: `environment variable REDIS_DB`, `--listen`.
    pub(super) name: String,
    /// Where it goes: `l2.database`.
    pub(super) path: Vec<String>,
    pub(super) value: String,
}

/// What there is to configure from: the file's text, and the values beside it.
///
/// Values beside the file get positions past its end, so that one kind of position tells where any value came from.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) path: Option<PathBuf>,
    pub(super) text: String,
    pub(super) extras: Vec<Extra>,
}

/// One thing that is wrong.
pub(super) struct Refusal<'a> {
    /// What is wrong, in one line.
    pub(super) title: String,
    /// Where.
    pub(super) at: Range<usize>,
    /// What to say at the caret.
    pub(super) label: String,
    /// A second place that has to do with it.
    pub(super) also: Option<(Range<usize>, &'a str)>,
    /// What to do.
    pub(super) help: Option<String>,
}

impl<'a> Refusal<'a> {
    pub(super) fn new(at: Range<usize>, title: impl Into<String>) -> Self {
        Self { title: title.into(), at, label: String::new(), also: None, help: None }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn also(mut self, at: Range<usize>, label: &'a str) -> Self {
        self.also = Some((at, label));
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Document {
    /// The position that stands for the extra with this number.
    pub(super) fn position(&self, extra: usize) -> Range<usize> {
        let at = self.text.len() + 1 + extra;
        at..at
    }

    /// The extra at a position, if it is past the file's end.
    pub(super) fn extra(&self, at: &Range<usize>) -> Option<&Extra> {
        self.extras.get(at.start.checked_sub(self.text.len() + 1)?)
    }

    /// What a person reads about a refusal.
    pub(super) fn render(&self, refusal: &Refusal<'_>) -> String {
        match self.extra(&refusal.at) {
            Some(extra) => Self::render_extra(extra, refusal),
            None => self.render_frame(refusal),
        }
    }

    fn render_extra(extra: &Extra, refusal: &Refusal<'_>) -> String {
        let help = refusal.help.as_ref().map(|help| format!("\n  = help: {help}")).unwrap_or_default();
        format!("error: {}\n --> {}{help}", refusal.title, extra.name)
    }

    fn render_frame(&self, refusal: &Refusal<'_>) -> String {
        let masked = mask(&self.text);
        let path = self.path.as_ref().map_or_else(|| "configuration".into(), |path| path.to_string_lossy());
        let clip = |range: &Range<usize>| {
            let end = masked.len();
            range.start.min(end)..range.end.min(end)
        };
        let primary = AnnotationKind::Primary.span(clip(&refusal.at)).label(refusal.label.as_str());
        let mut snippet = Snippet::source(masked.as_str()).path(path).annotation(primary);
        if let Some((at, label)) = &refusal.also
            && self.extra(at).is_none()
        {
            snippet = snippet.annotation(AnnotationKind::Context.span(clip(at)).label(*label));
        }
        let mut group = Level::ERROR.primary_title(refusal.title.as_str()).element(snippet);
        if let Some(help) = &refusal.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        Renderer::plain().render(&[group])
    }

    /// A refusal by the TOML parser or by the type of a setting.
    pub(super) fn refuse_toml(&self, error: &toml::de::Error) -> ConfigError {
        ConfigError::new(self.render_toml(error))
    }

    /// What a person reads about a refusal by the TOML parser or by the type of a setting.
    pub(super) fn render_toml(&self, error: &toml::de::Error) -> String {
        let at = error.span().unwrap_or(0..0);
        let message = mask(error.message());
        let refusal = match unknown(&message) {
            Some((unknown, expected)) => {
                let expected = expected.strip_prefix("one of ").unwrap_or(expected);
                let known = || expected.split('`').skip(1).step_by(2);
                let near = || nearest(unknown, known()).map(|near| format!("did you mean `{near}`?"));
                let help = elsewhere::key(unknown, &known()).map(str::to_owned).or_else(near);
                let help = help.unwrap_or_else(|| format!("there is {expected}"));
                Refusal::new(at, format!("unknown field `{unknown}`")).help(help)
            }
            None => Refusal::new(at, unquoted(&message)),
        };
        self.render(&refusal)
    }
}

/// Whether a refusal is that there is no such key.
pub(super) fn is_unknown(error: &toml::de::Error) -> bool {
    unknown(error.message()).is_some()
}

/// The key that does not exist, and those that do, by the words of a refusal.
fn unknown(message: &str) -> Option<(&str, &str)> {
    message.strip_prefix("unknown field `")?.split_once("`, expected ")
}

/// What is said of a text in the wrong place, without the text: it may be a secret, and what is shown of the file has those hidden.
fn unquoted(message: &str) -> String {
    let quoted = message.strip_prefix("invalid type: string \"");
    match quoted.and_then(|rest| rest.rsplit_once("\", expected ")) {
        Some((_, expected)) => format!("invalid type: text, expected {expected}"),
        None => message.to_owned(),
    }
}

/// The word that was probably meant: at most a third of its letters are wrong.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    let (wrong, candidate) = near.min_by_key(|(wrong, _)| *wrong)?;
    (wrong <= candidate.chars().count().div_ceil(3)).then_some(candidate)
}

/// Letters to insert, remove, replace or swap with their neighbour to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut two_above: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, letter) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = above[j] + usize::from(letter != b[j]);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if j > 0 && previous == Some(b[j]) && letter == b[j - 1] {
                best = best.min(two_above[j - 1] + 1);
            }
            row.push(best);
        }
        previous = Some(letter);
        two_above = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_recognised() {
        let words = ["pattern", "ttl", "strategy", "main"];
        for (typed, meant) in [
            ("patern", Some("pattern")),
            ("mian", Some("main")),
            ("strtegy", Some("strategy")),
            ("tttl", Some("ttl")),
            ("elephant", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, words), meant, "{typed}");
        }
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn a_text_in_the_wrong_place_is_not_said_again() {
        for (message, said) in [
            ("invalid type: string \"Bearer x\", expected a map", "invalid type: text, expected a map"),
            (
                "invalid type: string \"a\", expected b\", expected a map",
                "invalid type: text, expected a map",
            ),
            ("invalid type: integer `7`, expected a map", "invalid type: integer `7`, expected a map"),
        ] {
            assert_eq!(unquoted(message), said);
        }
    }

    #[test]
    fn positions_past_the_file_are_values_from_elsewhere() {
        let extra = Extra { name: "--listen".into(), path: vec![], value: String::new() };
        let document = Document { path: None, text: "abc".into(), extras: vec![extra] };
        assert!(document.extra(&(3..3)).is_none());
        assert_eq!(document.extra(&document.position(0)).map(|e| e.name.as_str()), Some("--listen"));
        assert!(document.extra(&document.position(1)).is_none());
    }
}
