//! Files of which every part is at its bound: with bounds this small, a few series make many parts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use host::sim::Machine;
use host::{Entry, File, Files, Lock, OpenMode};
use model::{TimeRange, Want};
use proptest::prelude::*;

use super::crash::survive_on;
use super::damage::check_without_warnings;
use super::model_based::{DIR, Step, World, check, open_with, read_all, record, step};
use crate::engine::{Engine, EngineSettings, FileBounds, IDENTITY};
use crate::table::SeriesTable;

fn tiny() -> EngineSettings {
    EngineSettings {
        bounds: FileBounds {
            frame_bytes: 40,
            frame_series: 2,
            extras_bytes: 30,
            page_bytes: 200,
        },
        ..EngineSettings::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn nothing_applied_is_lost_in_many_parts(steps in prop::collection::vec(step(), 1..25), seed: u64) {
        survive_on(&Machine::new(seed), &steps, seed, &tiny(), check);
    }
}

/// A disk that changes a byte of what is written to files whose name contains a text.
struct Forgetful {
    inner: Arc<dyn Files>,
    name: &'static str,
    on: AtomicBool,
}

struct ForgetfulFile(Arc<dyn File>);

impl File for ForgetfulFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut changed = buf.to_vec();
        let last = changed.len() - 1;
        // in the last part that is written of a block: the directory, the index or a footer
        changed[last / 2] ^= 1;
        self.0.write_all_at(&changed, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.allocate(offset, len)
    }
}

impl Files for Forgetful {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.inner.open(path, mode)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let changes = self.on.load(Relaxed) && mode != OpenMode::Read && name.contains(self.name);
        Ok(if changes { Arc::new(ForgetfulFile(file)) } else { file })
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }
    fn exists(&self, path: &Path) -> bool {
        self.inner.exists(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_bytes(path)
    }
}

/// What cannot be read back takes nothing's place: a seal and a merge fail, and all is there.
#[test]
fn what_cannot_be_read_back_replaces_nothing() {
    for name in ["block-", "window-"] {
        let machine = Machine::new(3);
        let files = Arc::new(Forgetful {
            inner: machine.host().files,
            name,
            on: AtomicBool::new(false),
        });
        let mut host = machine.host();
        host.files = Arc::clone(&files) as Arc<dyn Files>;
        let table = Arc::new(SeriesTable::new([7; 16]));
        let (engine, _) = Engine::open(host, Path::new(DIR), tiny(), Arc::clone(&table)).unwrap();
        let mut world = World::new();
        for n in 0..3u8 {
            let rows = (0..3u8).map(|s| (s + 3 * n, i64::from(n), 10 + n, false)).collect();
            engine.apply(
                u64::from(n) + 1,
                &record(&Step::Floats(rows), &table, &mut world).unwrap(),
            );
            files.on.store(true, Relaxed);
            assert!(engine.seal().is_err(), "{name}");
            check(&engine, &world);
            files.on.store(false, Relaxed);
            engine.seal().unwrap();
        }
        let before = engine.stats().files;
        files.on.store(true, Relaxed);
        if name == "block-" {
            assert!(engine.compact_all().is_err());
            assert_eq!(engine.stats().files, before);
        }
        files.on.store(false, Relaxed);
        check(&engine, &world);
        engine.compact_all().unwrap();
        check(&engine, &world);
        drop(engine);
        let (engine, ..) = open_with(&machine, tiny());
        check(&engine, &world);
    }
}

/// The identity file and the series file can be done without: others tell the same.
#[test]
fn what_is_stored_twice_is_not_missed() {
    let harms: [fn(&mut Vec<u8>); 4] = [Vec::clear, |b| b.truncate(b.len() / 2), |b| b[20] ^= 1, |b| b.fill(0)];
    for name in [
        IDENTITY,
        "window-0000000001",
        "window-0000000001.copy",
        "manifest-a",
        "manifest-b",
    ] {
        for (how, harm) in harms.iter().map(Some).chain([None]).enumerate() {
            let machine = Machine::new(8);
            let (engine, table, _) = open_with(&machine, tiny());
            let mut world = World::new();
            for n in 0..2u8 {
                let rows = (0..4u8).map(|s| (s + 4 * n, 3, 10 + s, false)).collect();
                engine.apply(
                    u64::from(n) + 1,
                    &record(&Step::Floats(rows), &table, &mut world).unwrap(),
                );
                engine.seal().unwrap();
            }
            drop(engine);
            let path = PathBuf::from(DIR).join(name);
            let before = machine.files.read(&path).unwrap();
            match harm {
                Some(harm) => machine.files.edit(&path, harm).unwrap(),
                None => machine.files.remove(&path).unwrap(),
            }
            let (engine, table, report) = open_with(&machine, tiny());
            // a copy is looked at when it is needed
            let told = report.quarantined.iter().any(|q| q.file == name);
            assert!(
                told || name.ends_with(".copy"),
                "{name} {how}: {:?}",
                report.quarantined
            );
            check_without_warnings(&engine, &world);
            assert_eq!(read_all(&engine, TimeRange::ALL, Want::Samples).1, [""; 0]);
            if told && !name.starts_with("manifest") {
                assert_eq!(machine.files.read(&path).unwrap(), before, "{name} {how}");
            }
            let rows = (0..9u8).map(|s| (s, 5, 50 + s, false)).collect();
            engine.apply(3, &record(&Step::Floats(rows), &table, &mut world).unwrap());
            engine.seal().unwrap();
            drop(engine);
            let (engine, ..) = open_with(&machine, tiny());
            check_without_warnings(&engine, &world);
            engine.compact_all().unwrap();
            check_without_warnings(&engine, &world);
        }
    }
}

/// A directory with blocks and neither an identity nor a manifest may be half of a backup: it is not guessed at.
#[test]
fn half_of_a_backup_does_not_start() {
    let machine = Machine::new(8);
    let (engine, table, _) = open_with(&machine, tiny());
    let mut world = World::new();
    engine.apply(
        1,
        &record(&Step::Floats(vec![(1, 2, 9, false)]), &table, &mut world).unwrap(),
    );
    engine.seal().unwrap();
    drop(engine);
    for name in [IDENTITY, "manifest-a", "manifest-b"] {
        machine.files.remove(&PathBuf::from(DIR).join(name)).unwrap();
    }
    let table = Arc::new(SeriesTable::new([7; 16]));
    let opened = Engine::open(machine.host(), Path::new(DIR), tiny(), table);
    assert!(opened.unwrap_err().to_string().contains(IDENTITY));
}
