use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::Clock;

/// Lets something that may repeat without end be said at most once in a while.
pub struct Seldom {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// On the monotonic clock: when it may be said again.
    next: Duration,
    left_out: u64,
}

impl Seldom {
    pub fn new(every: Duration) -> Self {
        Seldom {
            every,
            state: Mutex::default(),
        }
    }

    /// How often it was left out since it was said last, when it may be said now; `None`: not now, and counted.
    pub fn turn(&self, clock: &dyn Clock) -> Option<u64> {
        let now = clock.monotonic();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now < state.next {
            state.left_out += 1;
            return None;
        }
        state.next = now + self.every;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Machine;

    #[test]
    fn it_is_said_once_in_a_while_with_how_often_it_was_left_out() {
        let machine = Machine::new(1);
        let seldom = Seldom::new(Duration::from_secs(10));
        let said: Vec<u64> = (0..100)
            .filter_map(|_| {
                let turn = seldom.turn(&*machine.clock);
                machine.clock.advance(Duration::from_secs(1));
                turn
            })
            .collect();
        assert_eq!(said, [0, 9, 9, 9, 9, 9, 9, 9, 9, 9]);
    }
}
