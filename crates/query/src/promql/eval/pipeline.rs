use std::sync::mpsc::sync_channel;

use model::SeriesBlock;

use super::Result;
use super::matrix::{Charge, Row, Steps};
use super::notes::Notes;
use super::stages::Stage;

/// Series that can be evaluated one by one, from any thread.
pub(super) trait Rows: Sync {
    fn len(&self) -> usize;

    /// Makes `scratch.row` the row of series `index`; false when it has no points.
    fn fill(&self, index: usize, scratch: &mut Scratch) -> Result<bool>;

    /// Bytes a thread needs besides a row's, as far as they are known.
    fn scratch_bytes(&self) -> usize {
        0
    }

    /// What the source lacked; asked after the last row.
    fn warnings(&self) -> Vec<String>;

    /// What is worth knowing of where samples came from; asked after the last row.
    fn infos(&self) -> Vec<String>;
}

/// What one thread keeps between rows.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) row: Row,
    pub(super) block: SeriesBlock,
    pub(super) notes: Notes,
    pub(super) counts: Counts,
}

/// Samples seen.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) read: u64,
    pub(super) series: u64,
    pub(super) looked_at: u64,
    pub(super) window_peak: u64,
    /// Looked at by step; empty unless wanted.
    pub(super) by_step: Vec<u64>,
}

impl Counts {
    pub(super) fn look(&mut self, step: usize, samples: u64) {
        self.looked_at += samples;
        self.window_peak = self.window_peak.max(samples);
        if let Some(n) = self.by_step.get_mut(step) {
            *n += samples;
        }
    }

    pub(super) fn merge(&mut self, other: &Counts) {
        self.read += other.read;
        self.series += other.series;
        self.looked_at += other.looked_at;
        self.window_peak = self.window_peak.max(other.window_peak);
        for (a, b) in self.by_step.iter_mut().zip(&other.by_step) {
            *a += b;
        }
    }
}

/// How a pipeline runs.
pub(super) struct Run {
    pub(super) steps: Steps,
    pub(super) threads: usize,
    pub(super) count_steps: bool,
}

/// Series a thread evaluates before it hands them over.
const CHUNK_SERIES: usize = 64;
/// Chunks a thread may be ahead of the one who takes them.
const CHUNKS_AHEAD: usize = 2;
/// Points (series times steps) below which threads cost more than they bring.
const POINTS_FOR_THREADS: usize = 16_384;
/// Threads at most, whatever the setting.
const THREADS_MAX: usize = 64;

impl Run {
    /// Evaluates all rows and gives those with points to `take`, in the order of the series. The rows may be taken
    /// away. Adds notes and counts to `total`.
    pub(super) fn rows(
        &self,
        rows: &dyn Rows,
        stages: &[Stage],
        total: &mut Scratch,
        take: &mut dyn FnMut(&mut Row) -> Result<()>,
    ) -> Result<()> {
        let threads = self.threads_for(rows);
        if threads > 1 {
            return self.in_parallel(threads, rows, stages, total, take);
        }
        let mut scratch = self.scratch();
        for index in 0..rows.len() {
            if self.one(index, rows, stages, &mut scratch)? {
                take(&mut scratch.row)?;
            }
        }
        absorb(total, scratch);
        Ok(())
    }

    fn threads_for(&self, rows: &dyn Rows) -> usize {
        if rows.len().saturating_mul(self.steps.count) < POINTS_FOR_THREADS {
            return 1;
        }
        self.threads.min(rows.len() / CHUNK_SERIES).clamp(1, THREADS_MAX)
    }

    /// Charges for what the threads will hold; goes on with one where there is no room for more.
    pub(super) fn take_memory(&mut self, rows: &dyn Rows, charge: &mut Charge<'_>) -> Result<()> {
        let row = Row::bytes(self.steps.count);
        let counts = if self.count_steps { self.steps.count * 8 } else { 0 };
        let scratch = row.saturating_add(rows.scratch_bytes()).saturating_add(counts);
        let threads = self.threads_for(rows);
        if threads > 1 {
            let ahead = row.saturating_mul(CHUNK_SERIES * (CHUNKS_AHEAD + 2));
            let bytes = scratch.saturating_add(ahead).saturating_mul(threads);
            match charge.add(bytes) {
                Ok(()) => return Ok(()),
                Err(_) => charge.give_back(bytes),
            }
            self.threads = 1;
        }
        charge.add(scratch)
    }

