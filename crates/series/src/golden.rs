#![allow(clippy::disallowed_methods)] // tests read and write their own directory

/// The stored byte forms of a golden file by name. With `UPDATE_EXPECT=1` the file is written from `now` first;
/// otherwise `now`, what today's code writes, must be what is stored.
pub(crate) fn golden(file: &str, now: &[(&str, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let path = format!("{}/testdata/{file}", env!("CARGO_MANIFEST_DIR"));
    let text: String = now
        .iter()
        .map(|(name, bytes)| {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            format!("{name} {hex}\n")
        })
        .collect();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        stored, text,
        "{path} is not what is written today; UPDATE_EXPECT=1 writes it anew"
    );
    stored
        .lines()
        .map(|line| {
            let (name, hex) = line.split_once(' ').unwrap();
            let byte = |i: usize| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
            (name.to_owned(), (0..hex.len()).step_by(2).map(byte).collect())
        })
        .collect()
}
