#![allow(clippy::disallowed_methods)]

use std::os::unix::ffi::OsStringExt;

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("overseer-layers-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// With an empty directory as configuration: the machine's own files must not decide a test.
fn env(pairs: &[(&str, &str)]) -> Result<Config, Failure> {
    let dir = Dir::new(&format!("env-{:?}", std::thread::current().id()));
    let pairs: Vec<_> = pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    read(Some(&dir.0), pairs.into_iter())
        .map(|(c, _)| c)
        .and_then(|c| check(&c).map(|()| c))
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    let failure = env(pairs).unwrap_err();
    assert!(failure.misuse, "{}", failure.message);
    failure.message
}

#[test]
fn the_environment_sets_keys_of_any_depth() {
    let c = env(&[
        ("OVERSEER__STORE__RETENTION_DAYS", "30"),
        ("OVERSEER__LISTEN", "127.0.0.1:1"),
        ("OVERSEER__ROLES", r#"["ingress","store","gateway"]"#),
        ("OVERSEER__DATA_DIR", "5"),
        ("OTHER", "x"),
    ])
    .unwrap();
    assert_eq!(c.store.retention_days, Some(30));
    assert_eq!((c.listen.as_str(), c.roles.len()), ("127.0.0.1:1", 3));
    // a text may look like a number
    assert_eq!(c.data_dir, Some(PathBuf::from("5")));
}

#[test]
fn wrong_variables_are_named() {
    for (name, value, says) in [
        ("OVERSEER__STORE__RETENTION", "[1]", "store.retention[0]"),
        ("OVERSEER__STORE__RETENTION_DAY", "30", "retention_days"),
        ("OVERSEER__STOR", "30", "there is no setting stor"),
        ("OVERSEER__STORE__SEAL_BYTES", "many", "store.seal_bytes"),
        ("OVERSEER__ROLES", "store,gateway", r#"["a", "b"]"#),
        ("OVERSEER_LISTEN", "127.0.0.1:1", "OVERSEER__LISTEN is right"),
        ("OVERSEER_STORE_SEAL_BYTES", "1", "OVERSEER__STORE__SEAL_BYTES is right"),
        (
            "OVERSEER_STORE__SEAL_BYTES",
            "1",
            "OVERSEER__STORE__SEAL_BYTES is right",
        ),
        ("OVERSEER_TOKEN_FILE", "1", "OVERSEER__TOKEN_FILE is right"),
    ] {
        let said = refusal(&[(name, value)]);
        assert!(said.contains(name) && said.contains(says), "{said}");
    }
    // what a cluster sets for a service of this name
    for name in [
        "OVERSEER_SERVICE_HOST",
        "OVERSEER_PORT_7070_TCP",
        "OVERSEER_PORT",
        "OVERSEER_CONFIG",
    ] {
        env(&[(name, "x")]).unwrap();
    }
}

#[test]
fn variables_that_are_no_text_are_refused_when_they_are_overseers() {
    let dir = Dir::new("bytes");
    let read = |name: &[u8], value: &[u8]| {
        let pair = (OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
        super::read(Some(&dir.0), std::iter::once(pair)).map(drop)
    };
    read(b"FOO", b"\xff\xfe").unwrap();
    read(b"F\xff", b"x").unwrap();
    read(b"OVERSEER_\xff", b"x").unwrap();
    for (name, value) in [
        (b"OVERSEER__LISTEN".as_slice(), b"\xff".as_slice()),
        (b"OVERSEER__STORE__\xff", b"1"),
        (b"OVERSEER__TOKEN_FILE", b"/tmp/\xff"),
    ] {
        let failure = read(name, value).unwrap_err();
        assert!(
            failure.misuse && failure.message.contains("OVERSEER__"),
            "{}",
            failure.message
        );
    }
}

#[test]
fn later_layers_win_key_by_key() {
    let mut base = serde_json::json!({ "a": { "b": 1, "c": 2 }, "l": [1, 2] });
    merge(&mut base, serde_json::json!({ "a": { "c": 3 }, "l": [9], "e": null }));
    assert_eq!(
        base,
        serde_json::json!({ "a": { "b": 1, "c": 3 }, "l": [9], "e": null })
    );
}

#[test]
fn mistakes_in_a_file_are_named_by_file_line_and_key() {
    let dir = Dir::new("lines");
    for (text, place, says) in [
        (
            "store:\n  retention_days: \"30\"\n",
            2,
            "store.retention_days: invalid type: string \"30\", expected u32",
        ),
        ("data_dir: 5\n", 1, "data_dir: "),
        (
            "log: { level: info }\nlimits:\n  labels_max: many\n",
            3,
            "limits.labels_max: ",
        ),
        ("limits:\n  labels_max: -1\n", 2, "limits.labels_max: "),
        ("server:\n  delete_api: 1\n", 2, "server.delete_api: "),
        ("roles: store\n", 1, "roles: "),
        ("limits: 5\n", 1, "limits: "),
        (
            "listen: 127.0.0.1:1\nstor:\n  seal_bytes: 1\n",
            2,
            "stor: unknown field `stor`",
        ),
        (
            "scrape:\n  jobs:\n    - name: x\n      target: []\n",
            4,
            "scrape.jobs[0].target: unknown field",
        ),
        (
            "scrape:\n  jobs:\n    - name: x\n",
            3,
            "scrape.jobs[0]: missing field `targets`",
        ),
        ("log:\n  format: xml\n", 2, "log.format: unknown variant `xml`"),
        ("a: 1\n b: 2\n", 2, ""),
        ("listen: a:1\nlisten: b:1\n", 2, "listen: given twice"),
    ] {
        let file = dir.file("settings.yaml", text);
        let failure = read(Some(Path::new(&file)), std::iter::empty()).unwrap_err();
        let start = format!("{file}:{place}: {says}");
        assert!(
            failure.misuse && failure.message.starts_with(&start),
            "{text:?}: {}",
            failure.message
        );
    }
    let file = dir.file("settings.yaml", "limits:\nstore:\n  seal_seconds: 5\n");
    let (config, _) = read(Some(Path::new(&file)), std::iter::empty()).unwrap();
    assert_eq!(config.store.seal_seconds, 5);
}

const SECRET: &str = "hunter2-0123456789abcdef";

#[test]
fn no_error_shows_what_may_be_a_secret() {
    let dir = Dir::new("secrets");
    let settings = serde_json::to_value(Config::default()).unwrap();
    let mut keys = Vec::new();
    for (key, value) in settings.as_object().unwrap() {
        keys.push(key.clone());
        let below = value.as_object().into_iter().flatten();
        keys.extend(below.map(|(inner, _)| format!("{key}__{inner}")));
    }
    let contents = [
        SECRET.to_owned(),
        format!("-----BEGIN KEY-----\n{SECRET}\n-----END KEY-----"),
        format!("[\"{SECRET}\"]"),
        format!("{{\"{SECRET}\": \"{SECRET}\"}}"),
        format!("{SECRET} \"\\ {SECRET}"),
        "987654321987654321987".to_owned(),
    ];
    for content in &contents {
        let file = dir.file("secret", content);
        for key in &keys {
            let name = format!("OVERSEER__{}_FILE", key.to_ascii_uppercase());
            // a few take any text
            let Err(failure) = env(&[(&name, &file)]) else {
                continue;
            };
            let said = failure.message;
            assert!(!said.contains("hunter2") && !said.contains("98765"), "{name}: {said}");
            assert!(said.contains(&name), "{said}");
        }
    }
    for (name, value) in [
        ("OVERSEER__AUTH", SECRET),
        ("OVERSEER__AUTH", r#"{"hunter2": "hunter2"}"#),
        ("OVERSEER__AUTH_FILE", SECRET),
        ("OVERSEER__SERVER__CORS_ORIGINS", "https://u:hunter2@h"),
        ("OVERSEER__SERVER__CORS_ORIGINS", r#"["https://u:hunter2@h"]"#),
        ("OVERSEER__LISTEN", "u:hunter2@h"),
        (
            "OVERSEER__SCRAPE__JOBS",
            r#"[{"name":"x","targets":["u:hunter2@h:1"]}]"#,
        ),
        (
            "OVERSEER__SCRAPE__JOBS",
            r#"[{"name":"x","targets":"http://u:hunter2@h:1"}]"#,
        ),
    ] {
        let said = refusal(&[(name, value)]);
        assert!(!said.contains("hunter2"), "{said}");
    }
    for text in [
        "auth: hunter2\n",
        "auth: \"hunter2\"\n",
        "auth: [hunter2]\n",
        "hunter2\n",
        "[hunter2]\n",
        "auth: 'hunter2\n",
        "scrape:\n  jobs:\n    - name: x\n      targets: []\n      token_file: [hunter2]\n",
        "scrape:\n  jobs:\n    - name: x\n      targets: []\n      token: hunter2\n",
        "token_file: { a: hunter2 }\n",
    ] {
        let file = dir.file("settings.yaml", text);
        let failure = read(Some(Path::new(&file)), std::iter::empty()).unwrap_err();
        assert!(!failure.message.contains("hunter2"), "{text:?}: {}", failure.message);
    }
}

#[test]
fn a_path_is_shown_when_it_is_one() {
    let dir = Dir::new("paths");
    let missing = dir.0.join("missing");
    let said = text_named_by("token_file", &missing).unwrap_err().message;
    assert!(said.contains(missing.to_str().unwrap()), "{said}");
    for secret in ["hunter2", "/nonexistent-hunter2/hunter2"] {
        let said = text_named_by("token_file", Path::new(secret)).unwrap_err().message;
        assert!(said.starts_with("token_file: ") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn no_file_is_read_without_end() {
    let said = text_of(Path::new("/dev/zero")).unwrap_err().message;
    assert!(
        said.contains("/dev/zero") && said.contains("longer than 4194304 bytes"),
        "{said}"
    );
    // a pipe is read like a file
    let dir = Dir::new("pipe");
    let pipe = dir.0.join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, "listen: 127.0.0.1:1\n")
    });
    let (config, _) = read(Some(&pipe), std::iter::empty()).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(config.listen, "127.0.0.1:1");
}
