use std::net::SocketAddr;

use crate::terminal;

/// What a new user needs to know, once, on standard output. A server runs also where nobody can read that.
pub(crate) fn print(address: SocketAddr, data_dir: &str, auth: &gateway::AuthMode, agent: bool) {
    let _ = lines(address, data_dir, auth, agent)
        .iter()
        .try_for_each(|line| terminal::say(line));
}

fn lines(address: SocketAddr, data_dir: &str, auth: &gateway::AuthMode, agent: bool) -> Vec<String> {
    let shown = if address.ip().is_unspecified() {
        format!("127.0.0.1:{}", address.port())
    } else {
        address.to_string()
    };
    let url = format!("http://{shown}");
    let note = if agent {
        "   (this host is on the page Infra, live)"
    } else {
        ""
    };
    let access = match auth {
        gateway::AuthMode::Loopback => {
            "  No login is configured, so only this machine is served; --token-file opens it to others."
        }
        gateway::AuthMode::None => "  auth: none: whoever reaches this address may do everything.",
        gateway::AuthMode::Token(_) => "  A token is needed to send and to look.",
    };
    vec![
        format!("Overseer {} is ready.", crate::VERSION),
        format!("  Look:  {url}{note}"),
        format!("  Send:  prometheus.yml   remote_write: [{{url: {url}/api/v1/write}}]"),
        format!("         OpenTelemetry    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT={url}/v1/metrics"),
        format!("         InfluxDB, shell  curl -d 'room,floor=2 temperature=21.5' {url}/write"),
        "         and more ways on the page Now, with the lines to paste".to_owned(),
        "  Ask:   overseer query 'up'".to_owned(),
        format!("  Data:  {data_dir}"),
        access.to_owned(),
    ]
}
