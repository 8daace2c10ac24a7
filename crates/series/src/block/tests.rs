use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use host::Files;
use host::sim::Machine;
use model::{Exemplar, Labels, MetricKind, SeriesBlock, TenantId, TimeRange};
use proptest::prelude::*;

use super::frame::{FRAME_RAW_MAX, FrameHead, Kind, Place, put_frame};
use super::group::{Draft, Group, GroupHead};
use super::*;
use crate::cache::Cache;
use crate::engine::tests::model_based::DIR;
use crate::index::IndexBuilder;

const REALM: u64 = 0x1234_5678_9abc_def0;
const ID: u64 = 7;

fn small() -> impl Strategy<Value = FileBounds> {
    (1..600usize, 1..9usize, 1..200usize, 1..4000usize).prop_map(
        |(frame_bytes, frame_series, extras_bytes, page_bytes)| FileBounds {
            frame_bytes,
            frame_series,
            extras_bytes,
            page_bytes,
        },
    )
}

/// What a block is written from.
#[derive(Clone, Debug)]
struct Given {
    level: u8,
    /// Samples of each series.
    series: Vec<usize>,
    label_bytes: usize,
    exemplars: usize,
    metadata: usize,
}

fn given() -> impl Strategy<Value = Given> {
    let series = prop::collection::vec(1..400usize, 1..60);
    (0..2u8, series, 1..300usize, 0..30usize, 0..30usize).prop_map(
        |(level, series, label_bytes, exemplars, metadata)| Given {
            level,
            series,
            label_bytes,
            exemplars,
            metadata,
        },
    )
}

impl Given {
    fn labels(&self, n: usize) -> Labels {
        let long = format!("{n:04}{}", "x".repeat(n * 37 % self.label_bytes));
        Labels::from_pairs([("__name__", "m".to_owned()), ("long", long)])
    }

    /// Values that do not pack well, so that chunks have some size.
    fn samples(&self, n: usize) -> SeriesBlock {
        let mut block = SeriesBlock::default();
        let mut seed = n as u64 + 1;
        for i in 0..self.series[n] {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            block.at_ms.push(i as i64 * 1000);
            block.values.push(f64::from((seed >> 33) as u32) / 3.0);
        }
        block
    }

    fn extras(&self) -> Extras {
        let exemplar = |i: usize| Exemplar {
            at_ms: i as i64,
            value: i as f64,
            labels: self.labels(i),
        };
        let metadata = |i: usize| MetadataEntry {
            tenant: TenantId(1),
            metric: format!("metric_{i}"),
            kind: MetricKind::Counter,
            help: "h".repeat(i * 13 % self.label_bytes),
            unit: String::new(),
            position: i as u64,
        };
        Extras {
            exemplars: (0..self.exemplars)
                .map(|i| ((i % self.series.len()) as u32, exemplar(i)))
                .collect(),
            metadata: (0..self.metadata).map(metadata).collect(),
        }
    }

    fn write(&self, files: &Arc<dyn Files>, bounds: &FileBounds) -> std::io::Result<Footer> {
        let mut builder = IndexBuilder::default();
        for n in 0..self.series.len() {
            builder.add(TenantId(1), self.labels(n).as_bytes()).unwrap();
        }
        let sets = builder.sort();
        let places: Vec<u32> = (0..self.series.len() as u32).collect();
        let mut file = BlockWriter::create(files, Path::new(DIR), REALM, ID, bounds, 3)?;
        for place in 0..places.len() {
            // labels of one length are in order of their numbers only by chance: places are what counts
            let n = sets.order[place] as usize;
            let names = Names {
                sets: &sets,
                places: &places[..place],
            };
            if self.level == 0 {
                file.series_of_window(place as u32)?;
            } else {
                if file.page_due() {
                    file.end_page(&names)?;
                }
                file.series(place as u32)?;
            }
            file.samples(&self.samples(n));
        }
        let names = Names {
            sets: &sets,
            places: &places,
        };
        let footer = Footer {
            level: self.level,
            replaces: vec![1, 2, 3],
            ..crate::engine::blank_footer()
        };
        file.finish(footer, (self.level > 0).then_some(&names), &self.extras())
    }

