use super::*;

fn found(path: &str, accept: Option<&str>) -> Option<&'static str> {
    let mut headers = HeaderMap::new();
    if let Some(a) = accept {
        headers.insert(header::ACCEPT, a.parse().unwrap());
    }
    find(path, &headers).map(|f| match f {
        Found::File(_) => "file",
        Found::Page => "page",
        Found::NoPage => "no page",
        Found::Greeting => "greeting",
    })
}

const BROWSER: Option<&str> = Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");

#[test]
fn only_browsers_get_pages_and_only_at_their_paths() {
    for path in ["/", "/explore", "/infra", "/about", "/explore/"] {
        assert_eq!(found(path, BROWSER), Some("page"), "{path}");
    }
    for path in [
        "/explore",
        "/infra/",
        "/health",
        "/status",
        "/nothing",
        "/prometheus/api/v1/query",
    ] {
        for accept in [None, Some("*/*"), Some("application/json"), Some("text/htmlx")] {
            assert_eq!(found(path, accept), None, "{path} {accept:?}");
        }
    }
    assert_eq!(found("/", Some("*/*")), Some("greeting"));
    for path in [
        "/nothing",
        "/explore/42",
        "/Explore",
        "/.env",
        "//",
        "/prometheus/api/v1/query",
    ] {
        assert_eq!(found(path, BROWSER), Some("no page"), "{path}");
    }
    for path in [
        "/api",
        "/api/v1/nothing",
        "/v1/traces",
        "/assets/none.js",
        "/tenants/x",
        "",
    ] {
        assert_eq!(found(path, BROWSER), None, "{path}");
    }
}

#[test]
fn what_lies_below_a_page_belongs_to_it_where_that_is_said() {
    let pages = [
        Page {
            name: "dashboards",
            deeper: true,
        },
        Page {
            name: "explore",
            deeper: false,
        },
    ];
    for name in ["dashboards", "dashboards/42", "dashboards/42/edit", "explore", ""] {
        assert!(is_page(name, &pages), "{name}");
    }
    for name in [
        "dashboard",
        "dashboards2/42",
        "explore/42",
        "/dashboards",
        "x/dashboards",
    ] {
        assert!(!is_page(name, &pages), "{name}");
    }
}

/// The pages' own list and this one are the same.
#[test]
fn the_pages_know_the_same_pages() {
    let route = include_str!("../../../../ui/src/state/route.ts");
    let mut theirs: Vec<&str> = route
        .lines()
        .filter_map(|line| line.trim().strip_prefix("{ path: '/")?.split('\'').next())
        .filter(|name| !name.is_empty())
        .collect();
    let mut ours: Vec<&str> = PAGES.iter().map(|p| p.name).collect();
    theirs.sort_unstable();
    ours.sort_unstable();
    assert_eq!(theirs, ours);
}
