use super::*;

fn house(files: &[(&str, &str)]) -> House {
    House {
        files: files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
    }
}

/// What is said of a house of these files.
fn said(files: &[(&str, &str)]) -> Vec<String> {
    house(files).problems().iter().map(Problem::to_string).collect()
}

const ROOT: &str = "//! A contract that says enough.\n#![forbid(unsafe_code)]\n";

#[test]
fn the_house_is_tidy() {
    let problems = problems(&Workspace::here()).unwrap();
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn arrows_go_up() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nmodel.workspace = true\nbus = { path = \"../bus\" }\n";
    let uses = format!("{ROOT}use model; use bus;");
    assert_eq!(
        said(&[
            ("crates/store/Cargo.toml", manifest),
            ("crates/store/src/lib.rs", &uses)
        ]),
        [""; 0]
    );
    assert_eq!(
        said(&[
            ("crates/series/Cargo.toml", manifest),
            ("crates/series/src/lib.rs", &uses)
        ]),
        [
            "crates/series/Cargo.toml:5: series (row 2) may not use bus (row 2): neighbours in a row do not know each other"
        ]
    );
    let manifest = "[dev-dependencies.gateway]\npath = \"../gateway\"\n";
    let said = said(&[
        ("crates/store/Cargo.toml", manifest),
        ("crates/store/src/lib.rs", &format!("{ROOT}gateway")),
    ]);
    assert_eq!(
        said,
        ["crates/store/Cargo.toml:1: store (row 3) may not use gateway (row 4): it stands below"]
    );
}

#[test]
fn weights_stay_where_they_are() {
    let manifest = "[dependencies]\naxum.workspace = true\nhttp-body.workspace = true\n";
    assert_eq!(
        said(&[
            ("crates/store/Cargo.toml", manifest),
            ("crates/store/src/lib.rs", &format!("{ROOT}use axum;"))
        ]),
        [
            "crates/store/Cargo.toml:2: axum stays in gateway",
            "crates/store/Cargo.toml:3: http-body is declared and never named in crates/store"
        ]
    );
    assert!(said(&[("crates/thing/Cargo.toml", "")])[0].contains("has no row"));
}

#[test]
fn the_lock_file_is_capped() {
    assert_eq!(said(&[("Cargo.lock", &"[[package]]\n".repeat(350))]), [""; 0]);
    assert_eq!(
        said(&[("Cargo.lock", &"[[package]]\n".repeat(351))]),
        ["Cargo.lock: 351 packages, at most 350"]
    );
}

#[test]
fn sources_are_clean() {
    let root = |more: &str| format!("{ROOT}{more}");
    let lib = "crates/bus/src/lib.rs";
    assert_eq!(said(&[(lib, "fn x() {}\n")]).len(), 2);
    assert!(said(&[(lib, &root(&"\n".repeat(1200)))])[0].contains("1202 lines"));
    for leftover in ["to~do!()", "db~g!(x)", "// FIX~ME later", "// XX~X", "<<<~<<<< HEAD"] {
        let leftover = leftover.replace('~', "");
        let said = said(&[(lib, &root(&leftover))]);
        assert!(said.len() == 1 && said[0].contains(":3:"), "{leftover}: {said:?}");
    }
    assert_eq!(said(&[(lib, &root(concat!("let fXX", "Xx = 1;\n")))]), [""; 0]);
    assert!(said(&[(lib, &root("mod utils;")), ("crates/bus/src/utils.rs", "")])[0].contains("name the thing"));
    let unsafe_code = concat!("let x = unsafe", " { y };");
    assert!(said(&[(lib, &root(unsafe_code))])[0].contains("SAFETY"));
    assert_eq!(
        said(&[(lib, &root(&format!("// SAFETY: y is one\n{unsafe_code}")))]),
        [""; 0]
    );
    assert!(said(&[(lib, &root(concat!("#[", "ignore]")))])[0].contains("says why"));
}

#[test]
fn every_file_has_a_parent() {
    let files = [
        (
            "crates/bus/src/lib.rs",
            &*format!("{ROOT}pub(crate) mod a;\nmod c;\n// mod d;\n"),
        ),
        ("crates/bus/src/a.rs", "mod b;\n#[cfg(test)]\nmod tests;"),
        ("crates/bus/src/a/b.rs", ""),
        ("crates/bus/src/a/tests.rs", ""),
        ("crates/bus/src/c/mod.rs", "mod e;"),
        ("crates/bus/src/c/e.rs", ""),
        ("crates/bus/src/d.rs", ""),
        ("crates/bus/tests/it/main.rs", "mod f;"),
        ("crates/bus/tests/it/f.rs", ""),
        ("crates/bus/tests/g.rs", ""),
        ("crates/bus/build.rs", ""),
    ];
    assert_eq!(said(&files), ["crates/bus/src/d.rs: an orphan: no module declares it"]);
    assert_eq!(sources::declared_module("pub(in crate::x) mod y; // z"), Some("y"));
    assert_eq!(sources::declared_module("mod y {"), None);
    assert_eq!(sources::declared_module("let mod_x = 1;"), None);
}

#[test]
fn files_speak_of_the_project_alone() {
    assert!(said(&[("a.txt", concat!("see /wo", "rk/main"))])[0].contains("somebody's machine"));
    assert!(said(&[("a.txt", concat!("\n\nby Cla", "ude"))])[0].starts_with("a.txt:3:"));
    assert_eq!(said(&[("a.txt", "workspace, /workers, rooted")]), [""; 0]);
}

#[test]
fn links_lead_somewhere() {
    let page = "[a](b.md) [c](../README.md#top) [d](https://x.y/z) [e](#here)\n![f](missing.png)";
    let said = said(&[("docs/a.md", page), ("docs/b.md", ""), ("README.md", "[docs](docs)")]);
    assert_eq!(said, ["docs/a.md:2: the link to missing.png leads nowhere"]);
    assert_eq!(files::resolve("docs/format", "../../crates/./bus"), "crates/bus");
}

#[test]
fn stored_forms_have_pages() {
    let (lib, text) = (
        "crates/bus/src/lib.rs",
        format!("{ROOT}const SEGMENT_MAGIC: [u8; 4] = *b\"abcd\";\n"),
    );
    assert!(said(&[(lib, &text)])[0].contains("docs/format"));
    assert_eq!(
        said(&[
            (lib, &text),
            ("docs/format/segment.md", "Written by `crates/bus/src/lib.rs`.")
        ]),
        [""; 0]
    );
    let module = [
        ("crates/bus/src/local/frame.rs", text.as_str()),
        (lib, &format!("{ROOT}mod local;")),
    ];
    let local = ("crates/bus/src/local.rs", "mod frame;");
    assert_eq!(
        said(&[
            module[0],
            module[1],
            local,
            ("docs/format/log.md", "Written by `bus::local`.")
        ]),
        [""; 0]
    );
    assert_eq!(
        said(&[module[0], module[1], local, ("docs/format/log.md", "Written by `bus`.")]).len(),
        1
    );
    let gone = said(&[("docs/format/old.md", "Written by `crates/bus/src/old.rs`.")]);
    assert_eq!(gone, ["docs/format/old.md:1: crates/bus/src/old.rs is not there"]);
}

#[test]
fn json_is_json() {
    assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
}
