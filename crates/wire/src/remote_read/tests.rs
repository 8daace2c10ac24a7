use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::prometheus_chunk::ChunkKind;
use crate::prometheus_chunk::tests as chunks;

fn request(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    fill(&mut w);
    w.out
}

fn one_matcher(kind: u64, name: &str, value: &str) -> Vec<u8> {
    request(|w| {
        w.message(1, |q| {
            q.varint(1, 1_000);
            q.varint(2, 2_000);
            q.message(3, |m| {
                m.varint(1, kind);
                m.bytes(2, name.as_bytes());
                m.bytes(3, value.as_bytes());
            });
            q.message(4, |hints| {
                hints.varint(1, 15_000);
                hints.bytes(2, b"rate");
            });
        });
    })
}

#[test]
fn a_request_is_read() {
    let asked = decode(&one_matcher(2, "job", "a|b")).unwrap();
    assert_eq!(asked.form, ReadForm::Samples);
    let query = &asked.queries[0];
    assert_eq!((query.range.start_ms, query.range.end_ms), (1_000, 2_000));
    assert_eq!(
        (query.matchers[0].op, query.matchers[0].name.as_str()),
        (MatchOp::Regex, "job")
    );
    assert!(query.matchers[0].matches("b") && !query.matchers[0].matches("c"));
    assert!(decode(b"").unwrap().queries.is_empty());
}

#[test]
fn the_first_accepted_form_that_there_is_counts() {
    let form = |types: &[u64]| {
        decode(&request(|w| {
            for &t in types {
                w.varint(2, t);
            }
        }))
        .map(|r| r.form)
    };
    assert_eq!(form(&[1, 0]).unwrap(), ReadForm::StreamedChunks);
    assert_eq!(form(&[0, 1]).unwrap(), ReadForm::Samples);
    assert_eq!(form(&[7, 1]).unwrap(), ReadForm::StreamedChunks);
    assert!(form(&[7]).unwrap_err().message.contains("STREAMED_XOR_CHUNKS"));
}

#[test]
fn bad_requests_are_refused_with_the_reason() {
    for (body, says) in [
        (one_matcher(9, "a", "b"), "matcher type 9"),
        (one_matcher(2, "a", "("), "regular expression"),
        (request(|w| w.varint(1, 1)), "wire type"),
        (
            request(|w| (0..=QUERIES_MAX).for_each(|_| w.bytes(1, b""))),
            "queries in one request",
        ),
        (vec![0x0a, 0x7f], "reaches beyond"),
    ] {
        let e = decode(&body).unwrap_err();
        assert!(e.message.contains(says), "{}", e.message);
    }
    let many = request(|w| {
        for _ in 0..2 {
            w.message(1, |q| (0..MATCHERS_MAX).for_each(|_| q.bytes(3, b"")));
        }
    });
    assert!(decode(&many).unwrap_err().message.contains("matchers"));
}

/// A frame's (query, labels, chunks).
type Frame = (u64, Vec<(String, String)>, Vec<Chunk>);

fn pair(mut r: Reader<'_>) -> (String, String) {
    let mut of = || {
        r.tag().unwrap().unwrap();
        String::from_utf8(r.bytes().unwrap().to_vec()).unwrap()
    };
    (of(), of())
}

fn read_chunk(mut r: Reader<'_>) -> Chunk {
    let mut c = Chunk {
        kind: ChunkKind::Xor,
        min_ms: 0,
        max_ms: 0,
        data: Vec::new(),
    };
    while let Some(tag) = r.tag().unwrap() {
        match tag.field {
            1 => c.min_ms = r.varint().unwrap() as i64,
            2 => c.max_ms = r.varint().unwrap() as i64,
            3 => {
                c.kind = match r.varint().unwrap() {
                    1 => ChunkKind::Xor,
                    2 => ChunkKind::Histogram,
                    _ => ChunkKind::FloatHistogram,
                }
            }
            _ => c.data = r.bytes().unwrap().to_vec(),
        }
    }
    c
}

