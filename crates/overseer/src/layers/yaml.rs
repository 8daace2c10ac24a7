//! A YAML document as a value that remembers the line of each key.
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A value, and where it stands.
pub(super) struct Node {
    line: u64,
    kind: Kind,
}

enum Kind {
    Leaf(Value),
    List(Vec<Node>),
    /// Key, the key's line, value.
    Map(Vec<(String, u64, Node)>),
}

impl Node {
    /// The document's value, or the line of what is no YAML and why.
    pub(super) fn parse(text: &str) -> Result<Node, (u64, String)> {
        serde_saphyr::from_str::<Node>(text).map_err(|e| {
            let line = e.location().map_or(0, |l| l.line());
            // a report would quote the file, and what stands there may be a secret
            let why = e.without_snippet().to_string();
            let why = why.lines().next().unwrap_or_default();
            let twice = why
                .strip_prefix("duplicate mapping key: ")
                .and_then(|rest| rest.split(',').next());
            (line, twice.map_or(why.to_owned(), |key| format!("{key}: given twice")))
        })
    }

    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Leaf(value) => value.clone(),
            Kind::List(list) => list.iter().map(Node::value).collect(),
            Kind::Map(map) => map
                .iter()
                .map(|(key, _, node)| (key.clone(), node.value()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    /// The line of the key at the path, or of the nearest one above it that the document has.
    pub(super) fn line(&self, path: &[String]) -> u64 {
        let (mut at, mut line) = (self, self.line);
        for part in path {
            let next = match &at.kind {
                Kind::Leaf(_) => None,
                Kind::List(list) => part
                    .parse::<usize>()
                    .ok()
                    .and_then(|i| list.get(i))
                    .map(|node| (node, node.line)),
                Kind::Map(map) => map
                    .iter()
                    .find(|(key, ..)| key == part)
                    .map(|(_, line, node)| (node, *line)),
            };
            let Some((node, found)) = next else { break };
            (at, line) = (node, found);
        }
        line
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Node {
            line: spanned.referenced.line(),
            kind: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Kind, E> {
        Ok(Kind::Leaf(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Kind, E> {
        Ok(Kind::Leaf(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Kind, E> {
        Ok(Kind::Leaf(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Kind, E> {
        // JSON has no number for what is not finite, and no setting takes it
        let value = Number::from_f64(v).map_or_else(|| v.to_string().into(), Value::Number);
        Ok(Kind::Leaf(value))
    }

    fn visit_i128<E>(self, v: i128) -> Result<Kind, E> {
        Ok(Kind::Leaf(v.to_string().into()))
    }

    fn visit_u128<E>(self, v: u128) -> Result<Kind, E> {
        Ok(Kind::Leaf(v.to_string().into()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Kind, E> {
        Ok(Kind::Leaf(v.into()))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element()? {
            list.push(node);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            map.push((key.value, line, access.next_value()?));
        }
        Ok(Kind::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_those_of_keys_and_items() {
        let text = "# a comment\nlog: { level: info }\nscrape:\n  jobs:\n    - name: a\n      targets:\n        - x\n        - 5\n";
        let node = Node::parse(text).unwrap();
        for (at, line) in [
            ("log.level", 2),
            ("scrape", 3),
            ("scrape.jobs", 4),
            ("scrape.jobs.0", 5),
            ("scrape.jobs.0.targets", 6),
            ("scrape.jobs.0.targets.1", 8),
            ("scrape.jobs.7.name", 4),
            ("nothing", 2),
        ] {
            assert_eq!(node.line(&path(at)), line, "{at}");
        }
        assert_eq!(
            node.value(),
            serde_json::json!({
                "log": { "level": "info" },
                "scrape": { "jobs": [{ "name": "a", "targets": ["x", 5] }] },
            })
        );
    }

    #[test]
    fn values_are_those_of_yaml() {
        let node = Node::parse("a: \"30\"\nb: 30\nc: 1.5\nd:\nf: true\nh: -1\n").unwrap();
        assert_eq!(
            node.value(),
            serde_json::json!({
                "a": "30", "b": 30, "c": 1.5, "d": null, "f": true, "h": -1
            })
        );
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line_and_without_the_text() {
        let (line, why) = Node::parse("listen: a\nauth: [hunter2\n").err().unwrap();
        assert!(line >= 2 && !why.contains("hunter2"), "{line}: {why}");
        let (line, why) = Node::parse("a: 1\na: 2\n").err().unwrap();
        assert!(line == 2 && why == "a: given twice", "{line}: {why}");
    }
}
