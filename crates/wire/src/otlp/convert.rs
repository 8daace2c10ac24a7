use std::collections::BTreeMap;

use model::{Histogram, LabelsBuilder, METRIC_NAME, MetricKind, RejectReason, ResetHint, SampleSink, SeriesId, Span};

use super::any;
use super::names::{NameKind, label_name, metric_name, unit_name};
use crate::error::shown;
use crate::proto::{Reader, Wire};
use crate::rejects::Rejects;
use crate::{DecodeError, Request, raw_kind, text_budget};

/// Buckets or quantiles of one data point at most.
const BUCKETS_MAX: usize = 16_384;
/// Characters that an exemplar's labels have together at most, by OpenMetrics.
const EXEMPLAR_CHARS_MAX: usize = 128;
/// `target_info` is repeated at this distance over the time that a request covers, so that joins find it.
const TARGET_INFO_EVERY_MS: i64 = 150_000;
const TARGET_INFO_REPEATS_MAX: i64 = 100;
/// Width of the zero bucket when the sender gives none, as in Prometheus.
const ZERO_THRESHOLD: f64 = 1e-128;
const EXACT_MAX: u64 = 1 << 53;
/// Data point flag: the series has no value at this time.
const NO_RECORDED_VALUE: u64 = 1;

pub(super) fn request<S: SampleSink + ?Sized>(
    body: &[u8],
    request: &Request<'_>,
    sink: &mut S,
) -> Result<(), DecodeError> {
    let mut converter = Converter {
        now_ms: request.now_ms,
        // a histogram repeats its resource for each bucket
        text_left: text_budget(body.len()).saturating_mul(4),
        taken: 0,
        raw: Vec::new(),
        labels: LabelsBuilder::default(),
        rejects: Rejects::default(),
        first_ms: i64::MAX,
        last_ms: i64::MIN,
    };
    let mut reader = Reader::new(body);
    let mut each = || -> Result<(), DecodeError> {
        while let Some(tag) = reader.tag()? {
            if tag.field == 1 {
                reader.expect(tag, Wire::Bytes, "resource_metrics")?;
                converter.resource(reader.nested()?, sink)?;
            } else {
                reader.skip(tag)?;
            }
        }
        Ok(())
    };
    let done = each();
    converter.rejects.finish(sink);
    done.map_err(|e| e.after(converter.taken))
}

struct Converter {
    now_ms: i64,
    text_left: usize,
    taken: u64,
    raw: Vec<u8>,
    labels: LabelsBuilder,
    rejects: Rejects,
    first_ms: i64,
    last_ms: i64,
}

/// What the points of one metric share.
struct Family<'a> {
    resource: Reader<'a>,
    scope: Reader<'a>,
    scope_schema: &'a [u8],
    name: String,
    /// Bytes of `raw` that spell all of this.
    prefix: usize,
    delta: bool,
    monotonic: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Plain,
    Sum,
    Count,
    /// Upper bound.
    Bucket(f64),
    Quantile(f64),
    TargetInfo,
}

/// What all kinds of data points have.
#[derive(Clone, Copy, Default)]
struct Point {
    start_ns: u64,
    time_ns: u64,
    flags: u64,
    at_ms: i64,
}

impl Point {
    fn start_ms(&self) -> i64 {
        (self.start_ns / 1_000_000) as i64
    }

    fn stale(&self) -> bool {
        self.flags & NO_RECORDED_VALUE != 0
    }
}

/// Why a series or data point is not taken.
enum Refused {
    Point(RejectReason, String),
    Body(DecodeError),
}

impl From<DecodeError> for Refused {
    fn from(e: DecodeError) -> Self {
        Refused::Body(e)
    }
}

fn refuse<T>(reason: RejectReason, why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Point(reason, why.into()))
}

impl Converter {
    fn resource<S: SampleSink + ?Sized>(&mut self, r: Reader<'_>, sink: &mut S) -> Result<(), DecodeError> {
        let mut resource = Reader::new(b"");
        let mut scan = r;
        while let Some(tag) = scan.tag()? {
            match tag.field {
                1 => {
                    scan.expect(tag, Wire::Bytes, "resource")?;
                    resource = scan.nested()?;
                }
                2 => {
                    scan.expect(tag, Wire::Bytes, "scope_metrics")?;
                    scan.skip(tag)?;
                }
                _ => scan.skip(tag)?,
            }
        }
        // a resource that is malformed is found before any of its points is taken
        attributes(resource, 1, |_, _| Ok::<(), DecodeError>(()))?;
        (self.first_ms, self.last_ms) = (i64::MAX, i64::MIN);
        let mut scan = r;
        while let Some(tag) = scan.tag()? {
            if tag.field == 2 {
                self.scope(resource, scan.nested()?, sink)?;
            } else {
                scan.skip(tag)?;
            }
        }
        self.target_info(resource, sink)
    }

