use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock};

use hashbrown::HashMap;
use model::{
    Budget, Cardinality, Exemplar, Found, Hints, Labels, Matcher, Metadata, Revision, SampleSource, SelectRequest,
    SeriesId, SeriesSet, SourceError, TenantId, TimeRange, Want,
};

use super::Engine;
use super::rolled::{self, Rollups};
use super::selection::{Newest, Reads, Selection, Source};
use super::stated::Stated;
use super::view::View;
use crate::block::{Block, NO_SERIES, Number, ReadError};
use crate::head::Mark;

/// Label sets made before their memory is charged for.
const LABELS_AT_ONCE: usize = 4096;
/// No number.
const NONE: Number = Number::MAX;

impl Engine {
    pub(super) fn selection(&self, request: &SelectRequest<'_>, budget: &Budget) -> Result<Selection, SourceError> {
        let (tenant, range, want) = (request.tenant, request.range, request.hints.want);
        let shown = self.shown.load(Relaxed);
        let mut ids = self.shared.select_of_table(tenant, request.matchers, budget)?;
        let gate = self.read_gate();
        let view = self.shared.view();
        if self.shown.load(Relaxed) != shown {
            // a batch that brought new series came in between: see it whole
            ids = self.shared.select_of_table(tenant, request.matchers, budget)?;
        }
        // told before the memory is taken; whoever holds the selection charges for it
        let bytes = Selection::bytes_of(ids.len(), view.blocks.len().min(2)) as u64;
        let room = budget.bytes(bytes);
        budget.release(bytes);
        room?;
        let mut marks = vec![Mark::default(); ids.len()];
        let mut newest = Vec::new();
        if want == Want::Last {
            self.newest(&view, &ids, &mut marks, &mut newest);
        } else {
            view.active.marks(&ids, |i, mark, _| marks[i] = mark, false);
        }
        drop(gate);
        let mut selection = Selection {
            shared: Arc::clone(&self.shared),
            tenant,
            range,
            want,
            tombstones: view.tombstones.iter().filter(|t| t.tenant == tenant).cloned().collect(),
            sources: view.sources_of_windows(&ids, |b| b.range().overlaps(&range)),
            rollups: Rollups::default(),
            stated: None,
            ids,
            labels: Vec::new(),
            marks,
            newest,
            matchers: request.matchers.to_vec(),
            earlier: OnceLock::new(),
            warnings: Mutex::default(),
            reads: Reads::default(),
            view,
        };
        let mut taken = 0;
        let added = self.add_files(&mut selection, request, budget, &mut taken);
        budget.release(taken);
        added?;
        self.tidy(&mut selection);
        selection.prepare_rollups(&request.hints);
        let sources = &selection.sources;
        let may_help = |stated: &Stated| sources.iter().any(|s| stated.may_help(&s.block.footer));
        selection.stated = Stated::of(&request.hints).filter(may_help);
        budget.series(selection.ids.len() as u64)?;
        Ok(selection)
    }

    /// Finds the newest sample of each series where heads and the values of the last seals tell it for sure.
    fn newest(&self, view: &View, ids: &[SeriesId], marks: &mut [Mark], newest: &mut Vec<Newest>) {
        // (newest known, may be trusted)
        let mut best: Vec<(Option<(i64, f64)>, bool)> = vec![(None, true); ids.len()];
        let files_max = view.blocks_max_ms();
        let no_files = view.blocks.is_empty() && view.lost.is_empty() && view.rollups.is_empty();
        self.last.get(ids, |i, value| best[i].0 = value);
        let known: Vec<bool> = best.iter().map(|b| b.0.is_some() || no_files).collect();
        let mut head = |head: &crate::head::Head, marks: &mut [Mark]| {
            head.marks(
                ids,
                |i, mark, last| {
                    marks[i] = mark;
                    match last {
                        Some(v) if best[i].0.is_none_or(|b| b.0 <= v.0) => best[i].0 = Some(v),
                        None if !mark.is_empty() => best[i].1 = false,
                        _ => {}
                    }
                },
                true,
            );
        };
        for frozen in &view.frozen {
            head(frozen, marks);
        }
        head(&view.active, marks);
        let cut = !view.tombstones.is_empty();
        newest.extend(best.iter().zip(known).map(|((value, trusted), known)| match value {
            Some((at, v)) if *trusted && !cut && (known || *at > files_max) => Newest::Known(*at, *v),
            _ => Newest::Unknown,
        }));
    }

