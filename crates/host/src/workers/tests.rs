use std::sync::mpsc::channel;
use std::task::Waker;

use super::*;

#[test]
fn a_thread_that_returns_or_panics_unasked_has_died() {
    let workers = Workers::default();
    let (sender, told) = channel();
    workers.thread("gone", || {}).unwrap().thread.join().unwrap();
    workers.when_one_dies(move |death| sender.send(death.clone()).unwrap());
    workers
        .thread("bad", || panic!("a {}\nmessage", "planted"))
        .unwrap()
        .join();
    let deaths = workers.deaths();
    assert_eq!(
        deaths,
        told.try_iter().collect::<Vec<_>>(),
        "told of each, also of those before"
    );
    assert_eq!(
        deaths[0].to_string(),
        "the worker gone returned although nobody stopped it"
    );
    let second = deaths[1].to_string();
    assert!(
        second.starts_with("the worker bad panicked: a planted message"),
        "{second}"
    );
    assert_eq!((workers.stats().running, workers.stats().died), (0, 2));
}

#[test]
fn an_end_that_was_asked_for_is_in_order_and_a_panic_never_is() {
    let workers = Workers::default();
    let (end, wait) = channel::<()>();
    let asked = workers.thread("asked", move || assert!(wait.recv().is_err())).unwrap();
    asked.ending();
    drop(end);
    asked.join();
    assert_eq!(workers.deaths(), []);

    let panicked = workers.thread("late", || panic!("while it ends")).unwrap();
    panicked.join();
    assert_eq!(workers.deaths().len(), 1);

    workers.stopping();
    workers.thread("after", || {}).unwrap().thread.join().unwrap();
    assert_eq!(workers.deaths().len(), 1, "all may end now");
}

#[test]
fn a_task_is_watched_like_a_thread() {
    let workers = Workers::default();
    let mut context = Context::from_waker(Waker::noop());
    let mut waits = Box::pin(workers.task("waits", std::future::pending()));
    assert!(waits.as_mut().poll(&mut context).is_pending());
    assert_eq!((workers.deaths().len(), workers.stats().running), (0, 1));
    drop(waits);
    assert_eq!(workers.stats().running, 0, "dropped by a stop");

    let mut returns = Box::pin(workers.task("returns", async {}));
    assert!(returns.as_mut().poll(&mut context).is_ready());
    let mut panics = Box::pin(workers.task("panics", async { panic!("planted") }));
    assert!(
        panics.as_mut().poll(&mut context).is_ready(),
        "the runtime sees no panic"
    );
    let names: Vec<_> = workers.deaths().into_iter().map(|d| d.worker).collect();
    assert_eq!(names, ["returns", "panics"]);
}

#[test]
fn a_piece_may_end_and_its_panic_is_noted_and_goes_on() {
    let workers = Workers::default();
    assert_eq!(workers.piece("adds", || 1 + 1), 2);
    let seen = catch_unwind(AssertUnwindSafe(|| workers.piece("bad", || panic!("planted"))));
    assert!(seen.is_err());
    assert_eq!(workers.deaths()[0].worker, "bad");
}
