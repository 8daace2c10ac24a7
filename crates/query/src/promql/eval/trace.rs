//! What an evaluation did: always which selectors it read, and, for those who ask, where its time went node by node.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use model::{Matcher, ReadStats, TimeRange, Want};

use super::super::ast::Pos;
use super::plan::{Kind, Node, Plan};

/// Selectors of one query that are told apart; what others read is not told.
const SELECTORS_MAX: usize = 1000;
/// Bytes of an expression's text in a trace.
pub const TEXT_SHOWN_BYTES: usize = 200;

/// Follows one evaluation. Made by whoever asks and given along in [`EvalContext::trace`](super::EvalContext::trace);
/// it can be asked afterwards whether the evaluation succeeded or not. Costs a lock a selector, and with `explain` a
/// clock a node and a series; nothing a sample.
pub struct Trace {
    clock: TraceClock,
    explain: bool,
    state: Mutex<State>,
}

/// Time since any fixed moment.
pub type TraceClock = Arc<dyn Fn() -> Duration + Send + Sync>;

#[derive(Default)]
struct State {
    selectors: Vec<SelectorUse>,
    prepared: Duration,
    sorted: Duration,
    nodes: Vec<Record>,
    places: HashMap<usize, usize>,
    /// Nodes that are being evaluated, outermost first.
    active: Vec<usize>,
}

/// What one selector read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SelectorUse {
    /// Place in the query's text.
    pub pos: Pos,
    /// The matchers as a selector, shortened to [`TEXT_SHOWN_BYTES`].
    pub text: String,
    /// What may be read for it, both ends included; Unix milliseconds.
    pub from_ms: i64,
    pub to_ms: i64,
    /// Only the newest sample of each series is wanted.
    pub last_only: bool,
    /// Series that matched.
    pub series: u64,
    /// How long it took to find them.
    pub found_in: Duration,
    pub reads: ReadStats,
}

/// Phases of an evaluation besides the evaluation proper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Finding the series of all selectors.
    pub prepared: Duration,
    /// Sorting the result.
    pub sorted: Duration,
}

/// A node of the plan, and what its evaluation took.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanNode {
    /// "selector", "range selector", "subquery", "function", "operator", "aggregation", "negation", "number", "string".
    pub what: &'static str,
    /// The function's, operator's or aggregation's name; else empty.
    pub name: String,
    /// Its text in the query, shortened to [`TEXT_SHOWN_BYTES`]; empty when the query's text was not given.
    pub text: String,
    pub pos: Pos,
    pub how: How,
    /// Evaluated at the first step only, because nothing in it depends on the step.
    pub once: bool,
    /// Steps it was evaluated at.
    pub steps: u64,
    /// Wall time, that of the nodes below included. Where series go through several nodes one by one, each node's
    /// share in the time of all.
    pub total: Duration,
    /// Wall time without that of the nodes below.
    pub own: Duration,
    pub series_in: u64,
    pub series_out: u64,
    /// Samples read from the store, those of the nodes below included.
    pub samples: u64,
    /// Bytes of chunks decoded, those of the nodes below included.
    pub bytes: u64,
    /// What the selector read. Of a selector only.
    pub reads: Option<SelectorUse>,
    pub children: Vec<PlanNode>,
}

/// How a node was evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// Not at all: the query was answered without it.
    #[default]
    NotEvaluated,
    Constant,
    /// Series by series, none kept.
    Streamed,
    /// Series by series, each into its group as soon as it is there.
    Folded,
    /// All series were held at once.
    Collected,
}

impl How {
    pub fn as_str(self) -> &'static str {
        match self {
            How::NotEvaluated => "not evaluated",
            How::Constant => "constant",
            How::Streamed => "streamed",
            How::Folded => "folded",
            How::Collected => "collected",
        }
    }
}

struct Record {
    what: &'static str,
    name: String,
    text: String,
    pos: Pos,
    how: How,
    once: bool,
    entered: bool,
    steps: u64,
    total: Duration,
    series_out: u64,
    selector: Option<usize>,
    watch: Arc<Watch>,
    children: Vec<usize>,
}

