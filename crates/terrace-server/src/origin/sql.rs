//! SQL from the configuration, with named parameters.
//!
//! 1. `:name` outside of strings, quoted names and comments is a parameter; `::type` is a cast. Everything else goes to
//!    the database as it is written.
//! 2. Values never become part of the text. They travel beside it, so no key can change what a statement does.
//! 3. A statement is one statement.
//!
//! Deliberately absent: knowledge of SQL beyond its tokens. Whether a statement is right, its database says.

use serde::{Serialize, Serializer};
use std::fmt;

/// Why a text cannot be a statement.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// Nothing but space.
    #[error("there is no statement")]
    Empty,
    /// Something after a `;`.
    #[error("there is more than one statement; keep the first")]
    Several,
    /// A parameter by number.
    #[error("`{0}` is a parameter by number; write `:name`, with a name from the pattern")]
    Numbered(String),
    /// A string, quoted name or comment that does not end.
    #[error("{0} is not closed")]
    Open(&'static str),
}

/// One statement.
///
/// # Examples
/// ```
/// use terrace_server::origin::sql::Statement;
/// let statement = Statement::parse("select * from t where id = :id and at > :at::timestamptz and x = ':id'")?;
/// assert_eq!(statement.names(), ["id", "at"]);
/// assert_eq!(statement.numbered('$'), "select * from t where id = $1 and at > $2::timestamptz and x = ':id'");
/// # Ok::<(), terrace_server::origin::sql::SqlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    text: String,
    names: Vec<String>,
    /// Where the parameters are: a byte range of the text, with the colon, and a place in `names`.
    places: Vec<(std::ops::Range<usize>, usize)>,
}

impl Statement {
    /// Reads a statement.
    ///
    /// # Errors
    /// [`SqlError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        let mut statement = Self { text: text.to_owned(), names: Vec::new(), places: Vec::new() };
        let mut scanner = Scanner { text, at: 0 };
        let mut end = None;
        while let Some(token) = scanner.next_token()? {
            match token {
                Token::Space => {}
                Token::End(at) => end = end.or(Some(at)),
                _ if end.is_some() => return Err(SqlError::Several),
                Token::Numbered(name) => return Err(SqlError::Numbered(name.to_owned())),
                Token::Name(range) => statement.add(range),
                Token::Other => {}
            }
        }
        statement.text.truncate(end.unwrap_or(text.len()));
        statement.text.truncate(statement.text.trim_end().len());
        if statement.text.trim_start().is_empty() {
            return Err(SqlError::Empty);
        }
        Ok(statement)
    }

    fn add(&mut self, range: std::ops::Range<usize>) {
        let name = &self.text[range.start + 1..range.end];
        let number = self.names.iter().position(|own| own == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        self.places.push((range, number));
    }

    /// The statement as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of the parameters, in the order of their numbers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The statement with numbers instead of names, each after a sign: `$1` for PostgreSQL, `?1` for SQLite.
    pub fn numbered(&self, sign: char) -> String {
        let mut text = String::with_capacity(self.text.len());
        let mut done = 0;
        for (range, number) in &self.places {
            text.push_str(&self.text[done..range.start]);
            text.push(sign);
            text.push_str(&(number + 1).to_string());
            done = range.end;
        }
        text.push_str(&self.text[done..]);
        text
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({:?})", self.text)
    }
}

impl Serialize for Statement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

