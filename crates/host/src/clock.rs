use std::time::Duration;

pub trait Clock: Send + Sync {
    /// Unix time in milliseconds; may jump either way.
    fn now_ms(&self) -> i64;

    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// Lets so much time pass.
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
