use std::io::Write;

use host::sim::Machine;

use super::*;

/// Everything written through a logger of its own, under `level`.
fn logged(machine: &Machine, level: &str, work: impl FnOnce(&Repeats)) -> (String, host::LogCounts) {
    let output = LogOutput::default();
    let repeats = Arc::new(Repeats::new(machine.host().clock, output.clone()));
    let for_lines = output.clone();
    let subscriber = tracing_subscriber::registry()
        .with(filter_of(level).unwrap())
        .with(Limited(Arc::clone(&repeats)))
        .with(
            fmt::layer()
                .with_writer(move || for_lines.clone())
                .log_internal_errors(false)
                .with_ansi(false),
        );
    tracing::subscriber::with_default(subscriber, || work(&repeats));
    let mut text = Vec::new();
    output.write_waiting(&mut text);
    (String::from_utf8(text).unwrap(), output.counts())
}

#[test]
fn a_line_that_repeats_is_left_out_and_counted_and_others_are_not() {
    let machine = Machine::new(1);
    let (text, counts) = logged(&machine, "debug", |repeats| {
        for n in 0..1000 {
            tracing::warn!(n, "again");
            tracing::debug!(n, "asked for");
            machine.clock.advance(Duration::from_millis(50));
        }
        tracing::warn!("another");
        let left_out = repeats.take_left_out();
        assert_eq!(left_out.len(), 1);
        assert!(left_out[0].0.starts_with("overseer::logging::tests:"), "{left_out:?}");
        assert_eq!(left_out[0].1, 1000 - 50 - 4, "{left_out:?}");
        assert!(repeats.take_left_out().is_empty());
    });
    let count = |what: &str| text.lines().filter(|l| l.contains(what)).count();
    assert_eq!((count("again"), count("asked for"), count("another")), (54, 1000, 1));
    assert_eq!(counts.left_out, 946);
}

#[test]
fn after_a_while_of_silence_a_kind_may_come_in_numbers_again() {
    let machine = Machine::new(1);
    let (text, _) = logged(&machine, "info", |_| {
        for _ in 0..2 {
            (0..60).for_each(|n| tracing::info!(n, "again"));
            machine.clock.advance(THEN_EVERY * AT_ONCE);
        }
    });
    assert_eq!(text.lines().count(), 100);
}

#[test]
fn a_sink_that_fails_and_a_value_that_cannot_be_shown_disturb_nobody() {
    struct Unshowable;
    impl std::fmt::Display for Unshowable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            Err(std::fmt::Error)
        }
    }
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }
    let machine = Machine::new(1);
    let (text, _) = logged(&machine, "info", |repeats| {
        tracing::info!(value = %Unshowable, "one");
        tracing::info!("two");
        repeats.output.write_waiting(&mut Full);
        tracing::info!("three");
    });
    assert!(text.contains("three") && !text.contains("two"), "{text}");
}
