//! Which keys the tiers hold, page by page.
//!
//! 1. One keyspace after the other, in each L1 of this instance before L2. A key that a tier holds from the first page to the last is on
//!    one of them at least, once for each tier. Values are on none.
//! 2. A page costs at most [`STEPS_MAX`] steps of the library and about [`PATIENCE`], so it may have fewer keys than asked for, and none.
//! 3. Nothing is kept between two pages: a cursor says where it goes on. Its text is for nobody to read.
//! 4. Who asks sees the keyspaces that are theirs: a cursor of another tenant's leads nowhere.
//! 5. A cursor that means nothing any more is 410: then only a new beginning helps.

use super::error::{Code, Problem};
use super::{App, json, key};
use crate::auth::Who;
use crate::keyspaces::Keyspaces;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use terrace::{ErrorKind, Glob, HeldKey, KeyPlace, Tier};

/// Keys of a page, unless the request says otherwise.
const LIMIT_DEFAULT: usize = 100;
/// Keys of a page at most, about.
const LIMIT_MAX: usize = 1_000;
/// Names that L2 looks at for one step, at least and at most.
const COUNT_MIN: usize = 10;
const COUNT_MAX: usize = 1_000;
/// Steps for one page.
const STEPS_MAX: usize = 32;
/// How long a page goes on.
const PATIENCE: Duration = Duration::from_millis(250);
/// Longest cursor, in bytes before they are written as two each, but for the key in it: the name of a keyspace, and numbers.
const CURSOR_BYTES_MAX: usize = 512;

#[derive(Serialize)]
struct Page {
    keys: Vec<Held>,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct Held {
    key: String,
    keyspace: String,
    /// `l1` or `l2`.
    tier: &'static str,
    /// In seconds; none if the entry does not age, or nobody knows.
    ttl: Option<f64>,
    /// Weight in L1.
    bytes: Option<u64>,
}

impl Held {
    fn of(held: HeldKey, keyspace: &str) -> Self {
        Self {
            key: held.key,
            keyspace: keyspace.to_owned(),
            tier: held.tier.as_str(),
            ttl: held.ttl.and_then(terrace::Ttl::duration).map(|left| left.as_secs_f64()),
            bytes: held.bytes,
        }
    }
}

/// Where a listing has come to: a keyspace, by its place, and a place within it.
struct At {
    index: usize,
    place: KeyPlace,
}

/// What is to be listed.
struct Asked {
    pattern: Glob,
    keyspace: Option<usize>,
    tier: Option<Tier>,
    limit: usize,
}

/// `GET /api/cache/keys?pattern=…&keyspace=…&tier=…&cursor=…&limit=…`.
pub(super) async fn keys(State(app): State<Arc<App>>, who: Who, uri: Uri) -> Result<Response, Problem> {
    key::only(&uri, &["pattern", "keyspace", "tier", "limit", "cursor"])?;
    let spaces = app.keyspaces(&who)?;
    let asked = Asked::read(spaces, &uri)?;
    let mut at = match key::parameter(&uri, "cursor")?.filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => Some(read_cursor(spaces, &cursor, app.limits.key_bytes_max)?),
        None => asked.begin(spaces, 0),
    };
    let (mut keys, since) = (Vec::new(), app.clock.precise());
    let mut count = asked.limit.clamp(COUNT_MIN, COUNT_MAX);
    for _ in 0..STEPS_MAX {
        let Some(At { index, place }) = &at else { break };
        let Some(keyspace) = spaces.iter().nth(*index) else { break };
        let wanted = asked.limit - keys.len();
        let count_now = if place.tier() == Tier::L1 { wanted } else { count };
        let page = keyspace.list(&asked.pattern, place, count_now).await.map_err(|error| unlisted(&error))?;
        let page = page.ok_or_else(lost)?;
        if page.keys.len() * 4 <= wanted {
            // What is asked for is rare here: four times the names will hardly bring more than is wanted.
            count = (count * 4).min(COUNT_MAX);
        }
        keys.extend(page.keys.into_iter().map(|held| Held::of(held, keyspace.name())));
        at = match page.next.filter(|next| asked.wants(next)) {
            Some(place) => Some(At { index: *index, place }),
            None => asked.begin(spaces, *index + 1),
        };
        if keys.len() >= asked.limit || app.clock.precise().since(since) >= PATIENCE {
            break;
        }
    }
    let cursor = at.map(|at| write_cursor(spaces, &at));
    Ok(json(serde_json::to_vec(&Page { keys, cursor }).expect("text and numbers have a JSON form")))
}