    /// By labels at level 1, by number at level 0: samples that can be read; and how many chunks cannot.
    fn read(&self, block: &Block) -> (BTreeMap<String, Samples>, usize) {
        let none = Cache::new(0);
        let index = (self.level > 0).then(|| block.index(&none).unwrap());
        let directory = block.directory(&none).unwrap();
        let (mut found, mut lost) = (BTreeMap::new(), 0);
        let each = |number: Number, chunks: &[Chunk]| {
            let mut out = SeriesBlock::default();
            for c in chunks {
                let group = block.group(&directory, c.group, &none);
                let done = group.and_then(|g| block.decode(&directory, &g, c, TimeRange::ALL, &mut out));
                lost += usize::from(done.is_err());
            }
            let name = match &index {
                Some(index) => index.labels(number).to_string(),
                None => number.to_string(),
            };
            if !out.is_empty() {
                found.insert(name, pairs(&out));
            }
        };
        directory.each(each).unwrap();
        (found, lost)
    }
}

type Samples = Vec<(i64, u64)>;

fn pairs(block: &SeriesBlock) -> Samples {
    let values = block.values.iter().map(|v| v.to_bits());
    block.at_ms.iter().copied().zip(values).collect()
}

fn machine() -> (Machine, Arc<dyn Files>) {
    let machine = Machine::new(1);
    let files: Arc<dyn Files> = machine.host().files;
    files.create_dir_all(Path::new(DIR)).unwrap();
    (machine, files)
}

fn open(files: &Arc<dyn Files>, known: u64) -> Result<Block, ReadError> {
    Block::open(files, Path::new(DIR), REALM, ID, known)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// However small the bounds and however much there is: what is written is read back and equal.
    #[test]
    fn what_is_written_is_read_back(given in given(), bounds in small()) {
        let (_, files) = machine();
        let footer = given.write(&files, &bounds).unwrap();
        let block = open(&files, 0).unwrap();
        prop_assert_eq!(&block.footer, &footer);
        prop_assert_eq!(&block.damage, &[]);
        let (found, lost) = given.read(&block);
        prop_assert_eq!((found.len(), lost), (given.series.len(), 0));
        let samples: usize = found.values().map(Vec::len).sum();
        prop_assert_eq!(samples, given.series.iter().sum::<usize>());
        if given.level > 0 {
            for n in 0..given.series.len() {
                prop_assert_eq!(&found[&given.labels(n).to_string()], &pairs(&given.samples(n)));
            }
        }
        let extras = given.extras();
        prop_assert_eq!(block.exemplars().unwrap(), (extras.exemplars, vec![]));
        prop_assert_eq!(block.metadata().unwrap(), (extras.metadata, vec![]));
        prop_assert_eq!(block.check(None, &mut |_| {}).findings, vec![]);
        prop_assert_eq!(block.check_sections().unwrap().1, vec![]);
    }

    /// Damage anywhere costs what it hits and a piece of chunks or a part of labels at most; the rest is as it was.
    #[test]
    fn damage_costs_what_it_hits(
        given in given(),
        bounds in small(),
        at in any::<prop::sample::Index>(),
        len in 1..100usize,
        how in 0..3u8,
    ) {
        let (machine, files) = machine();
        given.write(&files, &bounds).unwrap();
        let block = open(&files, 0).unwrap();
        let (before, _) = given.read(&block);
        let none = Cache::new(0);
        let directory = block.directory(&none).unwrap();
        let path = Path::new(DIR).join(block_name(ID));
        let whole = files.read(&path).unwrap();
        let at = at.index(whole.len());
        let hit = match how {
            0 => at..at + 1,
            1 => at..(at + len).min(whole.len()),
            _ => at..whole.len(),
        };
        // chunks that damage may take along: those of pieces that it hits, and of groups whose head it hits
        let (mut touched, mut copies) = (0, 0);
        directory.each(|_, chunks| {
            for c in chunks {
                let group = block.group(&directory, c.group, &none).unwrap();
                let (offset, _) = block.place_of_group(&directory, c.group);
                let from = (offset + group.place(c)) as usize;
                // a piece ends with the chunk that takes it over its bound
                let near = from.saturating_sub(2 * 2048 + 8192)..from + c.len as usize + 2 * 2048 + 8192;
                let head = offset as usize..(offset + group.place(&Chunk { offset: 0, ..*c })) as usize;
                let overlaps = |r: &std::ops::Range<usize>| r.start < hit.end && hit.start < r.end;
                touched += usize::from(overlaps(&near) || overlaps(&head));
            }
        }).unwrap();
        machine.files.edit(&path, |bytes| match how {
            0 => bytes[at] ^= 4,
            1 => bytes[hit.clone()].iter_mut().for_each(|b| *b = b.wrapping_add(91)),
            _ => bytes.truncate(at),
        }).unwrap();
        let Ok(block) = open(&files, whole.len() as u64) else {
            // cut in the head: nothing of it is left
            prop_assert!(how == 2 && (at as u64) < block.footer.head);
            return Ok(());
        };
        let (after, _) = given.read(&block);
        let mut samples_lost = 0;
        for (name, samples) in &before {
            let found = after.get(name).cloned().unwrap_or_default();
            samples_lost += samples.len() - found.len();
            if found.len() == samples.len() {
                prop_assert_eq!(&found, samples);
            }
        }
        if let Some((name, _)) = after.iter().find(|(n, _)| !before.contains_key(*n)) {
            // labels that are lost; at level 0 they are in another file
            prop_assert!(given.level > 0 && name == &Labels::default().to_string());
            copies = 1;
        }
        let lost_here = before.iter().filter(|(n, _)| !after.contains_key(*n)).count();
        let index = block.footer.index;
        let in_index = (hit.end as u64) > index.offset && index.len > 0;
        if copies == 0 && !in_index {
            prop_assert!(lost_here <= touched, "{lost_here} series lost, {touched} chunks near the damage");
        }
        if samples_lost > 0 || lost_here > 0 {
            let told = !block.check(None, &mut |_| {}).findings.is_empty();
            prop_assert!(told, "{samples_lost} samples lost in silence");
        }
    }

    #[test]
    fn any_bytes_are_frames_and_groups_or_errors(bytes: Vec<u8>, flips in prop::collection::vec((any::<usize>(), any::<u8>()), 0..3)) {
        let place = Place { realm: 1, file: 2, offset: 3 };
        let _ = FrameHead::read(&bytes, place);
        let _ = unpack(&bytes);
        let _ = GroupHead::read(&bytes, place);
        let mut frame = Vec::new();
        put_frame(&mut frame, place, Kind::Index, 9, &pack(&bytes).unwrap()).unwrap();
        let mut draft = Draft::default();
        draft.add_series(4, 1);
        draft.bytes = bytes.clone();
        draft.add_chunk(bytes.len() as u32);
        let mut group = Vec::new();
        if !bytes.is_empty() {
            draft.write(place, &mut group).unwrap();
        }
        for (at, flip) in flips {
            for bytes in [&mut frame, &mut group] {
                if !bytes.is_empty() {
                    let at = at % bytes.len();
                    bytes[at] ^= flip;
                }
            }
        }
        if let Some(head) = FrameHead::read(&frame, place) {
            let packed = &frame[frame::FRAME_HEAD..];
            if let Ok(raw) = head.contents(packed, place.after(frame::FRAME_HEAD)) {
                prop_assert_eq!(raw, bytes.clone());
            }
        }
        if let Ok((head, group)) = Group::read(group, place) {
            group.rows(&head, 0, TimeRange::ALL, |_, _| {});
        }
    }
}

