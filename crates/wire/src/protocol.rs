use model::SampleSink;

use crate::{DecodeError, Encoding, exposition, influx, metrics_json, otlp, remote_write, remote_write2};

/// What a decoder needs besides the body. All of it comes from the sender but the clock's time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Value of `Content-Type`; empty when there is none.
    pub content_type: &'a str,
    /// Decoded pairs of the URL's query.
    pub query: &'a [(String, String)],
    /// Unix milliseconds of arrival: the time of samples that carry none.
    pub now_ms: i64,
    /// Labels that every series of a scraped body gets (`job`, `instance`, …); empty for what is pushed.
    pub target: &'a [(String, String)],
    /// Scraped bodies only: labels of the body win over those of the target instead of moving to `exported_…`.
    pub honor_labels: bool,
    /// Scraped bodies only: samples get the time of arrival even where the body has another.
    pub ignore_timestamps: bool,
}

impl<'a> Request<'a> {
    /// The first value of a query parameter.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// One way in.
pub struct Protocol {
    /// Stable name, also in metrics and URLs of Overseer's own API.
    pub id: &'static str,
    pub name: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// HTTP paths that take it; empty when it is pulled.
    pub paths: &'static [&'static str],
    /// Media types, with the parameter that tells versions apart where there is one; the first is the usual one.
    /// `*` takes any.
    pub content_types: &'static [&'static str],
    /// Encodings taken. The first is what a missing `Content-Encoding` means.
    pub encodings: &'static [Encoding],
    /// Lines to paste into the sender's configuration. `{url}` stands for `http://host:port`, `{address}` for `host:port`.
    pub setup: &'static [Setup],
    pub example: Example,
    pub decode: fn(&[u8], &Request<'_>, &mut dyn SampleSink) -> Result<(), DecodeError>,
}

/// Where to write what.
pub struct Setup {
    pub label: &'static str,
    pub text: &'static str,
}

/// A plain (decompressed) body that decodes.
pub struct Example {
    pub content_type: &'static str,
    pub body: &'static [u8],
}

