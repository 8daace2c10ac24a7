use std::collections::HashMap;

use model::{Reject, RejectReason, SampleSink};

use crate::error::shown;

/// Rejections told one by one; the rest of a body's is told as one count per reason.
const TOLD_MAX: usize = 100;
/// Fields without a number told by name.
const NAMED_MAX: usize = 100;

/// Bounds the work that a body full of bad lines makes: the first are told in detail, the rest are counted.
#[derive(Default)]
pub(crate) struct Rejects {
    told: usize,
    rest: Vec<(RejectReason, u64, u64)>,
    not_numbers: HashMap<Box<[u8]>, u64>,
}

impl Rejects {
    /// Notes one; `text` makes its subject and detail, and is called only when they will be told.
    pub(crate) fn tell<S: SampleSink + ?Sized>(
        &mut self,
        sink: &mut S,
        reason: RejectReason,
        samples: u64,
        text: impl FnOnce() -> (String, String),
    ) {
        if self.told < TOLD_MAX {
            self.told += 1;
            let (subject, detail) = text();
            sink.reject(Reject {
                reason,
                subject,
                detail,
                samples,
            });
            return;
        }
        match self.rest.iter_mut().find(|(r, ..)| *r == reason) {
            Some((_, times, lost)) => (*times, *lost) = (*times + 1, *lost + samples),
            None => self.rest.push((reason, 1, samples)),
        }
    }

    /// Notes a value that is text, under its field's name (raw bytes, as `measurement.field`).
    pub(crate) fn not_a_number<S: SampleSink + ?Sized>(&mut self, sink: &mut S, name: &[u8]) {
        if let Some(n) = self.not_numbers.get_mut(name) {
            *n += 1;
        } else if self.not_numbers.len() < NAMED_MAX {
            self.not_numbers.insert(name.into(), 1);
        } else {
            self.tell(sink, RejectReason::NotANumber, 1, || {
                (shown(name), "a string is no number; it is not stored".to_owned())
            });
        }
    }

    /// Tells what was only counted so far; call it once, at the end of the body.
    pub(crate) fn finish<S: SampleSink + ?Sized>(&mut self, sink: &mut S) {
        let mut named: Vec<_> = self.not_numbers.drain().collect();
        named.sort();
        for (name, samples) in named {
            sink.reject(Reject {
                reason: RejectReason::NotANumber,
                subject: shown(&name),
                detail: format!("{samples} string value(s): a string is no number; it is not stored"),
                samples,
            });
        }
        for (reason, times, samples) in self.rest.drain(..) {
            sink.reject(Reject {
                reason,
                subject: format!("{times} more"),
                detail: format!("of the same kind ({}), not told one by one", reason.as_str()),
                samples,
            });
        }
    }
}