    fn scope<S: SampleSink + ?Sized>(
        &mut self,
        resource: Reader<'_>,
        r: Reader<'_>,
        sink: &mut S,
    ) -> Result<(), DecodeError> {
        let (mut scope, mut scope_schema) = (Reader::new(b""), &b""[..]);
        let mut scan = r;
        while let Some(tag) = scan.tag()? {
            match tag.field {
                1 => {
                    scan.expect(tag, Wire::Bytes, "scope")?;
                    scope = scan.nested()?;
                }
                2 => {
                    scan.expect(tag, Wire::Bytes, "metrics")?;
                    scan.skip(tag)?;
                }
                3 => {
                    scan.expect(tag, Wire::Bytes, "schema_url")?;
                    scope_schema = scan.bytes()?;
                }
                _ => scan.skip(tag)?,
            }
        }
        let mut scan = r;
        while let Some(tag) = scan.tag()? {
            if tag.field == 2 {
                self.metric(resource, scope, scope_schema, scan.nested()?, sink)?;
            } else {
                scan.skip(tag)?;
            }
        }
        Ok(())
    }

    fn metric<S: SampleSink + ?Sized>(
        &mut self,
        resource: Reader<'_>,
        scope: Reader<'_>,
        scope_schema: &[u8],
        mut r: Reader<'_>,
        sink: &mut S,
    ) -> Result<(), DecodeError> {
        let (mut name, mut description, mut unit) = (&b""[..], &b""[..], &b""[..]);
        let mut data = None;
        while let Some(tag) = r.tag()? {
            match tag.field {
                1..=3 => {
                    r.expect(tag, Wire::Bytes, "text of a metric")?;
                    let text = r.bytes()?;
                    match tag.field {
                        1 => name = text,
                        2 => description = text,
                        _ => unit = text,
                    }
                }
                5 | 7 | 9 | 10 | 11 => {
                    r.expect(tag, Wire::Bytes, "data of a metric")?;
                    data = Some((tag.field, r.nested()?));
                }
                _ => r.skip(tag)?,
            }
        }
        let Some((form, data)) = data else { return Ok(()) };
        let (mut temporality, mut monotonic, mut points) = (0, false, 0);
        let mut scan = data;
        while let Some(tag) = scan.tag()? {
            match (tag.field, form) {
                (1, _) => {
                    scan.expect(tag, Wire::Bytes, "data_points")?;
                    scan.skip(tag)?;
                    points += 1;
                }
                (2, 7 | 9 | 10) => {
                    scan.expect(tag, Wire::Varint, "aggregation_temporality")?;
                    temporality = scan.varint()?;
                }
                (3, 7) => {
                    scan.expect(tag, Wire::Varint, "is_monotonic")?;
                    monotonic = scan.varint()? != 0;
                }
                _ => scan.skip(tag)?,
            }
        }
        if points == 0 {
            return Ok(());
        }
        let (Ok(text), Ok(unit_text)) = (std::str::from_utf8(name), std::str::from_utf8(unit)) else {
            let why = "its name or unit is not valid UTF-8";
            self.reject(sink, RejectReason::Labels, name, points, why.to_owned());
            return Ok(());
        };
        let refused = if text.is_empty() {
            Some((RejectReason::Labels, "a metric without a name".to_owned()))
        } else if matches!(form, 7 | 9 | 10) && !(1..=2).contains(&temporality) {
            let why = format!("aggregationTemporality is {temporality}: 1 (delta) or 2 (cumulative) is right");
            Some((RejectReason::Unsupported, why))
        } else {
            None
        };
        if let Some((reason, why)) = refused {
            self.reject(sink, reason, name, points, why);
            return Ok(());
        }
        let naming = match form {
            5 => NameKind::Gauge,
            7 if monotonic => NameKind::MonotonicSum,
            _ => NameKind::Other,
        };
        let kind = match form {
            7 if monotonic => MetricKind::Counter,
            5 | 7 => MetricKind::Gauge,
            11 => MetricKind::Summary,
            _ => MetricKind::Histogram,
        };
        let mut family = Family {
            resource,
            scope,
            scope_schema,
            name: metric_name(text, unit_text, naming),
            prefix: 0,
            delta: temporality == 1,
            monotonic,
        };
        self.raw.clear();
        self.raw
            .extend_from_slice(&[raw_kind::OTLP, form as u8, u8::from(monotonic)]);
        for part in [resource.message(), scope.message(), scope_schema, name, unit] {
            self.raw.extend_from_slice(&(part.len() as u32).to_le_bytes());
            self.raw.extend_from_slice(part);
        }
        family.prefix = self.raw.len();
        sink.metadata(
            family.name.as_bytes(),
            kind,
            description,
            unit_name(unit_text).as_bytes(),
        );
        let mut scan = data;
        while let Some(tag) = scan.tag()? {
            if tag.field != 1 {
                scan.skip(tag)?;
                continue;
            }
            let point = scan.nested()?;
            let done = match form {
                5 | 7 => self.number(&family, point, sink),
                9 => self.histogram(&family, point, sink),
                10 => self.exponential(&family, point, sink),
                _ => self.summary(&family, point, sink),
            };
            match done {
                Ok(()) => {}
                Err(Refused::Point(reason, why)) => self.reject(sink, reason, name, 1, why),
                Err(Refused::Body(e)) => return Err(e),
            }
        }
        Ok(())
    }

