//! What `/federate` answers: the last sample of each series, in the text format or in Prometheus' protocol buffers.
use model::{Histogram, Labels, METRIC_NAME, MetricKind, ResetHint, Span};

use crate::exposition::Writer as Text;
use crate::proto::Writer;

/// The label that tells a scraper not to add its own when it is there, also empty.
const INSTANCE: &str = "instance";

/// A series' last sample.
#[derive(Clone, Debug)]
pub struct Federated {
    pub labels: Labels,
    /// Unix ms.
    pub at_ms: i64,
    pub value: FederatedValue,
}

#[derive(Clone, Debug)]
pub enum FederatedValue {
    Float(f64),
    Histogram(std::sync::Arc<Histogram>),
}

/// How names are written that older readers do not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escaping {
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

impl Escaping {
    const ALL: [(Escaping, &'static str); 4] = [
        (Escaping::AllowUtf8, "allow-utf-8"),
        (Escaping::Underscores, "underscores"),
        (Escaping::Dots, "dots"),
        (Escaping::Values, "values"),
    ];

    fn as_str(self) -> &'static str {
        Escaping::ALL
            .iter()
            .find(|(e, _)| *e == self)
            .map_or("", |(_, name)| name)
    }

    /// A name as this spelling has it; `colon`: it is a metric's.
    fn name(self, name: &str, colon: bool) -> String {
        let plain = |c: char, first: bool| {
            c.is_ascii_alphabetic() || c == '_' || colon && c == ':' || !first && c.is_ascii_digit()
        };
        let is_plain = name.chars().enumerate().all(|(i, c)| plain(c, i == 0));
        if self == Escaping::AllowUtf8 || is_plain && self != Escaping::Dots {
            return name.to_owned();
        }
        let mut out = String::with_capacity(name.len() + 8);
        if self == Escaping::Values {
            out.push_str("U__");
        }
        for (i, c) in name.chars().enumerate() {
            match (self, c) {
                (Escaping::Dots | Escaping::Values, '_') => out.push_str("__"),
                (Escaping::Dots, '.') => out.push_str("_dot_"),
                (_, c) if plain(c, i == 0) => out.push(c),
                (Escaping::Dots, _) => out.push_str("__"),
                (Escaping::Values, c) => out.push_str(&format!("_{:x}_", u32::from(c))),
                _ => out.push('_'),
            }
        }
        out
    }
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Messages with their lengths before them, instead of text; only these hold exponential histograms.
    pub protobuf: bool,
    pub escaping: Escaping,
}

impl Format {
    /// The first form of an `Accept` header that there is; text when it names none.
    pub fn negotiate(accept: &str) -> Self {
        let mut format = Format {
            protobuf: false,
            escaping: Escaping::Underscores,
        };
        let mut wishes: Vec<(f64, &str)> = accept
            .split(',')
            .map(|wish| {
                let q = parameter(wish, "q").and_then(|q| q.parse().ok());
                (q.unwrap_or(1.0), wish)
            })
            .filter(|(q, _)| *q > 0.0)
            .collect();
        wishes.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, wish) in wishes {
            if let Some(named) = parameter(wish, "escaping")
                && let Some((escaping, _)) = Escaping::ALL.iter().find(|(_, name)| *name == named)
            {
                format.escaping = *escaping;
            }
            let media = wish.split(';').next().unwrap_or("").trim();
            if media == "application/vnd.google.protobuf"
                && parameter(wish, "proto") == Some("io.prometheus.client.MetricFamily")
                && parameter(wish, "encoding") == Some("delimited")
            {
                format.protobuf = true;
                return format;
            }
            if media == "text/plain" && matches!(parameter(wish, "version"), None | Some("0.0.4")) {
                return format;
            }
        }
        format
    }

    pub fn content_type(self) -> String {
        let media = if self.protobuf {
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
        } else {
            Text::CONTENT_TYPE
        };
        format!("{media}; escaping={}", self.escaping.as_str())
    }
}

