use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use host::Host;
use model::MetricKind;
use proptest::prelude::*;

use super::*;
use crate::{Agent, Config, Machine, Observation, ProcRoot};

fn machine() -> Machine {
    Machine {
        sysname: "Linux".into(),
        release: "6.1.0".into(),
        version: "#1 SMP".into(),
        machine: "x86_64".into(),
        nodename: "box".into(),
        domainname: "(none)".into(),
        page_bytes: 4096,
        ticks_per_second: 100,
    }
}

fn fixture() -> Agent {
    let host = Host::real();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/host");
    let proc = ProcRoot::at(root, Arc::clone(&host.files), machine());
    Agent::new(Config::default(), proc, host).unwrap()
}

fn by_name(observations: &[Observation]) -> BTreeMap<String, &Observation> {
    observations
        .iter()
        .map(|o| (o.labels.without("job").without("instance").to_string(), o))
        .collect()
}

#[test]
fn a_host_is_read_as_node_exporter_reads_it() {
    let agent = fixture();
    let observations = agent.collect(1_700_000_000_500);
    let seen = by_name(&observations);
    for (series, kind, value) in [
        (
            r#"node_cpu_seconds_total{cpu="0", mode="user"}"#,
            MetricKind::Counter,
            308.31,
        ),
        (
            r#"node_cpu_guest_seconds_total{cpu="1", mode="nice"}"#,
            MetricKind::Counter,
            0.0,
        ),
        (
            r#"overseer_agent_cpu_seconds_total{mode="idle"}"#,
            MetricKind::Counter,
            4702.22,
        ),
        ("node_load15", MetricKind::Gauge, 0.38),
        ("node_memory_MemTotal_bytes", MetricKind::Gauge, 25276514304.0),
        ("node_memory_HugePages_Total", MetricKind::Gauge, 0.0),
        ("node_memory_Active_anon_bytes", MetricKind::Gauge, 1609728.0),
        ("node_vmstat_pgfault", MetricKind::Unknown, 8123456.0),
        (
            r#"node_disk_read_bytes_total{device="vda"}"#,
            MetricKind::Counter,
            4780057600.0,
        ),
        (
            r#"node_disk_io_time_seconds_total{device="vda"}"#,
            MetricKind::Counter,
            12.644,
        ),
        (
            r#"node_filesystem_readonly{device="/dev/vda", fstype="ext4", mountpoint="/"}"#,
            MetricKind::Gauge,
            0.0,
        ),
        (
            r#"node_network_receive_bytes_total{device="eth0"}"#,
            MetricKind::Counter,
            367846211.0,
        ),
        (
            r#"node_network_transmit_compressed_total{device="lo"}"#,
            MetricKind::Counter,
            0.0,
        ),
        ("node_pressure_io_stalled_seconds_total", MetricKind::Counter, 6.239849),
        ("node_boot_time_seconds", MetricKind::Gauge, 1795261200.0),
        ("node_time_seconds", MetricKind::Gauge, 1_700_000_000.5),
        ("node_forks_total", MetricKind::Counter, 23157.0),
        ("node_intr_total", MetricKind::Counter, 633174.0),
        ("node_filefd_maximum", MetricKind::Gauge, 2466183.0),
        ("node_sockstat_TCP_mem_bytes", MetricKind::Gauge, 352256.0),
        ("node_sockstat_FRAG6_inuse", MetricKind::Gauge, 0.0),
        ("node_netstat_Tcp_CurrEstab", MetricKind::Unknown, 4.0),
        ("node_netstat_Ip6_InOctets", MetricKind::Unknown, 128.0),
        (
            r#"node_os_version{id="debian", name="Debian GNU/Linux"}"#,
            MetricKind::Gauge,
            12.0,
        ),
        ("process_cpu_seconds_total", MetricKind::Counter, 5.5),
        ("process_start_time_seconds", MetricKind::Gauge, 1795263098.71),
        ("process_max_fds", MetricKind::Gauge, 20000.0),
        ("process_open_fds", MetricKind::Gauge, 3.0),
        (
            r#"overseer_agent_process_cpu_seconds_total{comm="(odd) name", pid="42"}"#,
            MetricKind::Counter,
            7.0,
        ),
        (
            r#"overseer_agent_process_resident_memory_bytes{comm="init", pid="1"}"#,
            MetricKind::Gauge,
            4096000.0,
        ),
    ] {
        let Some(got) = seen.get(series) else {
            panic!("{series} is missing; there are {:#?}", seen.keys());
        };
        assert_eq!((got.kind, got.value), (kind, value), "{series}");
    }
    let excluded = |o: &&Observation| {
        o.labels.get("device") == Some("loop0") || o.labels.get("fstype").is_some_and(|t| t != "ext4")
    };
    assert_eq!(observations.iter().find(excluded), None);
    assert!(
        observations
            .iter()
            .all(|o| o.labels.get("job") == Some("node") && o.labels.get("instance") == Some("box"))
    );
}