    fn reject<S: SampleSink + ?Sized>(
        &mut self,
        sink: &mut S,
        reason: RejectReason,
        metric: &[u8],
        points: u64,
        why: String,
    ) {
        self.rejects
            .tell(sink, reason, points, || (format!("metric {:?}", shown(metric)), why));
    }

    /// Starts the raw spelling of a point: its attributes as they are.
    fn spell(&mut self, family: &Family<'_>, point: Reader<'_>, attribute_field: u32) -> Result<(), DecodeError> {
        self.raw.truncate(family.prefix);
        let mut scan = point;
        while let Some(tag) = scan.tag()? {
            if tag.field == attribute_field {
                scan.expect(tag, Wire::Bytes, "attributes")?;
                let bytes = scan.bytes()?;
                self.raw.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                self.raw.extend_from_slice(bytes);
            } else {
                scan.skip(tag)?;
            }
        }
        Ok(())
    }

    /// The time of a point, counted in for `target_info`.
    fn at(&mut self, point: &mut Point) {
        point.at_ms = match point.time_ns {
            0 => self.now_ms,
            ns => (ns / 1_000_000) as i64,
        };
        self.first_ms = self.first_ms.min(point.at_ms);
        self.last_ms = self.last_ms.max(point.at_ms);
    }

    /// The series of one part of a point, whose spelling so far ends at `attributes`.
    fn series<S: SampleSink + ?Sized>(
        &mut self,
        family: &Family<'_>,
        point: Reader<'_>,
        attribute_field: u32,
        part: Part,
        sink: &mut S,
    ) -> Result<Option<SeriesId>, Refused> {
        let attributes_end = self.raw.len();
        let (code, number) = match part {
            Part::Plain => (0u8, 0.0),
            Part::Sum => (1, 0.0),
            Part::Count => (2, 0.0),
            Part::Bucket(bound) => (3, bound),
            Part::Quantile(quantile) => (4, quantile),
            Part::TargetInfo => (5, 0.0),
        };
        self.raw.push(code);
        self.raw.extend_from_slice(&number.to_bits().to_le_bytes());
        let found = match self.text_left.checked_sub(self.raw.len()) {
            None => Err(Refused::Body(DecodeError::too_large(
                "the data points repeat too many bytes of resource and attributes: send fewer points at a time",
            ))),
            Some(left) => {
                self.text_left = left;
                match sink.known(&self.raw) {
                    Some(id) => Ok(Some(id)),
                    None => self
                        .fill(family, point, attribute_field, part)
                        .map(|()| sink.define(&self.raw, &mut self.labels)),
                }
            }
        };
        self.raw.truncate(attributes_end);
        found
    }

    /// Puts the labels of a series into `labels`.
    #[cold]
    fn fill(
        &mut self,
        family: &Family<'_>,
        point: Reader<'_>,
        attribute_field: u32,
        part: Part,
    ) -> Result<(), Refused> {
        let info = part == Part::TargetInfo;
        let mut sorted: BTreeMap<&[u8], Vec<u8>> = BTreeMap::new();
        attributes(point, attribute_field, |key, value| {
            if key == METRIC_NAME.as_bytes() || info && IDENTIFYING.contains(&key) {
                return Ok::<(), Refused>(());
            }
            let mut text = Vec::new();
            if let Some(value) = value {
                any::text(value, &mut text).map_err(|e| Refused::Point(RejectReason::Limit, e.to_string()))?;
            }
            sorted.insert(key, text);
            Ok(())
        })?;
        let mut labels: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (key, value) in sorted {
            let name = label_of(key)?;
            let have = labels.entry(name).or_default();
            if !have.is_empty() {
                have.push(b';');
            }
            have.extend_from_slice(&value);
        }
        let (mut service, mut namespace, mut instance) = (Vec::new(), Vec::new(), Vec::new());
        attributes(family.resource, 1, |key, value| {
            let out = match key {
                b"service.name" => &mut service,
                b"service.namespace" => &mut namespace,
                b"service.instance.id" => &mut instance,
                _ => return Ok::<(), Refused>(()),
            };
            out.clear();
            match value {
                Some(value) => any::text(value, out).map_err(|e| Refused::Point(RejectReason::Limit, e.to_string())),
                None => Ok(()),
            }
        })?;
        if !service.is_empty() {
            if !namespace.is_empty() {
                namespace.push(b'/');
            }
            namespace.extend_from_slice(&service);
            labels.insert(b"job".to_vec(), namespace);
        }
        if !instance.is_empty() {
            labels.insert(b"instance".to_vec(), instance);
        }
        if !info {
            scope_labels(family, &mut labels)?;
        }
        let mut name = family.name.clone().into_bytes();
        match part {
            Part::Plain | Part::TargetInfo => {}
            Part::Sum => name.extend_from_slice(b"_sum"),
            Part::Count => name.extend_from_slice(b"_count"),
            Part::Bucket(bound) => {
                name.extend_from_slice(b"_bucket");
                let le = if bound == f64::INFINITY {
                    "+Inf".to_owned()
                } else {
                    bound.to_string()
                };
                labels.insert(b"le".to_vec(), le.into_bytes());
            }
            Part::Quantile(quantile) => {
                labels.insert(b"quantile".to_vec(), quantile.to_string().into_bytes());
            }
        }
        self.labels.clear();
        self.labels.push(METRIC_NAME.as_bytes(), &name);
        for (name, value) in &labels {
            self.labels.push(name, value);
        }
        Ok(())
    }

