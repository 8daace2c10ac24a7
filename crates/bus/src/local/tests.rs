mod bytes;
mod damage;
mod log;
mod simulation;
mod unread;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use host::{Host, sim::Machine};

use crate::{
    BusError, Cause, Codec, Consumer, Decode, Delivery, Position, Publish,
    local::{
        LocalSettings, OpenReport, Parts, commit, consume, open_parts, publish, reader::LocalConsumer, writer::Writer,
    },
};

/// What a test plants to see itself fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    AckBeforeSync,
}

/// Items are text; each word is spelled out once per scope and a number from then on, so that a reader that mixes up
/// scopes or skips definitions reads nonsense or fails.
#[derive(Default)]
struct Words {
    known: Vec<String>,
}

impl Words {
    fn dictionary(&self) -> Vec<u8> {
        self.known.join(" ").into_bytes()
    }
}

impl Codec for Words {
    type Item = String;

    fn begin(&mut self) {
        self.known.clear();
    }

    fn encode(&mut self, item: &String, out: &mut Vec<u8>) {
        assert!(item != "encoder panic");
        for word in item.split(' ') {
            match self.known.iter().position(|k| k == word) {
                Some(n) => out.extend_from_slice(&[b'#', n as u8]),
                None => {
                    out.extend_from_slice(&[b'=', self.known.len().min(255) as u8]);
                    if self.known.len() < 255 {
                        self.known.push(word.to_owned());
                    }
                    out.extend_from_slice(&(word.len() as u16).to_le_bytes());
                    out.extend_from_slice(word.as_bytes());
                }
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.dictionary());
    }
}

#[derive(Default)]
struct Reader {
    known: BTreeMap<usize, String>,
}

impl Decode for Reader {
    type Item = String;

    fn begin(&mut self, trailer: Option<&[u8]>) {
        let text = trailer.map(|t| String::from_utf8(t.to_vec()).expect("a trailer is handed over undamaged"));
        self.known = text
            .map(|t| t.split(' ').map(str::to_owned).enumerate().collect())
            .unwrap_or_default();
    }

    fn decode(&mut self, mut bytes: &[u8]) -> Result<String, String> {
        let mut words = Vec::new();
        while let Some((tag, rest)) = bytes.split_first() {
            if *tag == b'#' {
                let n = usize::from(rest[0]);
                let word = self.known.get(&n).ok_or("an unknown word")?;
                words.push(word.clone());
                bytes = &rest[1..];
            } else {
                let len = usize::from(u16::from_le_bytes([rest[1], rest[2]]));
                let word = String::from_utf8(rest[3..3 + len].to_vec()).map_err(|e| e.to_string())?;
                if rest[0] < 255 {
                    self.known.insert(usize::from(rest[0]), word.clone());
                }
                words.push(word);
                bytes = &rest[3 + len..];
            }
        }
        let text = words.join(" ");
        assert!(text != "decoder panic");
        if text == "decoder error" {
            Err("planted".to_owned())
        } else {
            Ok(text)
        }
    }
}

const DIR: &str = "/log";

fn small() -> LocalSettings {
    LocalSettings {
        segment_bytes: 64 << 10,
        initial_bytes: 64 << 10,
        max_bytes: 8 << 20,
        required: vec!["store".to_owned()],
        ..LocalSettings::new("test")
    }
}

/// A log whose writer runs when told.
struct Bench {
    parts: Parts<Words>,
}

impl Bench {
    fn open(host: &Host, settings: LocalSettings) -> Bench {
        Bench {
            parts: open_parts(host, Path::new(DIR), settings, Words::default()).expect("the log opens"),
        }
    }

    fn on(machine: &Machine) -> Bench {
        Bench::open(&machine.host(), small())
    }

    fn report(&self) -> &OpenReport {
        &self.parts.report
    }

    fn writer(&mut self) -> &mut Writer<Words> {
        &mut self.parts.writer
    }

    fn queue(&self, text: &str) -> Publish {
        publish(&self.parts.shared, Arc::new(text.to_owned()), text.len())
    }

    fn run(&mut self) {
        self.parts.writer.step(false);
    }

    fn send(&mut self, text: &str) -> Result<Position, BusError> {
        let publish = self.queue(text);
        self.run();
        publish.outcome().expect("one round resolves what was queued")
    }

    fn close(&mut self) {
        self.parts.shared.queue().stopping = true;
        while self.parts.writer.step(false) {}
    }

    fn commit(&mut self, name: &str, position: Position) {
        commit(&self.parts.shared, name, position).unwrap();
        self.run();
    }

    fn consume(&self, name: &str, from: Position) -> LocalConsumer<String, Reader> {
        let make: Arc<dyn Fn() -> Reader + Send + Sync> = Arc::new(Reader::default);
        consume(&self.parts.shared, name, from, &make).unwrap()
    }

    /// Everything after `from`: records, and what is said to be lost.
    fn read(&self, from: Position) -> Replayed {
        let mut consumer = self.consume("test reader", from);
        let mut all = Replayed::default();
        let mut at = from;
        loop {
            match consumer.next(Duration::ZERO).expect("reading goes on") {
                Delivery::Record { position, item } => {
                    assert_eq!(position, at + 1, "positions are in order");
                    at = position;
                    all.records.push((position, item.to_string()));
                }
                Delivery::Damaged {
                    first,
                    last,
                    cause,
                    detail,
                } => {
                    assert_eq!(first, at + 1, "a loss starts where reading stood: {detail}");
                    assert!(last >= first, "{detail}");
                    at = last;
                    all.lost.push((first, last, cause, detail));
                }
                Delivery::Idle | Delivery::Closed => break,
            }
        }
        assert_eq!(
            at,
            self.parts.shared.hub().durable,
            "everything up to the end is a record or a loss"
        );
        all
    }
}

#[derive(Default, Debug)]
struct Replayed {
    records: Vec<(Position, String)>,
    lost: Vec<(Position, Position, Cause, String)>,
}

impl Replayed {
    fn texts(&self) -> Vec<&str> {
        self.records.iter().map(|(_, text)| text.as_str()).collect()
    }

    fn lost(&self, position: Position) -> bool {
        self.lost
            .iter()
            .any(|(first, last, ..)| (*first..=*last).contains(&position))
    }
}
