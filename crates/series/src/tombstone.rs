//! Deletes that files still have to be read through.

use model::{Labels, MatchOp, Matcher, TenantId, TimeRange};

use crate::bytes::{Bytes, Malformed, put_signed, put_text, put_varint};

/// Samples of positions below `position` that match are gone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tombstone {
    pub(crate) position: u64,
    pub(crate) tenant: TenantId,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) range: TimeRange,
}

impl Tombstone {
    /// Whether it concerns a file or head that covers positions up to `to`.
    pub(crate) fn concerns(&self, to: u64, range: TimeRange) -> bool {
        to < self.position && self.range.overlaps(&range)
    }

    pub(crate) fn matches(&self, tenant: TenantId, labels: &Labels) -> bool {
        self.tenant == tenant
            && self
                .matchers
                .iter()
                .all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.position);
        put_varint(out, u64::from(self.tenant.0));
        put_signed(out, self.range.start_ms);
        put_signed(out, self.range.end_ms);
        put_varint(out, self.matchers.len() as u64);
        for m in &self.matchers {
            out.push(match m.op {
                MatchOp::Equal => 0,
                MatchOp::NotEqual => 1,
                MatchOp::Regex => 2,
                MatchOp::NotRegex => 3,
            });
            put_text(out, m.name.as_bytes());
            put_text(out, m.value.as_bytes());
        }
    }

    pub(crate) fn decode(r: &mut Bytes<'_>) -> Result<Tombstone, Malformed> {
        let (position, tenant) = (r.varint()?, TenantId(r.number()?));
        let range = TimeRange::new(r.signed()?, r.signed()?);
        let mut matchers = Vec::new();
        for _ in 0..r.count(3)? {
            let op = match r.u8()? {
                0 => MatchOp::Equal,
                1 => MatchOp::NotEqual,
                2 => MatchOp::Regex,
                3 => MatchOp::NotRegex,
                _ => return Err(Malformed),
            };
            matchers.push(Matcher::new(r.str()?, op, r.str()?).map_err(|_| Malformed)?);
        }
        Ok(Tombstone {
            position,
            tenant,
            matchers,
            range,
        })
    }
}