/// Every way in. A new one is a module and a row here.
pub static PROTOCOLS: &[Protocol] = &[
    Protocol {
        id: "remote_write",
        name: "Prometheus remote write 1.0",
        doc: "What Prometheus, VictoriaMetrics' vmagent, Grafana Alloy and Telegraf send: samples, exemplars, native histograms and metadata.",
        paths: &["/api/v1/write"],
        content_types: &["application/x-protobuf", "application/x-protobuf;proto=prometheus.WriteRequest"],
        encodings: &[Encoding::Snappy, Encoding::Zstd, Encoding::Identity],
        setup: &[Setup {
            label: "prometheus.yml",
            text: "remote_write:\n  - url: {url}/api/v1/write",
        }],
        example: Example {
            content_type: "application/x-protobuf",
            body: include_bytes!("../testdata/remote_write.example.bin"),
        },
        decode: |body, request, sink| remote_write::decode(body, request, sink),
    },
    Protocol {
        id: "remote_write_2",
        name: "Prometheus remote write 2.0",
        doc: "The second version: labels as references into a table of symbols, with metadata and start times beside the samples.",
        paths: &["/api/v1/write"],
        content_types: &["application/x-protobuf;proto=io.prometheus.write.v2.Request"],
        encodings: &[Encoding::Snappy, Encoding::Zstd, Encoding::Identity],
        setup: &[Setup {
            label: "prometheus.yml",
            text: "remote_write:\n  - url: {url}/api/v1/write\n    protobuf_message: io.prometheus.write.v2.Request",
        }],
        example: Example {
            content_type: "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            body: include_bytes!("../testdata/remote_write_2.example.bin"),
        },
        decode: |body, request, sink| remote_write2::decode(body, request, sink),
    },
    Protocol {
        id: "influx",
        name: "InfluxDB line protocol",
        doc: "What Telegraf and InfluxDB clients send, version 1 and 2: each numeric field becomes the series measurement_field.",
        paths: &["/write", "/api/v2/write"],
        content_types: &["*"],
        encodings: &[Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd],
        setup: &[
            Setup {
                label: "telegraf.conf",
                text: "[[outputs.influxdb]]\n  urls = [\"{url}\"]\n  skip_database_creation = true",
            },
            Setup {
                label: "shell",
                text: "curl -d 'room,floor=2 temperature=21.5,people=3i' {url}/write",
            },
        ],
        example: Example {
            content_type: "text/plain",
            body: b"room,floor=2 temperature=21.5,people=3i,open=true 1700000000000000000\n",
        },
        decode: |body, request, sink| influx::decode(body, request, sink),
    },
    Protocol {
        id: "otlp",
        name: "OTLP/HTTP metrics",
        doc: "What OpenTelemetry SDKs and collectors send as protobuf: gauges, sums, histograms and summaries under Prometheus names.",
        paths: &["/v1/metrics"],
        content_types: &["application/x-protobuf"],
        encodings: &[Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd],
        setup: &[Setup {
            label: "environment",
            text: "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nOTEL_EXPORTER_OTLP_METRICS_ENDPOINT={url}/v1/metrics",
        }],
        example: Example {
            content_type: "application/x-protobuf",
            body: include_bytes!("../testdata/otlp.example.bin"),
        },
        decode: |body, request, sink| otlp::decode(body, request, sink),
    },
    Protocol {
        id: "otlp_json",
        name: "OTLP/HTTP metrics as JSON",
        doc: "The same as JSON, for browsers, scripts and collectors set to it.",
        paths: &["/v1/metrics"],
        content_types: &["application/json"],
        encodings: &[Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd],
        setup: &[Setup {
            label: "environment",
            text: "OTEL_EXPORTER_OTLP_PROTOCOL=http/json\nOTEL_EXPORTER_OTLP_METRICS_ENDPOINT={url}/v1/metrics",
        }],
        example: Example {
            content_type: "application/json",
            body: br#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
"scopeMetrics":[{"metrics":[{"name":"orders","sum":{"isMonotonic":true,"aggregationTemporality":2,
"dataPoints":[{"timeUnixNano":"1700000000000000000","asInt":"42"}]}}]}]}]}"#,
        },
        decode: |body, request, sink| otlp::decode_json(body, request, sink),
    },
    Protocol {
        id: "json",
        name: "Overseer's JSON",
        doc: "One metric or many in plain JSON, for a shell script or a program without a library.",
        paths: &["/api/v1/metrics"],
        content_types: &["*"],
        encodings: &[Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd],
        setup: &[Setup {
            label: "shell",
            text: "curl {url}/api/v1/metrics -d '{\"name\":\"room_temperature\",\"value\":21.5,\"labels\":{\"floor\":\"2\"}}'",
        }],
        example: Example {
            content_type: "application/json",
            body: br#"{"name":"room_temperature","value":21.5,"timestamp":"2023-11-14T22:13:20Z","type":"gauge","unit":"celsius","labels":{"floor":"2"}}"#,
        },
        decode: |body, request, sink| metrics_json::decode(body, request, sink),
    },
    Protocol {
        id: "prometheus_text",
        name: "Prometheus text format",
        doc: "What exporters serve on /metrics; Overseer scrapes it from the targets it is given.",
        paths: &[],
        content_types: &["text/plain"],
        encodings: &[Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd],
        setup: &[Setup {
            label: "overseer.yaml",
            text: "scrape:\n  jobs:\n    - name: node\n      targets: [\"localhost:9100\"]",
        }],
        example: Example {
            content_type: "text/plain; version=0.0.4",
            body: b"# HELP http_requests_total Requests answered.\n# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} 1027 1700000000000\n",
        },
        decode: |body, request, sink| exposition::decode(body, exposition::Format::Text, request, sink).map(drop),
    },
    Protocol {
        id: "openmetrics",
        name: "OpenMetrics text",
        doc: "The stricter form of the text format, with exemplars and units, ended by # EOF; scraped like the other.",
        paths: &[],
        content_types: &["application/openmetrics-text"],
        encodings: &[Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd],
        setup: &[Setup {
            label: "overseer.yaml",
            text: "scrape:\n  jobs:\n    - name: app\n      targets: [\"localhost:8080\"]",
        }],
        example: Example {
            content_type: "application/openmetrics-text; version=1.0.0",
            body: b"# TYPE http_requests counter\n# HELP http_requests Requests answered.\nhttp_requests_total{code=\"200\"} 1027 1700000000 # {trace_id=\"ab12\"} 0.5\n# EOF\n",
        },
        decode: |body, request, sink| exposition::decode(body, exposition::Format::OpenMetrics, request, sink).map(drop),
    },
];

