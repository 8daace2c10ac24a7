//! What a sample costs on its way from a body to the engine, as counts that no clock is needed for: allocations are held
//! to a bound here, instructions are told by `cargo xtask count`, which runs the same way under callgrind.
#![allow(clippy::unwrap_used, reason = "tests")]
#![forbid(unsafe_op_in_unsafe_fn)]

mod bodies;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bodies::{Body, KINDS, Kind};
use bus::Log;
use bus::local::{LocalLog, LocalSettings};
use host::Host;
use input::Intake;
use model::{Batch, Record, SampleLimits, TenantId};
use series::table::SeriesTable;
use store::{RecordCodec, RecordDecode, Store, StoreConfig, StoreParts};

/// Series of the sender.
const SERIES: usize = 1000;
/// Bodies sent before counting begins: series are made known, buffers get their size.
const WARM: usize = 24;
/// Bodies of which allocations are counted.
const COUNTED: usize = 60;
/// Bodies between two seals where instructions are counted: half an hour.
const SEALED: usize = 120;
/// No bound of memory is reached.
const PLAIN_BYTES_MAX: usize = 64 << 20;

struct Counted;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code, reason = "an allocator that counts cannot be written otherwise")]
// SAFETY: every call goes to the system's allocator as it came; counting touches no memory that was allocated.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.realloc(at, layout, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: what comes here came from the system allocator.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counted = Counted;

/// Table, engine, log and store on a disk, and what a gateway holds.
struct House {
    dir: PathBuf,
    runtime: tokio::runtime::Runtime,
    intake: Intake,
    log: Arc<dyn Log<Record>>,
    store: Store,
    plain: Vec<u8>,
}

impl House {
    fn open(name: &str) -> House {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("counts-{name}-{}", std::process::id()));
        let host = Host::real();
        let table = Arc::new(SeriesTable::new([7; 16]));
        // seals come when they are asked for
        let config = StoreConfig {
            seal_bytes: 1 << 40,
            seal_seconds: 1 << 20,
            ..StoreConfig::default()
        };
        let engine = Store::open_engine(&host, &dir.join("series"), &config, Arc::clone(&table)).unwrap();
        let settings = LocalSettings {
            required: vec![store::CONSUMER.to_owned()],
            known_position: engine.applied(),
            ..LocalSettings::new("samples")
        };
        let of_decoder = Arc::clone(&table);
        let make_decoder = move || RecordDecode::new(Arc::clone(&of_decoder));
        let codec = RecordCodec::new(Arc::clone(&table));
        let (log, _) = LocalLog::open(&host, &dir.join("log"), settings, codec, make_decoder).unwrap();
        let log: Arc<dyn Log<Record>> = Arc::new(log);
        let parts = StoreParts {
            host,
            dir: dir.join("series"),
            snapshots: dir.join("snapshots"),
            table: Arc::clone(&table),
            engine,
            log: Arc::clone(&log),
            config,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let store = Store::start(parts).unwrap();
        House {
            dir,
            runtime,
            intake: Intake::new(table, SampleLimits::default()),
            log,
            store,
            plain: Vec::new(),
        }
    }

    /// What the gateway does with a body, its HTTP left out.
    #[inline(never)]
    fn decode(&mut self, kind: &Kind, body: &Body) -> Batch {
        let protocol = wire::find(kind.protocol).unwrap();
        let mut admission = self.intake.admit(TenantId::DEFAULT, body.now_ms);
        let bytes = wire::decompress(kind.encoding, &body.bytes, PLAIN_BYTES_MAX, &mut self.plain).unwrap();
        admission.reserve(SERIES);
        let request = wire::Request {
            content_type: protocol.content_types[0],
            now_ms: body.now_ms,
            target: &body.target,
            ..Default::default()
        };
        match kind.protocol {
            "remote_write" => wire::remote_write::decode(bytes, &request, &mut admission).unwrap(),
            _ => (protocol.decode)(bytes, &request, &mut admission).unwrap(),
        }
        let (batch, outcome) = admission.finish();
        assert!(outcome.is_clean(), "{}", outcome.describe());
        batch
    }

    /// Takes a body, up to the engine; how many samples it had.
    fn take(&mut self, kind: &Kind, body: &Body) -> u64 {
        let batch = black_box(self.decode(kind, body));
        let (samples, bytes) = (batch.floats.len() as u64, batch.bytes());
        self.log.publish(Arc::new(Record::Batch(batch)), bytes).wait().unwrap();
        // slow under callgrind
        while self.runtime.block_on(self.store.barrier()).is_err() {}
        samples
    }

    fn seal(&self) {
        self.runtime.block_on(self.store.flush()).unwrap();
    }
}

impl Drop for House {
    #[allow(clippy::disallowed_methods, reason = "the test's own files")]
    fn drop(&mut self) {
        self.store.stop();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Allocations per sample where every series is known: on the way to the engine, and of a seal.
fn allocations(kind: &Kind) -> (f64, f64) {
    let bodies: Vec<Body> = (0..WARM + COUNTED).map(|at| (kind.body)(SERIES, at)).collect();
    let mut house = House::open(kind.protocol);
    let (warm, counted) = bodies.split_at(WARM);
    warm.iter().for_each(|b| assert_eq!(house.take(kind, b), SERIES as u64));
    let before = ALLOCATIONS.load(Relaxed);
    let samples: u64 = counted.iter().map(|b| house.take(kind, b)).sum();
    let taken = ALLOCATIONS.load(Relaxed) - before;
    let before = ALLOCATIONS.load(Relaxed);
    house.seal();
    let sealed = ALLOCATIONS.load(Relaxed) - before;
    let of_all = samples + (WARM * SERIES) as u64;
    (taken as f64 / samples as f64, sealed as f64 / of_all as f64)
}

#[test]
#[allow(clippy::print_stdout, reason = "`cargo xtask count` shows it")]
fn samples_of_known_series_allocate_next_to_nothing() {
    let mut over = Vec::new();
    for kind in KINDS {
        let (taken, sealed) = allocations(kind);
        println!("allocations per sample {} {taken:.5} {sealed:.5}", kind.protocol);
        if taken > kind.allocations_max {
            over.push(format!(
                "{}: {taken:.5} allocations a sample, at most {} are right",
                kind.protocol, kind.allocations_max
            ));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}

/// `OVERSEER_COUNT` is a protocol and how often half an hour is sent and sealed.
#[test]
#[ignore = "cargo xtask count runs it under callgrind"]
fn half_hours() {
    let asked = std::env::var("OVERSEER_COUNT").unwrap();
    let (protocol, times) = asked.split_once(' ').unwrap();
    let kind = KINDS.iter().find(|k| k.protocol == protocol).unwrap();
    let rounds = times.parse::<usize>().unwrap() * SEALED;
    // made elsewhere, so that this thread's instructions are those of taking them
    let bodies = std::thread::spawn(move || (0..rounds).map(|at| (kind.body)(SERIES, at)).collect::<Vec<_>>());
    let bodies = bodies.join().unwrap();
    let mut house = House::open(kind.protocol);
    for half_hour in bodies.chunks(SEALED) {
        half_hour
            .iter()
            .for_each(|b| assert_eq!(house.take(kind, b), SERIES as u64));
        house.seal();
    }
}