/// Counts of one selector while an explained query reads its series.
#[derive(Default)]
pub(super) struct Watch {
    nanoseconds: AtomicU64,
    series: AtomicU64,
    samples: AtomicU64,
}

impl Watch {
    pub(super) fn read(&self, took: Duration, samples: usize) {
        self.nanoseconds.fetch_add(took.as_nanos() as u64, Relaxed);
        self.series.fetch_add(1, Relaxed);
        self.samples.fetch_add(samples as u64, Relaxed);
    }
}

/// A node that is being evaluated.
pub(super) struct Frame {
    place: usize,
    began: Duration,
    /// The same node is being evaluated further out, which will count the time.
    nested: bool,
}

impl Trace {
    /// `explain`: whether [`plan`](Self::plan) shall tell something.
    pub fn new(clock: TraceClock, explain: bool) -> Self {
        Trace {
            clock,
            explain,
            state: Mutex::default(),
        }
    }

    /// Without times.
    pub(super) fn quiet() -> Self {
        Trace::new(Arc::new(|| Duration::ZERO), false)
    }

    /// Selectors in the order in which they were read.
    pub fn selectors(&self) -> Vec<SelectorUse> {
        self.state().selectors.clone()
    }

    /// The selector that read most samples, and of those that read none, the one with most series.
    pub fn costliest(&self) -> Option<SelectorUse> {
        let samples = |s: &SelectorUse| s.reads.chunk_samples + s.reads.head_samples + s.reads.rollup_samples;
        let state = self.state();
        let most = state.selectors.iter().max_by_key(|s| (samples(s), s.series));
        most.cloned()
    }

    pub fn phases(&self) -> Phases {
        let state = self.state();
        Phases {
            prepared: state.prepared,
            sorted: state.sorted,
        }
    }

    /// The plan of the evaluation that ended; `None` when it was not to be explained or never began.
    pub fn plan(&self) -> Option<PlanNode> {
        let state = self.state();
        (!state.nodes.is_empty()).then(|| state.told(0))
    }

    pub(super) fn now(&self) -> Duration {
        (self.clock)()
    }

