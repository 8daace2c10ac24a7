//! Real clients against the real binary: Debian's prometheus and node_exporter, PyPI's influxdb and opentelemetry-sdk.
//! What is not installed is skipped, loudly; `cargo xtask test` installs it.
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::PATIENCE;
use crate::server::{Dir, Server, now_seconds};

/// Says that a test did not run; past the test runner, which hides what passed tests print.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stdout(), "SKIPPED: {why}");
}

pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|d| d.join(name)).find(|p| p.is_file());
    if found.is_none() {
        skipped(&format!("{name} is not installed; `cargo xtask test` installs it"));
    }
    found
}

/// A process that ends with the test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn start(command: &mut Command) -> Running {
    Running(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    )
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

pub(crate) fn wait_for(server: &Server, expr: &str) {
    let deadline = Instant::now() + 2 * PATIENCE;
    while server.query(expr, now_seconds()).is_empty() {
        assert!(Instant::now() < deadline, "{expr} never had a value");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn prometheus_writes_what_it_scrapes() {
    let Some(prometheus) = program("prometheus") else {
        return;
    };
    let dir = Dir::new();
    let server = Server::start(&dir.path().join("data"));
    let port = free_port();
    let yaml = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: prometheus\n    static_configs:\n      - targets: ['127.0.0.1:{port}']\nremote_write:\n  - url: http://{}/api/v1/write\n    send_exemplars: true\n    send_native_histograms: true\n",
        server.address
    );
    let config = dir.file("prometheus.yml", &yaml);
    let _running = start(
        Command::new(prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("prometheus").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
    );
    wait_for(&server, "up{job=\"prometheus\"} == 1");
    wait_for(&server, "prometheus_remote_storage_samples_total > 100");
    // nothing was refused, so nothing was given up
    assert_eq!(
        server.value("prometheus_remote_storage_samples_failed_total", now_seconds()),
        0.0
    );
    wait_for(
        &server,
        "rate(prometheus_http_requests_total{handler=\"/metrics\"}[1m]) > 0",
    );
}

#[test]
fn node_exporter_is_scraped() {
    let Some(exporter) = program("prometheus-node-exporter") else {
        return;
    };
    let dir = Dir::new();
    let port = free_port();
    let _running = start(Command::new(exporter).arg(format!("--web.listen-address=127.0.0.1:{port}")));
    let yaml = format!(
        "scrape:\n  jobs:\n    - name: node\n      interval_seconds: 1\n      timeout_seconds: 1\n      targets: [\"127.0.0.1:{port}\"]\n"
    );
    let config = dir.file("overseer.yaml", &yaml);
    let server = Server::with(&dir.path().join("data"), &["--config", config.to_str().unwrap()]);
    wait_for(&server, "up{job=\"node\"} == 1");
    wait_for(&server, "node_load1{job=\"node\"}");
    wait_for(&server, "rate(node_cpu_seconds_total{job=\"node\",mode=\"idle\"}[1m])");
    let metadata = server.get("/api/v1/metadata?metric=node_load1").unwrap().json();
    assert_eq!(metadata["data"]["node_load1"][0]["type"], "gauge", "{metadata}");
}

fn python(script: &str, address: &str) -> bool {
    let Some(python) = std::env::var_os("OVERSEER_TEST_PYTHON") else {
        skipped("OVERSEER_TEST_PYTHON is not set; `cargo xtask test` makes a Python with the clients");
        return false;
    };
    let output = Command::new(python).args(["-c", script, address]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    true
}

#[test]
fn the_influxdb_client_writes() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let script = r#"
import sys
from influxdb import InfluxDBClient
host, port = sys.argv[1].split(":")
client = InfluxDBClient(host=host, port=int(port), database="db")
assert client.ping()
assert client.write_points([
    {"measurement": "weather", "tags": {"city": "Bern, old town"}, "fields": {"celsius": 12.5, "days": 3, "note": "fog"}},
    {"measurement": "weather", "tags": {"city": "Basel"}, "fields": {"celsius": 14.0}},
])
assert client.write_points([{"measurement": "weather", "fields": {"celsius": 1.0}}], time_precision="ms")
"#;
    if python(script, &server.address) {
        assert_eq!(
            server.value("weather_celsius{city=\"Bern, old town\"}", now_seconds()),
            12.5
        );
        assert_eq!(server.value("weather_days", now_seconds()), 3.0);
        assert_eq!(server.value("count(weather_celsius)", now_seconds()), 3.0);
    }
}

#[test]
fn the_opentelemetry_sdk_exports() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let script = r#"
import sys
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
exporter = OTLPMetricExporter(endpoint="http://" + sys.argv[1] + "/v1/metrics")
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3600000)
provider = MeterProvider([reader], resource=Resource.create({"service.name": "shop", "service.instance.id": "1"}))
meter = provider.get_meter("test", "1.0")
meter.create_counter("orders", unit="1").add(5, {"kind": "book"})
histogram = meter.create_histogram("latency", unit="s")
for v in (0.001, 0.2, 3.0):
    histogram.record(v)
assert provider.force_flush()
provider.shutdown()
"#;
    if python(script, &server.address) {
        assert_eq!(
            server.value("orders_total{kind=\"book\",job=\"shop\"}", now_seconds()),
            5.0
        );
        assert_eq!(server.value("latency_seconds_count", now_seconds()), 3.0);
        assert_eq!(server.value("latency_seconds_bucket{le=\"+Inf\"}", now_seconds()), 3.0);
        assert!(!server.query("target_info{job=\"shop\"}", now_seconds()).is_empty());
    }
}
