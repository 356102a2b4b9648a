//! Code that was switched off by making it a comment. The repository remembers old code; comments are for reasons.
//!
//! 1. Lines of an ordinary comment are code when they parse as statements or items with a mark of code in them
//!    (an item, `let`, a macro call, a call or assignment that ends in `;`, a block). Prose hardly ever does.
//! 2. Docs are never looked at: their examples are meant to be code.

use syn::parse::Parser as _;
use syn::{Block, Expr, Item, Stmt};

use super::Finding;
use super::source::{Piece, Source};

/// Runs of comment lines longer than this are looked at in parts of this length.
const LINES_AT_ONCE: usize = 30;

/// The first line of each stretch of code in ordinary comments.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    stretches(&source.comments).into_iter().filter_map(|lines| find(source, &lines)).collect()
}

/// Comments on adjacent lines, without their marks.
fn stretches(comments: &[Piece]) -> Vec<Vec<Piece>> {
    let mut stretches: Vec<Vec<Piece>> = Vec::new();
    for comment in comments {
        let lines = unmarked(comment);
        let begins = lines.first().map_or(0, |line| line.line);
        match stretches.last_mut() {
            Some(last) if last.last().is_some_and(|line| line.line + 1 == begins) => last.extend(lines),
            _ => stretches.push(lines),
        }
    }
    stretches
}

fn unmarked(comment: &Piece) -> Vec<Piece> {
    let block = comment.text.strip_prefix("/*").map(|text| text.trim_end_matches("*/"));
    let text = block.unwrap_or_else(|| comment.text.trim_start_matches('/'));
    text.lines()
        .zip(comment.line..)
        .map(|(text, line)| Piece { line, text: text.trim().to_owned() })
        .collect()
}

fn find(source: &Source, lines: &[Piece]) -> Option<Finding> {
    let starts = 0..lines.len();
    let code = starts.into_iter().find(|&start| {
        let ends = start + 1..=lines.len().min(start + LINES_AT_ONCE);
        ends.into_iter().any(|end| is_code(&lines[start..end]))
    })?;
    let remedy = "delete it: the repository remembers";
    Some(Finding::new(&source.path, lines[code].line, "code in a comment", remedy))
}

fn is_code(lines: &[Piece]) -> bool {
    // A stretch that ends in the middle of a sentence cannot be whole; this spares most attempts to parse.
    if !lines.last().is_some_and(|line| line.text.ends_with([';', '}'])) {
        return false;
    }
    let text: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let text = text.join("\n");
    let statements = Block::parse_within.parse_str(&text).unwrap_or_default();
    let methods = format!("impl X {{ {text} }}");
    statements.iter().any(is_mark_of_code)
        || (statements.is_empty() && syn::parse_str::<Item>(&methods).is_ok())
}

fn is_mark_of_code(statement: &Stmt) -> bool {
    match statement {
        Stmt::Local(_) | Stmt::Item(_) | Stmt::Macro(_) => true,
        Stmt::Expr(expression, semicolon) => match expression {
            Expr::Path(_)
            | Expr::Lit(_)
            | Expr::Binary(_)
            | Expr::Tuple(_)
            | Expr::Paren(_)
            | Expr::Array(_) => false,
            Expr::Block(block) => block.block.stmts.iter().any(is_mark_of_code),
            Expr::If(_) | Expr::Match(_) | Expr::ForLoop(_) | Expr::While(_) | Expr::Loop(_) => true,
            _ => semicolon.is_some(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::sample;
    use super::*;

    fn found(comment: &str) -> Vec<usize> {
        let source = sample("a.rs", &format!("//! Docs.\n{comment}\nfn f() {{}}\n"));
        check(&source).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn code_in_comments_is_found() {
        for code in [
            "// let a = 1;",
            "// return;",
            "// self.cache.clear();",
            "// a = b;",
            "// println!(\"{a}\");",
            "// use std::fmt;",
            "// #[test]\n// fn g() {\n//     h();\n// }",
            "// pub(crate) fn g(&self) -> u8 {\n//     1\n// }",
            "/* if a {\n    b();\n} */",
        ] {
            assert_eq!(found(code), [2], "{code}");
        }
        assert_eq!(found("// Prose before it:\n// let a = 1;\n// and after."), [3]);
        assert_eq!(found("// One.\n\n// let a = 1;"), [4]);
    }

    #[test]
    fn prose_is_left_alone() {
        for prose in [
            "// One lock at a time; the shard's first.",
            "// a + b never overflows: both are below 2^32;",
            "// done;",
            "// prev == last;",
            "// See `f();` for why.",
            "// The set {a, b}",
            "// {a, b}",
            "// PTTL first: a value written in between only gets a bound that is too short.\n// (so it is safe;\n// see above)",
            "/// let a = 1;",
            "// https://example.org/a;",
            "//",
        ] {
            assert!(found(prose).is_empty(), "{prose}");
        }
    }
}