    /// Hands one value over, as a delta where the metric's are.
    fn value<S: SampleSink + ?Sized>(
        &mut self,
        family: &Family<'_>,
        id: Option<SeriesId>,
        point: &Point,
        value: f64,
        sink: &mut S,
    ) {
        let Some(id) = id else { return sink.lost(1) };
        self.taken += 1;
        if family.delta {
            let value = if point.stale() { model::stale_nan() } else { value };
            // intervals below a millisecond happen: short-lived processes flush once
            sink.delta(id, point.start_ms().min(point.at_ms - 1), point.at_ms, value);
        } else if point.stale() {
            sink.float(id, point.at_ms, model::stale_nan(), 0);
        } else {
            sink.float(id, point.at_ms, value, point.start_ms());
        }
    }

    fn number<S: SampleSink + ?Sized>(
        &mut self,
        family: &Family<'_>,
        message: Reader<'_>,
        sink: &mut S,
    ) -> Result<(), Refused> {
        const ATTRIBUTES: u32 = 7;
        let (mut point, mut value, mut exemplars) = (Point::default(), None, false);
        let mut r = message;
        while let Some(tag) = r.tag()? {
            match tag.field {
                2 | 3 | 4 | 6 => {
                    r.expect(tag, Wire::Fixed64, "time or value of a data point")?;
                    let n = r.fixed64()?;
                    match tag.field {
                        2 => point.start_ns = n,
                        3 => point.time_ns = n,
                        4 => value = Some(f64::from_bits(n)),
                        _ => value = Some(n as i64 as f64),
                    }
                }
                5 => {
                    exemplars = true;
                    r.skip(tag)?;
                }
                8 => {
                    r.expect(tag, Wire::Varint, "flags")?;
                    point.flags = r.varint()?;
                }
                _ => r.skip(tag)?,
            }
        }
        let value = match value {
            Some(value) => value,
            None if point.stale() => 0.0,
            None => return refuse(RejectReason::NotANumber, "a data point has neither asDouble nor asInt"),
        };
        check_delta(family, &point, Some(value))?;
        if family.delta && family.monotonic && value < 0.0 {
            let why = format!("a delta of {value}: it must be 0 or more where isMonotonic is true");
            return refuse(RejectReason::Delta, why);
        }
        self.spell(family, message, ATTRIBUTES)?;
        self.at(&mut point);
        let id = self.series(family, message, ATTRIBUTES, Part::Plain, sink)?;
        self.value(family, id, &point, value, sink);
        if let (true, Some(id)) = (exemplars, id) {
            self.exemplars(message, 5, sink, |_| Some(id))?;
        }
        Ok(())
    }