    /// Adds what files above level 0 hold, and says what cannot be had. `taken`: the bytes charged for meanwhile.
    fn add_files(
        &self,
        s: &mut Selection,
        request: &SelectRequest<'_>,
        budget: &Budget,
        taken: &mut u64,
    ) -> Result<(), SourceError> {
        let matchers = request.matchers;
        let mut warnings = s.view.missing(s.range);
        let view = Arc::clone(&s.view);
        let range = s.range;
        let rollups = rolled::chosen(&view, range, &request.hints);
        let above = || {
            let of_samples = |b: &&Arc<Block>| b.footer.level > 0 && b.range().overlaps(&range);
            let blocks = view.blocks.iter().filter(of_samples).map(|b| (b, None));
            blocks.chain(rollups.iter().map(|r| (&r.block, Some(r))))
        };
        let mut by_id = match above().next() {
            Some(_) => Places::of(&s.ids, self.shared.table.id_bound()),
            None => Places::Few(HashMap::new()),
        };
        let mut by_labels: HashMap<Labels, u32> = HashMap::new();
        // within a file no two series are the same: nothing has to be found again when there is but one
        let alone = above().nth(1).is_none();
        let mut of_files: Vec<(Labels, u32)> = Vec::new();
        let mut added = Vec::new();
        let mut bytes = Vec::new();
        for (block, rollup) in above() {
            budget.check()?;
            let index = match self.shared.index(block) {
                Ok((index, lost)) => {
                    // of rollups, the samples are there
                    warnings.extend(lost.filter(|_| rollup.is_none_or(|r| r.alone)));
                    index
                }
                // the samples are there
                Err(e) if rollup.is_some_and(|r| !r.alone) => {
                    if !matches!(e, ReadError::Io(_)) {
                        self.shared.quarantine.block(block, &e);
                    }
                    continue;
                }
                Err(ReadError::Io(e)) => return Err(SourceError::Io(format!("{}: {e}", block.path.display()))),
                Err(e) => {
                    warnings.insert(self.shared.quarantine.block(block, &e));
                    continue;
                }
            };
            let own = (s.ids.len() * size_of::<Number>()) as u64;
            *taken += own;
            budget.bytes(own)?;
            let mut column = vec![NONE; s.ids.len()];
            let known = block.known_ids(self.shared.table.freed(), index.len());
            for &number in &self.shared.select_in(block, &index, s.tenant, matchers).list {
                let id = known.get(number).or_else(|| {
                    bytes.clear();
                    index.write_labels(number, &mut bytes);
                    let id = self.shared.table.find(s.tenant, &bytes)?;
                    known.set(number, id);
                    Some(id)
                });
                let next = s.ids.len() as u32;
                let entry = match id {
                    Some(id) => by_id.get_or_insert(id, next),
                    None => {
                        let Ok(labels) = Labels::from_bytes(&bytes) else {
                            continue;
                        };
                        match alone {
                            true => {
                                of_files.push((labels, next));
                                next
                            }
                            false => *by_labels.entry(labels).or_insert(next),
                        }
                    }
                };
                if entry == next {
                    s.ids.push(id.unwrap_or(NO_SERIES));
                    s.marks.push(Mark::default());
                    if s.want == Want::Last {
                        s.newest.push(Newest::Unknown);
                    }
                }
                if column.len() <= entry as usize {
                    column.resize(entry as usize + 1, NONE);
                }
                column[entry as usize] = number;
            }
            match rollup {
                Some(rollup) => s.rollups.push(rollup.clone(), column),
                None => added.push(Source::new(Arc::clone(block), Arc::new(column))),
            }
        }
        s.sources.extend(added);
        of_files.extend(by_labels);
        if !of_files.is_empty() {
            s.labels = self.shared.table.labels_of(&s.ids);
            for (labels, entry) in of_files {
                s.labels[entry as usize] = labels;
            }
        }
        s.warnings = Mutex::new(warnings);
        Ok(())
    }

