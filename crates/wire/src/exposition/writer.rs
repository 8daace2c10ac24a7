use model::MetricKind;

/// Writes the text format 0.0.4. Samples of a family follow its head.
#[derive(Default)]
pub struct Writer {
    out: String,
}

impl Writer {
    /// What the answer's `Content-Type` is.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    pub fn new() -> Self {
        Writer::default()
    }

    /// The head of a metric family: `# HELP` and `# TYPE`.
    pub fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge | MetricKind::Info | MetricKind::StateSet => "gauge",
            MetricKind::Histogram | MetricKind::GaugeHistogram => "histogram",
            MetricKind::Summary => "summary",
            MetricKind::Unknown => "untyped",
        };
        if !help.is_empty() {
            self.out.push_str("# HELP ");
            self.name(name, true);
            self.out.push(' ');
            for c in help.chars() {
                match c {
                    '\\' => self.out.push_str("\\\\"),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('\n');
        }
        self.out.push_str("# TYPE ");
        self.name(name, true);
        self.out.push(' ');
        self.out.push_str(kind);
        self.out.push('\n');
    }

    /// One sample, of the family's name or with a suffix such as `_sum`.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.value(name, labels, value);
        self.out.push('\n');
    }

    /// The same with its time, in Unix ms.
    pub fn sample_at(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at_ms: i64) {
        self.value(name, labels, value);
        self.out.push(' ');
        self.out.push_str(&at_ms.to_string());
        self.out.push('\n');
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let plain = super::plain_name(name.as_bytes(), true);
        if plain {
            self.out.push_str(name);
        }
        if !plain || !labels.is_empty() {
            self.out.push('{');
            if !plain {
                self.quoted(name);
            }
            for (i, (label, value)) in labels.iter().enumerate() {
                if i > 0 || !plain {
                    self.out.push(',');
                }
                self.name(label, false);
                self.out.push('=');
                self.quoted(value);
            }
            self.out.push('}');
        }
        self.out.push(' ');
        if value.is_nan() {
            self.out.push_str("NaN");
        } else if value.is_infinite() {
            self.out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        } else if value != 0.0 && !(1e-5..1e16).contains(&value.abs()) {
            self.out.push_str(&format!("{value:e}"));
        } else {
            self.out.push_str(&value.to_string());
        }
    }

    /// The body.
    pub fn finish(self) -> String {
        self.out
    }

    fn name(&mut self, name: &str, colon: bool) {
        if super::plain_name(name.as_bytes(), colon) {
            self.out.push_str(name);
        } else {
            self.quoted(name);
        }
    }

    fn quoted(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '\\' => self.out.push_str("\\\\"),
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}