    fn histogram<S: SampleSink + ?Sized>(
        &mut self,
        family: &Family<'_>,
        message: Reader<'_>,
        sink: &mut S,
    ) -> Result<(), Refused> {
        const ATTRIBUTES: u32 = 9;
        let (mut point, mut count, mut sum, mut exemplars) = (Point::default(), 0, None, false);
        let (mut counts, mut bounds) = (Vec::new(), Vec::new());
        let mut r = message;
        while let Some(tag) = r.tag()? {
            match tag.field {
                2..=5 => {
                    r.expect(tag, Wire::Fixed64, "time, count or sum of a data point")?;
                    let n = r.fixed64()?;
                    match tag.field {
                        2 => point.start_ns = n,
                        3 => point.time_ns = n,
                        4 => count = n,
                        _ => sum = Some(f64::from_bits(n)),
                    }
                }
                6 => r.repeated(tag, Wire::Fixed64, "bucket_counts", Reader::fixed64, |n| {
                    keep(&mut counts, n);
                })?,
                7 => r.repeated(tag, Wire::Fixed64, "explicit_bounds", Reader::double, |n| {
                    keep(&mut bounds, n);
                })?,
                8 => {
                    exemplars = true;
                    r.skip(tag)?;
                }
                10 => {
                    r.expect(tag, Wire::Varint, "flags")?;
                    point.flags = r.varint()?;
                }
                _ => r.skip(tag)?,
            }
        }
        if counts.len() > BUCKETS_MAX || bounds.len() > BUCKETS_MAX {
            return refuse(RejectReason::Limit, format!("more than {BUCKETS_MAX} buckets"));
        }
        let matching = counts.len() == bounds.len() + 1 || counts.is_empty() && (bounds.is_empty() || point.stale());
        if !matching {
            let why = format!(
                "{} bucketCounts and {} explicitBounds: one count more than bounds is right",
                counts.len(),
                bounds.len()
            );
            return refuse(RejectReason::Histogram, why);
        }
        if bounds.iter().any(|b| b.is_nan()) || bounds.windows(2).any(|w| w[0] >= w[1]) {
            return refuse(RejectReason::Histogram, "explicitBounds do not ascend");
        }
        check_delta(family, &point, sum)?;
        if family.delta && count > EXACT_MAX {
            return refuse(
                RejectReason::Histogram,
                format!("count is {count}: in a delta 2^53 at most is taken"),
            );
        }
        let in_buckets: u128 = counts.iter().map(|&n| u128::from(n)).sum();
        if family.delta && !point.stale() && !counts.is_empty() && in_buckets != u128::from(count) {
            let why = format!("count is {count} and bucketCounts come to {in_buckets}: in a delta they must be equal");
            return refuse(RejectReason::Histogram, why);
        }
        self.spell(family, message, ATTRIBUTES)?;
        self.at(&mut point);
        if let Some(sum) = sum {
            let id = self.series(family, message, ATTRIBUTES, Part::Sum, sink)?;
            self.value(family, id, &point, sum, sink);
        }
        let id = self.series(family, message, ATTRIBUTES, Part::Count, sink)?;
        self.value(family, id, &point, count as f64, sink);
        if id.is_none() {
            // what is wrong with its labels is wrong with those of the buckets
            sink.lost(bounds.len() as u64 + 1);
            return Ok(());
        }
        let mut buckets = Vec::new();
        let mut below = 0u64;
        for (i, &bound) in bounds.iter().enumerate().filter(|(_, b)| b.is_finite()) {
            below = below.saturating_add(counts.get(i).copied().unwrap_or(0));
            let id = self.series(family, message, ATTRIBUTES, Part::Bucket(bound), sink)?;
            self.value(family, id, &point, below as f64, sink);
            if exemplars {
                buckets.push((bound, id));
            }
        }
        let id = self.series(family, message, ATTRIBUTES, Part::Bucket(f64::INFINITY), sink)?;
        self.value(family, id, &point, count as f64, sink);
        if exemplars {
            buckets.push((f64::INFINITY, id));
            self.exemplars(message, 8, sink, |value| {
                let i = buckets.partition_point(|(bound, _)| *bound < value);
                buckets.get(i).and_then(|(_, id)| *id)
            })?;
        }
        Ok(())
    }