    pub(super) fn explains(&self) -> bool {
        self.explain
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn begin(&self, plan: &Plan<'_>, text: &str) {
        if self.explain {
            let mut state = self.state();
            state.nodes.clear();
            state.places.clear();
            state.add(&plan.root, text, false);
        }
    }

    pub(super) fn sorted(&self, took: Duration) {
        self.state().sorted += took;
    }

    /// A selector was looked up; gives its place in the list.
    pub(super) fn selected(
        &self,
        pos: Pos,
        matchers: &[Matcher],
        (range, want): (TimeRange, Want),
        series: usize,
        found_in: Duration,
    ) -> (usize, Option<Arc<Watch>>) {
        let mut state = self.state();
        state.prepared += found_in;
        let place = state.selectors.len();
        if place < SELECTORS_MAX {
            state.selectors.push(SelectorUse {
                pos,
                text: shortened(&super::super::selector_text(matchers)),
                from_ms: range.start_ms,
                to_ms: range.end_ms,
                last_only: want == Want::Last,
                series: series as u64,
                found_in,
                reads: ReadStats::default(),
            });
        }
        if !self.explain {
            return (place, None);
        }
        let is_selector = |r: &&mut Record| r.what.ends_with("selector") && r.pos == pos;
        let active = state.active.clone();
        let mut found = None;
        if let Some((i, record)) = state.nodes.iter_mut().enumerate().find(|(_, r)| is_selector(r)) {
            record.selector = Some(place);
            record.series_out = series as u64;
            record.how = How::Streamed;
            if !active.contains(&i) {
                record.total += found_in;
            }
            found = Some(Arc::clone(&record.watch));
        }
        (place, found)
    }

    /// What a selector has read in the end.
    pub(super) fn read(&self, place: usize, reads: ReadStats) {
        if let Some(selector) = self.state().selectors.get_mut(place) {
            selector.reads = reads;
        }
    }

    /// The selector with most series so far.
    pub(super) fn widest(&self) -> Option<SelectorUse> {
        self.state().selectors.iter().max_by_key(|s| s.series).cloned()
    }

    pub(super) fn selector_text(&self, place: usize) -> String {
        self.state()
            .selectors
            .get(place)
            .map_or_else(|| "{…}".into(), |s| s.text.clone())
    }

    pub(super) fn enter(&self, node: &Node<'_>, steps: usize) -> Option<Frame> {
        let mut state = self.state();
        let place = *state.places.get(&address(node))?;
        let nested = state.active.contains(&place);
        state.active.push(place);
        let record = &mut state.nodes[place];
        record.entered = true;
        if !nested {
            record.steps = steps as u64;
        }
        drop(state);
        Some(Frame {
            place,
            began: self.now(),
            nested,
        })
    }

    /// `series`: how many came out, where all are there.
    pub(super) fn exit(&self, frame: Option<Frame>, series: Option<usize>) {
        let Some(frame) = frame else { return };
        let took = self.now().saturating_sub(frame.began);
        let mut state = self.state();
        state.active.pop();
        let record = &mut state.nodes[frame.place];
        if !frame.nested {
            record.total += took;
        }
        if let Some(series) = series {
            record.series_out = series as u64;
            if record.how == How::NotEvaluated {
                record.how = match record.what {
                    "aggregation" => How::Folded,
                    _ => How::Collected,
                };
            }
        }
    }

    /// Where a node is, or the innermost that is being evaluated.
    pub(super) fn place(&self, node: Option<&Node<'_>>) -> usize {
        let state = self.state();
        node.and_then(|n| state.places.get(&address(n)).copied())
            .or(state.active.last().copied())
            .unwrap_or(0)
    }

    /// Nanoseconds that the selector right under a node has spent reading.
    pub(super) fn reading(&self, place: usize) -> u64 {
        let state = self.state();
        state
            .reader_of(place)
            .map_or(0, |i| state.nodes[i].watch.nanoseconds.load(Relaxed))
    }

    /// Series went through these nodes one by one, the first of them innermost: nanoseconds that threads spent in each,
    /// series that came out of it; `read`: those of the first that went into reading; `wall`: how long it all took.
    pub(super) fn streamed(&self, nodes: &[(usize, u64, u64)], read: u64, wall: Duration) {
        let all: u64 = nodes.iter().map(|n| n.1).sum();
        let share = |part: u64| wall.mul_f64(if all == 0 { 0.0 } else { part as f64 / all as f64 });
        let mut state = self.state();
        let reader = nodes.first().and_then(|n| state.reader_of(n.0));
        if let Some(reader) = reader.filter(|r| Some(*r) != nodes.first().map(|n| n.0)) {
            state.nodes[reader].total += share(read.min(all));
        }
        let mut below = 0;
        for &(place, spent, series) in nodes {
            below += spent;
            let active = state.active.contains(&place);
            let record = &mut state.nodes[place];
            record.series_out = series;
            record.entered = true;
            if record.how == How::NotEvaluated {
                record.how = How::Streamed;
            }
            if !active {
                record.total += share(below);
            }
        }
    }
}

fn address(node: &Node<'_>) -> usize {
    std::ptr::from_ref(node).addr()
}

pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_SHOWN_BYTES) {
        None if text.len() <= TEXT_SHOWN_BYTES => text.to_owned(),
        _ => {
            let mut end = TEXT_SHOWN_BYTES.min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            format!("{}…", &text[..end])
        }
    }
}

