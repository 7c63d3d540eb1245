//! The page: what a browser needs to show how pools stand. It holds no data and no secrets, so anybody may have it; what it
//! shows it asks for by `/v1`, as whoever looks at it.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

/// What the page may do: run and show what this broker serves, and ask this broker. Nothing in it is ever read as HTML or
/// as a script, which trusted types make sure of.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// What may be done with any other answer: nothing.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file of the page.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

macro_rules! assets {
    ($($name:literal: $content_type:expr,)*) => {
        [$(Asset {
            name: $name,
            content_type: $content_type,
            content: include_bytes!(concat!("assets/", $name)),
        },)*]
    };
}

static ASSETS: &[Asset] = &assets! {
    "index.html": HTML,
    "base.css": STYLE,
    "parts.css": STYLE,
    "icon.svg": IMAGE,
    "main.js": SCRIPT,
    "actions.js": SCRIPT,
    "api.js": SCRIPT,
    "charts.js": SCRIPT,
    "clock.js": SCRIPT,
    "dialogs.js": SCRIPT,
    "dom.js": SCRIPT,
    "events.js": SCRIPT,
    "groups.js": SCRIPT,
    "keys.js": SCRIPT,
    "meters.js": SCRIPT,
    "overview.js": SCRIPT,
    "settings.js": SCRIPT,
    "standing.js": SCRIPT,
    "theme.js": SCRIPT,
    "usage.js": SCRIPT,
    "words.js": SCRIPT,
};

/// The tag of each asset, in their order: a digest, so that it changes with the content.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| format!("\"{}\"", hex::encode(&Sha256::digest(asset.content)[..16]));
    ASSETS.iter().map(tag).collect()
});

/// `/`: the page. `/page/`: its parts.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| answer("index.html", &headers)))
        .route("/page/{name}", get(part))
}

async fn part(Path(name): Path<String>, headers: HeaderMap) -> Response {
    answer(&name, &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Response {
    let Some((asset, tag)) = ASSETS.iter().zip(TAGS.iter()).find(|(asset, _)| asset.name == name) else {
        return (StatusCode::NOT_FOUND, "there is nothing at this path\n").into_response();
    };
    let policy = [
        (CONTENT_SECURITY_POLICY, POLICY),
        // It is asked for again each time, so that a new broker shows its own page; most often it did not change.
        (CACHE_CONTROL, "no-cache"),
        (ETAG, tag.as_str()),
    ];
    if holds(headers, tag) {
        return (StatusCode::NOT_MODIFIED, policy).into_response();
    }
    (policy, [(CONTENT_TYPE, asset.content_type)], asset.content).into_response()
}

/// Whether a browser has what this tag stands for.
fn holds(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || known.trim().trim_start_matches("W/") == tag)
}

/// What every answer by HTTP says to browsers: that it is what it says it is, is shown in no frame and kept by nobody,
/// and that other sites neither use it nor are told of it.
pub async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (CONTENT_SECURITY_POLICY, NOTHING),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page/assets");
        let files =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let served: BTreeSet<String> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        assert_eq!(files.collect::<BTreeSet<_>>(), served);
    }
}
