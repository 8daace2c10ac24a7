use std::io::Write;
use std::sync::OnceLock;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// A file of the built UI.
pub(crate) struct Asset {
    name: &'static str,
    bytes: &'static [u8],
    brotli: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Where the files are whose names change with their content.
const HASHED: &str = "assets/";

/// Shown where the UI was not built.
const NOTICE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Overseer</title>\
<h1>Overseer runs, without its pages</h1>\
<p>This binary was built without the UI. Run <code>cargo xtask ui</code> and build again, or use the API \
(<a href=\"/api/v1/status/buildinfo\">/api/v1/status/buildinfo</a>) and <code>overseer query</code>.</p></html>";

/// A page's path.
struct Page {
    name: &'static str,
    /// Whether further parts of the path belong to it, as in `/dashboards/42`.
    deeper: bool,
}

/// The pages that `ui/src/state/route.ts` has, besides `/`.
const PAGES: &[Page] = &[
    Page {
        name: "explore",
        deeper: false,
    },
    Page {
        name: "infra",
        deeper: false,
    },
    Page {
        name: "about",
        deeper: false,
    },
];

/// What there is at a path.
pub(crate) enum Found {
    File(&'static Asset),
    /// The pages' one document.
    Page,
    /// The same, where no page is: it tells people so.
    NoPage,
    /// `/`, asked by something that is no browser.
    Greeting,
}

/// What is shown at a path: a file to everybody, a page to those who ask for HTML.
pub(crate) fn find(path: &str, headers: &HeaderMap) -> Option<Found> {
    let name = path.strip_prefix('/')?;
    if let Some(asset) = ASSETS.iter().find(|a| a.name == name && a.name != "index.html") {
        return Some(Found::File(asset));
    }
    match (is_page(name, PAGES), asks_for_html(headers)) {
        (true, true) => Some(Found::Page),
        (false, true) if !is_api(name) => Some(Found::NoPage),
        (true, false) if name.is_empty() => Some(Found::Greeting),
        _ => None,
    }
}

fn is_page(name: &str, pages: &[Page]) -> bool {
    let name = name.strip_suffix('/').filter(|n| !n.is_empty()).unwrap_or(name);
    let (first, deeper) = match name.split_once('/') {
        Some((first, _)) => (first, true),
        None => (name, false),
    };
    (first.is_empty() && !deeper) || pages.iter().any(|p| p.name == first && (p.deeper || !deeper))
}

/// Paths that programs ask for, whatever they accept.
fn is_api(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or("");
    matches!(first, "api" | "-" | "v1" | "otlp" | "tenants" | "assets")
}

fn asks_for_html(headers: &HeaderMap) -> bool {
    let mut kinds = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    kinds.any(|kind| {
        let kind = kind.split(';').next().unwrap_or("").trim();
        kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
    })
}

pub(crate) fn serve(found: Found, headers: &HeaderMap, version: &str) -> Response {
    let status = match found {
        Found::File(asset) => return answer(asset, headers, asset.name.starts_with(HASHED)),
        Found::Greeting => return crate::first_asked::greeting(version),
        Found::Page => StatusCode::OK,
        Found::NoPage => StatusCode::NOT_FOUND,
    };
    let mut response = match ASSETS.iter().find(|a| a.name == "index.html") {
        Some(index) => answer(index, headers, false),
        None => {
            let mut r = Response::new(Body::from(NOTICE));
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            r.headers_mut().insert(header::CONTENT_TYPE, html);
            r
        }
    };
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    response
}

fn answer(asset: &'static Asset, headers: &HeaderMap, immutable: bool) -> Response {
    let accepts = |what: &str| {
        let value = headers
            .get(header::ACCEPT_ENCODING)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        value
            .split(',')
            .any(|part| part.split(';').next().is_some_and(|coding| coding.trim() == what))
    };
    let (bytes, coding) = match asset.brotli {
        Some(packed) if accepts("br") => (packed, Some("br")),
        _ if accepts("gzip") => gzipped(asset).map_or((asset.bytes, None), |packed| (packed, Some("gzip"))),
        _ => (asset.bytes, None),
    };
    let mut r = Response::new(Body::from(bytes));
    *r.status_mut() = StatusCode::OK;
    let h = r.headers_mut();
    h.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(asset.name)));
    h.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    let cache = if immutable {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    h.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Some(coding) = coding {
        h.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    r
}

/// Packed once, on the first request that wants it: browsers ask for brotli over TLS only.
fn gzipped(asset: &'static Asset) -> Option<&'static [u8]> {
    static PACKED: OnceLock<Vec<Option<Vec<u8>>>> = OnceLock::new();
    let all = PACKED.get_or_init(|| {
        let pack = |bytes: &[u8]| {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            out.write_all(bytes).ok()?;
            out.finish().ok()
        };
        ASSETS.iter().map(|a| pack(a.bytes)).collect()
    });
    let index = ASSETS.iter().position(|a| a.name == asset.name)?;
    all.get(index)?.as_deref()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or("") {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
