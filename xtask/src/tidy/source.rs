//! One Rust file, taken apart into syntax, string literals and comments with their lines.
//!
//! 1. Ordinary comments are what lies between two tokens, so nothing inside a string is taken for one.
//! 2. Tokens inside macros count like any others.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use proc_macro2::{LineColumn, Literal, Span, TokenStream, TokenTree};

use super::Finding;

/// A text and the line it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub line: usize,
    pub text: String,
}

/// A parsed file.
pub(super) struct Source {
    pub path: PathBuf,
    pub text: String,
    pub syntax: syn::File,
    pub tokens: TokenStream,
    /// The values of string literals.
    pub strings: Vec<Piece>,
    /// Comments that are no docs, one piece a comment, with their marks.
    pub comments: Vec<Piece>,
    /// Lines of docs, with their marks.
    pub docs: Vec<Piece>,
}

impl Source {
    pub(super) fn parse(path: &Path, text: String) -> Result<Self, Finding> {
        let refuse = |at: LineColumn, error: String| {
            Finding::new(path, at.line, format!("not understood: {error}"), "teach the parser or simplify")
        };
        let tokens =
            TokenStream::from_str(&text).map_err(|error| refuse(error.span().start(), error.to_string()))?;
        let syntax =
            syn::parse2(tokens.clone()).map_err(|error| refuse(error.span().start(), error.to_string()))?;
        let mut parts = Parts { text: &text, covered: Vec::new(), strings: Vec::new(), docs: Vec::new() };
        parts.collect(tokens.clone());
        let Parts { covered, strings, docs, .. } = parts;
        let comments = comments(&text, covered);
        Ok(Self { path: path.to_owned(), text, syntax, tokens, strings, comments, docs })
    }
}

struct Parts<'text> {
    text: &'text str,
    covered: Vec<Range<usize>>,
    strings: Vec<Piece>,
    docs: Vec<Piece>,
}

impl Parts<'_> {
    fn collect(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    self.covered.push(group.span_open().byte_range());
                    self.collect(group.stream());
                    self.covered.push(group.span_close().byte_range());
                }
                TokenTree::Literal(literal) => {
                    self.covered.push(literal.span().byte_range());
                    self.literal(&literal);
                }
                token => self.covered.push(token.span().byte_range()),
            }
        }
    }

    fn literal(&mut self, literal: &Literal) {
        let (line, range) = (literal.span().start().line, literal.span().byte_range());
        let written = &self.text[range];
        if written.starts_with("//") || written.starts_with("/*") {
            self.docs.push(Piece { line, text: written.to_owned() });
        } else if let Some(text) = string_value(literal) {
            self.strings.push(Piece { line, text });
        }
    }
}

fn string_value(literal: &Literal) -> Option<String> {
    match syn::Lit::new(literal.clone()) {
        syn::Lit::Str(text) => Some(text.value()),
        syn::Lit::ByteStr(bytes) => Some(String::from_utf8_lossy(&bytes.value()).into_owned()),
        syn::Lit::CStr(text) => Some(text.value().to_string_lossy().into_owned()),
        _ => None,
    }
}

/// The comments in what the tokens leave over.
fn comments(text: &str, mut covered: Vec<Range<usize>>) -> Vec<Piece> {
    covered.sort_by_key(|range| (range.start, range.end));
    covered.push(text.len()..text.len());
    let (mut found, mut end) = (Vec::new(), 0);
    for range in covered {
        if range.start > end {
            comments_between(text, end..range.start, &mut found);
        }
        end = end.max(range.end);
    }
    found
}

fn comments_between(text: &str, gap: Range<usize>, found: &mut Vec<Piece>) {
    let mut at = gap.start;
    while let Some(start) = text[at..gap.end].find('/').map(|offset| at + offset) {
        let length = if text[start..].starts_with("/*") {
            block_length(&text[start..gap.end])
        } else {
            text[start..gap.end].find('\n').unwrap_or(gap.end - start)
        };
        at = start + length;
        let line = text[..start].matches('\n').count() + 1;
        found.push(Piece { line, text: text[start..at].to_owned() });
    }
}

/// The length of a block comment, which may hold others.
fn block_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The first line of a span.
pub(super) fn line(span: Span) -> usize {
    span.start().line
}

#[cfg(test)]
pub(super) fn sample(path: &str, text: &str) -> Source {
    Source::parse(Path::new(path), text.to_owned()).unwrap_or_else(|finding| panic!("{finding}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r##"//! Docs.
// plain é
fn f() {
    let a = "// no comment"; /* block /* inner */ end */
    g!(b"bytes", r#"raw "x" // no"#, 'c', '"'); // last
}
/// More docs.
fn h() {}
// end"##;

    fn lines(pieces: &[Piece]) -> Vec<(usize, &str)> {
        pieces.iter().map(|piece| (piece.line, piece.text.as_str())).collect()
    }

    #[test]
    fn comments_strings_and_docs_are_told_apart() {
        let source = sample("a.rs", TEXT);
        let comments = [(2, "// plain é"), (4, "/* block /* inner */ end */"), (5, "// last"), (9, "// end")];
        assert_eq!(lines(&source.comments), comments);
        assert_eq!(lines(&source.strings), [(4, "// no comment"), (5, "bytes"), (5, "raw \"x\" // no")]);
        assert_eq!(lines(&source.docs), [(1, "//! Docs."), (7, "/// More docs.")]);
    }

    #[test]
    fn what_does_not_parse_is_a_finding() {
        let finding = Source::parse(Path::new("a.rs"), "fn f( {".to_owned()).err().unwrap();
        assert!(finding.to_string().starts_with("a.rs:1: not understood"), "{finding}");
    }
}
