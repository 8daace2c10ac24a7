use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::TenantId;
use tokio::sync::oneshot;

/// Lanes of queries, by weight.
pub(crate) const LANES: usize = 4;

/// Who may run now: so many queries at once in each lane, and so many of each tenant in it. Lanes know nothing of each
/// other, so that a full one costs the others nothing. Those that wait are let in tenant by
/// tenant, one after the other, so that many of one tenant cost another no more than one turn.
pub(crate) struct Turns {
    lanes: [usize; LANES],
    /// Of one tenant, in each lane.
    tenant_at_once: usize,
    /// Of one tenant, in each lane.
    waiting_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: [usize; LANES],
    tenants: BTreeMap<TenantId, Tenant>,
    /// Whom the last turn of each lane went to.
    last: [Option<TenantId>; LANES],
}

#[derive(Default)]
struct Tenant {
    running: [usize; LANES],
    waiting: [VecDeque<oneshot::Sender<Turn>>; LANES],
}

/// The right to run, given back when dropped.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    lane: usize,
    tenant: TenantId,
}

pub(crate) enum Entered {
    Now(Turn),
    /// The turn comes later; whoever drops the receiver waits no longer.
    Later(oneshot::Receiver<Turn>),
    /// As many of the tenant wait as may.
    Full,
}

