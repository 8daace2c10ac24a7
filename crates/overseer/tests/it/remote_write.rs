//! Writes remote write 1.0 bodies, independently of the product's own code.
use crate::client::Response;
use crate::server::Server;

pub(crate) fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub(crate) fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// One `TimeSeries` of a `WriteRequest`; labels in the order given, samples as (ms, value).
pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
    let mut one = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut one, 1, &label);
    }
    for (at_ms, value) in samples {
        let mut sample = vec![0x09];
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(0x10);
        varint(&mut sample, *at_ms as u64);
        field(&mut one, 2, &sample);
    }
    let mut out = Vec::new();
    field(&mut out, 1, &one);
    out
}

/// A snappy block of literals only.
pub(crate) fn snappy(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, plain.len() as u64);
    for chunk in plain.chunks(1 << 16) {
        out.push(61 << 2);
        out.extend_from_slice(&((chunk.len() - 1) as u16).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    out
}

pub(crate) const HEADERS: [(&str, &str); 3] = [
    ("Content-Type", "application/x-protobuf"),
    ("Content-Encoding", "snappy"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

impl Server {
    /// Sends a request of finished series.
    pub(crate) fn write(&self, plain: &[u8]) -> Response {
        self.post("/api/v1/write", &HEADERS, &snappy(plain))
    }

    /// Writes samples of one series, which must be taken.
    pub(crate) fn must_write(&self, labels: &[(&str, &str)], samples: &[(i64, f64)]) {
        let answer = self.write(&series(labels, samples));
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
}
