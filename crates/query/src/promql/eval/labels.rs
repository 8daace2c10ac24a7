//! What evaluation does to label sets.

use std::cmp::Ordering;
use std::collections::HashMap;

use model::{Labels, METRIC_NAME, Pattern};

use super::super::quote;
use super::order::compare_labels;

/// Bytes of a label set that an evaluation may build; joining labels could double them without end.
pub(super) const LABELS_BYTES_MAX: usize = 256 << 10;

/// Labels that describe a metric and go with its name.
pub(super) fn is_metric_label(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

pub(super) fn without_name(labels: &Labels) -> Labels {
    if labels.iter().any(|(n, _)| is_metric_label(n)) {
        labels.filter(|n| !is_metric_label(n))
    } else {
        labels.clone()
    }
}

/// Labels as Prometheus prints them: every one in the braces.
pub(super) fn display(labels: &Labels) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        let plain = name
            .bytes()
            .enumerate()
            .all(|(i, b)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()));
        match plain {
            true => out.push_str(name),
            false => out.push_str(&quote(name)),
        }
        out.push('=');
        out.push_str(&quote(value));
    }
    out.push('}');
    out
}

/// The labels of an aggregation's group. `grouping` is sorted.
pub(super) fn group_labels(labels: &Labels, grouping: &[&str], without: bool) -> Labels {
    match (without, grouping) {
        (true, _) => labels.filter(|n| n != METRIC_NAME && grouping.binary_search(&n).is_err()),
        (false, []) => Labels::empty(),
        (false, _) => labels.only(grouping),
    }
}

/// The labels that a vector matching compares.
pub(super) fn match_labels(labels: &Labels, on: bool, names: &[String]) -> Labels {
    match on {
        true => labels.filter(|n| names.iter().any(|m| m == n)),
        false => labels.filter(|n| n != METRIC_NAME && !names.iter().any(|m| m == n)),
    }
}

/// Numbers label sets in order of appearance.
#[derive(Default)]
pub(super) struct Ordinals {
    index: HashMap<Labels, usize>,
}

impl Ordinals {
    pub(super) fn of(&mut self, labels: Labels) -> usize {
        let next = self.index.len();
        *self.index.entry(labels).or_insert(next)
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

/// A replacement text, its `$1`, `${1}`, `$name` and `$$` read as Go's `Regexp.ExpandString` does.
pub(super) struct Template<'t> {
    parts: Vec<Part<'t>>,
}

enum Part<'t> {
    Text(&'t str),
    /// The first of these groups that took part.
    Groups(Vec<usize>),
}

impl<'t> Template<'t> {
    pub(super) fn new(text: &'t str, pattern: &Pattern) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            parts.push(Part::Text(&rest[..at]));
            let dollar = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(tail) = rest.strip_prefix('$') {
                parts.push(Part::Text(dollar));
                rest = tail;
                continue;
            }
            let (braced, body) = match rest.strip_prefix('{') {
                Some(body) => (true, body),
                None => (false, rest),
            };
            let length = body
                .char_indices()
                .find(|(_, c)| !(c.is_alphanumeric() || *c == '_'))
                .map_or(body.len(), |(i, _)| i);
            let (name, tail) = body.split_at(length);
            let tail = match braced {
                false => Some(tail),
                true => tail.strip_prefix('}'),
            };
            let Some(tail) = tail.filter(|_| !name.is_empty()) else {
                parts.push(Part::Text(dollar));
                continue;
            };
            rest = tail;
            parts.push(Part::Groups(match name.bytes().all(|b| b.is_ascii_digit()) {
                true => name.parse().into_iter().collect(),
                false => pattern.groups(name).collect(),
            }));
        }
        parts.push(Part::Text(rest));
        Template { parts }
    }

    /// Appends the replacement for a match in `value`.
    pub(super) fn expand(&self, value: &str, places: &regex::CaptureLocations, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Groups(groups) => {
                    if let Some((from, to)) = groups.iter().find_map(|&group| places.get(group)) {
                        out.push_str(&value[from..to]);
                    }
                }
            }
        }
    }
}

/// Natural order: runs of digits compare as numbers.
fn natural(a: &str, b: &str) -> bool {
    let (a, b) = (chunks(a), chunks(b));
    for (i, x) in a.iter().enumerate() {
        let Some(y) = b.get(i) else {
            return false;
        };
        let (n, m) = (x.parse::<i64>(), y.parse::<i64>());
        let equal = match (&n, &m) {
            (Ok(n), Ok(m)) if n != m => return n < m,
            (Ok(_), Ok(_)) => true,
            _ => x == y,
        };
        if !equal {
            return x < y;
        }
        if i == a.len() - 1 {
            return true;
        }
        if i == b.len() - 1 {
            return false;
        }
    }
    false
}

