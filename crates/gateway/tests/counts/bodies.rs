use std::fmt::Write as _;

use wire::Encoding;
use wire::proto::Writer;

/// A steady sender of one protocol: `SERIES` series, each with one sample every 15 s.
pub(crate) struct Kind {
    pub(crate) protocol: &'static str,
    pub(crate) encoding: Encoding,
    /// Allocations per sample where all series are known, with 1000 samples a body: what remains is a few for each body, and
    /// four for each metric (25 here) where its description comes along.
    pub(crate) allocations_max: f64,
    /// The body number so much.
    pub(crate) body: fn(usize, usize) -> Body,
}

pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) now_ms: i64,
    pub(crate) target: Vec<(String, String)>,
}

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        protocol: "remote_write",
        encoding: Encoding::Snappy,
        allocations_max: 0.015,
        body: remote_write,
    },
    Kind {
        protocol: "remote_write_2",
        encoding: Encoding::Snappy,
        allocations_max: 0.03,
        body: remote_write_2,
    },
    Kind {
        protocol: "influx",
        encoding: Encoding::Identity,
        allocations_max: 0.02,
        body: influx,
    },
    Kind {
        protocol: "otlp",
        encoding: Encoding::Identity,
        allocations_max: 0.15,
        body: otlp,
    },
    Kind {
        protocol: "prometheus_text",
        encoding: Encoding::Identity,
        allocations_max: 0.13,
        body: text,
    },
];

/// A border of two hours, as the engine has them: a run stays behind it.
const START_MS: i64 = 1_700_006_400_000;
const INTERVAL_MS: i64 = 15_000;
/// Fields of a line of InfluxDB's protocol.
const FIELDS: usize = 4;

fn at_ms(at: usize) -> i64 {
    // scrapes are a few ms early or late
    START_MS + at as i64 * INTERVAL_MS + (at as i64 * 7) % 5
}

/// Half of the series count up, a third go up and down with two decimals, the others stand still.
fn value(series: usize, at: usize) -> f64 {
    let noise = (series * 31 + at * 17) * 7919 % 1009;
    match series % 6 {
        0..3 => (series * 1000 + at * (5 + series % 40) + noise % 5) as f64,
        3 | 4 => 20.0 + (noise % 997) as f64 / 100.0,
        _ => (series % 3) as f64,
    }
}

fn labels(series: usize) -> [(&'static str, String); 5] {
    [
        ("__name__", format!("shop_requests_{}_total", series / 40)),
        ("instance", format!("10.0.{}.7:9100", series % 8)),
        ("job", "shop".to_owned()),
        (
            "method",
            ["GET", "POST", "PUT", "DELETE", "HEAD"][series / 8 % 5].to_owned(),
        ),
        ("path", format!("/api/v1/things/{}", series % 40)),
    ]
}

fn body(bytes: Vec<u8>, at: usize) -> Body {
    Body {
        bytes,
        now_ms: at_ms(at),
        target: Vec::new(),
    }
}

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

fn remote_write(series: usize, at: usize) -> Body {
    let mut request = Writer::default();
    for s in 0..series {
        request.message(1, |one| {
            for (name, value) in labels(s) {
                one.message(1, |label| {
                    label.bytes(1, name.as_bytes());
                    label.bytes(2, value.as_bytes());
                });
            }
            one.message(2, |sample| {
                sample.double(1, value(s, at));
                sample.varint(2, at_ms(at) as u64);
            });
        });
    }
    body(snappy(&request.out), at)
}

fn remote_write_2(series: usize, at: usize) -> Body {
    let mut symbols = vec![String::new()];
    let mut known = std::collections::HashMap::new();
    let mut refer = |text: &str| -> u64 {
        *known.entry(text.to_owned()).or_insert_with(|| {
            symbols.push(text.to_owned());
            symbols.len() as u64 - 1
        })
    };
    let mut rows = Writer::default();
    for s in 0..series {
        rows.message(5, |one| {
            let mut refs = Writer::default();
            for (name, value) in labels(s) {
                refs.raw_varint(refer(name));
                refs.raw_varint(refer(&value));
            }
            one.bytes(1, &refs.out);
            one.message(2, |sample| {
                sample.double(1, value(s, at));
                sample.varint(2, at_ms(at) as u64);
            });
        });
    }
    let mut request = Writer::default();
    symbols.iter().for_each(|s| request.bytes(4, s.as_bytes()));
    request.out.extend_from_slice(&rows.out);
    body(snappy(&request.out), at)
}

/// Telegraf's way: lines of some fields each.
fn influx(series: usize, at: usize) -> Body {
    let mut text = String::new();
    for first in (0..series).step_by(FIELDS) {
        let fields: Vec<String> = (first..series.min(first + FIELDS))
            .map(|s| format!("field_{}={}", s % FIELDS, value(s, at)))
            .collect();
        let line = first / FIELDS;
        let _ = writeln!(
            text,
            "system_{},host=web-{},region=eu-central,rack=r{} {} {}",
            line / 50,
            line % 50,
            line % 7,
            fields.join(","),
            at_ms(at) * 1_000_000
        );
    }
    body(text.into_bytes(), at)
}

fn otlp(series: usize, at: usize) -> Body {
    let attribute = |to: &mut Writer, field: u32, key: &str, value: &str| {
        to.message(field, |pair| {
            pair.bytes(1, key.as_bytes());
            pair.message(2, |v| v.bytes(1, value.as_bytes()));
        });
    };
    let mut request = Writer::default();
    request.message(1, |resource_metrics| {
        resource_metrics.message(1, |resource| {
            attribute(resource, 1, "service.name", "shop");
            attribute(resource, 1, "service.instance.id", "shop-7");
        });
        resource_metrics.message(2, |scope| {
            for first in (0..series).step_by(40) {
                scope.message(2, |metric| {
                    metric.bytes(1, format!("shop.requests.{}", first / 40).as_bytes());
                    metric.message(5, |gauge| {
                        for s in first..series.min(first + 40) {
                            gauge.message(1, |point| {
                                point.fixed64(3, at_ms(at) as u64 * 1_000_000);
                                point.double(4, value(s, at));
                                for (name, value) in &labels(s)[3..] {
                                    attribute(point, 7, name, value);
                                }
                            });
                        }
                    });
                });
            }
        });
    });
    body(request.out, at)
}

fn text(series: usize, at: usize) -> Body {
    let mut text = String::new();
    for s in 0..series {
        let [(_, name), _, _, method, path] = labels(s);
        if s % 40 == 0 {
            let _ = writeln!(text, "# HELP {name} Requests that came in.\n# TYPE {name} counter");
        }
        let _ = writeln!(
            text,
            "{name}{{method=\"{}\",path=\"{}\"}} {}",
            method.1,
            path.1,
            value(s, at)
        );
    }
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Body {
        target: vec![pair("instance", "10.0.0.7:9100"), pair("job", "shop")],
        ..body(text.into_bytes(), at)
    }
}
