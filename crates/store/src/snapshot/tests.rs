use std::sync::Arc;

use bus::Log;
use bus::local::{LocalLog, LocalSettings};
use host::sim::Machine;
use model::Record;
use series::table::SeriesTable;

use super::*;
use crate::{CONSUMER, RecordCodec, RecordDecode, StoreConfig, StoreParts};

#[test]
fn names_sort_by_time_and_lead_nowhere() {
    let name = snapshot_name(&Host::real());
    assert!(
        is_snapshot_name(&name) && name.starts_with("20") && &name[18..20] == "Z-",
        "{name}"
    );
    assert!(is_snapshot_name(&format!("{name}{LEASED}")));
    for bad in ["", ".", "..", "../x", "a/b", "a.tmp", ".a", &"a".repeat(65)] {
        assert!(!is_snapshot_name(bad), "{bad}");
    }
}

/// A machine whose disk is a real directory, as snapshots rename directories; gone at the end.
struct Disk {
    machine: Machine,
    dir: PathBuf,
}

impl Disk {
    fn new(name: &str) -> Disk {
        let dir = std::env::temp_dir().join(format!("overseer-store-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Disk {
            machine: Machine::new(1),
            dir,
        }
    }

    fn host(&self) -> Host {
        Host {
            files: Host::real().files,
            ..self.machine.host()
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn store(host: &Host, dir: &Path) -> Store {
    let table = Arc::new(SeriesTable::new([7; 16]));
    let config = StoreConfig::default();
    let engine = Store::open_engine(host, &dir.join("series"), &config, Arc::clone(&table)).unwrap();
    let settings = LocalSettings {
        required: vec![CONSUMER.to_owned()],
        known_position: engine.applied(),
        ..LocalSettings::new("samples")
    };
    let codec = RecordCodec::new(Arc::clone(&table));
    let of_decoder = Arc::clone(&table);
    let decoder = move || RecordDecode::new(Arc::clone(&of_decoder));
    let (log, _) = LocalLog::open(host, &dir.join("log"), settings, codec, decoder).unwrap();
    let log: Arc<dyn Log<Record>> = Arc::new(log);
    Store::start(StoreParts {
        host: host.clone(),
        dir: dir.join("series"),
        snapshots: dir.join("snapshots"),
        table,
        engine,
        log,
        config,
    })
    .unwrap()
}

#[tokio::test]
async fn snapshots_that_are_asked_for_at_once_do_not_pass_the_limit() {
    let disk = Disk::new("limit");
    let host = disk.host();
    let store = Arc::new(store(&host, &disk.dir));
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let (store, host) = (Arc::clone(&store), host.clone());
        asked.spawn(async move { store.snapshot(&host, Keep::UntilDeleted).await });
    }
    let answers = asked.join_all().await;
    let made = answers.iter().filter(|a| a.is_ok()).count();
    let refused = answers
        .iter()
        .filter(|a| matches!(a, Err(StoreError::Refused(_))))
        .count();
    assert_eq!((made, refused), (SNAPSHOTS_MAX, 60 - SNAPSHOTS_MAX));
    assert_eq!(store.snapshots(&host).unwrap().len(), SNAPSHOTS_MAX);
    store.stop();
}

#[tokio::test]
async fn the_list_tells_which_snapshots_have_a_lease() {
    let disk = Disk::new("leases");
    let host = disk.host();
    let store = store(&host, &disk.dir);
    let leased = store.snapshot(&host, Keep::Leased).await.unwrap().name;
    let kept = store.snapshot(&host, Keep::UntilDeleted).await.unwrap().name;
    disk.machine.clock.advance(Duration::from_secs(600));
    let leases = |store: &Store| -> BTreeMap<String, Option<Duration>> {
        let list = store.snapshots(&host).unwrap();
        list.into_iter().map(|s| (s.name, s.lease)).collect()
    };
    let listed = leases(&store);
    assert_eq!(listed[&leased], Some(LEASE - Duration::from_secs(600)));
    assert_eq!(listed[&kept], None);
    assert!(store.renew_lease(&host, &leased));
    assert_eq!(leases(&store)[&leased], Some(LEASE));
    for none in [&*kept, "absent-leased", "../x-leased", ""] {
        assert!(!store.renew_lease(&host, none), "{none}");
    }
    store.stop();
}

#[test]
fn a_lease_ends_an_hour_after_it_was_renewed_or_the_server_started() {
    let machine = Machine::new(1);
    let files = machine.host().files;
    let base = Path::new("/snapshots");
    for name in ["a-leased", "b-leased", "kept", ".c-leased.tmp"] {
        files.create_dir_all(&base.join(name).join(SERIES)).unwrap();
    }
    let there = || -> Vec<String> { files.list(base).unwrap().into_iter().map(|e| e.name).collect() };
    let at = Duration::from_secs;
    // another server made them: their hour begins with this one
    let leases = Leases::default();
    leases.sweep(&*files, base, at(10_000));
    assert_eq!(there(), ["a-leased", "b-leased", "kept"], "what was half made goes");
    leases.sweep(&*files, base, at(13_599));
    assert!(leases.renew("b-leased", at(13_599), || true));
    assert_eq!(there().len(), 3);
    leases.sweep(&*files, base, at(13_600));
    assert_eq!(there(), ["b-leased", "kept"]);
    assert!(!leases.renew("a-leased", at(13_600), || false), "gone");
    leases.sweep(&*files, base, at(17_198));
    assert_eq!(there(), ["b-leased", "kept"]);
    leases.sweep(&*files, base, at(17_199));
    assert_eq!(there(), ["kept"]);
    leases.sweep(&*files, base, at(1_000_000));
    assert_eq!(there(), ["kept"]);
}