    fn scratch(&self) -> Scratch {
        let mut scratch = Scratch::default();
        if self.count_steps {
            scratch.counts.by_step = vec![0; self.steps.count];
        }
        scratch
    }

    fn one(&self, index: usize, rows: &dyn Rows, stages: &[Stage], scratch: &mut Scratch) -> Result<bool> {
        if !rows.fill(index, scratch)? {
            return Ok(false);
        }
        if stages.is_empty() {
            return Ok(true);
        }
        self.apply(stages, &mut scratch.row, &mut scratch.notes);
        Ok(!scratch.row.is_empty())
    }

    pub(super) fn apply(&self, stages: &[Stage], row: &mut Row, notes: &mut Notes) {
        for stage in stages {
            stage.apply(row, &self.steps, notes);
        }
    }

    /// Thread `t` evaluates the chunks t, t + threads, …; they are taken in order, so sums come out the same however
    /// many threads there are.
    fn in_parallel(
        &self,
        threads: usize,
        rows: &dyn Rows,
        stages: &[Stage],
        total: &mut Scratch,
        take: &mut dyn FnMut(&mut Row) -> Result<()>,
    ) -> Result<()> {
        let chunks = rows.len().div_ceil(CHUNK_SERIES);
        std::thread::scope(|scope| {
            let mut lanes = Vec::with_capacity(threads);
            for thread in 0..threads {
                let (give, lane) = sync_channel::<Result<(Vec<Row>, Notes)>>(CHUNKS_AHEAD);
                let work = move || {
                    let mut scratch = self.scratch();
                    let mut chunk = thread;
                    while chunk < chunks {
                        let first = chunk * CHUNK_SERIES;
                        let mut out = Vec::with_capacity(CHUNK_SERIES);
                        let mut failed = None;
                        for index in first..(first + CHUNK_SERIES).min(rows.len()) {
                            match self.one(index, rows, stages, &mut scratch) {
                                Ok(true) => out.push(std::mem::take(&mut scratch.row)),
                                Ok(false) => {}
                                Err(e) => {
                                    failed = Some(e);
                                    break;
                                }
                            }
                        }
                        let stop = failed.is_some();
                        let notes = std::mem::take(&mut scratch.notes);
                        // nobody takes any more: an earlier chunk failed
                        if give.send(failed.map_or(Ok((out, notes)), Err)).is_err() || stop {
                            break;
                        }
                        chunk += threads;
                    }
                    scratch.counts
                };
                lanes.push((lane, scope.spawn(work)));
            }
            let mut outcome = Ok(());
            'chunks: for chunk in 0..chunks {
                match lanes[chunk % threads].0.recv() {
                    Ok(Ok((mut out, notes))) => {
                        if !notes.is_empty() {
                            total.notes.merge(notes);
                        }
                        for row in &mut out {
                            if let Err(e) = take(row) {
                                outcome = Err(e);
                                break 'chunks;
                            }
                        }
                    }
                    Ok(Err(e)) => {
                        outcome = Err(e);
                        break;
                    }
                    // its thread panicked; the scope tells
                    Err(_) => break,
                }
            }
            for (lane, handle) in lanes {
                drop(lane);
                match handle.join() {
                    Ok(counts) => total.counts.merge(&counts),
                    Err(_) if outcome.is_ok() => {
                        outcome = Err(super::EvalError {
                            kind: super::EvalErrorKind::Internal,
                            message: "unexpected error: a thread of the evaluation panicked".into(),
                        });
                    }
                    Err(_) => {}
                }
            }
            outcome
        })
    }
}

fn absorb(total: &mut Scratch, part: Scratch) {
    if !part.notes.is_empty() {
        total.notes.merge(part.notes);
    }
    total.counts.merge(&part.counts);
}