fn read_frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let mut r = Reader::new(bytes);
        let len = r.varint().unwrap() as usize;
        let rest = &bytes[r.position()..];
        let (crc, message) = (u32::from_be_bytes(*rest.first_chunk().unwrap()), &rest[4..4 + len]);
        assert_eq!(crc, crc32c::crc32c(message));
        bytes = &rest[4 + len..];
        let (mut r, mut frame) = (Reader::new(message), (0, Vec::new(), Vec::new()));
        while let Some(tag) = r.tag().unwrap() {
            if tag.field == 2 {
                frame.0 = r.varint().unwrap();
                continue;
            }
            let mut series = r.nested().unwrap();
            while let Some(tag) = series.tag().unwrap() {
                let part = series.nested().unwrap();
                if tag.field == 1 {
                    frame.1.push(pair(part));
                } else {
                    frame.2.push(read_chunk(part));
                }
            }
        }
        frames.push(frame);
    }
    frames
}

fn labels() -> Labels {
    Labels::from_pairs([("__name__", "up"), ("job", "a")])
}

proptest! {
    #[test]
    fn streamed_frames_hold_all_chunks(block in chunks::block()) {
        let mut out = Vec::new();
        let done: Result<(), Infallible> = stream_series(3, &labels(), &block, &mut out, |_| Ok(()));
        prop_assert!(done.is_ok());
        let frames = read_frames(&out);
        for (query, pairs, _) in &frames {
            prop_assert_eq!(*query, 3);
            prop_assert_eq!(pairs.len(), 2);
            prop_assert_eq!(&pairs[1], &("job".to_owned(), "a".to_owned()));
        }
        let sent: Vec<Chunk> = frames.into_iter().flat_map(|f| f.2).collect();
        prop_assert_eq!(sent, Chunks::of(&block).collect::<Vec<_>>());
    }

    #[test]
    fn sampled_answers_read_back(block in chunks::block()) {
        let mut answer = SampledAnswer::default();
        answer.begin();
        answer.begin();
        answer.series(&labels(), &block);
        let plain = snap::raw::Decoder::new().decompress_vec(&answer.finish().unwrap()).unwrap();
        let mut r = Reader::new(&plain);
        r.tag().unwrap();
        prop_assert!(r.nested().unwrap().is_empty());
        r.tag().unwrap();
        let mut result = r.nested().unwrap();
        prop_assert!(r.is_empty());
        result.tag().unwrap();
        let mut series = result.nested().unwrap();
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        while let Some(tag) = series.tag().unwrap() {
            match tag.field {
                2 => {
                    let mut s = series.nested().unwrap();
                    s.tag().unwrap();
                    let value = s.double().unwrap();
                    s.tag().unwrap();
                    floats.push((s.varint().unwrap() as i64, value.to_bits()));
                    prop_assert!(s.is_empty());
                }
                4 => histograms.push(crate::native_histogram::read(series.nested().unwrap()).unwrap()),
                _ => series.skip(tag).unwrap(),
            }
        }
        let given: Vec<(i64, u64)> = block.at_ms.iter().copied().zip(block.values.iter().map(|v| v.to_bits())).collect();
        prop_assert_eq!(floats, given);
        prop_assert_eq!(histograms.len(), block.histograms.len());
        for (i, parsed) in histograms.into_iter().enumerate() {
            let crate::native_histogram::Parsed::Histogram(at_ms, _, h) = parsed else {
                panic!("refused");
            };
            prop_assert_eq!(at_ms, block.histogram_at_ms[i]);
            prop_assert_eq!(h.reset_hint, block.histograms[i].reset_hint);
            prop_assert!(chunks::same(&h, &block.histograms[i]), "{h:?}");
        }
    }
}

#[test]
fn frames_end_at_their_size() {
    let block = SeriesBlock {
        at_ms: (0..200_000).map(|i| i * 1000).collect(),
        values: (0..200_000u64)
            .map(|i| f64::from_bits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect(),
        ..SeriesBlock::default()
    };
    let (mut out, mut sizes) = (Vec::new(), Vec::new());
    let done: Result<(), Infallible> = stream_series(0, &labels(), &block, &mut out, |out| {
        sizes.push(out.len());
        out.clear();
        Ok(())
    });
    done.unwrap();
    assert!(sizes.len() > 1, "{sizes:?}");
    assert!(sizes.iter().all(|&n| n < FRAME_BYTES_MAX + 4096), "{sizes:?}");
}
