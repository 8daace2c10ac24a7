//! Embeds `ui/dist` when it has been built (`cargo xtask ui`); never calls npm itself.
#![expect(
    clippy::disallowed_methods,
    reason = "a build script speaks to cargo and to the disk"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    // asked when it runs: a build script may have been compiled where the tree lay before
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let dist = Path::new(&own).join("../../ui/dist");
    println!("cargo:rerun-if-changed={}", dist.display());
    let mut files = Vec::new();
    collect(&dist, &mut files);
    files.sort();
    let mut code = String::from("pub(crate) static ASSETS: &[Asset] = &[\n");
    for file in files.iter().filter(|f| f.extension().is_none_or(|e| e != "br")) {
        println!("cargo:rerun-if-changed={}", file.display());
        let name = file
            .strip_prefix(&dist)
            .expect("collected below dist")
            .to_string_lossy()
            .replace('\\', "/");
        let mut brotli = file.clone().into_os_string();
        brotli.push(".br");
        let brotli = Path::new(&brotli);
        let packed = if brotli.exists() {
            format!("Some(include_bytes!({brotli:?}))")
        } else {
            "None".to_owned()
        };
        writeln!(
            code,
            "    Asset {{ name: {name:?}, bytes: include_bytes!({file:?}), brotli: {packed} }},"
        )
        .expect("writing to a String cannot fail");
    }
    code.push_str("];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("assets.rs");
    std::fs::write(&out, code).expect("OUT_DIR is writable");
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)
        } else {
            files.push(path)
        }
    }
}
