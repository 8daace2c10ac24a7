use std::net::SocketAddr;

use crate::terminal;

/// What a new user needs to know, once, on standard output.
pub(crate) fn print(address: SocketAddr, data_dir: &str, auth: &gateway::AuthMode, agent: bool) {
    let shown = if address.ip().is_unspecified() {
        format!("127.0.0.1:{}", address.port())
    } else {
        address.to_string()
    };
    let url = format!("http://{shown}");
    terminal::say(&format!("Overseer {} is ready.", crate::VERSION));
    terminal::say(&format!(
        "  Look:  {url}{}",
        if agent {
            "   (this host is on the page Infra, live)"
        } else {
            ""
        }
    ));
    terminal::say(&format!(
        "  Send:  prometheus.yml   remote_write: [{{url: {url}/api/v1/write}}]"
    ));
    terminal::say(&format!(
        "         OpenTelemetry    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT={url}/v1/metrics"
    ));
    terminal::say(&format!(
        "         InfluxDB, shell  curl -d 'room,floor=2 temperature=21.5' {url}/write"
    ));
    terminal::say("         and more ways on the page Now, with the lines to paste");
    terminal::say("  Ask:   overseer query 'up'");
    terminal::say(&format!("  Data:  {data_dir}"));
    match auth {
        gateway::AuthMode::Loopback => {
            terminal::say("  No login is configured, so only this machine is served; --token-file opens it to others.");
        }
        gateway::AuthMode::None => terminal::say("  auth: none: whoever reaches this address may do everything."),
        gateway::AuthMode::Token(_) => terminal::say("  A token is needed to send and to look."),
    }
}
