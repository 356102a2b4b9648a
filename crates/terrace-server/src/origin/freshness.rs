//! How long does an answer of an API hold, as it says itself (RFC 9111, section 4.2, of a cache that several people share)?
//!
//! 1. `s-maxage`, else `max-age`, else `Expires` less `Date`; of what is said several times the least. How old the answer was when it came, by
//!    `Age`, is off that.
//! 2. What `no-store`, `no-cache` or `private` is said of does not hold at all, whether they name fields or not.
//! 3. What cannot be read says that it does not hold: a directive that is no number, a member that is no directive, a date that is none. An
//!    `Age` that cannot be read says nothing (section 5.1).
//! 4. The times are the API's own: no clock of this process is asked, unless there is an `Expires` without a `Date`.

use crate::structured;
use reqwest::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime};

/// That it is not to be kept, or not said clearly how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct NotKept;

/// How long an answer holds from when it was made; `None` if it does not say. `now` is when it came.
pub(super) fn lifetime(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let said = match by_directives(headers) {
        Ok(None) => by_dates(headers, now),
        said => said,
    };
    said.unwrap_or(Some(Duration::ZERO))
}

/// How old an answer was when it came.
pub(super) fn age(headers: &HeaderMap) -> Duration {
    let text = headers.get(AGE).and_then(|age| age.to_str().ok()).unwrap_or_default();
    text.split(',').next().and_then(|first| structured::seconds(first.trim())).unwrap_or_default()
}

/// What `Cache-Control` says.
fn by_directives(headers: &HeaderMap) -> Result<Option<Duration>, NotKept> {
    let (mut shared, mut any) = (None::<Duration>, None);
    for line in headers.get_all(CACHE_CONTROL) {
        for directive in structured::directives(line.to_str().map_err(|_| NotKept)?) {
            let least = match directive.name().as_str() {
                "no-store" | "no-cache" | "private" => return Err(NotKept),
                "s-maxage" => &mut shared,
                "max-age" => &mut any,
                _ if directive.is_one() => continue,
                _ => return Err(NotKept),
            };
            let seconds = directive.seconds().ok_or(NotKept)?;
            *least = Some(least.map_or(seconds, |known| known.min(seconds)));
        }
    }
    Ok(shared.or(any))
}

/// What `Expires` says.
fn by_dates(headers: &HeaderMap, now: SystemTime) -> Result<Option<Duration>, NotKept> {
    let Some(ends) = dates(headers, &EXPIRES)?.into_iter().min() else { return Ok(None) };
    let made = dates(headers, &DATE)?.into_iter().max().unwrap_or(now);
    Ok(Some(ends.duration_since(made).unwrap_or_default()))
}