impl State {
    fn add(&mut self, node: &Node<'_>, text: &str, once: bool) -> usize {
        if let Kind::Invariant(inner) = &node.kind {
            let place = self.add(inner, text, true);
            self.places.insert(address(node), place);
            return place;
        }
        if let Kind::Plus(inner) = &node.kind {
            let place = self.add(inner, text, once);
            self.places.insert(address(node), place);
            return place;
        }
        let (what, name, children): (_, &str, Vec<&Node<'_>>) = match &node.kind {
            Kind::Number(_) => ("number", "", Vec::new()),
            Kind::Text(_) => ("string", "", Vec::new()),
            Kind::Selector(_) => ("selector", "", Vec::new()),
            Kind::Matrix(..) => ("range selector", "", Vec::new()),
            Kind::Subquery(s) => ("subquery", "", vec![&s.inner]),
            Kind::Negate(inner) => ("negation", "", vec![inner]),
            Kind::Binary(b) => ("operator", b.op.as_str(), vec![&b.left, &b.right]),
            Kind::Aggregate(a) => ("aggregation", a.op.as_str(), a.param.iter().chain([&a.expr]).collect()),
            Kind::Call(f, args) => ("function", f.name, args.iter().collect()),
            Kind::Invariant(inner) | Kind::Plus(inner) => ("", "", vec![inner]),
        };
        let place = self.nodes.len();
        let own = text.get(node.pos.start as usize..node.pos.end as usize);
        self.nodes.push(Record {
            what,
            name: name.to_owned(),
            text: shortened(own.unwrap_or("")),
            pos: node.pos,
            how: match what {
                "number" | "string" => How::Constant,
                _ => How::NotEvaluated,
            },
            once,
            entered: false,
            steps: 0,
            total: Duration::ZERO,
            series_out: 0,
            selector: None,
            watch: Arc::default(),
            children: Vec::new(),
        });
        self.places.insert(address(node), place);
        let children = children.into_iter().map(|c| self.add(c, text, once)).collect();
        self.nodes[place].children = children;
        place
    }

    /// The selector that a node reads its series from: itself or its operand.
    fn reader_of(&self, place: usize) -> Option<usize> {
        let is_selector = |i: &usize| self.nodes[*i].what.ends_with("selector");
        if is_selector(&place) {
            return Some(place);
        }
        self.nodes[place].children.iter().copied().find(is_selector)
    }

    fn told(&self, place: usize) -> PlanNode {
        let r = &self.nodes[place];
        let children: Vec<PlanNode> = r.children.iter().map(|&c| self.told(c)).collect();
        let below: Duration = children.iter().map(|c| c.total).sum();
        let (mut total, mut how, mut series_out) = (r.total, r.how, r.series_out);
        let mut steps = r.steps;
        if !r.entered && r.what != "range selector" {
            // looked through by the node above: a subquery, an `or` in a chain of them
            total = below;
            if how == How::NotEvaluated
                && children
                    .iter()
                    .any(|c| c.how != How::NotEvaluated && c.how != How::Constant)
            {
                how = How::Collected;
                series_out = children.iter().map(|c| c.series_out).sum();
                steps = children.iter().map(|c| c.steps).max().unwrap_or(0);
            }
        }
        if how == How::Streamed && r.name.starts_with("sort") {
            // what is streamed is only its first step, the choice of floats
            how = How::Collected;
        }
        let reads = r.selector.and_then(|s| self.selectors.get(s)).cloned();
        let (series, samples) = match &reads {
            Some(reads) => (reads.series, r.watch.samples.load(Relaxed)),
            None => (children.iter().map(|c| c.series_out).sum(), 0),
        };
        PlanNode {
            what: r.what,
            name: r.name.clone(),
            text: r.text.clone(),
            pos: r.pos,
            how,
            once: r.once,
            steps,
            total,
            own: total.saturating_sub(below),
            series_in: series,
            series_out,
            samples: samples + children.iter().map(|c| c.samples).sum::<u64>(),
            bytes: reads.as_ref().map_or(0, |r| r.reads.chunk_bytes) + children.iter().map(|c| c.bytes).sum::<u64>(),
            reads,
            children,
        }
    }
}

#[cfg(test)]
mod tests;