    fn exponential<S: SampleSink + ?Sized>(
        &mut self,
        family: &Family<'_>,
        message: Reader<'_>,
        sink: &mut S,
    ) -> Result<(), Refused> {
        const ATTRIBUTES: u32 = 1;
        let (mut point, mut count, mut sum, mut exemplars) = (Point::default(), 0, 0.0, false);
        let (mut scale, mut zero_count, mut zero_threshold) = (0i32, 0, 0.0);
        let (mut positive, mut negative) = (Dense::default(), Dense::default());
        let mut r = message;
        while let Some(tag) = r.tag()? {
            match tag.field {
                2..=5 | 7 | 14 => {
                    r.expect(tag, Wire::Fixed64, "time, count or sum of a data point")?;
                    let n = r.fixed64()?;
                    match tag.field {
                        2 => point.start_ns = n,
                        3 => point.time_ns = n,
                        4 => count = n,
                        5 => sum = f64::from_bits(n),
                        7 => zero_count = n,
                        _ => zero_threshold = f64::from_bits(n),
                    }
                }
                6 => {
                    r.expect(tag, Wire::Varint, "scale")?;
                    scale = r.zigzag()? as i32;
                }
                8 | 9 => {
                    r.expect(tag, Wire::Bytes, "buckets")?;
                    let dense = Dense::read(r.nested()?)?;
                    *(if tag.field == 8 { &mut positive } else { &mut negative }) = dense;
                }
                10 => {
                    r.expect(tag, Wire::Varint, "flags")?;
                    point.flags = r.varint()?;
                }
                11 => {
                    exemplars = true;
                    r.skip(tag)?;
                }
                _ => r.skip(tag)?,
            }
        }
        if scale < -4 {
            return refuse(RejectReason::Histogram, format!("scale {scale}: -4 or more is right"));
        }
        if positive.counts.len() > BUCKETS_MAX || negative.counts.len() > BUCKETS_MAX {
            return refuse(RejectReason::Limit, format!("more than {BUCKETS_MAX} buckets"));
        }
        if count > EXACT_MAX || zero_count > EXACT_MAX {
            return refuse(RejectReason::Histogram, "a count beyond 2^53");
        }
        check_delta(family, &point, Some(sum))?;
        let merge = (i64::from(scale) - 8).max(0) as u32;
        let mut value = Histogram {
            // a delta is not accumulated: it is kept as it came, as Prometheus does
            reset_hint: if family.delta {
                ResetHint::Gauge
            } else {
                ResetHint::Unknown
            },
            integer: true,
            schema: scale.min(8),
            zero_threshold: if zero_threshold > 0.0 {
                zero_threshold
            } else {
                ZERO_THRESHOLD
            },
            zero_count: zero_count as f64,
            count: count as f64,
            sum,
            ..Histogram::default()
        };
        if point.stale() {
            value.sum = model::stale_nan();
        }
        for (dense, spans, buckets) in [
            (&positive, &mut value.positive_spans, &mut value.positive_buckets),
            (&negative, &mut value.negative_spans, &mut value.negative_buckets),
        ] {
            if !dense.sparse(merge, spans, buckets) {
                return refuse(RejectReason::Histogram, "bucket indexes or counts out of range");
            }
        }
        self.spell(family, message, ATTRIBUTES)?;
        self.at(&mut point);
        let id = self.series(family, message, ATTRIBUTES, Part::Plain, sink)?;
        match id {
            Some(id) => {
                sink.histogram(id, point.at_ms, value, point.start_ms());
                self.taken += 1;
                if exemplars {
                    self.exemplars(message, 11, sink, |_| Some(id))?;
                }
            }
            None => sink.lost(1),
        }
        Ok(())
    }

    fn summary<S: SampleSink + ?Sized>(
        &mut self,
        family: &Family<'_>,
        message: Reader<'_>,
        sink: &mut S,
    ) -> Result<(), Refused> {
        const ATTRIBUTES: u32 = 7;
        let (mut point, mut count, mut sum) = (Point::default(), 0, 0.0);
        let mut quantiles = Vec::new();
        let mut r = message;
        while let Some(tag) = r.tag()? {
            match tag.field {
                2..=5 => {
                    r.expect(tag, Wire::Fixed64, "time, count or sum of a data point")?;
                    let n = r.fixed64()?;
                    match tag.field {
                        2 => point.start_ns = n,
                        3 => point.time_ns = n,
                        4 => count = n,
                        _ => sum = f64::from_bits(n),
                    }
                }
                6 => {
                    r.expect(tag, Wire::Bytes, "quantile_values")?;
                    let mut q = r.nested()?;
                    let mut pair = (0.0, 0.0);
                    while let Some(tag) = q.tag()? {
                        match tag.field {
                            1 | 2 => {
                                q.expect(tag, Wire::Fixed64, "quantile")?;
                                let n = q.double()?;
                                *(if tag.field == 1 { &mut pair.0 } else { &mut pair.1 }) = n;
                            }
                            _ => q.skip(tag)?,
                        }
                    }
                    keep(&mut quantiles, pair);
                }
                8 => {
                    r.expect(tag, Wire::Varint, "flags")?;
                    point.flags = r.varint()?;
                }
                _ => r.skip(tag)?,
            }
        }
        if quantiles.len() > BUCKETS_MAX {
            return refuse(RejectReason::Limit, format!("more than {BUCKETS_MAX} quantiles"));
        }
        self.spell(family, message, ATTRIBUTES)?;
        self.at(&mut point);
        let parts = [(Part::Sum, sum), (Part::Count, count as f64)];
        let quantiles = quantiles.into_iter().map(|(q, v)| (Part::Quantile(q), v));
        for (part, value) in parts.into_iter().chain(quantiles) {
            let id = self.series(family, message, ATTRIBUTES, part, sink)?;
            self.value(family, id, &point, value, sink);
        }
        Ok(())
    }

