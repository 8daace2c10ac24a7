use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::{
    Files, Host, OpenMode,
    sim::{Failure, Faults, Machine, Operation, SimFiles},
};

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Write(u8, u32, Vec<u8>),
    SetLen(u8, u32),
    Allocate(u8, u32, u32),
    Rename(u8, u8),
    Link(u8, u8),
    Remove(u8),
    Sync(u8),
    Atomic(u8, Vec<u8>),
    Read(u8, u32, u16),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0u8..4;
    let at = prop_oneof![0u32..100, 4000u32..4200, 0u32..20_000];
    let bytes = prop::collection::vec(any::<u8>(), 0..6000);
    prop_oneof![
        name.clone().prop_map(Step::Create),
        (name.clone(), at.clone(), bytes.clone()).prop_map(|(n, a, b)| Step::Write(n, a, b)),
        (name.clone(), at.clone()).prop_map(|(n, a)| Step::SetLen(n, a)),
        (name.clone(), at.clone(), 0u32..9000).prop_map(|(n, a, l)| Step::Allocate(n, a, l)),
        (name.clone(), name.clone()).prop_map(|(a, b)| Step::Rename(a, b)),
        (name.clone(), name.clone()).prop_map(|(a, b)| Step::Link(a, b)),
        name.clone().prop_map(Step::Remove),
        name.clone().prop_map(Step::Sync),
        (name.clone(), bytes).prop_map(|(n, b)| Step::Atomic(n, b)),
        (name, at, 0u16..9000).prop_map(|(n, a, l)| Step::Read(n, a, l)),
        Just(Step::Kill),
    ]
}

/// What a caller can see of one step, and of all files afterwards.
fn seen(files: &dyn Files, dir: &Path, step: &Step) -> String {
    let path = |n: &u8| dir.join(format!("f{n}"));
    let kind = |r: std::io::Result<()>| r.map_err(|e| e.kind());
    let open = |n: &u8| files.open(&path(n), OpenMode::Write);
    let outcome = match step {
        Step::Create(n) => kind(files.open(&path(n), OpenMode::CreateNew).map(drop)),
        Step::Write(n, at, bytes) => kind(open(n).and_then(|f| f.write_all_at(bytes, u64::from(*at)))),
        Step::SetLen(n, len) => kind(open(n).and_then(|f| f.set_len(u64::from(*len)))),
        Step::Allocate(n, at, len) => kind(open(n).and_then(|f| f.allocate(u64::from(*at), u64::from(*len)))),
        Step::Rename(a, b) => kind(files.rename(&path(a), &path(b))),
        Step::Link(a, b) => kind(files.hard_link(&path(a), &path(b))),
        Step::Remove(n) => kind(files.remove(&path(n))),
        Step::Sync(n) => kind(open(n).and_then(|f| f.sync_data()).and_then(|()| files.sync_dir(dir))),
        Step::Atomic(n, bytes) => kind(files.write_atomic(&path(n), bytes)),
        Step::Read(n, at, len) => {
            let mut buf = vec![0; usize::from(*len)];
            let read = open(n).and_then(|f| f.read_at(&mut buf, u64::from(*at)));
            return format!("{:?} {buf:?}", read.map_err(|e| e.kind()));
        }
        Step::Kill => Ok(()),
    };
    let all: Vec<_> = files
        .list(dir)
        .unwrap()
        .into_iter()
        .map(|e| (files.read(&dir.join(&e.name)).unwrap(), e))
        .collect();
    format!("{outcome:?} {all:?}")
}

struct TempDir(PathBuf);

