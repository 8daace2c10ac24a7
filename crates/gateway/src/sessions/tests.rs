use std::path::Path;

use host::sim::Machine;

use super::*;

fn file() -> Option<PathBuf> {
    Some("/data/sessions.json".into())
}

fn machine() -> Machine {
    let machine = Machine::new(1);
    machine.host().files.create_dir_all(Path::new("/data")).unwrap();
    machine
}

#[test]
fn what_is_stored() {
    let machine = machine();
    let sessions = Sessions::open(machine.host(), file());
    let until_ms = machine.host().clock.now_ms() + 1000;
    sessions.add([0xab; 32], until_ms);
    let text = machine.host().files.read(&file().unwrap()).unwrap();
    let golden = format!(
        r#"{{"version":1,"sessions":[{{"key":"{}","until_ms":{until_ms}}}]}}"#,
        "ab".repeat(32)
    );
    assert_eq!(String::from_utf8(text).unwrap(), golden);
}

#[test]
fn a_damaged_file_costs_the_logins_only() {
    for text in [
        "",
        "{",
        "[]",
        r#"{"version":2,"sessions":[]}"#,
        r#"{"version":1,"sessions":[{"key":"zz","until_ms":9}]}"#,
        r#"{"version":1,"sessions":[{"key":"é","until_ms":9}]}"#,
    ] {
        let machine = machine();
        machine
            .host()
            .files
            .write_atomic(&file().unwrap(), text.as_bytes())
            .unwrap();
        let sessions = Sessions::open(machine.host(), file());
        sessions.add([1; 32], i64::MAX);
        assert!(
            Sessions::open(machine.host(), file()).until_ms(&[1; 32]).is_some(),
            "{text}"
        );
    }
}

#[test]
fn sessions_end_in_time_and_their_number_is_bounded() {
    let machine = machine();
    let sessions = Sessions::open(machine.host(), file());
    let now_ms = machine.host().clock.now_ms();
    sessions.add([1; 32], now_ms);
    assert_eq!(sessions.until_ms(&[1; 32]), None);
    for i in 0..=SESSIONS_MAX {
        let mut key = Key::default();
        key[..8].copy_from_slice(&(i as u64).to_le_bytes());
        sessions.add(key, now_ms + 1000 + i as i64);
    }
    assert_eq!(sessions.until_ms.lock().unwrap().len(), SESSIONS_MAX);
    assert_eq!(sessions.until_ms(&Key::default()), None, "the oldest went");
    sessions.remove_all();
    assert!(
        Sessions::open(machine.host(), file())
            .until_ms
            .lock()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn keys_depend_on_the_token_and_the_cookie() {
    let key = key_of("token", "cookie");
    assert_eq!(key, key_of("token", "cookie"));
    assert_ne!(key, key_of("token", "cookie2"));
    assert_ne!(key, key_of("token2", "cookie"));
    assert_eq!(unhex(&hex(&key)), Some(key));
}
