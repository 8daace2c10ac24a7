use std::sync::Arc;

/// Name of the label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// A canonical label set: names ascending by bytes, unique; values not empty; both valid UTF-8. Cheap to clone.
///
/// Byte form (also used in logs and files): for each label `varint(len) name varint(len) value`, LEB128 lengths.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[u8]>);

/// Why a label set is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    #[error("a series without labels")]
    Empty,
    #[error("a label without a name (value {value:?})")]
    EmptyName { value: String },
    #[error("the label {name:?} is given twice")]
    Duplicate { name: String },
    #[error("a label that is not valid UTF-8: {shown:?}")]
    NotUtf8 { shown: String },
    #[error("the bytes are no canonical label set")]
    NotCanonical,
}

impl Default for Labels {
    fn default() -> Self {
        Labels(Arc::from(&[][..]))
    }
}

impl Labels {
    /// The empty set, as aggregations yield it.
    pub fn empty() -> Self {
        Labels::default()
    }

    /// From any pairs; sorts, drops pairs with an empty value (an empty label is an absent one), later duplicates win.
    /// For tests and for query results; ingest goes through [`LabelsBuilder::build`], which refuses duplicates.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut map = std::collections::BTreeMap::new();
        for (n, v) in pairs {
            map.insert(n.as_ref().to_owned(), v.as_ref().to_owned());
        }
        map.retain(|_, v| !v.is_empty());
        let mut out = Vec::new();
        for (n, v) in &map {
            push_pair(&mut out, n.as_bytes(), v.as_bytes());
        }
        Labels(out.into())
    }

    /// From canonical bytes, checked in full.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LabelsError> {
        let mut last: Option<&str> = None;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (name, value) = split_pair(&mut rest).ok_or(LabelsError::NotCanonical)?;
            if name.is_empty() || value.is_empty() || last.is_some_and(|l| l >= name) {
                return Err(LabelsError::NotCanonical);
            }
            last = Some(name);
        }
        Ok(Labels(bytes.into()))
    }

    /// From bytes that another `Labels` or a checked table produced; not checked again.
    pub fn from_trusted_bytes(bytes: &[u8]) -> Self {
        debug_assert!(Labels::from_bytes(bytes).is_ok());
        Labels(bytes.into())
    }

    /// The canonical byte form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value of a label; `None` when absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The metric name; empty when there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// Pairs in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || split_pair(&mut rest))
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy with only the labels for which `keep` is true.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Labels {
        let mut out = Vec::with_capacity(self.0.len());
        for (n, v) in self.iter() {
            if keep(n) {
                push_pair(&mut out, n.as_bytes(), v.as_bytes());
            }
        }
        Labels(out.into())
    }

    /// A copy with only these labels.
    pub fn only(&self, names: &[&str]) -> Labels {
        let mut out = Vec::with_capacity(64);
        let mut rest = &self.0[..];
        loop {
            let before = rest;
            let (Some(name), Some(_)) = (split_bytes(&mut rest), split_bytes(&mut rest)) else {
                return Labels(out.into());
            };
            if names.iter().any(|n| n.as_bytes() == name) {
                out.extend_from_slice(&before[..before.len() - rest.len()]);
            }
        }
    }

    /// A copy with `name` set to `value` (removed when `value` is empty).
    pub fn with(&self, name: &str, value: &str) -> Labels {
        let mut out = Vec::with_capacity(self.0.len() + name.len() + value.len() + 4);
        let mut placed = value.is_empty();
        for (n, v) in self.iter() {
            if !placed && name < n {
                push_pair(&mut out, name.as_bytes(), value.as_bytes());
                placed = true;
            }
            if n != name {
                push_pair(&mut out, n.as_bytes(), v.as_bytes());
            }
        }
        if !placed {
            push_pair(&mut out, name.as_bytes(), value.as_bytes());
        }
        Labels(out.into())
    }

    /// A copy without `name`.
    pub fn without(&self, name: &str) -> Labels {
        self.filter(|n| n != name)
    }
}

/// In Prometheus' notation: `metric{a="b"}`.
impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.metric_name())?;
        let mut open = false;
        for (n, v) in self.iter().filter(|(n, _)| *n != METRIC_NAME) {
            f.write_str(if open { ", " } else { "{" })?;
            open = true;
            write!(f, "{n}={v:?}")?;
        }
        if open {
            f.write_str("}")?;
        } else if self.metric_name().is_empty() {
            f.write_str("{}")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

fn push_varint(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn push_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    push_varint(out, name.len());
    out.extend_from_slice(name);
    push_varint(out, value.len());
    out.extend_from_slice(value);
}

fn split_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(split_bytes(rest)?).ok()
}