fn parameter<'a>(wish: &'a str, name: &str) -> Option<&'a str> {
    wish.split(';').skip(1).find_map(|p| {
        let (n, v) = p.split_once('=')?;
        n.trim().eq_ignore_ascii_case(name).then(|| v.trim().trim_matches('"'))
    })
}

/// The body for samples that are sorted by metric name. Series without a name are left out, as are exponential
/// histograms from text, which has no form for them.
pub fn write(samples: &[Federated], format: Format) -> Vec<u8> {
    let mut text = Text::new();
    let mut messages = Writer::default();
    let mut at = 0;
    while let Some(first) = samples.get(at) {
        let kind = kind_of(first);
        let name = first.labels.metric_name();
        let alike = |s: &&Federated| s.labels.metric_name() == name && kind_of(s) == kind;
        let family = &samples[at..at + samples[at..].iter().take_while(alike).count()];
        at += family.len();
        let name = format.escaping.name(name, true);
        if name.is_empty() {
            continue;
        }
        if format.protobuf {
            let mut message = Writer::default();
            protobuf(&mut message, &name, kind, family, format.escaping);
            messages.raw_varint(message.out.len() as u64);
            messages.out.extend_from_slice(&message.out);
        } else {
            plain(&mut text, &name, kind, family, format.escaping);
        }
    }
    if format.protobuf {
        messages.out
    } else {
        text.finish().into_bytes()
    }
}

fn kind_of(sample: &Federated) -> MetricKind {
    match &sample.value {
        FederatedValue::Float(_) => MetricKind::Unknown,
        FederatedValue::Histogram(h) if h.reset_hint == ResetHint::Gauge => MetricKind::GaugeHistogram,
        FederatedValue::Histogram(_) => MetricKind::Histogram,
    }
}

/// Labels of a sample but its name, with the instance when it has none.
fn pairs(labels: &Labels, escaping: Escaping) -> Vec<(String, &str)> {
    let own = labels.iter().filter(|(n, _)| *n != METRIC_NAME);
    let mut all: Vec<(String, &str)> = own.map(|(n, v)| (escaping.name(n, false), v)).collect();
    if labels.get(INSTANCE).is_none() {
        all.push((INSTANCE.to_owned(), ""));
    }
    all
}

/// (upper bound, observations up to it) of a histogram with custom bounds.
fn cumulative(h: &Histogram) -> Vec<(f64, f64)> {
    let mut counts = vec![0.0; h.custom_values.len()];
    let (mut index, mut buckets) = (0i64, h.positive_buckets.iter());
    for Span { offset, length } in &h.positive_spans {
        index += i64::from(*offset);
        for count in buckets.by_ref().take(*length as usize) {
            if let Some(slot) = usize::try_from(index).ok().and_then(|i| counts.get_mut(i)) {
                *slot = *count;
            }
            index += 1;
        }
    }
    let sums = counts.iter().scan(0.0, |sum, count| {
        *sum += count;
        Some(*sum)
    });
    h.custom_values.iter().copied().zip(sums).collect()
}

fn plain(text: &mut Text, name: &str, kind: MetricKind, family: &[Federated], escaping: Escaping) {
    let shown = |s: &&Federated| match &s.value {
        FederatedValue::Float(_) => true,
        FederatedValue::Histogram(h) => h.is_custom(),
    };
    let mut head = false;
    for s in family.iter().filter(shown) {
        if !head {
            text.family(name, kind, "");
            head = true;
        }
        let labels = pairs(&s.labels, escaping);
        let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        match &s.value {
            FederatedValue::Float(value) => text.sample_at(name, &labels, *value, s.at_ms),
            FederatedValue::Histogram(h) => {
                let bucket = format!("{name}_bucket");
                let bounds = cumulative(h).into_iter().chain([(f64::INFINITY, h.count)]);
                for (bound, count) in bounds {
                    let le = if bound == f64::INFINITY {
                        "+Inf".to_owned()
                    } else {
                        bound.to_string()
                    };
                    let mut with_bound = labels.clone();
                    with_bound.push(("le", &le));
                    text.sample_at(&bucket, &with_bound, count, s.at_ms);
                }
                text.sample_at(&format!("{name}_sum"), &labels, h.sum, s.at_ms);
                text.sample_at(&format!("{name}_count"), &labels, h.count, s.at_ms);
            }
        }
    }
}

