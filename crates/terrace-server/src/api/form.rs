//! In which form does a client want an envelope: JSON, or `MessagePack`? What `Accept` says of that (RFC 9110 §12.5.1).
//!
//! 1. JSON it is without the header, for `*/*`, where the client likes both as much, and where it accepts neither: then the header is
//!    disregarded, as RFC 9110 §12.4.1 allows, since every client of this service has to read errors in JSON anyway.
//! 2. The more specific range says it of a type, not the better one. Of two that are liked as much the one that is named more specifically is
//!    wanted: who writes `application/msgpack, */*` wants the first. Parameters other than `q` are passed over, and so is a range that cannot
//!    be read.
//! 3. Errors are `application/problem+json` in any case.

use super::msgpack;
use crate::document::JSON;
use crate::structured::split;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

/// The form of an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Form {
    #[default]
    Json,
    /// By the name that the client has for it.
    Msgpack(&'static str),
}

/// Headers that an answer with an entry has, and its request's id.
const HEADERS: usize = 8;

/// How much a type is liked, in thousandths, and how specific the range is that says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Liking {
    quality: u16,
    specificity: u8,
}

impl Liking {
    /// What another range says of the same type.
    fn heed(&mut self, quality: u16, specificity: u8) {
        if specificity > self.specificity || (specificity == self.specificity && quality > self.quality) {
            *self = Self { quality, specificity };
        }
    }
}

impl Form {
    /// The form that a request with these headers wants.
    ///
    /// # Cost
    /// Without `Accept`, a look for it.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if !headers.contains_key(header::ACCEPT) {
            return Self::Json;
        }
        let mut json = Liking::default();
        let mut packed = [Liking::default(); msgpack::MEDIA_TYPES.len()];
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        for (range, quality) in lines.flat_map(split).filter_map(range) {
            let heed = |liking: &mut Liking, media: &str| {
                let specificity = match range {
                    "*/*" => 1,
                    _ if range.eq_ignore_ascii_case("application/*") => 2,
                    _ if range.eq_ignore_ascii_case(media) => 3,
                    _ => return,
                };
                liking.heed(quality, specificity);
            };
            heed(&mut json, JSON);
            packed.iter_mut().zip(msgpack::MEDIA_TYPES).for_each(|(liking, media)| heed(liking, media));
        }
        let named = packed.into_iter().zip(msgpack::MEDIA_TYPES);
        // Of names that are liked as much, the first.
        let best = named.rev().max_by_key(|(liking, _)| *liking);
        match best {
            Some((liking, media)) if liking.quality > 0 && liking > json => Self::Msgpack(media),
            _ => Self::Json,
        }
    }

    /// The same content, made as JSON, in this form.
    pub(super) fn reply(self, text: Vec<u8>) -> Response {
        match self {
            Self::Json => self.response(text),
            Self::Msgpack(_) => self.response(msgpack::reply(&text)),
        }
    }

    /// A response with bytes of this form.
    pub(super) fn response(self, bytes: Vec<u8>) -> Response {
        let media = match self {
            Self::Json => JSON,
            Self::Msgpack(media) => media,
        };
        let mut response = Response::new(Body::from(bytes));
        // At once, since a hit in L1 is so cheap that making room for them twice would show.
        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        *response.headers_mut() = headers;
        response
    }
}

/// A range of types, and how much it is liked.
fn range(member: &str) -> Option<(&str, u16)> {
    let mut parts = member.split(';').map(str::trim);
    let range = parts.next()?;
    let weight = parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim_end().eq_ignore_ascii_case("q"));
    let quality = weight.map_or(Some(1000), |(_, weight)| thousandths(weight.trim_start()))?;
    Some((range, quality))
}

/// A weight from 0 to 1 with at most three digits after the point.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, rest) = weight.split_once('.').unwrap_or((weight, ""));
    if rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{rest:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(lines: &[&str]) -> Form {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::ACCEPT, HeaderValue::from_str(line).expect("a header"));
        }
        Form::of(&headers)
    }

    #[test]
    fn json_is_what_who_wants_nothing_else_gets() {
        for lines in [
            &[][..],
            &["*/*"],
            &["application/json"],
            &["application/*"],
            &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
            &["application/msgpack, application/json"],
            &["application/msgpack;q=0.4, */*;q=0.5"],
            &["application/msgpack;q=0"],
            &["application/msgpack;q=0", "*/*"],
            &["application/msgpack;q=2"],
            &["application/msgpack;q=0.1234"],
            &["application/msgpack;q="],
            &["text/html"],
            &["*/*;q=0"],
            &["msgpack"],
            &[""],
            &["\"application/msgpack, \", x"],
        ] {
            assert_eq!(form(lines), Form::Json, "{lines:?}");
        }
    }

    #[test]
    fn msgpack_is_what_it_is_asked_for_by_name() {
        for (lines, media) in [
            (&["application/msgpack"][..], "application/msgpack"),
            (&["application/x-msgpack"], "application/x-msgpack"),
            (&["Application/VND.msgpack"], "application/vnd.msgpack"),
            (&["application/msgpack, */*"], "application/msgpack"),
            (&["application/json;q=0.5, application/msgpack ; Q=0.6"], "application/msgpack"),
            (&["application/json;q=0.5", "Application/*"], "application/msgpack"),
            (&["application/json;q=0, */*;q=0.1"], "application/msgpack"),
            (&["application/x-msgpack;q=0.2, application/vnd.msgpack;q=0.3"], "application/vnd.msgpack"),
            (&["application/vnd.msgpack, application/x-msgpack"], "application/x-msgpack"),
            (&["application/msgpack;v=5;q=1.000, application/json;q=0.999"], "application/msgpack"),
        ] {
            assert_eq!(form(lines), Form::Msgpack(media), "{lines:?}");
        }
    }
}