impl TempDir {
    fn new() -> TempDir {
        let path = std::env::temp_dir().join(format!("overseer-sim-{:016x}", Host::real().random.u64()));
        Host::real().files.create_dir_all(&path).unwrap();
        TempDir(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn without_faults_it_behaves_as_a_real_one(steps in prop::collection::vec(step(), 1..40), seed: u64) {
        let real_dir = TempDir::new();
        let real = Host::real().files;
        let sim = SimFiles::new(seed);
        sim.create_dir_all(Path::new("/d")).unwrap();
        for step in &steps {
            if matches!(step, Step::Kill) {
                sim.kill();
            }
            prop_assert_eq!(seen(&*real, &real_dir.0, step), seen(&sim, Path::new("/d"), step), "after {:?}", step);
        }
    }

    #[test]
    fn what_was_synced_survives_a_crash_and_the_rest_is_old_or_new(
        first in prop::collection::vec(1u8..100, 1..20_000),
        second in prop::collection::vec(101u8..200, 1..20_000),
        seed: u64,
    ) {
        let sim = SimFiles::new(seed);
        let path = Path::new("/a");
        let file = sim.open(path, OpenMode::Create).unwrap();
        file.write_all_at(&first, 0).unwrap();
        file.sync_data().unwrap();
        sim.sync_dir(Path::new("/")).unwrap();
        file.write_all_at(&second, 0).unwrap();
        sim.crash();
        prop_assert!(file.read_at(&mut [0], 0).is_err(), "a handle of the dead process works");
        let found = sim.read(path).unwrap();
        prop_assert!(found.len() >= first.len() && found.len() <= first.len().max(second.len()));
        for (i, b) in found.iter().enumerate() {
            let old = first.get(i).copied().unwrap_or(0);
            let new = second.get(i).copied().unwrap_or(old);
            prop_assert!(*b == old || *b == new, "byte {} is {}", i, b);
            prop_assert!(i % 512 == 0 || i >= first.len().min(second.len()) || (*b > 100) == (found[i - 1] > 100), "torn inside a sector");
        }
    }
}

#[test]
fn crashes_lose_tear_and_keep_by_seed() {
    let (mut lost, mut kept, mut torn, mut entry_lost) = (0, 0, 0, 0);
    for seed in 0..200 {
        let sim = SimFiles::new(seed);
        let synced = sim.open(Path::new("/a"), OpenMode::Create).unwrap();
        synced.write_all_at(&[1; 4096], 0).unwrap();
        synced.sync_data().unwrap();
        sim.sync_dir(Path::new("/")).unwrap();
        synced.write_all_at(&[2; 4096], 0).unwrap();
        let fresh = sim.open(Path::new("/b"), OpenMode::Create).unwrap();
        fresh.sync_all().unwrap();
        sim.crash();
        let found = sim.read(Path::new("/a")).unwrap();
        match (found.contains(&1), found.contains(&2)) {
            (true, false) => lost += 1,
            (false, true) => kept += 1,
            _ => torn += 1,
        }
        entry_lost += u32::from(!sim.exists(Path::new("/b")));
    }
    assert!(
        lost > 30 && kept > 30 && torn > 30,
        "lost {lost}, kept {kept}, torn {torn}"
    );
    assert!((50..150).contains(&entry_lost), "{entry_lost}");
}

#[test]
fn after_a_failed_sync_the_next_one_proves_nothing() {
    let mut gone = 0;
    for seed in 0..100 {
        let sim = SimFiles::new(seed);
        let file = sim.open(Path::new("/a"), OpenMode::Create).unwrap();
        sim.sync_dir(Path::new("/")).unwrap();
        file.write_all_at(&[7; 100], 0).unwrap();
        sim.plan(Faults::none().and(Operation::Sync, 1, Failure::Io));
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        sim.crash();
        gone += u32::from(sim.read(Path::new("/a")).unwrap() != [7; 100]);
    }
    assert!((20..90).contains(&gone), "{gone}");
}

#[test]
fn planned_calls_fail_and_others_do_not() {
    let sim = SimFiles::new(1);
    let file = sim.open(Path::new("/a"), OpenMode::Create).unwrap();
    sim.plan(
        Faults::none()
            .and(Operation::Write, 2, Failure::Io)
            .and(Operation::Write, 3, Failure::NoSpace)
            .and(Operation::Write, 5, Failure::Stop),
    );
    file.write_all_at(&[1; 10], 0).unwrap();
    assert_eq!(file.write_all_at(&[2; 10], 0).unwrap_err().raw_os_error(), Some(5));
    assert_eq!(file.write_all_at(&[3; 10], 0).unwrap_err().raw_os_error(), Some(28));
    assert_eq!(sim.read(Path::new("/a")).unwrap(), [1; 10]);
    file.write_all_at(&[4; 10], 0).unwrap();
    file.write_all_at(&[5; 10], 0).unwrap_err();
    file.sync_data().unwrap_err();
    sim.kill();
    let after = sim.read(Path::new("/a")).unwrap();
    assert!(
        after.windows(2).all(|w| w[0] >= w[1]),
        "a stopped write is a prefix: {after:?}"
    );
    sim.open(Path::new("/a"), OpenMode::Write).unwrap().sync_data().unwrap();
}

#[test]
fn a_full_disk_refuses_and_reserved_space_does_not() {
    let sim = SimFiles::new(1);
    sim.set_capacity(Some(16 * 4096));
    let reserved = sim.open(Path::new("/a"), OpenMode::Create).unwrap();
    reserved.allocate(0, 8 * 4096).unwrap();
    assert_eq!(sim.free_bytes(Path::new("/")).unwrap(), 8 * 4096);
    assert_eq!(reserved.allocate(0, 17 * 4096).unwrap_err().raw_os_error(), Some(28));
    let other = sim.open(Path::new("/b"), OpenMode::Create).unwrap();
    // sparse: the length alone takes no space
    other.set_len(1 << 30).unwrap();
    assert_eq!(sim.free_bytes(Path::new("/")).unwrap(), 8 * 4096);
    assert_eq!(
        other.write_all_at(&[1; 9 * 4096], 0).unwrap_err().raw_os_error(),
        Some(28)
    );
    assert_eq!(sim.free_bytes(Path::new("/")).unwrap(), 0);
    reserved.write_all_at(&[1; 8 * 4096], 0).unwrap();
    sim.remove(Path::new("/b")).unwrap();
    assert_eq!(
        sim.free_bytes(Path::new("/")).unwrap(),
        0,
        "an open file keeps its space"
    );
    drop(other);
    assert_eq!(sim.free_bytes(Path::new("/")).unwrap(), 8 * 4096);
}

#[test]
fn locks_exclude_until_dropped_or_killed() {
    let machine = Machine::new(3);
    let dir = TempDir::new();
    for (files, at) in [(machine.host().files, Path::new("/")), (Host::real().files, &*dir.0)] {
        let path = at.join("lock");
        let held = files.lock(&path).unwrap();
        assert_eq!(files.lock(&path).err().unwrap().kind(), std::io::ErrorKind::WouldBlock);
        drop(held);
        drop(files.lock(&path).unwrap());
    }
    let held = machine.files.lock(Path::new("/lock")).unwrap();
    machine.files.kill();
    let again = machine.files.lock(Path::new("/lock")).unwrap();
    drop(held);
    assert!(
        machine.files.lock(Path::new("/lock")).is_err(),
        "a dead process's lock let go of a living one's"
    );
    drop(again);
}

#[test]
fn the_same_seed_gives_the_same_machine() {
    let run = |seed| {
        let machine = Machine::new(seed);
        let host = machine.host();
        let file = host.files.open(Path::new("/a"), OpenMode::Create).unwrap();
        host.files.sync_dir(Path::new("/")).unwrap();
        for i in 0..20u8 {
            file.write_all_at(&[i; 3000], u64::from(i) * 1000).unwrap();
        }
        machine.files.crash();
        (host.random.u64(), host.files.read(Path::new("/a")).unwrap())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn bytes_that_the_device_does_not_give_are_read_around() {
    let machine = Machine::new(3);
    let path = Path::new("/f");
    let content: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8 + 1).collect();
    let file = machine.files.open(path, OpenMode::Create).unwrap();
    file.write_all_at(&content, 0).unwrap();
    machine.files.spoil(path, 9000..9001).unwrap();
    machine.files.spoil(path, 39_000..60_000).unwrap();
    let mut buf = vec![9; content.len()];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 9000);
    assert_eq!(file.read_at(&mut buf, 9000).unwrap_err().raw_os_error(), Some(5));
    assert!(machine.files.read(path).is_err());

    let mut unread = Vec::new();
    let n = crate::read_around(&*file, &mut buf, 0, &mut unread).unwrap();
    assert_eq!(n, content.len());
    assert_eq!(unread, [9000..12_288, 39_000..40_000]);
    assert_eq!(buf[..9000], content[..9000]);
    assert_eq!(buf[12_288..39_000], content[12_288..39_000]);
    assert!(buf[9000..12_288].iter().chain(&buf[39_000..]).all(|b| *b == 0));

    machine.files.spoil(path, 0..0).unwrap();
    assert_eq!(machine.files.read(path).unwrap(), content);
    // an error that is gone with the next read costs nothing
    machine.files.plan(Faults::none().and(Operation::Read, 1, Failure::Io));
    unread.clear();
    crate::read_around(&*file, &mut buf, 0, &mut unread).unwrap();
    assert!(unread.is_empty() && buf == content);
    // nor one that is gone a little later
    let twice = || {
        Faults::none()
            .and(Operation::Read, 1, Failure::Io)
            .and(Operation::Read, 2, Failure::Io)
    };
    machine.files.plan(twice());
    crate::read_around(&*file, &mut buf, 0, &mut unread).unwrap();
    assert_eq!(unread, vec![0..4096]);
    let clock = machine.host().clock;
    let mut patience = 1;
    let mut again = |unread: &mut Vec<_>| {
        buf.fill(9);
        crate::read_around_again(&*clock, &*file, &mut buf, 0, unread, &mut patience).unwrap();
        buf == content
    };
    machine.files.plan(twice());
    unread.clear();
    assert!(again(&mut unread) && unread.is_empty());
    // patience has an end
    machine.files.plan(twice());
    assert!(!again(&mut unread));
    assert_eq!(unread, vec![0..4096]);
}

#[test]
fn what_passes_is_waited_for_and_what_does_not_is_told() {
    let machine = Machine::new(4);
    let host = machine.host();
    let path = Path::new("/f");
    machine.files.open(path, OpenMode::Create).unwrap();
    let open = || crate::patiently(&*host.clock, || host.files.open(path, OpenMode::Read).map(drop));
    machine.files.refuse(path, 24, 3);
    let before = host.clock.monotonic();
    open().unwrap();
    assert!(host.clock.monotonic() > before);
    machine
        .files
        .plan(Faults::none().and(Operation::Open, 1, Failure::TooManyOpen));
    open().unwrap();
    machine.files.refuse(path, 13, u64::MAX);
    assert_eq!(open().unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    assert!(host.clock.monotonic() - before < std::time::Duration::from_secs(5));
}
