//! Samples of one series from several layers (files, heads) become one ascending, unique column set. A layer is what one
//! source appended to a block; later layers win at equal times.

use model::{SeriesBlock, TimeRange};

use crate::block::day_of;

/// Where a layer begins in the block that all layers share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer {
    floats: usize,
    histograms: usize,
}

/// The layer that begins at the block's present end.
pub(crate) fn begin(block: &SeriesBlock) -> Layer {
    Layer {
        floats: block.at_ms.len(),
        histograms: block.histogram_at_ms.len(),
    }
}

/// Makes a column of start times as long as its samples, once one of them is known.
pub(crate) fn pad_starts(block: &mut SeriesBlock) {
    if !block.start_ms.is_empty() {
        block.start_ms.resize(block.at_ms.len(), 0);
    }
    if !block.histogram_start_ms.is_empty() {
        block.histogram_start_ms.resize(block.histogram_at_ms.len(), 0);
    }
}

pub(crate) fn push_float(block: &mut SeriesBlock, at_ms: i64, value: f64, start_ms: i64) {
    if start_ms != 0 && block.start_ms.is_empty() {
        block.start_ms.resize(block.at_ms.len(), 0);
    }
    block.at_ms.push(at_ms);
    block.values.push(value);
    if start_ms != 0 || !block.start_ms.is_empty() {
        block.start_ms.push(start_ms);
    }
}

pub(crate) fn push_histogram(
    block: &mut SeriesBlock,
    at_ms: i64,
    value: std::sync::Arc<model::Histogram>,
    start_ms: i64,
) {
    if start_ms != 0 && block.histogram_start_ms.is_empty() {
        block.histogram_start_ms.resize(block.histogram_at_ms.len(), 0);
    }
    block.histogram_at_ms.push(at_ms);
    block.histograms.push(value);
    if start_ms != 0 || !block.histogram_start_ms.is_empty() {
        block.histogram_start_ms.push(start_ms);
    }
}

/// Removes the samples of the last layer that lie in any of the ranges.
pub(crate) fn cut(block: &mut SeriesBlock, layer: Layer, ranges: &[TimeRange]) {
    pad_starts(block);
    let gone = |at: i64| ranges.iter().any(|r| r.contains(at));
    let mut keep = layer.floats;
    for i in layer.floats..block.at_ms.len() {
        if !gone(block.at_ms[i]) {
            block.at_ms[keep] = block.at_ms[i];
            block.values[keep] = block.values[i];
            if !block.start_ms.is_empty() {
                block.start_ms[keep] = block.start_ms[i];
            }
            keep += 1;
        }
    }
    block.at_ms.truncate(keep);
    block.values.truncate(keep);
    block.start_ms.truncate(keep);
    let mut keep = layer.histograms;
    for i in layer.histograms..block.histogram_at_ms.len() {
        if !gone(block.histogram_at_ms[i]) {
            block.histogram_at_ms[keep] = block.histogram_at_ms[i];
            block.histograms.swap(keep, i);
            if !block.histogram_start_ms.is_empty() {
                block.histogram_start_ms[keep] = block.histogram_start_ms[i];
            }
            keep += 1;
        }
    }
    block.histogram_at_ms.truncate(keep);
    block.histograms.truncate(keep);
    block.histogram_start_ms.truncate(keep);
}

fn ascends(at_ms: &[i64]) -> bool {
    at_ms.windows(2).all(|w| w[0] < w[1])
}

/// Whether the last layer's floats ascend and come after all before, and there are no histograms at all.
pub(crate) fn follows(block: &SeriesBlock, layer: Layer) -> bool {
    block.histogram_at_ms.is_empty() && ascends(&block.at_ms[layer.floats.saturating_sub(1)..])
}

/// Brings the block's layers (in rising priority; within a layer no time occurs twice) into one order.
pub(crate) fn settle(block: &mut SeriesBlock, layers: &[Layer]) {
    pad_starts(block);
    let one_kind = block.at_ms.is_empty() || block.histogram_at_ms.is_empty();
    if ascends(&block.at_ms) && ascends(&block.histogram_at_ms) && (one_kind || layers.len() < 2) {
        return;
    }
    // (time, layer, histogram?, index): sorted, the last of each time wins
    let mut all: Vec<(i64, u32, bool, u32)> = Vec::with_capacity(block.at_ms.len() + block.histogram_at_ms.len());
    let mut layer = 0;
    for (i, &at) in block.at_ms.iter().enumerate() {
        while layer + 1 < layers.len() && layers[layer + 1].floats <= i {
            layer += 1;
        }
        all.push((at, layer as u32, false, i as u32));
    }
    layer = 0;
    for (i, &at) in block.histogram_at_ms.iter().enumerate() {
        while layer + 1 < layers.len() && layers[layer + 1].histograms <= i {
            layer += 1;
        }
        all.push((at, layer as u32, true, i as u32));
    }
    all.sort_unstable();
    let mut out = SeriesBlock::default();
    for (n, &(at, _, histogram, i)) in all.iter().enumerate() {
        if all.get(n + 1).is_some_and(|next| next.0 == at) {
            continue;
        }
        let i = i as usize;
        if histogram {
            let start = block.histogram_start_ms.get(i).copied().unwrap_or(0);
            push_histogram(&mut out, at, std::sync::Arc::clone(&block.histograms[i]), start);
        } else {
            push_float(
                &mut out,
                at,
                block.values[i],
                block.start_ms.get(i).copied().unwrap_or(0),
            );
        }
    }
    *block = out;
}

/// Puts `own` in place of what the layer appended.
pub(crate) fn append(block: &mut SeriesBlock, layer: Layer, own: SeriesBlock) {
    pad_starts(block);
    block.at_ms.truncate(layer.floats);
    block.values.truncate(layer.floats);
    block.start_ms.truncate(layer.floats);
    block.histogram_at_ms.truncate(layer.histograms);
    block.histograms.truncate(layer.histograms);
    block.histogram_start_ms.truncate(layer.histograms);
    if !own.start_ms.is_empty() && block.start_ms.is_empty() {
        block.start_ms.resize(block.at_ms.len(), 0);
    }
    if !own.histogram_start_ms.is_empty() && block.histogram_start_ms.is_empty() {
        block.histogram_start_ms.resize(block.histogram_at_ms.len(), 0);
    }
    block.at_ms.extend_from_slice(&own.at_ms);
    block.values.extend_from_slice(&own.values);
    block.start_ms.extend_from_slice(&own.start_ms);
    block.histogram_at_ms.extend_from_slice(&own.histogram_at_ms);
    block.histograms.extend(own.histograms);
    block.histogram_start_ms.extend_from_slice(&own.histogram_start_ms);
    pad_starts(block);
}

/// The samples of one UTC day.
pub(crate) fn of_day(block: &SeriesBlock, day: i64) -> SeriesBlock {
    let span = |at_ms: &[i64]| {
        let from = at_ms.partition_point(|&at| day_of(at) < day);
        from..at_ms.partition_point(|&at| day_of(at) <= day)
    };
    let (f, h) = (span(&block.at_ms), span(&block.histogram_at_ms));
    SeriesBlock {
        at_ms: block.at_ms[f.clone()].to_vec(),
        values: block.values[f.clone()].to_vec(),
        start_ms: block.start_ms.get(f).unwrap_or(&[]).to_vec(),
        histogram_at_ms: block.histogram_at_ms[h.clone()].to_vec(),
        histograms: block.histograms[h.clone()].to_vec(),
        histogram_start_ms: block.histogram_start_ms.get(h).unwrap_or(&[]).to_vec(),
        ..SeriesBlock::default()
    }
}
