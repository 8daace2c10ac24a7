//! A log whose files were changed by an outside hand: it opens, and delivers no record that was not written.
#![no_main]
use std::{path::Path, sync::Arc, time::Duration};

use bus::{
    Codec, Decode, Delivery, Log,
    local::{LocalLog, LocalSettings},
};
use host::sim::Machine;
use libfuzzer_sys::fuzz_target;

struct Plain;

impl Codec for Plain {
    type Item = Vec<u8>;

    fn begin(&mut self) {}

    fn encode(&mut self, item: &Vec<u8>, out: &mut Vec<u8>) {
        out.extend_from_slice(item);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"trailer");
    }
}

impl Decode for Plain {
    type Item = Vec<u8>;

    fn begin(&mut self, _: Option<&[u8]>) {}

    fn decode(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        Ok(bytes.to_vec())
    }
}

const RECORDS: u64 = 6;

fn payload(position: u64) -> Vec<u8> {
    vec![position as u8; 40 * position as usize]
}

fuzz_target!(|data: &[u8]| {
    let machine = Machine::new(1);
    let host = machine.host();
    let dir = Path::new("/log");
    let settings = || LocalSettings {
        initial_bytes: 64 << 10,
        segment_bytes: 64 << 10,
        ..LocalSettings::new("fuzz")
    };
    {
        let Ok((log, _)) = LocalLog::open(&host, dir, settings(), Plain, || Plain) else {
            panic!("an empty directory opens");
        };
        for position in 1..=RECORDS {
            let item = Arc::new(payload(position));
            log.publish(item, 64).wait().expect("the simulated disk has no fault");
        }
        log.close(Duration::from_secs(5)).expect("it closes");
    }
    let files = host.files.list(dir).expect("the directory is there");
    for change in data.chunks_exact(4).take(64) {
        let file = &files[usize::from(change[0] >> 4) % files.len()];
        let at = usize::from(u16::from_le_bytes([change[1], change[2]]));
        let _ = machine.files.edit(&dir.join(&file.name), |bytes| match change[0] & 3 {
            0 => bytes.truncate(at),
            1 => bytes.push(change[3]),
            _ if at < bytes.len() => bytes[at] ^= change[3],
            _ => {}
        });
    }
    // a file that says it is of a newer version may refuse the start
    let Ok((log, _)) = LocalLog::open(&host, dir, settings(), Plain, || Plain) else {
        return;
    };
    let Ok(mut consumer) = log.consume("reader", 0) else {
        return;
    };
    let mut last = 0;
    for _ in 0..64 {
        match consumer.next(Duration::ZERO) {
            Ok(Delivery::Record { position, item }) => {
                assert!(position > last && position <= RECORDS);
                assert_eq!(*item, payload(position));
                last = position;
            }
            Ok(Delivery::Damaged { .. }) => {}
            _ => break,
        }
    }
});