    /// Hands over the exemplars of a data point, each to the series that `series` finds for its value.
    fn exemplars<S: SampleSink + ?Sized>(
        &mut self,
        mut point: Reader<'_>,
        field: u32,
        sink: &mut S,
        series: impl Fn(f64) -> Option<SeriesId>,
    ) -> Result<(), DecodeError> {
        while let Some(tag) = point.tag()? {
            if tag.field != field {
                point.skip(tag)?;
                continue;
            }
            point.expect(tag, Wire::Bytes, "exemplars")?;
            let message = point.nested()?;
            let (mut value, mut time_ns, mut span, mut trace) = (0.0, 0, &b""[..], &b""[..]);
            let mut r = message;
            while let Some(tag) = r.tag()? {
                match tag.field {
                    2 | 3 | 6 => {
                        r.expect(tag, Wire::Fixed64, "time or value of an exemplar")?;
                        let n = r.fixed64()?;
                        match tag.field {
                            2 => time_ns = n,
                            3 => value = f64::from_bits(n),
                            _ => value = n as i64 as f64,
                        }
                    }
                    4 | 5 => {
                        r.expect(tag, Wire::Bytes, "id of an exemplar")?;
                        let id = r.bytes()?;
                        *(if tag.field == 4 { &mut span } else { &mut trace }) = id;
                    }
                    _ => r.skip(tag)?,
                }
            }
            let Some(id) = series(value) else { continue };
            self.labels.clear();
            let mut chars = 0;
            for (name, id) in [("trace_id", trace), ("span_id", span)] {
                if (1..=32).contains(&id.len()) {
                    let text: String = id.iter().map(|b| format!("{b:02x}")).collect();
                    chars += name.len() + text.len();
                    self.labels.push(name.as_bytes(), text.as_bytes());
                }
            }
            let mut extra = Vec::new();
            attributes(message, 7, |key, value| {
                let mut text = Vec::new();
                if let Some(value) = value
                    && chars <= EXEMPLAR_CHARS_MAX
                {
                    any::text(value, &mut text)?;
                }
                chars += String::from_utf8_lossy(key).chars().count() + String::from_utf8_lossy(&text).chars().count();
                if chars <= EXEMPLAR_CHARS_MAX {
                    extra.push((key, text));
                }
                Ok::<(), DecodeError>(())
            })?;
            if chars <= EXEMPLAR_CHARS_MAX {
                for (key, text) in &extra {
                    self.labels.push(key, text);
                }
            }
            let at_ms = if time_ns == 0 {
                self.now_ms
            } else {
                (time_ns / 1_000_000) as i64
            };
            sink.exemplar(id, at_ms, value, &mut self.labels);
        }
        Ok(())
    }

    /// The resource's other attributes, as a series of value 1.
    fn target_info<S: SampleSink + ?Sized>(&mut self, resource: Reader<'_>, sink: &mut S) -> Result<(), DecodeError> {
        if self.first_ms > self.last_ms {
            return Ok(());
        }
        let (mut others, mut identified) = (false, false);
        attributes(resource, 1, |key, value| {
            if IDENTIFYING.contains(&key) {
                identified |= key != b"service.namespace" && value.is_some_and(|v| !v.message().is_empty());
            } else {
                others = true;
            }
            Ok::<(), DecodeError>(())
        })?;
        if !others || !identified {
            return Ok(());
        }
        let family = Family {
            resource,
            scope: Reader::new(b""),
            scope_schema: b"",
            name: "target_info".to_owned(),
            prefix: 0,
            delta: false,
            monotonic: false,
        };
        self.raw.clear();
        self.raw.extend_from_slice(&[raw_kind::OTLP, 0, 0]);
        self.raw.extend_from_slice(resource.message());
        let id = match self.series(&family, resource, 1, Part::TargetInfo, sink) {
            Ok(id) => id,
            Err(Refused::Body(e)) => return Err(e),
            Err(Refused::Point(reason, why)) => {
                self.reject(sink, reason, b"target_info", 1, why);
                return Ok(());
            }
        };
        let Some(id) = id else {
            sink.lost(1);
            return Ok(());
        };
        sink.metadata(b"target_info", MetricKind::Gauge, b"Target metadata", b"");
        let span = self.last_ms.saturating_sub(self.first_ms);
        if span / TARGET_INFO_EVERY_MS <= TARGET_INFO_REPEATS_MAX {
            let mut at_ms = self.first_ms;
            while at_ms < self.last_ms {
                sink.float(id, at_ms, 1.0, 0);
                at_ms += TARGET_INFO_EVERY_MS;
            }
        }
        sink.float(id, self.last_ms, 1.0, 0);
        self.taken += 1;
        Ok(())
    }
}

/// Attributes that become `job` and `instance`.
const IDENTIFYING: [&[u8]; 3] = [b"service.name", b"service.namespace", b"service.instance.id"];