    /// Sorts entries by labels, drops those that nothing holds, and joins those that are one series.
    fn tidy(&self, s: &mut Selection) {
        let held = |i: usize| {
            s.marks.get(i).is_some_and(|m| !m.is_empty())
                || s.sources.iter().any(|f| f.number(i) != NONE)
                || s.rollups.alone_hold(i)
                || s.view
                    .frozen
                    .iter()
                    .any(|h| s.ids[i] != NO_SERIES && !h.mark(s.ids[i]).is_empty())
        };
        let mut order: Vec<u32> = (0..s.ids.len() as u32).filter(|&i| held(i as usize)).collect();
        if s.labels.is_empty() {
            self.order.sort(&self.shared.table, &s.ids, &mut order);
        } else {
            order.sort_by(|&a, &b| s.labels[a as usize].cmp(&s.labels[b as usize]));
        }
        // a series that entered the table while files were asked is there twice
        let mut twins: Vec<(u32, u32)> = Vec::new();
        if !s.labels.is_empty() {
            let labels = &s.labels;
            order.dedup_by(|next, kept| {
                let same = labels[*next as usize] == labels[*kept as usize];
                if same {
                    twins.push((*kept, *next));
                }
                same
            });
        }
        for &(kept, twin) in &twins {
            let (kept, twin) = (kept as usize, twin as usize);
            if s.ids[kept] == NO_SERIES {
                s.ids[kept] = s.ids[twin];
                s.marks[kept] = s.marks[twin];
            }
            for f in s
                .sources
                .iter_mut()
                .chain(s.rollups.list.iter_mut().map(|r| &mut r.source))
            {
                f.join(kept, twin);
            }
        }
        s.ids = order.iter().map(|&i| s.ids[i as usize]).collect();
        s.marks = order.iter().map(|&i| s.marks[i as usize]).collect();
        if !s.newest.is_empty() {
            s.newest = order.iter().map(|&i| s.newest[i as usize]).collect();
        }
        if !s.labels.is_empty() {
            s.labels = order.iter().map(|&i| s.labels[i as usize].clone()).collect();
        }
        let rolled = s.rollups.list.iter_mut().map(|r| &mut r.source);
        Source::permute(s.sources.iter_mut().chain(rolled), &order);
        let priority = |f: &Source| f.priority();
        s.sources.sort_by_key(priority);
    }

    /// Series with samples in the range that match any of the matcher sets: ids of the table, labels of the others.
    fn found(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Matching, SourceError> {
        let (mut ids, mut others, mut warnings) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let all = [Vec::new()];
        for matchers in if any_of.is_empty() { &all } else { any_of } {
            let request = SelectRequest {
                tenant,
                matchers,
                range,
                hints: Hints {
                    want: Want::Labels,
                    ..Hints::default()
                },
            };
            let selection = self.selection(&request, budget)?;
            for i in 0..selection.len() {
                if !selection.touches(i, budget)? {
                    continue;
                }
                match selection.ids[i] {
                    NO_SERIES => drop(others.insert(selection.labels(i))),
                    id => drop(ids.insert(id)),
                }
            }
            warnings.extend(selection.take_warnings());
        }
        Ok(Matching {
            ids: ids.into_iter().collect(),
            others,
            warnings: warnings.into_iter().collect(),
        })
    }
}

/// What a search for series found.
struct Matching {
    ids: Vec<SeriesId>,
    others: BTreeSet<Labels>,
    warnings: Vec<String>,
}

/// Both lists as one, sorted.
fn joined(of_table: Vec<String>, of_files: BTreeSet<String>) -> Vec<String> {
    if of_files.is_empty() {
        return of_table;
    }
    let mut all = of_files;
    all.extend(of_table);
    all.into_iter().collect()
}

impl SampleSource for Engine {
    fn select(&self, request: &SelectRequest<'_>, budget: &Budget) -> Result<Box<dyn SeriesSet>, SourceError> {
        Ok(Box::new(self.selection(request, budget)?))
    }

