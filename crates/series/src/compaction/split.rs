//! Taking one level 0 file apart by days: chunks are copied as they are into files of level 0, each of a stretch of days. It is
//! for files of so many days that a merge would make too many files of them at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

use super::{Failure, Job, read_failed, whole};
use crate::block::{Block, BlockWriter, Chunk, Directory, Extras, Footer, Number, ReadError, block_name, day_of};
use crate::engine::Shared;

fn damaged(block: &Block) -> Failure {
    let d = block.footer.directory;
    Failure::Damaged(block.id(), ReadError::Damaged("directory", d.offset, d.len))
}

/// The days of a block's chunks.
pub(crate) fn days_of(shared: &Shared, block: &Block) -> Result<BTreeSet<i64>, Failure> {
    let directory = block.directory(&shared.indexes).map_err(read_failed(block))?;
    let mut days = BTreeSet::new();
    let walked = directory.each(|_, chunks| days.extend(chunks.iter().map(|c| day_of(c.min_ms))));
    walked.map_err(|_| damaged(block))?;
    Ok(days)
}

/// Writes the one input anew as several files, durable but in no manifest yet: one for the days before each of `cuts`, which
/// ascend, and one for those from the last of them on.
pub(crate) fn split(job: &Job<'_>, cuts: &[i64]) -> Result<(), Failure> {
    let input = &job.inputs[0];
    let directory = input.directory(&job.shared.indexes).map_err(read_failed(input))?;
    let part_of = |at_ms: i64| cuts.partition_point(|&cut| cut <= day_of(at_ms));
    let mut exemplars: BTreeMap<usize, Extras> = BTreeMap::new();
    for (number, exemplar) in whole(input, input.exemplars())? {
        let part = exemplars.entry(part_of(exemplar.at_ms)).or_default();
        part.exemplars.push((number, exemplar));
    }
    for part in 0..=cuts.len() {
        let mut extras = exemplars.remove(&part).unwrap_or_default();
        if part == cuts.len() {
            extras.metadata = whole(input, input.metadata())?;
        }
        let rows = rows_of(input, &directory, |c| part_of(c.min_ms) == part)?;
        write(job, &directory, &rows, part, cuts.len(), &extras)?;
    }
    Ok(())
}

type Row = (Number, Vec<Chunk>);

fn rows_of(block: &Block, directory: &Directory, belongs: impl Fn(&Chunk) -> bool) -> Result<Vec<Row>, Failure> {
    let mut rows: Vec<Row> = Vec::new();
    let walked = directory.each(|number, chunks| {
        let own: Vec<Chunk> = chunks.iter().filter(|c| belongs(c)).copied().collect();
        if !own.is_empty() {
            rows.push((number, own));
        }
    });
    walked.map_err(|_| damaged(block))?;
    Ok(rows)
}

fn write(
    job: &Job<'_>,
    directory: &Directory,
    rows: &[Row],
    part: usize,
    last: usize,
    extras: &Extras,
) -> Result<(), Failure> {
    let (s, input) = (job.shared, &job.inputs[0]);
    let id = s.next_block.fetch_add(1, Relaxed);
    job.made.borrow_mut().push(id);
    let path = s.dir.join(block_name(id));
    let io = |e| Failure::Io(path.clone(), e);
    if !job.pace.goes_on() {
        return Err(Failure::GivenUp);
    }
    let bounds = &s.settings.bounds;
    let mut file = BlockWriter::create(&s.host.files, &s.dir, s.realm, id, bounds, 1).map_err(io)?;
    for (number, chunks) in rows {
        let bytes = chunks.iter().map(|c| u64::from(c.len) * 2).sum();
        if !job.pace.merged(bytes) {
            return Err(Failure::GivenUp);
        }
        file.series_of_window(*number).map_err(io)?;
        for c in chunks {
            let group = input
                .group(directory, c.group, &s.merging)
                .map_err(read_failed(input))?;
            let bytes = input.chunk(directory, &group, c).map_err(read_failed(input))?;
            file.copy(bytes, c.histograms, c.count, c.min_ms, c.max_ms);
        }
    }
    let footer = Footer {
        replaces: vec![input.id()],
        part: part as u32,
        last_part: part == last,
        tombstones: job.view.told_tombstones(),
        ..input.footer.clone()
    };
    file.finish(footer, None, extras).map_err(io)?;
    Ok(())
}
