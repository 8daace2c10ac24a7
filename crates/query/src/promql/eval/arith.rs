//! Histogram arithmetic as the evaluator wants it.

use model::Histogram;

use super::super::histogram;
pub(super) use super::super::histogram::{
    Incompatible, add, detect_reset, div, equal, kahan_add, mul, sub, text, to_schema,
};

pub(super) fn compact(h: &mut Histogram) {
    histogram::compact(h, 0);
}

pub(super) fn scaled(h: &Histogram, by: f64) -> Histogram {
    let mut h = h.clone();
    mul(&mut h, by);
    compact(&mut h);
    h
}

pub(super) fn divided(h: &Histogram, by: f64) -> Histogram {
    let mut h = h.clone();
    div(&mut h, by);
    compact(&mut h);
    h
}

/// Without what is above `bound` (`upper`), or below it.
pub(super) fn trimmed(h: &Histogram, bound: f64, upper: bool) -> Histogram {
    let mut h = h.clone();
    histogram::trim(&mut h, bound, upper);
    h
}

/// Samples that a histogram counts for in Prometheus' statistics: its bytes there by those of a float sample.
pub(super) fn size(h: &Histogram) -> u64 {
    let spans = h.positive_spans.len() + h.negative_spans.len();
    let floats = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
    ((168 + 8 * (spans + floats) + 8) / 16) as u64
}

/// The mean of histograms: the sum divided, until the sum overflows; from there on a running mean.
pub(super) struct Mean {
    /// Sum or mean.
    value: Histogram,
    c: Option<Histogram>,
    count: f64,
    running: bool,
}

impl Mean {
    pub(super) fn new(first: &Histogram) -> Self {
        Mean {
            value: first.clone(),
            c: None,
            count: 1.0,
            running: false,
        }
    }

    /// Adds one; whether custom bounds had to be reconciled.
    pub(super) fn add(&mut self, h: &Histogram) -> Result<bool, Incompatible> {
        self.count += 1.0;
        let mut reconciled = false;
        if !self.running {
            let (mut sum, mut c) = (self.value.clone(), self.c.clone());
            reconciled = kahan_add(&mut sum, h, &mut c)?.reconciled;
            if !histogram::has_overflow(&sum) {
                (self.value, self.c) = (sum, c);
                return Ok(reconciled);
            }
            self.running = true;
            div(&mut self.value, self.count - 1.0);
            if let Some(c) = &mut self.c {
                div(c, self.count - 1.0);
            }
        }
        let q = (self.count - 1.0) / self.count;
        if let Some(c) = &mut self.c {
            mul(c, q);
        }
        let mut part = h.clone();
        div(&mut part, self.count);
        mul(&mut self.value, q);
        Ok(kahan_add(&mut self.value, &part, &mut self.c)?.reconciled || reconciled)
    }

    pub(super) fn finish(self) -> Result<Histogram, Incompatible> {
        let Mean {
            mut value,
            c,
            count,
            running,
        } = self;
        if !running {
            div(&mut value, count);
        }
        if let Some(mut c) = c {
            if !running {
                div(&mut c, count);
            }
            add(&mut value, &c)?;
        }
        Ok(value)
    }
}
