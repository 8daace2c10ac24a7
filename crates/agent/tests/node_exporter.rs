//! Compares what the agent says of this host with what Debian's prometheus-node-exporter says of it.
#![allow(clippy::unwrap_used, reason = "a test, its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use agent::{Agent, Config, ProcRoot};
use host::Host;

struct Exporter(Child);

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// node_exporter's answer to one scrape; `None` when it is not installed.
fn scrape() -> Option<String> {
    let mut command = Command::new("prometheus-node-exporter");
    // Debian leaves out lo, node_exporter itself does not
    command.args([
        "--web.listen-address=127.0.0.1:0",
        "--collector.netdev.device-exclude=^none$",
    ]);
    let mut exporter = Exporter(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?);
    let mut log = BufReader::new(exporter.0.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let listening = log
        .find(|line| line.contains("Listening on"))
        .expect("it says where it listens");
    let address = listening.split("address=").nth(1).unwrap().trim().to_owned();
    // the log must be read on, or the exporter blocks on its pipe
    std::thread::spawn(move || log.for_each(drop));
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Some(answer)
}

struct Exported {
    types: BTreeMap<String, String>,
    /// Name, sorted `label="value"` pairs; value.
    series: BTreeMap<(String, Vec<String>), f64>,
}

fn parse(text: &str) -> Exported {
    let mut exported = Exported {
        types: BTreeMap::new(),
        series: BTreeMap::new(),
    };
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            exported
                .types
                .insert(name.to_owned(), kind.replace("untyped", "unknown"));
        } else if !line.starts_with('#')
            && let Some((series, value)) = line.rsplit_once(' ')
            && let Ok(value) = value.parse()
        {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').replace("\",", "\"\n");
            // an empty label is an absent one
            let mut labels: Vec<String> = labels
                .lines()
                .filter(|l| !l.ends_with("=\"\""))
                .map(str::to_owned)
                .collect();
            labels.sort();
            exported.series.insert((name.to_owned(), labels), value);
        }
    }
    exported
}

/// Metrics of node_exporter's that begin like ours and come from elsewhere: sysfs, udev or netlink.
const NOT_OURS: [&str; 6] = [
    "node_disk_info",
    "node_network_receive_nohandler_total",
    "node_time_zone_offset_seconds",
    "node_time_clocksource_available_info",
    "node_time_clocksource_current_info",
    "process_virtual_memory_max_bytes",
];

#[test]
fn names_labels_and_types_are_node_exporters() {
    let Some(text) = scrape() else {
        let is_required = std::env::var_os("OVERSEER_TEST_REQUIRE").is_some();
        assert!(!is_required, "prometheus-node-exporter is missing");
        // past the test runner, which hides what passed tests print
        let why = "SKIPPED: prometheus-node-exporter is not installed (apt-get install prometheus-node-exporter)";
        let _ = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{why}\n"));
        return;
    };
    let theirs = parse(&text);
    let host = Host::real();
    let proc = ProcRoot::real(Arc::clone(&host.files));
    let agent = Agent::new(Config::default(), proc, host.clone()).unwrap();
    let observations = agent.collect(host.clock.now_ms());
    let (mut compared, mut names) = (0, BTreeSet::new());
    for seen in &observations {
        let name = seen.labels.metric_name().to_owned();
        names.insert(name.clone());
        let Some(kind) = theirs.types.get(&name) else {
            // of a kernel newer than that exporter
            let is_known = name.starts_with("overseer_agent_")
                || name == "process_threads"
                || name == "node_pressure_irq_stalled_seconds_total"
                || name.starts_with("node_netstat_TcpExt_");
            assert!(is_known, "node_exporter has no {name}");
            continue;
        };
        assert_eq!(seen.kind.as_str(), kind, "{name}");
        let labels = seen.labels.without("job").without("instance").without("__name__");
        let labels: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        let value = theirs.series.get(&(name.clone(), labels.clone()));
        let Some(value) = value else {
            panic!("node_exporter has no {name} {labels:?}")
        };
        compared += 1;
        // those that do not move between two looks
        let is_fixed = name.ends_with("_info")
            || [
                "node_boot_time",
                "node_memory_MemTotal",
                "node_filesystem_size",
                "node_filesystem_readonly",
            ]
            .iter()
            .any(|fixed| name.starts_with(fixed));
        if is_fixed {
            assert_eq!(seen.value, *value, "{name} {labels:?}");
        }
    }
    assert!(compared > 100, "only {compared} series were compared");
    let ours = [
        "node_cpu_",
        "node_disk_",
        "node_filefd_",
        "node_filesystem_",
        "node_load",
        "node_memory_",
        "node_netstat_",
        "node_network_receive_",
        "node_network_transmit_",
        "node_os_",
        "node_pressure_",
        "node_procs_",
        "node_sockstat_",
        "node_time_",
        "node_uname_",
        "node_vmstat_",
        "node_boot_",
        "node_context_",
        "node_intr_",
        "node_forks_",
        "process_",
    ];
    let beside = ["node_network_transmit_queue_length"];
    for name in theirs.types.keys() {
        let is_ours = ours.iter().any(|prefix| name.starts_with(prefix))
            && !NOT_OURS.contains(&name.as_str())
            && !beside.contains(&name.as_str());
        assert!(!is_ours || names.contains(name), "the agent lacks {name}");
    }
}