enum Token<'t> {
    /// White space or a comment.
    Space,
    /// A `;`.
    End(usize),
    /// `:name`.
    Name(std::ops::Range<usize>),
    /// `$1`.
    Numbered(&'t str),
    Other,
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scanner<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn next_token(&mut self) -> Result<Option<Token<'t>>, SqlError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let from = self.at;
        let token = match first {
            ';' => self.take(1, Token::End(from)),
            '\'' => self.quoted('\'', false, "a string")?,
            'e' | 'E' if rest[1..].starts_with('\'') => {
                self.at += 1;
                self.quoted('\'', true, "a string")?
            }
            '"' => self.quoted('"', false, "a quoted name")?,
            '-' if rest.starts_with("--") => {
                let length = rest.find('\n').unwrap_or(rest.len());
                self.take(length, Token::Space)
            }
            '/' if rest.starts_with("/*") => self.comment()?,
            '$' => self.dollar()?,
            ':' => self.colon(),
            c if is_word(c) => self.take(word_length(rest), Token::Other),
            c if c.is_whitespace() => self.take(c.len_utf8(), Token::Space),
            c => self.take(c.len_utf8(), Token::Other),
        };
        Ok(Some(token))
    }

    fn take(&mut self, length: usize, token: Token<'t>) -> Token<'t> {
        self.at += length;
        token
    }

    /// A string or name in quotes; a doubled quote does not end it, and in escape strings a `\` does not let it end.
    fn quoted(&mut self, quote: char, has_escapes: bool, what: &'static str) -> Result<Token<'t>, SqlError> {
        let mut inner = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = inner.next() {
            if has_escapes && c == '\\' {
                inner.next();
            } else if c == quote && inner.next_if(|(_, next)| *next == quote).is_none() {
                return Ok(self.take(at + 1, Token::Other));
            }
        }
        Err(SqlError::Open(what))
    }

    /// A comment between slashes and stars, which may hold others.
    fn comment(&mut self) -> Result<Token<'t>, SqlError> {
        let rest = self.rest();
        let (mut depth, mut at) = (0_usize, 0);
        while at < rest.len() {
            let step = match rest.as_bytes().get(at..at + 2) {
                Some(b"/*") => {
                    depth += 1;
                    2
                }
                Some(b"*/") => {
                    depth -= 1;
                    2
                }
                _ => 1,
            };
            at += step;
            if depth == 0 {
                return Ok(self.take(at, Token::Space));
            }
        }
        Err(SqlError::Open("a comment"))
    }

    /// `$1`, or a string between two `$tag$`.
    fn dollar(&mut self) -> Result<Token<'t>, SqlError> {
        let rest = self.rest();
        let length = 1 + word_length(&rest[1..]);
        if rest[1..].starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(self.take(length, Token::Numbered(&rest[..length])));
        }
        if !rest[length..].starts_with('$') {
            return Ok(self.take(length, Token::Other));
        }
        let tag = &rest[..=length];
        match rest[tag.len()..].find(tag) {
            Some(inner) => Ok(self.take(inner + 2 * tag.len(), Token::Other)),
            None => Err(SqlError::Open("a string between dollar signs")),
        }
    }

    fn colon(&mut self) -> Token<'t> {
        let rest = self.rest();
        if rest.starts_with("::") || rest.starts_with(":=") {
            return self.take(2, Token::Other);
        }
        let length = word_length(&rest[1..]);
        let is_name = rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let range = self.at..self.at + 1 + length;
        self.take(1 + length, if is_name { Token::Name(range) } else { Token::Other })
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes of the word that a text begins with.
fn word_length(text: &str) -> usize {
    text.find(|c: char| !is_word(c)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(text: &str) -> String {
        Statement::parse(text).expect("a statement").numbered('$')
    }

    #[test]
    fn parameters_are_numbered_by_name() {
        assert_eq!(numbered("select :a, :b, :a"), "select $1, $2, $1");
        assert_eq!(numbered("select :a::int, x:=:b"), "select $1::int, x:=$2");
        assert_eq!(numbered("select :né"), "select $1");
        assert_eq!(Statement::parse("select :a").expect("one").numbered('?'), "select ?1");
    }

    #[test]
    fn what_only_looks_like_a_parameter_is_left_alone() {
        for text in [
            "select ':a', 'it''s :a'",
            r"select E'\':a' ",
            r#"select ":a", ":""b""#,
            "select 1 -- :a\n + 1",
            "select /* :a /* :b */ :c */ 1",
            "select $$ :a $$, $x$ :a $$ $x$",
            "select 'a':: text, a[1:2]",
            "select 12:30",
        ] {
            let statement = Statement::parse(text).expect(text);
            assert!(statement.names().is_empty(), "{text}: {:?}", statement.names());
            assert_eq!(statement.numbered('$'), text.trim_end());
        }
    }

    #[test]
    fn one_statement_may_end_with_semicolons() {
        assert_eq!(numbered("select 1 ; ;\n-- done\n"), "select 1");
        assert_eq!(numbered("select ';'"), "select ';'");
    }

    #[test]
    fn what_is_no_statement_is_refused() {
        for (text, error) in [
            ("", SqlError::Empty),
            (" ; ", SqlError::Empty),
            ("select 1; drop table t", SqlError::Several),
            ("select $1", SqlError::Numbered("$1".into())),
            ("select 'a", SqlError::Open("a string")),
            ("select 'a''", SqlError::Open("a string")),
            ("select \"a", SqlError::Open("a quoted name")),
            ("select /* /* */", SqlError::Open("a comment")),
            ("select $x$ $y$", SqlError::Open("a string between dollar signs")),
        ] {
            assert_eq!(Statement::parse(text), Err(error), "{text}");
        }
    }
}