impl Turns {
    /// `tenant_at_once`: 0 for no bound.
    pub(crate) fn new(lanes: [usize; LANES], tenant_at_once: usize, waiting_max: usize) -> Self {
        Turns {
            lanes,
            tenant_at_once: if tenant_at_once == 0 {
                usize::MAX
            } else {
                tenant_at_once
            },
            waiting_max,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(self: &Arc<Self>, lane: usize, tenant: TenantId) -> Entered {
        let mut state = self.state();
        let room = state.running[lane] < self.lanes[lane];
        let of = state.tenants.entry(tenant).or_default();
        if room && of.running[lane] < self.tenant_at_once {
            // those that wait in this lane wait for one or the other, and are let in as soon as there is room
            of.running[lane] += 1;
            state.running[lane] += 1;
            state.last[lane] = Some(tenant);
            return Entered::Now(self.turn(lane, tenant));
        }
        of.waiting[lane].retain(|waiter| !waiter.is_closed());
        if of.waiting[lane].len() >= self.waiting_max {
            return Entered::Full;
        }
        let (give, take) = oneshot::channel();
        of.waiting[lane].push_back(give);
        Entered::Later(take)
    }

    /// Whether the tenant runs as many in this lane as it may.
    pub(crate) fn tenant_is_full(&self, lane: usize, tenant: TenantId) -> bool {
        let state = self.state();
        state
            .tenants
            .get(&tenant)
            .is_some_and(|t| t.running[lane] >= self.tenant_at_once)
    }

    /// Queries that run in a lane.
    pub(crate) fn running(&self, lane: usize) -> usize {
        self.state().running[lane]
    }

    /// Queries that wait in a lane.
    pub(crate) fn waiting(&self, lane: usize) -> usize {
        let state = self.state();
        let of = state.tenants.values().map(|t| &t.waiting[lane]);
        of.map(|w| w.iter().filter(|waiter| !waiter.is_closed()).count()).sum()
    }

    fn turn(self: &Arc<Self>, lane: usize, tenant: TenantId) -> Turn {
        Turn {
            turns: Arc::clone(self),
            lane,
            tenant,
        }
    }

    /// Lets in whom there is room for.
    fn grant(self: &Arc<Self>, state: &mut State) -> Vec<(oneshot::Sender<Turn>, Turn)> {
        let mut granted = Vec::new();
        for lane in 0..LANES {
            while state.running[lane] < self.lanes[lane] {
                let Some(tenant) = self.next(state, lane) else { break };
                let Some(of) = state.tenants.get_mut(&tenant) else {
                    break;
                };
                let Some(waiter) = of.waiting[lane].pop_front() else {
                    break;
                };
                if waiter.is_closed() {
                    continue;
                }
                of.running[lane] += 1;
                state.running[lane] += 1;
                state.last[lane] = Some(tenant);
                granted.push((waiter, self.turn(lane, tenant)));
            }
        }
        granted
    }

    /// The tenant behind the one that had the last turn, of those that wait and may run.
    fn next(&self, state: &State, lane: usize) -> Option<TenantId> {
        let may = |(id, t): (&TenantId, &Tenant)| {
            (!t.waiting[lane].is_empty() && t.running[lane] < self.tenant_at_once).then_some(*id)
        };
        let last = state.last[lane];
        let behind = state.tenants.iter().filter(|(id, _)| Some(**id) > last).find_map(may);
        behind.or_else(|| state.tenants.iter().find_map(may))
    }

    fn leave(self: &Arc<Self>, lane: usize, tenant: TenantId) {
        let granted = {
            let mut state = self.state();
            state.running[lane] -= 1;
            if let Some(of) = state.tenants.get_mut(&tenant) {
                of.running[lane] -= 1;
            }
            self.grant(&mut state)
        };
        for (waiter, turn) in granted {
            // one that left meanwhile gives its turn back, outside the lock
            drop(waiter.send(turn));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.leave(self.lane, self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TenantId = TenantId(1);
    const B: TenantId = TenantId(2);

    fn now(turns: &Arc<Turns>, tenant: TenantId) -> Turn {
        match turns.enter(0, tenant) {
            Entered::Now(turn) => turn,
            _ => panic!("has to wait"),
        }
    }

    fn later(turns: &Arc<Turns>, tenant: TenantId) -> oneshot::Receiver<Turn> {
        match turns.enter(0, tenant) {
            Entered::Later(turn) => turn,
            _ => panic!("need not wait, or may not"),
        }
    }

    #[test]
    fn tenants_take_turns() {
        let turns = Arc::new(Turns::new([1, 1, 1, 1], 0, 10));
        let first = now(&turns, A);
        let mut of_a: Vec<_> = (0..3).map(|_| later(&turns, A)).collect();
        let mut of_b = later(&turns, B);
        drop(first);
        // B came last and is next: A has just had a turn
        let turn = of_b.try_recv().unwrap();
        assert!(of_a[0].try_recv().is_err());
        drop(turn);
        let turn = of_a[0].try_recv().unwrap();
        assert!(of_a[1].try_recv().is_err());
        drop(turn);
        assert!(of_a[1].try_recv().is_ok());
        assert!(of_a[2].try_recv().is_ok());
    }

    #[test]
    fn one_tenant_runs_so_many_at_once() {
        let turns = Arc::new(Turns::new([8, 8, 1, 1], 2, 10));
        let _one = now(&turns, A);
        let two = now(&turns, A);
        let mut three = later(&turns, A);
        assert!(turns.tenant_is_full(0, A) && !turns.tenant_is_full(0, B));
        assert!(
            matches!(turns.enter(1, A), Entered::Now(_)),
            "another lane is free all the same"
        );
        let _of_b = now(&turns, B);
        assert!(three.try_recv().is_err());
        drop(two);
        assert!(three.try_recv().is_ok());
    }

    #[test]
    fn who_waits_no_longer_holds_nothing_up() {
        let turns = Arc::new(Turns::new([1, 1, 1, 1], 0, 2));
        let first = now(&turns, A);
        let gone = later(&turns, A);
        let mut second = later(&turns, A);
        assert!(matches!(turns.enter(0, A), Entered::Full));
        assert!(
            matches!(turns.enter(0, B), Entered::Later(_)),
            "another tenant has its own places"
        );
        drop(gone);
        let mut third = later(&turns, A);
        drop(first);
        drop(second.try_recv().unwrap());
        drop(third.try_recv().unwrap());
        // a turn that was given and never taken comes back
        let held = now(&turns, A);
        let unread = later(&turns, A);
        drop(held);
        drop(unread);
        drop(now(&turns, B));
    }
}