fn scope_labels(family: &Family<'_>, labels: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), Refused> {
    let mut r = family.scope;
    while let Some(tag) = r.tag()? {
        match tag.field {
            1 | 2 => {
                r.expect(tag, Wire::Bytes, "name or version of a scope")?;
                let name: &[u8] = if tag.field == 1 {
                    b"otel_scope_name"
                } else {
                    b"otel_scope_version"
                };
                labels.insert(name.to_vec(), r.bytes()?.to_vec());
            }
            _ => r.skip(tag)?,
        }
    }
    labels.insert(b"otel_scope_schema_url".to_vec(), family.scope_schema.to_vec());
    attributes(family.scope, 3, |key, value| {
        let mut text = Vec::new();
        if let Some(value) = value {
            any::text(value, &mut text).map_err(|e| Refused::Point(RejectReason::Limit, e.to_string()))?;
        }
        let mut name = b"otel_scope_".to_vec();
        name.extend_from_slice(key);
        let name = label_of(&name)?;
        labels.entry(name).or_insert(text);
        Ok(())
    })
}

fn label_of(key: &[u8]) -> Result<Vec<u8>, Refused> {
    match std::str::from_utf8(key) {
        Ok("") => refuse(RejectReason::Labels, "an attribute without a key"),
        Ok(key) => Ok(label_name(key).into_bytes()),
        Err(_) => refuse(
            RejectReason::Labels,
            format!("the attribute {:?} is not valid UTF-8", shown(key)),
        ),
    }
}

/// Calls `take` with key and value of every attribute in field `field` of a message.
fn attributes<'a, E: From<DecodeError>>(
    mut message: Reader<'a>,
    field: u32,
    mut take: impl FnMut(&'a [u8], Option<Reader<'a>>) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(tag) = message.tag()? {
        if tag.field == field {
            message.expect(tag, Wire::Bytes, "attributes")?;
            let (key, value) = any::key_value(message.nested()?)?;
            take(key, value)?;
        } else {
            message.skip(tag)?;
        }
    }
    Ok(())
}

/// `value`: the number, or the sum of a histogram, when there is one.
fn check_delta(family: &Family<'_>, point: &Point, value: Option<f64>) -> Result<(), Refused> {
    if !family.delta || point.stale() {
        return Ok(());
    }
    if point.start_ns == 0 {
        return refuse(RejectReason::Timestamp, "a delta without startTimeUnixNano");
    }
    if let Some(value) = value.filter(|v| !v.is_finite()) {
        let why = format!("a delta of {value}: it must be a finite number");
        return refuse(RejectReason::Delta, why);
    }
    if point.time_ns != 0 && point.start_ns > point.time_ns {
        return refuse(
            RejectReason::Timestamp,
            "a delta whose startTimeUnixNano lies after its timeUnixNano",
        );
    }
    Ok(())
}

/// One more than the bound is kept, to tell that it was passed.
fn keep<T>(out: &mut Vec<T>, item: T) {
    if out.len() <= BUCKETS_MAX {
        out.push(item);
    }
}

/// Buckets of an exponential histogram without gaps.
#[derive(Default)]
struct Dense {
    offset: i32,
    counts: Vec<u64>,
}

impl Dense {
    fn read(mut r: Reader<'_>) -> Result<Dense, DecodeError> {
        let mut dense = Dense::default();
        while let Some(tag) = r.tag()? {
            match tag.field {
                1 => {
                    r.expect(tag, Wire::Varint, "offset of buckets")?;
                    dense.offset = r.zigzag()? as i32;
                }
                2 => r.repeated(tag, Wire::Varint, "bucket_counts", Reader::varint, |n| {
                    keep(&mut dense.counts, n);
                })?,
                _ => r.skip(tag)?,
            }
        }
        Ok(dense)
    }

    /// Writes spans and counts, 2^`merge` buckets as one. Gaps of up to two empty buckets are written out, as they
    /// take less room than a span. False: an index or count does not fit.
    fn sparse(&self, merge: u32, spans: &mut Vec<Span>, buckets: &mut Vec<f64>) -> bool {
        let mut filled: Vec<(i64, u64)> = Vec::new();
        for (i, &count) in self.counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            // bucket 0 ends at the base here, and begins at it there
            let index = ((i64::from(self.offset) + i as i64) >> merge.min(62)) + 1;
            match filled.last_mut() {
                Some((last, sum)) if *last == index => *sum = sum.saturating_add(count),
                _ => filled.push((index, count)),
            }
        }
        let mut next = 0;
        for (index, count) in filled {
            let gap = index - next;
            if count > EXACT_MAX {
                return false;
            }
            match spans.last_mut() {
                Some(span) if gap <= 2 => {
                    buckets.extend(std::iter::repeat_n(0.0, gap as usize));
                    span.length += gap as u32 + 1;
                }
                _ => match i32::try_from(gap) {
                    Ok(offset) => spans.push(Span { offset, length: 1 }),
                    Err(_) => return false,
                },
            }
            buckets.push(count as f64);
            next = index + 1;
        }
        true
    }
}
