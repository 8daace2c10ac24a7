use model::{Budget, BudgetError, Labels};

use super::histogram;
use super::value::{Point, Sample, Series, Value};

/// Bytes after which a stop is looked for.
const CHECK_BYTES: usize = 64 << 10;

/// Appends a value as `data` of Prometheus' HTTP API has it: `"resultType":…,"result":…`, braces left to the caller.
pub fn write_value(value: &Value, out: &mut Vec<u8>, budget: &Budget) -> Result<(), BudgetError> {
    out.extend_from_slice(b"\"resultType\":\"");
    out.extend_from_slice(value.type_name().as_bytes());
    out.extend_from_slice(b"\",\"result\":");
    write_result(value, out, budget)
}

/// Appends the bare result: an array for each type.
pub fn write_result(value: &Value, out: &mut Vec<u8>, budget: &Budget) -> Result<(), BudgetError> {
    let mut writer = ResultWriter::default();
    while writer.write(value, out, out.len() + CHECK_BYTES) {
        budget.check()?;
    }
    Ok(())
}

/// Writes a bare result part by part: how far it has come.
#[derive(Debug, Default)]
pub struct ResultWriter {
    begun: bool,
    series: usize,
    column: Column,
    point: usize,
}

/// What of a series is written next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Column {
    #[default]
    Labels,
    Values,
    Histograms,
}

impl ResultWriter {
    /// Appends until `out` has `len_max` bytes, or the few more that a series' labels or a point take; false when all of
    /// the value, which must always be the same one, is written.
    pub fn write(&mut self, value: &Value, out: &mut Vec<u8>, len_max: usize) -> bool {
        match value {
            Value::Scalar { at_ms, value } => {
                // these two go another way in Prometheus: no trailing zeros, never an exponent
                out.push(b'[');
                write_short_time(*at_ms, out);
                out.push(b',');
                write_string(&super::decimal(*value), out);
            }
            Value::String { at_ms, text } => {
                out.push(b'[');
                write_short_time(*at_ms, out);
                out.push(b',');
                write_string(text, out);
            }
            Value::Vector(samples) => {
                self.begin(out);
                while let Some(sample) = samples.get(self.series) {
                    if out.len() >= len_max {
                        return true;
                    }
                    if self.series > 0 {
                        out.push(b',');
                    }
                    write_sample(sample, out);
                    self.series += 1;
                }
            }
            Value::Matrix(all) => {
                self.begin(out);
                while let Some(series) = all.get(self.series) {
                    if self.write_series(series, out, len_max) {
                        return true;
                    }
                }
            }
        }
        out.push(b']');
        false
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !self.begun {
            out.push(b'[');
            self.begun = true;
        }
    }

    /// Whether there is more of this series.
    fn write_series(&mut self, series: &Series, out: &mut Vec<u8>, len_max: usize) -> bool {
        if self.column == Column::Labels {
            if out.len() >= len_max {
                return true;
            }
            out.extend_from_slice(if self.series > 0 {
                b",{\"metric\":"
            } else {
                b"{\"metric\":"
            });
            write_labels(&series.labels, out);
            self.column = Column::Values;
        }
        if self.column == Column::Values {
            while let (Some(&at_ms), Some(&v)) = (series.at_ms.get(self.point), series.values.get(self.point)) {
                if out.len() >= len_max {
                    return true;
                }
                out.extend_from_slice(if self.point > 0 { b",[" } else { b",\"values\":[[" });
                write_time(at_ms, out);
                out.push(b',');
                write_float(v, out);
                out.push(b']');
                self.point += 1;
            }
            if self.point > 0 {
                out.push(b']');
            }
            (self.column, self.point) = (Column::Histograms, 0);
        }
        while let (Some(&at_ms), Some(h)) = (
            series.histogram_at_ms.get(self.point),
            series.histograms.get(self.point),
        ) {
            if out.len() >= len_max {
                return true;
            }
            out.extend_from_slice(if self.point > 0 { b",[" } else { b",\"histograms\":[[" });
            write_time(at_ms, out);
            out.push(b',');
            write_histogram(h, out);
            out.push(b']');
            self.point += 1;
        }
        if self.point > 0 {
            out.push(b']');
        }
        out.push(b'}');
        (self.column, self.point) = (Column::Labels, 0);
        self.series += 1;
        false
    }
}