/// The row of an id.
pub fn find(id: &str) -> Option<&'static Protocol> {
    PROTOCOLS.iter().find(|p| p.id == id)
}

impl Protocol {
    /// The row for a body posted to `path` with this content type. `None`: no way in has this path, or none of those
    /// that have it takes the content type.
    pub fn for_request(path: &str, content_type: &str) -> Option<&'static Protocol> {
        PROTOCOLS
            .iter()
            .find(|p| p.paths.contains(&path) && p.content_types.iter().any(|t| takes(t, content_type)))
    }

    /// The encoding of a body by its `Content-Encoding` header (empty when missing), if this way in takes it.
    pub fn encoding(&self, header: &str) -> Result<Encoding, DecodeError> {
        if header.trim().is_empty() {
            return Ok(self.encodings[0]);
        }
        let encoding = Encoding::parse(header)?;
        if self.encodings.contains(&encoding) {
            return Ok(encoding);
        }
        let right: Vec<_> = self.encodings.iter().map(|e| e.as_str()).collect();
        Err(DecodeError::unsupported(format!(
            "Content-Encoding {} is not taken by {}: {} is right",
            encoding.as_str(),
            self.name,
            right.join(", ")
        )))
    }
}

/// `type/subtype` of a content type, without parameters.
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or("").trim()
}

fn proto_param(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("proto")
            .then(|| value.trim().trim_matches('"'))
    })
}

fn takes(row: &str, content_type: &str) -> bool {
    row == "*"
        || media_type(row).eq_ignore_ascii_case(media_type(content_type))
            && proto_param(row) == proto_param(content_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_type_tells_versions_apart() {
        let id = |path, ty| Protocol::for_request(path, ty).map(|p| p.id);
        assert_eq!(id("/api/v1/write", "application/x-protobuf"), Some("remote_write"));
        let v1 = "application/x-protobuf; proto=prometheus.WriteRequest";
        assert_eq!(id("/api/v1/write", v1), Some("remote_write"));
        let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        assert_eq!(id("/api/v1/write", v2), Some("remote_write_2"));
        assert_eq!(id("/api/v1/write", "application/x-protobuf;proto=a.B"), None);
        assert_eq!(id("/api/v1/write", "text/html"), None);
        assert_eq!(id("/v1/metrics", "application/json; charset=utf-8"), Some("otlp_json"));
        assert_eq!(id("/v1/metrics", "Application/X-Protobuf"), Some("otlp"));
        assert_eq!(id("/v1/metrics", "text/html"), None);
        assert_eq!(id("/write", ""), Some("influx"));
    }

    #[test]
    fn encodings_are_those_of_the_row() {
        let p = find("remote_write").unwrap();
        assert_eq!(p.encoding("").unwrap(), Encoding::Snappy);
        assert_eq!(
            p.encoding("gzip").unwrap_err().kind,
            crate::DecodeErrorKind::Unsupported
        );
        assert!(find("otlp").unwrap().encoding("br").is_err());
    }
}
