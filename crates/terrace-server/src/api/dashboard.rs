//! The page at `/`: files that are part of the program, built from `dashboard/`.
//!
//! 1. The page is for anybody: it has no data of its own, and asks the API with what its reader may.
//! 2. Its policy lets it load and ask nothing but this service, run no code that is not in its files, and be framed by nobody.
//! 3. A browser asks whether a file is still the same each time; it gets the bytes only if it is not. So an upgrade shows at once.

use super::App;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

/// What the page may do.
const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What goes with each file.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// A file of the page.
struct Asset {
    path: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 4] = [
    Asset {
        path: "/",
        media_type: "text/html; charset=utf-8",
        bytes: include_bytes!("../../../../dashboard/dist/index.html"),
    },
    Asset {
        path: "/assets/app.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../../../dashboard/dist/app.js"),
    },
    Asset {
        path: "/assets/app.css",
        media_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../../../../dashboard/dist/app.css"),
    },
    Asset {
        path: "/assets/icon.svg",
        media_type: "image/svg+xml",
        bytes: include_bytes!("../../../../dashboard/dist/icon.svg"),
    },
];

/// The validator of each file, in their order.
static TAGS: LazyLock<[HeaderValue; ASSETS.len()]> = LazyLock::new(|| ASSETS.each_ref().map(Asset::tag));

/// The paths of the page, and what answers there.
pub(super) fn pages() -> impl Iterator<Item = (&'static str, MethodRouter<Arc<App>>)> {
    ASSETS.iter().enumerate().map(|(index, asset)| {
        (asset.path, get(async move |headers: HeaderMap| asset.answer(&TAGS[index], &headers)))
    })
}

impl Asset {
    /// A validator that changes with the bytes.
    fn tag(&self) -> HeaderValue {
        let mut hasher = DefaultHasher::new();
        self.bytes.hash(&mut hasher);
        let text = format!("\"{:016x}\"", hasher.finish());
        HeaderValue::try_from(text).expect("digits and quotes are allowed in a header")
    }

    fn answer(&self, tag: &HeaderValue, request: &HeaderMap) -> Response {
        let mut response = if is_known(tag, request) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = Response::new(Body::from(Bytes::from_static(self.bytes)));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
            response
        };
        let headers = response.headers_mut();
        headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        headers.insert(header::ETAG, tag.clone());
        response
    }
}

/// Whether the browser has these bytes already.
fn is_known(tag: &HeaderValue, request: &HeaderMap) -> bool {
    let lists = request.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == "*" || one.as_bytes() == tag.as_bytes())
}