#[test]
fn nothing_is_packed_that_no_reader_takes() {
    let most = vec![0; FRAME_RAW_MAX + 1];
    assert!(pack(&most).is_err());
    assert_eq!(unpack(&pack(&most[..1 << 20]).unwrap()).unwrap().len(), 1 << 20);
}

/// One file, both footers of which are damaged one after the other, and whose directory is overwritten.
#[test]
fn either_footer_and_no_directory_will_do() {
    let given = Given {
        level: 1,
        series: vec![100; 20],
        label_bytes: 40,
        exemplars: 0,
        metadata: 0,
    };
    let (machine, files) = machine();
    let footer = given.write(&files, &FileBounds::default()).unwrap();
    let path = Path::new(DIR).join(block_name(ID));
    let len = files.read(&path).unwrap().len();
    let (before, _) = given.read(&open(&files, 0).unwrap());
    let hurt = |range: std::ops::Range<usize>| {
        machine
            .files
            .edit(&path, |b| b[range.clone()].iter_mut().for_each(|b| *b ^= 0x55))
            .unwrap();
    };
    let (d, i) = (footer.directory, footer.index);
    for range in [
        0..40,
        len - 49..len,
        d.offset as usize..(d.offset + d.len) as usize,
        i.offset as usize..(i.offset + i.len) as usize,
        d.offset as usize..len,
    ] {
        hurt(range.clone());
        let block = open(&files, len as u64).unwrap();
        assert_eq!(given.read(&block), (before.clone(), 0), "{range:?}");
        hurt(range);
    }
    machine.files.edit(&path, |b| b.truncate(d.offset as usize)).unwrap();
    assert_eq!(given.read(&open(&files, len as u64).unwrap()), (before, 0));
}
