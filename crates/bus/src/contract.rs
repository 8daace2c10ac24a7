//! What every log keeps, as a suite that each implementation runs from its tests.
//!
//! An implementation gives [`check`] a way to open one and the same empty log again and again, with `"store"` as its one
//! required consumer and items of text. The suite panics at the first promise that is not kept.

use std::{sync::Arc, time::Duration};

use crate::{BusError, Consumer, Delivery, Log, Position};

/// Long enough for any machine; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(20);

type Boxed = Box<dyn Log<String>>;

/// Runs the whole suite. `open` is called again after the log it returned before was closed and dropped.
///
/// # Panics
/// When a promise is not kept.
pub fn check(mut open: impl FnMut() -> Boxed) {
    let mut log = open();
    let mut sent: Vec<String> = Vec::new();
    positions_are_gapless_from_one(&*log, &mut sent);
    everybody_gets_everything_in_order(&*log, &sent);
    those_who_wait_are_woken(&*log, &mut sent);
    names_are_exclusive_while_attached(&*log);
    commits_want_a_known_name(&*log);
    futures_resolve(&*log, &mut sent);
    for round in 0..3 {
        close_and_refuse(&*log, &sent);
        drop(log);
        log = open();
        assert_eq!(
            log.durable(),
            sent.len() as u64,
            "durable after reopening {round} times"
        );
        everybody_gets_everything_in_order(&*log, &sent);
        let text = format!("after restart {round}");
        assert_eq!(publish(&*log, &text), Ok(sent.len() as u64 + 1));
        sent.push(text);
    }
    required_commits_never_lose_the_rest(&*log, &sent);
    close_and_refuse(&*log, &sent);
}

fn publish(log: &dyn Log<String>, text: &str) -> Result<Position, BusError> {
    log.publish(Arc::new(text.to_owned()), text.len()).wait()
}

fn expect(consumer: &mut dyn Consumer<String>, position: Position, text: &str) {
    match consumer.next(PATIENCE) {
        Ok(Delivery::Record { position: at, item }) => {
            assert_eq!((at, item.as_str()), (position, text));
        }
        other => panic!("wanted record {position}, got {other:?}"),
    }
}

fn positions_are_gapless_from_one(log: &dyn Log<String>, sent: &mut Vec<String>) {
    assert_eq!(log.durable(), 0, "the suite wants an empty log");
    let waiting: Vec<_> = (0..100)
        .map(|i| {
            let text = format!("record {i} {}", "x".repeat(i * 37 % 500));
            sent.push(text.clone());
            let bytes = text.len();
            log.publish(Arc::new(text), bytes)
        })
        .collect();
    for (i, publish) in waiting.into_iter().enumerate() {
        assert_eq!(publish.wait(), Ok(i as u64 + 1));
        assert!(log.durable() > i as u64, "resolved before durable");
    }
    assert_eq!(log.durable(), 100);
    assert_eq!(log.status().durable, 100);
}

fn everybody_gets_everything_in_order(log: &dyn Log<String>, sent: &[String]) {
    for from in [0, 1, sent.len() as u64 / 2, sent.len() as u64] {
        let mut consumer = log.consume("reader", from).expect("a free name attaches");
        for (position, text) in (1..).zip(sent).skip(from as usize) {
            expect(&mut *consumer, position, text);
        }
        let end = consumer.next(Duration::ZERO);
        assert!(matches!(end, Ok(Delivery::Idle)), "behind the end: {end:?}");
    }
    let beyond = log.consume("reader", sent.len() as u64 + 1);
    assert!(
        matches!(beyond, Err(BusError::Ahead { .. })),
        "a position nobody has was accepted"
    );
}

fn those_who_wait_are_woken(log: &dyn Log<String>, sent: &mut Vec<String>) {
    let from = sent.len() as u64;
    let mut store = log.consume("store", from).expect("a free name attaches");
    let mut other = log.consume("other", from).expect("a free name attaches");
    std::thread::scope(|scope| {
        let readers: Vec<_> = [&mut store, &mut other]
            .into_iter()
            .map(|consumer| {
                scope.spawn(move || {
                    for i in 0..50 {
                        expect(&mut **consumer, from + 1 + i, &format!("live {i}"));
                    }
                })
            })
            .collect();
        for i in 0..50 {
            let text = format!("live {i}");
            assert_eq!(publish(log, &text), Ok(from + 1 + i));
            sent.push(text);
        }
        for reader in readers {
            reader.join().expect("the reader got what was published");
        }
    });
}

fn names_are_exclusive_while_attached(log: &dyn Log<String>) {
    let first = log.consume("only", 0).expect("a free name attaches");
    assert!(matches!(log.consume("only", 0), Err(BusError::ConsumerExists { .. })));
    drop(first);
    drop(log.consume("only", 0).expect("the name is free again"));
}

fn commits_want_a_known_name(log: &dyn Log<String>) {
    assert_eq!(
        log.commit("nobody", 1),
        Err(BusError::UnknownConsumer {
            name: "nobody".to_owned()
        })
    );
    assert_eq!(
        log.commit("store", 1),
        Ok(()),
        "a required consumer need not be attached"
    );
    let attached = log.consume("passing", 0).expect("a free name attaches");
    assert_eq!(log.commit("passing", 1), Ok(()));
    drop(attached);
}

fn futures_resolve(log: &dyn Log<String>, sent: &mut Vec<String>) {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let text = "awaited".to_owned();
    sent.push(text.clone());
    let mut publish = std::pin::pin!(log.publish(Arc::new(text), 7));
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let outcome = loop {
        match publish.as_mut().poll(&mut context) {
            std::task::Poll::Ready(outcome) => break outcome,
            std::task::Poll::Pending => std::thread::park_timeout(PATIENCE),
        }
    };
    assert_eq!(outcome, Ok(sent.len() as u64));
}

fn required_commits_never_lose_the_rest(log: &dyn Log<String>, sent: &[String]) {
    let half = sent.len() as u64 / 2;
    log.commit("store", half).expect("store is required");
    log.drop_spares();
    let mut consumer = log.consume("store", half).expect("a free name attaches");
    for (position, text) in (1..).zip(sent).skip(half as usize) {
        expect(&mut *consumer, position, text);
    }
}

fn close_and_refuse(log: &dyn Log<String>, sent: &[String]) {
    let mut consumer = log
        .consume("last", sent.len() as u64 - 1)
        .expect("a free name attaches");
    assert_eq!(log.close(PATIENCE), Ok(()));
    assert_eq!(publish(log, "too late"), Err(BusError::Stopped));
    expect(&mut *consumer, sent.len() as u64, &sent[sent.len() - 1]);
    let end = consumer.next(PATIENCE);
    assert!(matches!(end, Ok(Delivery::Closed)), "after close: {end:?}");
    assert_eq!(log.close(PATIENCE), Ok(()), "closing twice");
}