    fn series(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<Labels>, SourceError> {
        let found = self.found(tenant, any_of, range, budget)?;
        let mut items: Vec<Labels> = Vec::with_capacity(found.ids.len() + found.others.len());
        for ids in found.ids.chunks(LABELS_AT_ONCE) {
            let some = self.shared.table.labels_of(ids);
            let bytes = |l: &Labels| (l.as_bytes().len() + size_of::<Labels>()) as u64;
            budget.bytes(some.iter().map(bytes).sum())?;
            items.extend(some);
        }
        items.extend(found.others);
        items.sort_unstable();
        items.dedup();
        Ok(Found {
            items,
            warnings: found.warnings,
        })
    }

    fn label_names(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<String>, SourceError> {
        if self.undeleted(tenant) {
            return self.names(tenant, any_of, range, budget);
        }
        let found = self.found(tenant, any_of, range, budget)?;
        let of_files = found
            .others
            .iter()
            .flat_map(|l| l.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>());
        Ok(Found {
            items: joined(self.shared.table.label_names_of(&found.ids), of_files.collect()),
            warnings: found.warnings,
        })
    }

    fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<String>, SourceError> {
        if self.undeleted(tenant) {
            return self.values(tenant, name, any_of, range, budget);
        }
        let found = self.found(tenant, any_of, range, budget)?;
        let of_files = found.others.iter().filter_map(|l| l.get(name).map(str::to_owned));
        Ok(Found {
            items: joined(self.shared.table.label_values_of(name, &found.ids), of_files.collect()),
            warnings: found.warnings,
        })
    }

    fn metadata(&self, tenant: TenantId, metric: Option<&str>) -> Result<Vec<Metadata>, SourceError> {
        let known = self.metadata.read().unwrap_or_else(|e| e.into_inner());
        let mut list: Vec<Metadata> = known
            .values()
            .filter(|m| m.tenant == tenant && metric.is_none_or(|name| m.metric == name))
            .map(|m| Metadata {
                metric: m.metric.clone(),
                kind: m.kind,
                help: m.help.clone(),
                unit: m.unit.clone(),
            })
            .collect();
        list.sort_by(|a, b| a.metric.cmp(&b.metric));
        Ok(list)
    }

    fn exemplars(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        let mut found: std::collections::BTreeMap<Labels, Vec<Exemplar>> = Default::default();
        let all = [Vec::new()];
        for matchers in if any_of.is_empty() { &all } else { any_of } {
            let request = SelectRequest {
                tenant,
                matchers,
                range,
                hints: Hints {
                    want: Want::Labels,
                    ..Hints::default()
                },
            };
            let s = self.selection(&request, budget)?;
            for f in &s.sources {
                for (entry, exemplar) in f.exemplars(&self.shared) {
                    if s.deleted(entry, f.settled(), exemplar.at_ms) {
                        continue;
                    }
                    add_exemplar(&mut found, s.labels(entry), exemplar, range);
                }
            }
            for (i, &id) in s.ids.iter().enumerate().filter(|(_, id)| **id != NO_SERIES) {
                for head in s.view.frozen.iter().chain([&s.view.active]) {
                    // what is in the active one came after every delete
                    let deleted = |at| !Arc::ptr_eq(head, &s.view.active) && s.deleted(i, head.to(), at);
                    for exemplar in head.exemplars(id).into_iter().filter(|e| !deleted(e.at_ms)) {
                        add_exemplar(&mut found, s.labels(i), exemplar, range);
                    }
                }
            }
        }
        for list in found.values_mut() {
            list.sort_by_key(|e| e.at_ms);
        }
        Ok(found.into_iter().collect())
    }

    fn revision(&self, _: TenantId) -> Option<Revision> {
        Some(self.changes.revision(self.applied()))
    }

    fn changed_since(&self, tenant: TenantId, revision: &Revision) -> i64 {
        self.changes.since(tenant, revision)
    }

    fn cardinality(&self, tenant: TenantId, top: usize) -> Result<Cardinality, SourceError> {
        let view = self.shared.view();
        let mut c = self.shared.table.cardinality(tenant, top);
        c.chunks = view.blocks.iter().map(|b| b.footer.chunks).sum();
        let heads = view.frozen.iter().chain([&view.active]).filter(|h| h.samples() > 0);
        let ranges: Vec<TimeRange> = view
            .blocks
            .iter()
            .map(|b| b.range())
            .chain(view.rollups.iter().map(|r| r.block.range()))
            .chain(heads.map(|h| h.range()))
            .collect();
        c.min_ms = ranges.iter().map(|r| r.start_ms).min().unwrap_or(0);
        c.max_ms = ranges.iter().map(|r| r.end_ms).max().unwrap_or(0);
        Ok(c)
    }
}

/// Where an id's entry is.
enum Places {
    Few(HashMap<u32, u32>),
    /// By id; `NONE` when it has no entry.
    Many(Vec<u32>),
}

impl Places {
    fn of(ids: &[SeriesId], bound: usize) -> Places {
        if ids.len() < bound / 16 {
            return Places::Few(ids.iter().enumerate().map(|(i, id)| (id.0, i as u32)).collect());
        }
        let mut places = vec![NONE; bound];
        for (i, id) in ids.iter().enumerate().filter(|(_, id)| id.index() < bound) {
            places[id.index()] = i as u32;
        }
        Places::Many(places)
    }

    fn get_or_insert(&mut self, id: SeriesId, next: u32) -> u32 {
        match self {
            Places::Few(map) => *map.entry(id.0).or_insert(next),
            Places::Many(places) => {
                if places.len() <= id.index() {
                    places.resize(id.index() + 1, NONE);
                }
                let place = &mut places[id.index()];
                if *place == NONE {
                    *place = next;
                }
                *place
            }
        }
    }
}

fn add_exemplar(
    found: &mut std::collections::BTreeMap<Labels, Vec<Exemplar>>,
    labels: Labels,
    exemplar: Exemplar,
    range: TimeRange,
) {
    if !range.contains(exemplar.at_ms) {
        return;
    }
    let list = found.entry(labels).or_default();
    if !list.contains(&exemplar) {
        list.push(exemplar);
    }
}