#[test]
fn rows_keep_their_promises() {
    let mut names = BTreeSet::new();
    for row in COLLECTORS {
        assert!(names.insert(row.name), "{} twice", row.name);
        assert!(row.doc.ends_with('.') && !row.metrics.is_empty(), "{}", row.name);
        for metric in row.metrics {
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            let is_counter = metric.name.ends_with("_total");
            assert_eq!(is_counter, metric.kind == MetricKind::Counter, "{}", metric.name);
        }
    }
    let observations = fixture().collect(1);
    for row in COLLECTORS {
        let covers = |o: &Observation| row.metrics.iter().any(|m| m.star(o.labels.metric_name()).is_some());
        assert!(
            observations.iter().any(covers),
            "{} brings nothing from the fixture",
            row.name
        );
    }
}

#[test]
fn a_host_without_texts_costs_only_its_values() {
    let host = Host::real();
    let proc = ProcRoot::at("/nowhere", Arc::clone(&host.files), machine());
    let agent = Agent::new(Config::default(), proc, host).unwrap();
    let names: Vec<String> = agent
        .collect(1)
        .iter()
        .map(|o| o.labels.metric_name().to_owned())
        .collect();
    assert_eq!(names, ["node_time_seconds", "node_uname_info"]);
}

#[test]
fn a_collector_can_be_off() {
    let host = Host::real();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/host");
    let proc = ProcRoot::at(root, Arc::clone(&host.files), machine());
    let config = Config {
        collectors_off: vec!["cpu".into()],
        process_top: 0,
        ..Config::default()
    };
    let observations = Agent::new(config, proc, host).unwrap().collect(1);
    assert!(
        observations
            .iter()
            .all(|o| !o.labels.metric_name().contains("cpu_seconds_total")
                || o.labels.metric_name() == "process_cpu_seconds_total")
    );
    assert!(
        observations
            .iter()
            .all(|o| !o.labels.metric_name().starts_with("overseer_agent_process"))
    );
}

/// A host whose every text is the same bytes.
struct OneText(Vec<u8>);

impl host::Files for OneText {
    fn open(&self, _: &Path, _: host::OpenMode) -> std::io::Result<Arc<dyn host::File>> {
        Ok(Arc::new(OneText(self.0.clone())))
    }
    fn list(&self, _: &Path) -> std::io::Result<Vec<host::Entry>> {
        let entry = |name: &str| host::Entry {
            name: name.into(),
            len: 0,
            is_dir: true,
        };
        Ok(vec![entry("1"), entry("99999999999"), entry("x")])
    }
    fn create_dir_all(&self, _: &Path) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    fn rename(&self, _: &Path, _: &Path) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    fn remove(&self, _: &Path) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    fn hard_link(&self, _: &Path, _: &Path) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    fn exists(&self, _: &Path) -> bool {
        true
    }
    fn sync_dir(&self, _: &Path) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    fn lock(&self, _: &Path) -> std::io::Result<Box<dyn host::Lock>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    fn free_bytes(&self, _: &Path) -> std::io::Result<u64> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl host::File for OneText {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or(&[]);
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn write_all_at(&self, _: &[u8], _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn set_len(&self, _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
    fn len(&self) -> std::io::Result<u64> {
        Ok(0)
    }
    fn allocate(&self, _: u64, _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

fn survive(text: Vec<u8>) {
    let host = Host::real();
    let proc = ProcRoot::at("/", Arc::new(OneText(text)), machine());
    let agent = Agent::new(Config::default(), proc, host).unwrap();
    for now_ms in [i64::MIN, 0, 1, i64::MAX] {
        for observation in agent.collect(now_ms) {
            assert!(!observation.value.is_nan());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_bring_it_down(bytes: Vec<u8>) {
        survive(bytes);
    }

    #[test]
    fn no_words_bring_it_down(words in prop::collection::vec(
        "(cpu0|Ip6InErrors|some total=|1 \\(|\\)|:|MemTotal|kB|mem|18446744073709551615|-1|\\\\04|\\n| |é|[0-9]{1,3}|/|ext4)", 0..80)) {
        survive(words.join(" ").into_bytes());
        survive(words.concat().into_bytes());
    }
}
