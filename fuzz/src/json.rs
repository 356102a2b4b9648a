//! JSON (RFC 8259) read into a tree that has everything as it was written, by a reader that is too simple to be wrong.
//!
//! Numbers stay text, members stay in their order, and a string with half a surrogate pair is there without a text.

/// As deep as lists and objects may be within each other.
const DEPTH_MAX: usize = 127;

#[derive(Clone, PartialEq, Debug)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    /// `None` if it has half a surrogate pair.
    Text(Option<String>),
    List(Vec<Json>),
    Object(Vec<(Option<String>, Json)>),
}

/// Reads a text; `None` if it is not JSON, or is nested too deep.
pub fn read(text: &str) -> Option<Json> {
    let mut reader = Reader { rest: text };
    let json = reader.value(0)?;
    reader.space();
    reader.rest.is_empty().then_some(json)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn takes(&mut self, what: &str) -> bool {
        let after = self.rest.strip_prefix(what);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        self.space();
        match self.rest.bytes().next()? {
            b'[' => self.list(depth + 1),
            b'{' => self.object(depth + 1),
            b'"' => Some(Json::Text(self.text()?)),
            b'n' => self.takes("null").then_some(Json::Null),
            b't' => self.takes("true").then_some(Json::Bool(true)),
            b'f' => self.takes("false").then_some(Json::Bool(false)),
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: usize) -> Option<Json> {
        let mut items = Vec::new();
        self.items(']', depth, |reader| {
            items.push(reader.value(depth)?);
            Some(())
        })?;
        Some(Json::List(items))
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        let mut members = Vec::new();
        self.items('}', depth, |reader| {
            reader.space();
            let name = reader.text()?;
            reader.space();
            if !reader.takes(":") {
                return None;
            }
            members.push((name, reader.value(depth)?));
            Some(())
        })?;
        Some(Json::Object(members))
    }

    /// What is between two brackets, commas in between.
    fn items(
        &mut self,
        end: char,
        depth: usize,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.rest = &self.rest[1..];
        self.space();
        if depth > DEPTH_MAX || self.takes(end.encode_utf8(&mut [0])) {
            return (depth <= DEPTH_MAX).then_some(());
        }
        loop {
            item(self)?;
            self.space();
            if self.takes(end.encode_utf8(&mut [0])) {
                return Some(());
            }
            if !self.takes(",") {
                return None;
            }
        }
    }

    fn digits(&mut self) -> Option<usize> {
        let count = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        self.rest = &self.rest[count..];
        (count > 0).then_some(count)
    }

    fn number(&mut self) -> Option<Json> {
        let text = self.rest;
        self.takes("-");
        let has_zero = self.rest.starts_with('0');
        if self.digits()? > 1 && has_zero {
            return None;
        }
        if self.takes(".") {
            self.digits()?;
        }
        if self.takes("e") || self.takes("E") {
            let _ = self.takes("+") || self.takes("-");
            self.digits()?;
        }
        Some(Json::Number(text[..text.len() - self.rest.len()].to_owned()))
    }

    fn hex(&mut self) -> Option<u16> {
        let digits = self.rest.get(..4)?;
        self.rest = &self.rest[4..];
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        u16::from_str_radix(digits, 16).ok()
    }

    fn text(&mut self) -> Option<Option<String>> {
        let mut units = Vec::new();
        if !self.takes("\"") {
            return None;
        }
        loop {
            let character = self.rest.chars().next()?;
            self.rest = &self.rest[character.len_utf8()..];
            let unit = match character {
                '"' => return Some(String::from_utf16(&units).ok()),
                '\0'..' ' => return None,
                '\\' => {
                    let escaped = self.rest.chars().next()?;
                    self.rest = &self.rest[escaped.len_utf8()..];
                    match escaped {
                        '"' | '\\' | '/' => escaped as u16,
                        'b' => 8,
                        'f' => 12,
                        'n' => 10,
                        'r' => 13,
                        't' => 9,
                        'u' => self.hex()?,
                        _ => return None,
                    }
                }
                other => {
                    units.extend_from_slice(other.encode_utf16(&mut [0; 2]));
                    continue;
                }
            };
            units.push(unit);
        }
    }
}