fn write_sample(sample: &Sample, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"metric\":");
    write_labels(&sample.labels, out);
    match &sample.point {
        Point::Float(v) => {
            out.extend_from_slice(b",\"value\":[");
            write_time(sample.at_ms, out);
            out.push(b',');
            write_float(*v, out);
        }
        Point::Histogram(h) => {
            out.extend_from_slice(b",\"histogram\":[");
            write_time(sample.at_ms, out);
            out.push(b',');
            write_histogram(h, out);
        }
    }
    out.extend_from_slice(b"]}");
}

/// Appends labels as a JSON object.
pub fn write_labels(labels: &Labels, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        write_string(value, out);
    }
    out.push(b'}');
}

fn write_short_time(at_ms: i64, out: &mut Vec<u8>) {
    write_time(at_ms, out);
    if at_ms % 1000 != 0 {
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Appends a time in seconds, with three decimals unless it is whole.
pub fn write_time(at_ms: i64, out: &mut Vec<u8>) {
    if at_ms < 0 {
        out.push(b'-');
    }
    let ms = at_ms.unsigned_abs();
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(ms / 1000).as_bytes());
    let rest = ms % 1000;
    if rest != 0 {
        out.push(b'.');
        if rest < 100 {
            out.push(b'0');
        }
        if rest < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(digits.format(rest).as_bytes());
    }
}

/// Appends a float in quotes: the shortest digits that read back, with an exponent below 1e-6 and from 1e21 on.
pub fn write_float(v: f64, out: &mut Vec<u8>) {
    out.push(b'"');
    let size = v.abs();
    if v.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if v.is_infinite() {
        out.extend_from_slice(if v > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if size < 1e15 && v == v.trunc() && (v != 0.0 || v.is_sign_positive()) {
        // whole numbers are most of what counters hold
        out.extend_from_slice(itoa::Buffer::new().format(v as i64).as_bytes());
    } else {
        write_digits(v, out);
    }
    out.push(b'"');
}

fn write_digits(v: f64, out: &mut Vec<u8>) {
    if v == 0.0 {
        out.extend_from_slice(b"-0");
        return;
    }
    // shortest digits and where the point stands in them
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(v);
    let (sign, text) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = [0u8; 40];
    let mut n = 0;
    for b in whole.bytes().chain(fraction.bytes()) {
        if n < digits.len() && (n > 0 || b != b'0') {
            digits[n] = b;
            n += 1;
        }
    }
    let leading_zeros = whole.bytes().chain(fraction.bytes()).take_while(|&b| b == b'0').count();
    let mut point = whole.len() as i32 + exponent - leading_zeros as i32;
    while n > 1 && digits[n - 1] == b'0' {
        n -= 1;
    }
    let digits = &digits[..n];
    if sign {
        out.push(b'-');
    }
    if !(1e-6..1e21).contains(&v.abs()) {
        out.push(digits[0]);
        if n > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        point -= 1;
        out.extend_from_slice(if point < 0 { b"e-" } else { b"e+" });
        if point.abs() < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(point.abs()).as_bytes());
        return;
    }
    if point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
        out.extend_from_slice(digits);
        return;
    }
    let point = point as usize;
    if point >= n {
        out.extend_from_slice(digits);
        out.extend(std::iter::repeat_n(b'0', point - n));
    } else {
        out.extend_from_slice(&digits[..point]);
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

fn write_histogram(h: &model::Histogram, out: &mut Vec<u8>) {
    let mut text = String::new();
    histogram::json(h, &mut text);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a string in quotes, escaped.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (i, &b) in bytes.iter().enumerate() {
        let escape: &[u8] = match b {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1f => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..i]);
        from = i + 1;
        match escape {
            b"" => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(b >> 4)],
                HEX[usize::from(b & 15)],
            ]),
            escape => out.extend_from_slice(escape),
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(v: f64) -> String {
        let mut out = Vec::new();
        write_float(v, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_as_prometheus_writes_them() {
        for (v, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-12.5, "-12.5"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (1.25e-7, "1.25e-07"),
            (123456789.125, "123456789.125"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "5e-324"),
            (9007199254740993.0, "9007199254740992"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(float(v), format!("\"{want}\""));
        }
    }

    #[test]
    fn times() {
        for (ms, want) in [
            (0, "0"),
            (1, "0.001"),
            (1_050, "1.05"),
            (-1_500, "-1.5"),
            (1_435_781_430_781, "1435781430.781"),
        ] {
            let mut out = Vec::new();
            write_time(ms, &mut out);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.parse::<f64>().unwrap(), want.parse::<f64>().unwrap(), "{text}");
        }
    }

    #[test]
    fn a_vector() {
        let value = Value::Vector(vec![super::super::value::Sample {
            labels: Labels::from_pairs([("__name__", "up"), ("a", "\"\n\u{1}é")]),
            at_ms: 1500,
            point: Point::Float(2.0),
        }]);
        let mut out = Vec::new();
        write_value(&value, &mut out, &Budget::unlimited()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#""resultType":"vector","result":[{"metric":{"__name__":"up","a":"\"\n\u0001é"},"value":[1.500,"2"]}]"#
        );
    }

    proptest::proptest! {
        #[test]
        fn in_parts_of_any_size_it_is_the_same(shape in proptest::collection::vec((0usize..6, 0usize..3), 0..5), step in 1usize..200) {
            let histogram = std::sync::Arc::new(model::Histogram::default());
            let series = shape.iter().enumerate().map(|(i, &(floats, histograms))| Series {
                labels: Labels::from_pairs([("__name__", "up"), ("i", i.to_string().as_str())]),
                at_ms: (0..floats as i64).collect(),
                values: (0..floats).map(|n| n as f64 / 4.0).collect(),
                histogram_at_ms: (0..histograms as i64).map(|n| 100 + n).collect(),
                histograms: vec![std::sync::Arc::clone(&histogram); histograms],
            });
            let value = Value::Matrix(series.collect());
            let (mut whole, mut parts, mut writer) = (Vec::new(), Vec::new(), ResultWriter::default());
            write_result(&value, &mut whole, &Budget::unlimited()).unwrap();
            loop {
                let mut part = Vec::new();
                let more = writer.write(&value, &mut part, step);
                proptest::prop_assert!(more || parts.len() + part.len() == whole.len());
                parts.extend_from_slice(&part);
                if !more {
                    break;
                }
                proptest::prop_assert!(part.len() >= step);
            }
            proptest::prop_assert_eq!(&whole, &parts);
            let read: serde_json::Value = serde_json::from_slice(&whole).unwrap();
            for (row, &(floats, histograms)) in read.as_array().unwrap().iter().zip(&shape) {
                proptest::prop_assert_eq!(row.get("values").map_or(0, |v| v.as_array().unwrap().len()), floats);
                proptest::prop_assert_eq!(row.get("histograms").map_or(0, |v| v.as_array().unwrap().len()), histograms);
            }
        }

        #[test]
        fn floats_read_back(v: f64) {
            let text = float(v);
            let text = text.trim_matches('"');
            if v.is_nan() {
                proptest::prop_assert_eq!(text, "NaN");
            } else {
                proptest::prop_assert_eq!(text.parse::<f64>().unwrap(), v);
            }
            proptest::prop_assert_eq!(text, {
                let mut want = String::new();
                histogram::float_json(v, &mut want);
                want.trim_matches('"').to_owned()
            });
        }

        #[test]
        fn strings_read_back(s: String) {
            let mut out = Vec::new();
            write_string(&s, &mut out);
            proptest::prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), s);
        }
    }
}