impl Asked {
    fn read(spaces: &Keyspaces, uri: &Uri) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::new(Code::QueryInvalid, detail);
        let pattern = key::parameter(uri, "pattern")?.filter(|pattern| !pattern.is_empty());
        let pattern =
            Glob::new(pattern.as_deref().unwrap_or("*")).map_err(|error| invalid(error.to_string()))?;
        let keyspace = match key::parameter(uri, "keyspace")?.filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => Some(spaces.iter().position(|own| own.name() == name).ok_or_else(|| {
                let names: Vec<&str> = spaces.iter().map(terrace::Keyspace::name).collect();
                invalid(format!("there is no such keyspace; there are {}", names.join(", ")))
            })?),
        };
        let tier = match key::parameter(uri, "tier")?.as_deref() {
            None | Some("") => None,
            Some("l1") => Some(Tier::L1),
            Some("l2") => Some(Tier::L2),
            Some(_) => return Err(invalid("`tier` is `l1` or `l2`; leave it out for both".to_owned())),
        };
        let limit = match key::parameter(uri, "limit")? {
            None => LIMIT_DEFAULT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| invalid(format!("`limit` is a number from 1 to {LIMIT_MAX}")))?,
        };
        Ok(Self { pattern, keyspace, tier, limit })
    }

    /// The beginning of the first keyspace from this one on that could have such keys.
    fn begin(&self, spaces: &Keyspaces, from: usize) -> Option<At> {
        let count = spaces.iter().count();
        let index = (from..count).find(|index| {
            self.keyspace.is_none_or(|only| only == *index) && spaces.could_match(*index, &self.pattern)
        })?;
        let place = if self.tier == Some(Tier::L2) { KeyPlace::FIRST_OF_L2 } else { KeyPlace::FIRST };
        Some(At { index, place })
    }

    fn wants(&self, next: &KeyPlace) -> bool {
        self.tier.is_none_or(|tier| tier == next.tier())
    }
}

/// A cursor: hexadecimal digits, so that nobody has to quote it.
fn write_cursor(spaces: &Keyspaces, At { index, place }: &At) -> String {
    let name = spaces.iter().nth(*index).map(terrace::Keyspace::name).unwrap_or_default();
    format!("{name}/{place}").bytes().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}

fn read_cursor(spaces: &Keyspaces, cursor: &str, key_bytes_max: usize) -> Result<At, Problem> {
    let text = (cursor.len() <= 2 * (key_bytes_max + CURSOR_BYTES_MAX)).then(|| unhex(cursor)).flatten();
    let (name, place) = text
        .as_deref()
        .and_then(|text| text.split_once('/'))
        .and_then(|(name, place)| Some((name, place.parse().ok()?)))
        .ok_or_else(|| Problem::new(Code::QueryInvalid, "`cursor` is none that was given out here"))?;
    let index = spaces.iter().position(|keyspace| keyspace.name() == name).ok_or_else(lost)?;
    Ok(At { index, place })
}

fn unhex(text: &str) -> Option<String> {
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        u8::try_from(digit(0)? * 16 + digit(1)?).ok()
    });
    String::from_utf8(pairs.collect::<Option<Vec<u8>>>()?).ok()
}

fn lost() -> Problem {
    Problem::new(Code::CursorLost, "servers have changed since, and keys might be passed over; begin anew")
}

fn unlisted(error: &terrace::Error) -> Problem {
    match error.kind() {
        ErrorKind::Remote(error) => {
            tracing::debug!(%error, "L2 cannot be listed");
            let detail =
                "the shared cache could not be asked for its keys; `tier=l1` lists this instance alone";
            Problem::new(Code::ListingUnavailable, detail)
        }
        _ => error.clone().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::unhex;

    #[test]
    fn what_is_no_cursor_is_no_text() {
        assert_eq!(unhex("61c3a9").as_deref(), Some("aé"));
        for text in ["6", "6g", "é", "ff", "+1"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
