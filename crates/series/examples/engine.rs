//! Measures the engine alone on samples like those of the benchmark kit: apply, seal, compact, read, reopen.
//!
//!     cargo run --release -p series --example engine -- <series> <samples per series> <dir> [noread]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use host::Host;
use model::{
    Batch, Budget, Hints, Labels, Matcher, Record, SampleSource, SelectRequest, SeriesBlock, SeriesId, TenantId,
    TimeRange, Want,
};
use series::engine::{Engine, EngineSettings};
use series::table::SeriesTable;

const TENANT: TenantId = TenantId(1);
const ROWS: usize = 8000;

fn labels(n: usize) -> Labels {
    let (host, metric) = (n / 30, n % 30);
    let mut pairs = vec![
        ("__name__".to_owned(), format!("cpu_usage_{metric}")),
        ("hostname".to_owned(), format!("host_{host}")),
        ("region".to_owned(), format!("eu-west-{}", host % 7)),
        ("datacenter".to_owned(), format!("eu-west-{}{}", host % 7, host % 3)),
        ("rack".to_owned(), format!("{}", host * 7 % 97)),
        ("os".to_owned(), format!("Ubuntu{}", host % 3)),
        ("arch".to_owned(), ["x64", "x86"][host % 2].to_owned()),
        ("team".to_owned(), ["SF", "NYC", "LON"][host % 3].to_owned()),
        ("service".to_owned(), format!("{}", host % 19)),
        ("service_version".to_owned(), format!("{}", host % 2)),
        (
            "service_environment".to_owned(),
            ["prod", "staging"][host % 2].to_owned(),
        ),
    ];
    if metric >= 22 {
        pairs[0].1 = "request_seconds_bucket".to_owned();
        pairs.push(("le".to_owned(), format!("0.{}", metric - 21)));
    }
    Labels::from_pairs(pairs)
}

fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("");
    line.split_whitespace()
        .nth(1)
        .and_then(|n| n.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let series: usize = args[1].parse().unwrap();
    let samples: usize = args[2].parse().unwrap();
    let dir = Path::new(&args[3]);
    let table = Arc::new(SeriesTable::new([1; 16]));
    let open = |table: &Arc<SeriesTable>| {
        Engine::open(Host::real(), dir, EngineSettings::default(), Arc::clone(table)).unwrap()
    };
    let (engine, _) = open(&table);
    let ids: Vec<SeriesId> = (0..series)
        .map(|n| table.intern(TENANT, labels(n).as_bytes(), None).unwrap())
        .collect();
    println!("table: {} MiB, peak {} MiB", table.bytes() >> 20, peak_mib());
    let mut values: Vec<f64> = (0..series).map(|n| (n % 100) as f64).collect();
    let mut dice = 1u64;
    let (mut apply, mut seal, mut compact) = (0u64, 0u64, 0u64);
    let (mut position, mut seals) = (0, 0);
    let t0 = 1_700_000_000_000i64;
    for s in 0..samples {
        for rows in ids.chunks(ROWS) {
            let mut batch = Batch::new(TENANT);
            for &id in rows {
                dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let v = &mut values[id.index()];
                match id.index() % 30 {
                    0..=10 => *v = ((*v * 100.0).round() + ((dice >> 40) % 200) as f64 - 100.0).abs() / 100.0,
                    11..=14 | 22.. => *v += ((dice >> 40) % 50) as f64,
                    15 | 16 => {}
                    17 => *v = (dice >> 11) as f64 / (1u64 << 53) as f64,
                    _ => *v += ((dice >> 40) % 500) as f64 / 100.0,
                }
                let jitter = (id.index() / 30 * 37 % 10_000) as i64;
                batch.floats.push(id, t0 + s as i64 * 10_000 + jitter, *v, 0);
            }
            position += 1;
            let record = Record::Batch(batch);
            let t = cpu_ns();
            engine.apply(position, &record);
            apply += cpu_ns() - t;
        }
        if engine.seal_due().is_some() {
            let t = cpu_ns();
            engine.seal().unwrap();
            seal += cpu_ns() - t;
            seals += 1;
            let t = cpu_ns();
            while engine.compact_step().unwrap().is_some() {}
            compact += cpu_ns() - t;
        }
    }
    let total = (series * samples) as f64;
    let unsealed = engine.stats().unsealed_samples;
    let t = cpu_ns();
    engine.seal().unwrap();
    seal += cpu_ns() - t;
    let stats = engine.stats();
    println!(
        "apply {:.0} ns, seal {:.0} ns ({seals} seals, {unsealed} left), compact {:.0} ns per sample; sealed {:.3} B/sample in {} files; peak {} MiB, head {} MiB",
        apply as f64 / total,
        seal as f64 / total,
        compact as f64 / total,
        stats.file_bytes as f64 / total,
        stats.files,
        peak_mib(),
        stats.head_bytes >> 20,
    );
    read(&engine, "before compact_all");
    let t = cpu_ns();
    engine.compact_all().unwrap();
    let stats = engine.stats();
    println!(
        "compact_all {:.0} ns per sample; {:.3} B/sample in {} files; peak {} MiB",
        (cpu_ns() - t) as f64 / total,
        stats.file_bytes as f64 / total,
        stats.files,
        peak_mib()
    );
    read(&engine, "after compact_all");
    drop(engine);
    let t = Instant::now();
    let table = Arc::new(SeriesTable::new([2; 16]));
    let (engine, report) = open(&table);
    println!("open {:?}: {report:?}", t.elapsed());
    read(&engine, "after reopen");
}

fn read(engine: &Engine, when: &str) {
    if std::env::args().nth(4).is_some() {
        return;
    }
    let budget = Budget::unlimited();
    for (name, matchers, want) in [
        ("one host", vec![Matcher::equal("hostname", "host_7")], Want::Samples),
        (
            "one metric",
            vec![Matcher::equal("__name__", "cpu_usage_3")],
            Want::Samples,
        ),
        ("everything", vec![], Want::Samples),
        ("last of everything", vec![], Want::Last),
        ("labels of everything", vec![], Want::Labels),
    ] {
        for round in 0..2 {
            let t = Instant::now();
            let request = SelectRequest {
                tenant: TENANT,
                matchers: &matchers,
                range: TimeRange::ALL,
                hints: Hints {
                    want,
                    ..Hints::default()
                },
            };
            let set = engine.select(&request, &budget).unwrap();
            let selected = t.elapsed();
            let (mut block, mut n) = (SeriesBlock::default(), 0);
            for i in 0..if want == Want::Labels { 0 } else { set.len() } {
                set.read(i, &mut block, &budget).unwrap();
                n += block.at_ms.len();
            }
            if round == 1 {
                println!(
                    "  {when}, {name}: {} series in {selected:?}, {n} samples in {:?}",
                    set.len(),
                    t.elapsed() - selected
                );
            }
        }
    }
}
