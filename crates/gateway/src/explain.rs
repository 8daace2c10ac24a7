use model::Budget;
use query::promql::eval::{PlanNode, SelectorUse, Trace};
use serde_json::{Value, json};

use crate::follow::Timings;

/// What an explained query adds to its answer.
pub(crate) fn explained(trace: &Trace, budget: &Budget, timings: &Timings, threads: usize) -> Value {
    let (samples, _, series) = budget.used();
    let (mut read, mut files) = (model::ReadStats::default(), (0, 0, 0));
    for r in trace.selectors().iter().map(|s| s.reads) {
        read.chunks += r.chunks;
        read.chunk_bytes += r.chunk_bytes;
        read.head_samples += r.head_samples;
        read.rollup_samples += r.rollup_samples;
        read.rolled_samples += r.rolled_samples;
        read.stated_chunks += r.stated_chunks;
        read.stated_samples += r.stated_samples;
        files.0 += r.files;
        files.1 += r.files_out_of_time;
        files.2 += r.files_without_series;
    }
    json!({
        "plan": trace.plan().as_ref().map(node),
        "totals": {
            "series": series,
            "samples": samples,
            "bytes": read.chunk_bytes,
            "chunks": read.chunks,
            "headSamples": read.head_samples,
            "rollupSamples": read.rollup_samples,
            "rolledSamples": read.rolled_samples,
            "statedChunks": read.stated_chunks,
            "statedSamples": read.stated_samples,
            "files": files.0,
            "filesPrunedByTime": files.1,
            "filesPrunedByIndex": files.2,
            "peakBytes": budget.bytes_peak(),
            "threads": threads,
            "parseSeconds": timings.parsed.as_secs_f64(),
            "queueSeconds": timings.queued.as_secs_f64(),
            "prepareSeconds": timings.prepared.as_secs_f64(),
            "evalSeconds": timings.evaluated.as_secs_f64(),
            "sortSeconds": timings.sorted.as_secs_f64(),
            "serialiseSeconds": timings.serialised.as_secs_f64(),
        },
    })
}

fn node(n: &PlanNode) -> Value {
    let mut out = json!({
        "what": n.what,
        "text": n.text,
        "start": n.pos.start,
        "end": n.pos.end,
        "how": n.how.as_str(),
        "steps": n.steps,
        "seconds": n.total.as_secs_f64(),
        "ownSeconds": n.own.as_secs_f64(),
        "seriesIn": n.series_in,
        "seriesOut": n.series_out,
        "samples": n.samples,
        "bytes": n.bytes,
        "children": n.children.iter().map(node).collect::<Vec<_>>(),
    });
    if !n.name.is_empty() {
        out["name"] = json!(n.name);
    }
    if n.once {
        out["once"] = json!(true);
    }
    if let Some(reads) = &n.reads {
        out["selector"] = selector(reads);
    }
    out
}

fn selector(s: &SelectorUse) -> Value {
    let r = &s.reads;
    json!({
        "matchers": s.text,
        "from": s.from_ms as f64 / 1000.0,
        "to": s.to_ms as f64 / 1000.0,
        "wants": if s.last_only { "last sample" } else { "samples" },
        "series": s.series,
        "findSeconds": s.found_in.as_secs_f64(),
        "chunks": r.chunks,
        "chunkSamples": r.chunk_samples,
        "bytes": r.chunk_bytes,
        "headSamples": r.head_samples,
        "rollupSamples": r.rollup_samples,
        "rolledSamples": r.rolled_samples,
        "statedChunks": r.stated_chunks,
        "statedSamples": r.stated_samples,
        "files": r.files,
        "filesPrunedByTime": r.files_out_of_time,
        "filesPrunedByIndex": r.files_without_series,
    })
}