fn dates(headers: &HeaderMap, name: &HeaderName) -> Result<Vec<SystemTime>, NotKept> {
    let date = |text: &HeaderValue| httpdate::parse_http_date(text.to_str().ok()?.trim()).ok();
    headers.get_all(name).iter().map(|text| date(text).ok_or(NotKept)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NOT_KEPT: Option<u64> = Some(0);

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(name, HeaderValue::from_bytes(line.as_bytes()).expect("a header"));
        }
        headers
    }

    fn of(lines: &[(HeaderName, &str)]) -> Option<u64> {
        let now = httpdate::parse_http_date(NOW).expect("a date");
        lifetime(&headers(lines), now).map(|lifetime| lifetime.as_secs())
    }

    fn by(lines: &[&str]) -> Option<u64> {
        of(&lines.iter().map(|line| (CACHE_CONTROL, *line)).collect::<Vec<_>>())
    }

    #[test]
    fn the_least_of_what_is_said_for_shared_caches_holds() {
        for (lines, seconds) in [
            (&[][..], None),
            (&["public, must-revalidate"], None),
            (&["max-age=60"], Some(60)),
            (&["Max-Age=\"60\", x=\"max-age=1, no-store\""], Some(60)),
            (&["max-age=60, s-maxage=7"], Some(7)),
            (&["max-age=0, s-maxage=7"], Some(7)),
            (&["s-maxage=0, max-age=60"], NOT_KEPT),
            (&["max-age=60, max-age=30", "max-age=90"], Some(30)),
            (&["s-maxage=9", "max-age=1, s-maxage=8"], Some(8)),
            (&["max-age=4294967295"], Some(u64::from(u32::MAX))),
            (&["max-age=18446744073709551616"], Some(u64::from(u32::MAX))),
        ] {
            assert_eq!(by(lines), seconds, "{lines:?}");
        }
    }

    #[test]
    fn what_is_not_to_be_kept_or_cannot_be_read_does_not_hold() {
        for line in [
            "no-store",
            "max-age=60, No-Store",
            "no-cache",
            "no-cache=\"set-cookie\", max-age=60",
            "private, s-maxage=60",
            "private=\"x, y\"",
            "max-age=0",
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=1.5",
            "max-age=60; public",
            "public; max-age=60",
            "max-age=60, x=\"no-store",
            "max-age=60, s-maxage=soon",
            "s-maxage=60, max-age=soon",
            "max-age=60, \u{e9}",
        ] {
            assert_eq!(by(&[line]), NOT_KEPT, "{line}");
            assert_eq!(by(&["max-age=60", line]), NOT_KEPT, "{line} behind another line");
        }
    }

    #[test]
    fn dates_count_where_no_directive_does() {
        let (later, latest) = ("Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:51:37 GMT");
        for (lines, seconds) in [
            (&[(EXPIRES, later)][..], Some(60)),
            (&[(EXPIRES, later), (DATE, NOW)], Some(60)),
            (&[(EXPIRES, latest), (DATE, later)], Some(60)),
            (&[(EXPIRES, NOW), (DATE, later)], NOT_KEPT),
            (&[(EXPIRES, latest), (EXPIRES, later), (DATE, NOW)], Some(60)),
            (&[(EXPIRES, latest), (DATE, NOW), (DATE, later)], Some(60)),
            (&[(EXPIRES, "0"), (DATE, NOW)], NOT_KEPT),
            (&[(EXPIRES, latest), (EXPIRES, "0")], NOT_KEPT),
            (&[(EXPIRES, later), (DATE, "now")], NOT_KEPT),
            (&[(EXPIRES, "Fri, 31 Dec 9999 23:59:59 GMT"), (DATE, NOW)], Some(252_618_189_022)),
            (&[(CACHE_CONTROL, "max-age=7"), (EXPIRES, "0")], Some(7)),
            (&[(CACHE_CONTROL, "public"), (EXPIRES, later)], Some(60)),
            (&[(CACHE_CONTROL, "no-cache"), (EXPIRES, later)], NOT_KEPT),
            (&[(DATE, NOW)], None),
        ] {
            assert_eq!(of(lines), seconds, "{lines:?}");
        }
    }

    #[test]
    fn an_age_is_the_first_that_is_said_and_nothing_if_it_is_no_number() {
        let of = |lines: &[&str]| {
            age(&headers(&lines.iter().map(|line| (AGE, *line)).collect::<Vec<_>>())).as_secs()
        };
        assert_eq!([of(&[]), of(&["7"]), of(&["7, 9"]), of(&["7", "9"])], [0, 7, 7, 7]);
        assert_eq!([of(&["-7"]), of(&["7.5"]), of(&["soon, 7"]), of(&["\u{e9}"])], [0; 4]);
        assert_eq!(of(&["99999999999999999999"]), u64::from(u32::MAX));
    }

    proptest! {
        /// Whatever else is said, nothing makes an answer hold for longer than each of the numbers that count.
        #[test]
        fn nothing_makes_it_longer(
            shared in prop::collection::vec(any::<u64>(), 0..3),
            own in prop::collection::vec(any::<u64>(), 0..3),
            other in "[ -~]{0,24}",
            is_first in any::<bool>(),
        ) {
            let mut lines: Vec<String> = Vec::new();
            lines.extend(shared.iter().map(|number| format!("s-maxage={number}")));
            lines.extend(own.iter().map(|number| format!("max-age={number}, public")));
            lines.insert(if is_first { 0 } else { lines.len() }, other);
            let read = by(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            let counting = if shared.is_empty() { &own } else { &shared };
            if let Some(least) = counting.iter().min() {
                let found = read.expect("it is said");
                // What is added may be an `s-maxage` of its own, or take everything back.
                prop_assert!(found <= (*least).min(u64::from(u32::MAX)) || lines.iter().any(|line| line.contains("s-maxage")));
            }
        }
    }
}
