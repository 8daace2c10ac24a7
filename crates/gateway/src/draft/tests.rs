use std::io::Read;

use super::*;

/// Numbers up to `max`, a line each.
fn numbers(max: u64) -> Write {
    let mut next = 0;
    Box::new(move |out, len_max| {
        while next < max {
            if out.len() >= len_max {
                return true;
            }
            out.extend_from_slice(format!("{next}\n").as_bytes());
            next += 1;
        }
        false
    })
}

fn expected(max: u64) -> Vec<u8> {
    (0..max).map(|n| format!("{n}\n")).collect::<String>().into_bytes()
}

/// All pieces, and how many bytes the largest has.
fn all_of(draft: Draft) -> (Vec<u8>, usize) {
    let (mut all, mut largest) = (draft.out, 0);
    let mut pen = draft.rest;
    while let Some(on) = &mut pen {
        let (piece, more) = on.piece();
        largest = largest.max(piece.len());
        all.extend_from_slice(&piece);
        if !more {
            pen = None;
        }
    }
    (all, largest)
}

#[test]
fn a_large_answer_is_made_piece_by_piece() {
    let draft = Draft::begin(false, 10, numbers(1_000_000));
    assert!(draft.out.len() < WHOLE_BYTES_MAX + 100 && draft.rest.is_some());
    let (all, largest) = all_of(draft);
    assert!(all == expected(1_000_000));
    assert!(largest < PIECE_BYTES + 100);
}

#[test]
fn pieces_of_gzip_are_one_stream() {
    let draft = Draft::begin(true, 10, numbers(1_000_000));
    assert!(draft.packed && draft.rest.is_some());
    let (all, _) = all_of(draft);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(all.as_slice())
        .read_to_end(&mut plain)
        .unwrap();
    assert!(plain == expected(1_000_000));
}

#[test]
fn small_answers_are_whole() {
    for (max, gzip, packed) in [(10, true, false), (1000, true, true), (1000, false, false)] {
        let draft = Draft::begin(gzip, 10, numbers(max));
        assert_eq!((draft.rest.is_none(), draft.packed), (true, packed));
    }
}

#[test]
fn lists_say_what_they_lack() {
    let found = Found {
        items: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
        warnings: vec!["w".to_owned()],
    };
    let draft = Draft::list(found, 2, false, String::len, |item, out| {
        out.extend_from_slice(format!("{item:?}").as_bytes())
    });
    let text = String::from_utf8(draft.out).unwrap();
    assert_eq!(
        text,
        r#"{"status":"success","data":["a","b"],"warnings":["w","results truncated due to limit"]}"#
    );
}
