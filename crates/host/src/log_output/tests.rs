use std::sync::mpsc::{Receiver, channel};

use super::*;

/// Fails each line that has an `x`.
struct Choosy(Vec<u8>);

impl Write for Choosy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.contains(&b'x') {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// Nobody reads it until told.
struct Blocked(Receiver<()>);

impl Write for Blocked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_that_cannot_be_written_is_lost_and_counted_and_the_next_is_written() {
    let output = LogOutput::default();
    let mut sink = Choosy(Vec::new());
    for line in ["a\n", "x\n", "b\n"] {
        output.line(line.as_bytes());
    }
    output.close();
    output.line(b"too late\n");
    output.write_to(&mut sink);
    assert_eq!(sink.0, b"a\nb\n");
    output.leave_out();
    assert_eq!(
        output.counts(),
        LogCounts {
            written: 2,
            lost: 2,
            left_out: 1
        }
    );
}

#[test]
fn a_reader_that_takes_nothing_holds_up_nobody() {
    let output = LogOutput::with_room(100);
    let (let_go, blocked) = channel();
    let writer = output.clone();
    let thread = std::thread::spawn(move || writer.write_to(&mut Blocked(blocked)));
    for _ in 0..1000 {
        output.line(b"0123456789");
    }
    output.drain(Duration::ZERO);
    assert!(output.counts().lost >= 1000 - 2 * 10, "{:?}", output.counts());
    drop(let_go);
    output.drain(Duration::from_secs(60));
    let counts = output.counts();
    assert_eq!(counts.written + counts.lost, 1000);
    output.close();
    thread.join().unwrap();
}