/// An `io.prometheus.client.MetricFamily`.
fn protobuf(w: &mut Writer, name: &str, kind: MetricKind, family: &[Federated], escaping: Escaping) {
    w.bytes(1, name.as_bytes());
    w.varint(
        3,
        match kind {
            MetricKind::Histogram => 4,
            MetricKind::GaugeHistogram => 5,
            _ => 3,
        },
    );
    for s in family {
        w.message(4, |metric| {
            for (name, value) in pairs(&s.labels, escaping) {
                metric.message(1, |pair| {
                    pair.bytes(1, name.as_bytes());
                    pair.bytes(2, value.as_bytes());
                });
            }
            match &s.value {
                FederatedValue::Float(value) => metric.message(5, |untyped| untyped.double(1, *value)),
                FederatedValue::Histogram(h) => metric.message(7, |w| histogram(w, h)),
            }
            metric.varint(6, s.at_ms as u64);
        });
    }
}

/// An `io.prometheus.client.Histogram`, in floats.
fn histogram(w: &mut Writer, h: &Histogram) {
    w.double(4, h.count);
    w.double(2, h.sum);
    if h.is_custom() {
        // older readers of classic histograms know whole counts only
        if h.integer {
            w.varint(1, h.count as u64);
        }
        for (bound, count) in cumulative(h) {
            w.message(3, |bucket| {
                if h.integer {
                    bucket.varint(1, count as u64);
                }
                bucket.double(2, bound);
                bucket.double(4, count);
            });
        }
        return;
    }
    w.zigzag(5, i64::from(h.schema));
    w.double(6, h.zero_threshold);
    w.double(8, h.zero_count);
    for (field, spans, buckets) in [
        (9, &h.negative_spans, &h.negative_buckets),
        (12, &h.positive_spans, &h.positive_buckets),
    ] {
        for Span { offset, length } in spans {
            w.message(field, |span| {
                span.zigzag(1, i64::from(*offset));
                span.varint(2, u64::from(*length));
            });
        }
        for count in buckets {
            w.double(field + 2, *count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::CUSTOM_BUCKETS_SCHEMA;

    use super::*;

    fn float(labels: &[(&str, &str)], value: f64) -> Federated {
        Federated {
            labels: Labels::from_pairs(labels.iter().copied()),
            at_ms: 1_700_000_000_000,
            value: FederatedValue::Float(value),
        }
    }

    fn of(name: &str, h: Histogram) -> Federated {
        Federated {
            value: FederatedValue::Histogram(Arc::new(h)),
            ..float(&[("__name__", name), ("instance", "a")], 0.0)
        }
    }

    fn text(samples: &[Federated], escaping: Escaping) -> String {
        let format = Format {
            protobuf: false,
            escaping,
        };
        String::from_utf8(write(samples, format)).unwrap()
    }

    #[test]
    fn floats_are_untyped_and_have_an_instance() {
        let samples = [
            float(&[("job", "nameless")], 1.0),
            float(&[("__name__", "a"), ("job", "x\"y")], 1.5),
            float(&[("__name__", "a"), ("instance", "i")], f64::INFINITY),
            float(&[("__name__", "b.c"), ("d.e", "f")], 2.0),
        ];
        let expected = "# TYPE a untyped\n\
            a{job=\"x\\\"y\",instance=\"\"} 1.5 1700000000000\n\
            a{instance=\"i\"} +Inf 1700000000000\n\
            # TYPE b_c untyped\n\
            b_c{d_e=\"f\",instance=\"\"} 2 1700000000000\n";
        assert_eq!(text(&samples, Escaping::Underscores), expected);
        let utf8 = text(&samples[3..], Escaping::AllowUtf8);
        assert_eq!(
            utf8,
            "# TYPE \"b.c\" untyped\n{\"b.c\",\"d.e\"=\"f\",instance=\"\"} 2 1700000000000\n"
        );
        let dots = text(&samples[3..], Escaping::Dots);
        assert!(dots.contains("b_dot_c{d_dot_e="), "{dots}");
        let values = text(&samples[3..], Escaping::Values);
        assert!(values.contains("U__b_2e_c{U__d_2e_e="), "{values}");
    }

    #[test]
    fn text_has_custom_buckets_as_classic_ones_and_no_exponential_ones() {
        let custom = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 7.0,
            sum: 9.5,
            positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 2 }],
            positive_buckets: vec![1.0, 2.0, 4.0],
            custom_values: vec![0.5, 1.0, 2.0],
            ..Histogram::default()
        };
        let exponential = Histogram {
            count: 1.0,
            ..Histogram::default()
        };
        let samples = [of("e", exponential), of("h", custom)];
        let expected = "# TYPE h histogram\n\
            h_bucket{instance=\"a\",le=\"0.5\"} 1 1700000000000\n\
            h_bucket{instance=\"a\",le=\"1\"} 1 1700000000000\n\
            h_bucket{instance=\"a\",le=\"2\"} 3 1700000000000\n\
            h_bucket{instance=\"a\",le=\"+Inf\"} 7 1700000000000\n\
            h_sum{instance=\"a\"} 9.5 1700000000000\n\
            h_count{instance=\"a\"} 7 1700000000000\n";
        assert_eq!(text(&samples, Escaping::Underscores), expected);
        let format = Format {
            protobuf: true,
            escaping: Escaping::AllowUtf8,
        };
        let bytes = write(&samples, format);
        let mut r = crate::proto::Reader::new(&bytes);
        let mut families = Vec::new();
        while !r.is_empty() {
            let mut family = r.nested().unwrap();
            family.tag().unwrap();
            let name = family.bytes().unwrap();
            family.tag().unwrap();
            families.push((String::from_utf8_lossy(name).into_owned(), family.varint().unwrap()));
        }
        assert_eq!(families, [("e".to_owned(), 4), ("h".to_owned(), 4)]);
        let mut w = Writer::default();
        let whole = Histogram {
            integer: true,
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 3.0,
            ..Histogram::default()
        };
        histogram(&mut w, &whole);
        let mut r = crate::proto::Reader::new(&w.out);
        let mut counts = (0, 0.0);
        while let Some(tag) = r.tag().unwrap() {
            match tag.field {
                1 => counts.0 = r.varint().unwrap(),
                4 => counts.1 = r.double().unwrap(),
                _ => r.skip(tag).unwrap(),
            }
        }
        assert_eq!(counts, (3, 3.0));
    }

    #[test]
    fn the_form_is_what_the_client_takes() {
        let delimited = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, protobuf, escaping) in [
            ("", false, Escaping::Underscores),
            ("*/*", false, Escaping::Underscores),
            (
                "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
                false,
                Escaping::Underscores,
            ),
            (
                "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6",
                false,
                Escaping::AllowUtf8,
            ),
            (
                &format!("text/plain;q=0.4,{delimited};q=0.7"),
                true,
                Escaping::Underscores,
            ),
            (&format!("{delimited};escaping=values"), true, Escaping::Values),
            (&format!("{delimited};q=0,text/plain"), false, Escaping::Underscores),
        ] {
            let expected = Format { protobuf, escaping };
            assert_eq!(Format::negotiate(accept), expected, "{accept}");
        }
        assert_eq!(
            Format::negotiate("").content_type(),
            "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
        );
    }
}