fn chunks(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let digit = first.is_ascii_digit();
        let end = rest
            .bytes()
            .position(|b| b.is_ascii_digit() != digit)
            .unwrap_or(rest.len());
        let (chunk, tail) = rest.split_at(end);
        out.push(chunk);
        rest = tail;
    }
    out
}

/// Order by the values of these labels, naturally; by all labels where they agree.
pub(super) fn by_label(a: &Labels, b: &Labels, names: &[&str]) -> Ordering {
    for name in names {
        let (x, y) = (a.get(name).unwrap_or(""), b.get(name).unwrap_or(""));
        if x == y {
            continue;
        }
        return if natural(x, y) {
            Ordering::Less
        } else {
            Ordering::Greater
        };
    }
    compare_labels(a, b)
}

/// Prometheus' hash of a label set: XXH64 of its names and values with their lengths before them. `limit_ratio` depends
/// on it.
pub(super) fn hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::with_capacity(labels.as_bytes().len());
    for text in labels.iter().flat_map(|(n, v)| [n, v]) {
        match text.len() {
            n @ 0..=254 => bytes.push(n as u8),
            n => {
                bytes.push(255);
                bytes.extend_from_slice(&(n as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxh64(&bytes)
}

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

fn xxh64(bytes: &[u8]) -> u64 {
    let word = |b: &[u8]| b.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
    let round = |acc: u64, lane: u64| acc.wrapping_add(lane.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1);
    let mut rest = bytes;
    let mut h;
    if bytes.len() >= 32 {
        let mut v = [P1.wrapping_add(P2), P2, 0, 0u64.wrapping_sub(P1)];
        while rest.len() >= 32 {
            for (v, lane) in v.iter_mut().zip(rest[..32].chunks_exact(8)) {
                *v = round(*v, word(lane));
            }
            rest = &rest[32..];
        }
        h = v[0]
            .rotate_left(1)
            .wrapping_add(v[1].rotate_left(7))
            .wrapping_add(v[2].rotate_left(12))
            .wrapping_add(v[3].rotate_left(18));
        for v in v {
            h = (h ^ round(0, v)).wrapping_mul(P1).wrapping_add(P4);
        }
    } else {
        h = P5;
    }
    h = h.wrapping_add(bytes.len() as u64);
    while rest.len() >= 8 {
        h = (h ^ round(0, word(&rest[..8])))
            .rotate_left(27)
            .wrapping_mul(P1)
            .wrapping_add(P4);
        rest = &rest[8..];
    }
    if rest.len() >= 4 {
        h = (h ^ word(&rest[..4]).wrapping_mul(P1))
            .rotate_left(23)
            .wrapping_mul(P2)
            .wrapping_add(P3);
        rest = &rest[4..];
    }
    for &b in rest {
        h = (h ^ u64::from(b).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    h = (h ^ h >> 33).wrapping_mul(P2);
    h = (h ^ h >> 29).wrapping_mul(P3);
    h ^ h >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_has_the_published_values() {
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xxh64(b"abc"), 0x44bc_2cf5_ad77_0999);
        assert_eq!(
            xxh64(b"Call me Ishmael. Some years ago--never mind how long precisely-"),
            0x02a2_e854_70d6_fd96
        );
    }

    #[test]
    fn natural_order() {
        assert!(natural("cpu2", "cpu10"));
        assert!(!natural("cpu10", "cpu2"));
        assert!(natural("a", "b"));
        assert!(natural("a", "a1"));
        assert!(!natural("a1", "a"));
    }

    #[test]
    fn templates_expand_like_go() {
        let pattern = Pattern::anchored("(?P<first>a)(b)?").unwrap();
        let mut places = pattern.regex().capture_locations();
        pattern.regex().captures_read(&mut places, "ab").unwrap();
        for (template, want) in [
            ("$1-$2", "a-b"),
            ("$1x", ""),
            ("${1}x", "ax"),
            ("$first", "a"),
            ("$$1", "$1"),
            ("$", "$"),
            ("${1", "${1"),
            ("$-", "$-"),
            ("$9", ""),
        ] {
            let mut out = String::new();
            Template::new(template, &pattern).expand("ab", &places, &mut out);
            assert_eq!(out, want, "{template}");
        }
    }

    #[test]
    fn labels_print_in_braces() {
        let l = Labels::from_pairs([("__name__", "up"), ("a b", "\"")]);
        assert_eq!(display(&l), r#"{__name__="up", "a b"="\""}"#);
    }
}
