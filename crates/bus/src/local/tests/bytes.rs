use std::path::Path;

use host::{Files, sim::Machine};

use super::{Bench, DIR};
use crate::local::{
    frame::{Close, HeaderError, Kind, LogId, RECORD_HEADER, RECORDS_AT, SegmentHeader},
    segment::Segment,
};

/// Hex of the parts in use of a small log, one line per 32 bytes.
fn golden() -> String {
    let machine = Machine::new(42);
    let mut bench = Bench::on(&machine);
    bench.send("up up").unwrap();
    let waiting = [bench.queue("and down"), bench.queue("")];
    bench.run();
    drop(waiting);
    bench.close();
    let mut out = String::new();
    for name in [Segment::file_name(1), "positions".to_owned(), "log.id".to_owned()] {
        let bytes = machine.files.read(&Path::new(DIR).join(&name)).unwrap();
        out.push_str(&format!("{name}\n"));
        for (i, line) in bytes
            .chunks(32)
            .enumerate()
            .filter(|(_, line)| line.iter().any(|b| *b != 0))
        {
            let hex: String = line.iter().map(|b| format!("{b:02x}")).collect();
            out.push_str(&format!("{:06x} {hex}\n", i * 32));
        }
    }
    out
}

#[test]
fn the_bytes_on_disk_are_those_of_format_1() {
    let expected = include_str!("golden-1.txt");
    assert_eq!(golden(), expected, "see docs/format/log.md");
}

#[test]
fn bytes_of_format_1_are_read() {
    let machine = Machine::new(9);
    machine.files.create_dir_all(Path::new(DIR)).unwrap();
    let mut name = String::new();
    for line in include_str!("golden-1.txt").lines() {
        let Some((offset, hex)) = line.split_once(' ') else {
            name = line.to_owned();
            continue;
        };
        let path = Path::new(DIR).join(&name);
        let file = machine.files.open(&path, host::OpenMode::Create).unwrap();
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        file.write_all_at(&bytes, u64::from_str_radix(offset, 16).unwrap())
            .unwrap();
    }
    // the golden lines leave out zeros
    machine
        .files
        .edit(&Path::new(DIR).join(Segment::file_name(1)), |b| b.resize(65_536, 0))
        .unwrap();
    machine
        .files
        .edit(&Path::new(DIR).join("positions"), |b| b.resize(3 * 4096, 0))
        .unwrap();
    let bench = Bench::on(&machine);
    assert_eq!(bench.report().quarantined, []);
    assert_eq!(bench.read(0).texts(), ["up up", "and down", ""]);
    assert!(bench.parts.shared.segments()[0].trailer().is_some());
}

#[test]
fn headers_and_records_belong_to_one_place() {
    let header = SegmentHeader {
        log: LogId([3; 16]),
        first: 7,
        generation: 99,
        durable_before: 6,
        created_ms: 1_700_000_000_000,
    };
    let blocks = header.blocks();
    assert_eq!(blocks.len() as u64, RECORDS_AT);
    assert_eq!(SegmentHeader::parse(&blocks), Ok(header));
    let mut newer = blocks.clone();
    newer[8] = 2;
    let crc = crc32c::crc32c(&newer[..64]);
    newer[64..68].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::parse(&newer), Err(HeaderError::Newer(2)));

    let identity = header.identity();
    let mut record = vec![0; RECORD_HEADER];
    record.extend_from_slice(b"payload");
    identity.seal(&mut record, Kind::Record, 7, 6, 8192);
    let open = identity.open(&record, 8192).unwrap();
    assert_eq!((open.position, open.length, open.durable_before), (7, 7, 6));
    assert!(open.holds(b"payload") && !open.holds(b"payloae"));
    assert_eq!(identity.open(&record, 8193), None, "another offset");
    for other in [
        SegmentHeader {
            generation: 98,
            ..header
        },
        SegmentHeader { first: 8, ..header },
        SegmentHeader {
            log: LogId([4; 16]),
            ..header
        },
    ] {
        assert_eq!(other.identity().open(&record, 8192), None);
    }
    for bit in 0..RECORD_HEADER * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(identity.open(&flipped, 8192), None, "bit {bit}");
    }
    let close = Close {
        last: 9,
        end: 9000,
        trailer_at: 8900,
    };
    let mut block = blocks;
    block[512..512 + 60].copy_from_slice(&close.bytes(identity));
    assert_eq!(Close::parse(&block, identity), Some(close));
    block[520] ^= 1;
    assert_eq!(Close::parse(&block, identity), None);
}
