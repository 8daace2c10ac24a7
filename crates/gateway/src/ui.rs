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

/// The file of a path, or the start page for the pages' own paths; `None`: there is nothing there.
pub(crate) fn serve(path: &str, headers: &HeaderMap) -> Option<Response> {
    let name = path.trim_start_matches('/');
    let asset = ASSETS.iter().find(|a| a.name == name && a.name != "index.html");
    match asset {
        Some(asset) => Some(answer(asset, headers, name.starts_with(HASHED))),
        None if !is_page(name) => None,
        None => Some(match ASSETS.iter().find(|a| a.name == "index.html") {
            Some(index) => answer(index, headers, false),
            None => {
                let mut r = Response::new(Body::from(NOTICE));
                r.headers_mut().insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("text/html; charset=utf-8"),
                );
                r
            }
        }),
    }
}

/// Pages are single words such as `explore`; everything else is a file or nothing.
fn is_page(name: &str) -> bool {
    name.len() <= 32 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
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
mod tests {
    use super::*;

    #[test]
    fn only_pages_get_the_start_page() {
        for page in ["", "explore", "infra"] {
            assert!(is_page(page), "{page}");
        }
        for other in [
            ".env",
            ".git/config",
            "../etc/passwd",
            "api/v1/x",
            "Etc",
            "a.js",
            "%2e%2e",
        ] {
            assert!(!is_page(other), "{other}");
        }
    }
}