fn split_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut len, mut shift) = (0usize, 0);
    loop {
        let (&b, tail) = rest.split_first()?;
        *rest = tail;
        len |= usize::from(b & 0x7f) << shift;
        if b < 0x80 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let (text, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(text)
}

fn split_pair<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, &'a str)> {
    let name = split_text(rest)?;
    Some((name, split_text(rest)?))
}

/// Collects the pairs of one series in any order into reused memory, then yields the canonical set.
#[derive(Default)]
pub struct LabelsBuilder {
    text: Vec<u8>,
    pairs: Vec<(u32, u32, u32)>,
    out: Vec<u8>,
}

impl LabelsBuilder {
    pub fn clear(&mut self) {
        self.text.clear();
        self.pairs.clear();
    }

    /// Adds a pair as it came from the wire; checked in [`build`](Self::build).
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(name);
        let middle = self.text.len() as u32;
        self.text.extend_from_slice(value);
        self.pairs.push((start, middle, self.text.len() as u32));
    }

    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pairs so far, in the order pushed.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs
            .iter()
            .map(|&(s, m, e)| (&self.text[s as usize..m as usize], &self.text[m as usize..e as usize]))
    }

    /// Sorts, drops labels with an empty value, refuses duplicates, empty names and bad UTF-8. The bytes live until
    /// the next call; make a [`Labels`] of them with [`Labels::from_trusted_bytes`].
    pub fn build(&mut self) -> Result<&[u8], LabelsError> {
        let text = &self.text;
        let name = |p: &(u32, u32, u32)| &text[p.0 as usize..p.1 as usize];
        self.pairs.sort_by(|a, b| name(a).cmp(name(b)));
        self.out.clear();
        let mut last: Option<&[u8]> = None;
        for p in &self.pairs {
            let (n, v) = (name(p), &text[p.1 as usize..p.2 as usize]);
            for part in [n, v] {
                if std::str::from_utf8(part).is_err() {
                    return Err(LabelsError::NotUtf8 { shown: shown(part) });
                }
            }
            if n.is_empty() {
                return Err(LabelsError::EmptyName { value: shown(v) });
            }
            if last == Some(n) {
                return Err(LabelsError::Duplicate { name: shown(n) });
            }
            last = Some(n);
            if !v.is_empty() {
                push_pair(&mut self.out, n, v);
            }
        }
        if self.out.is_empty() {
            return Err(LabelsError::Empty);
        }
        Ok(&self.out)
    }
}

/// At most 80 characters of hostile bytes, fit for an error text.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(320)]);
    if text.chars().count() > 80 {
        text.chars().take(80).chain(['…']).collect()
    } else {
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builder_sorts_and_drops_empty() {
        let mut b = LabelsBuilder::default();
        b.push(b"z", b"1");
        b.push(b"__name__", b"up");
        b.push(b"empty", b"");
        let l = Labels::from_bytes(b.build().unwrap()).unwrap();
        assert_eq!(l.to_string(), r#"up{z="1"}"#);
        assert_eq!(l, Labels::from_pairs([("__name__", "up"), ("z", "1")]));
    }

    #[test]
    fn builder_refuses() {
        let mut b = LabelsBuilder::default();
        assert_eq!(b.build(), Err(LabelsError::Empty));
        b.push(b"a", b"1");
        b.push(b"a", b"2");
        assert!(matches!(b.build(), Err(LabelsError::Duplicate { .. })));
        b.clear();
        b.push(b"a", b"\xff");
        assert!(matches!(b.build(), Err(LabelsError::NotUtf8 { .. })));
    }

    #[test]
    fn with_and_without() {
        let l = Labels::from_pairs([("b", "1"), ("d", "2")]);
        assert_eq!(l.with("c", "x").to_string(), r#"{b="1", c="x", d="2"}"#);
        assert_eq!(l.with("e", "x").with("b", "").to_string(), r#"{d="2", e="x"}"#);
        assert_eq!(l.without("b").without("d"), Labels::empty());
    }

    proptest::proptest! {
        #[test]
        fn bytes_round_trip(pairs in proptest::collection::btree_map("[a-z_]{1,9}", ".{1,20}", 0..12)) {
            let l = Labels::from_pairs(pairs.iter());
            proptest::prop_assert_eq!(&Labels::from_bytes(l.as_bytes()).unwrap(), &l);
            proptest::prop_assert_eq!(l.iter().count(), pairs.len());
        }

        #[test]
        fn any_bytes_are_refused_or_canonical(bytes: Vec<u8>) {
            let _ = Labels::from_bytes(&bytes);
        }
    }
}
