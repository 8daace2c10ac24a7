use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, header};
use model::MetricKind;
use wire::exposition::Writer;

use crate::answer::{Refusal, text, with_header};
use crate::parts::{App, Gateway};
use crate::room::Part;

pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let telling = app.telling.clone();
    let body = telling.run(move || write(&app)).await?;
    Ok(with_header(
        text(StatusCode::OK, body),
        header::CONTENT_TYPE,
        Writer::CONTENT_TYPE,
    ))
}

/// What `/metrics` answers: the same text goes to Overseer's own tenant.
pub fn exposition(gateway: &Gateway) -> String {
    write(&gateway.app)
}

fn write(app: &App) -> String {
    let mut w = Writer::new();
    let about = &app.parts.about;
    gauge(
        &mut w,
        "overseer_build_info",
        "1; the version is in the label.",
        &[("version", about.version)],
        1.0,
    );
    intake(&mut w, app);
    log(&mut w, app);
    store(&mut w, app);
    agent(&mut w, app);
    http(&mut w, app);
    own(&mut w, app);
    process(&mut w, app);
    w.finish()
}

fn gauge(w: &mut Writer, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
    w.family(name, MetricKind::Gauge, help);
    w.sample(name, labels, value);
}

fn counter(w: &mut Writer, name: &str, help: &str, value: u64) {
    w.family(name, MetricKind::Counter, help);
    w.sample(name, &[], value as f64);
}

fn intake(w: &mut Writer, app: &App) {
    let ways: Vec<_> = app.parts.ways.iter().map(|way| (way.id, way.counts())).collect();
    let mut each = |name: &str, help: &str, value: &dyn Fn(&input::WayCounts) -> u64| {
        w.family(name, MetricKind::Counter, help);
        for (id, counts) in &ways {
            w.sample(name, &[("way", id)], value(counts) as f64);
        }
    };
    each("overseer_intake_samples_total", "Samples taken, by way in.", &|c| {
        c.samples
    });
    each(
        "overseer_intake_rejected_samples_total",
        "Samples refused, by way in.",
        &|c| c.rejected,
    );
    each(
        "overseer_intake_requests_total",
        "Requests, scrapes or flushes, by way in.",
        &|c| c.requests,
    );
    each(
        "overseer_intake_bytes_total",
        "Body bytes as they arrived, by way in.",
        &|c| c.bytes,
    );
    let name = "overseer_intake_rejections_total";
    w.family(name, MetricKind::Counter, "Things refused, by way in and reason.");
    for (id, counts) in &ways {
        for (reason, &n) in counts.by_reason.iter().filter(|(_, n)| **n > 0) {
            w.sample(name, &[("way", id), ("reason", reason.as_str())], n as f64);
        }
    }
}

fn log(w: &mut Writer, app: &App) {
    let Some(log) = &app.parts.log else { return };
    // field by field, so that a new one is not forgotten
    let s = log.status();
    let bus::LogStatus {
        topic: _,
        bytes: _,
        max_bytes: _,
        segments,
        spares,
        durable: _,
        first_kept: _,
        queued_records: _,
        queued_bytes,
        quarantined: _, // entries are for people; their number is below
        quarantined_total: _,
        full: _,
        failed,
        failures: _,
        consumers,
    } = &s;
    gauge(
        w,
        "overseer_log_segments",
        "Segment files of the samples log.",
        &[],
        *segments as f64,
    );
    gauge(
        w,
        "overseer_log_spare_files",
        "Written files that are kept for reuse.",
        &[],
        *spares as f64,
    );
    gauge(
        w,
        "overseer_log_queued_bytes",
        "Bytes of records that wait to be written.",
        &[],
        *queued_bytes as f64,
    );
    gauge(
        w,
        "overseer_log_failed",
        "1 from a failed write until the next that succeeds.",
        &[],
        f64::from(u8::from(failed.is_some())),
    );
    w.family(
        "overseer_log_left_behind_total",
        MetricKind::Counter,
        "Records dropped before a consumer had read them.",
    );
    for consumer in consumers {
        let labels = [("consumer", consumer.name.as_str())];
        w.sample("overseer_log_left_behind_total", &labels, consumer.left_behind as f64);
    }
    w.family(
        "overseer_log_committed_position",
        MetricKind::Gauge,
        "Position up to which a consumer needs nothing any more.",
    );
    for consumer in consumers {
        let labels = [("consumer", consumer.name.as_str())];
        w.sample("overseer_log_committed_position", &labels, consumer.committed as f64);
    }
    gauge(
        w,
        "overseer_log_durable_position",
        "Last position of the samples log that is durable.",
        &[],
        s.durable as f64,
    );
    gauge(
        w,
        "overseer_log_first_position",
        "First position still kept.",
        &[],
        s.first_kept as f64,
    );
    gauge(
        w,
        "overseer_log_bytes",
        "Bytes of the samples log on disk, spare files included.",
        &[],
        s.bytes as f64,
    );
    gauge(
        w,
        "overseer_log_max_bytes",
        "Bytes the samples log may take.",
        &[],
        s.max_bytes as f64,
    );
    gauge(
        w,
        "overseer_log_queued_records",
        "Records that wait to be written.",
        &[],
        s.queued_records as f64,
    );
    gauge(
        w,
        "overseer_log_full",
        "1 while writes are refused because the log is full.",
        &[],
        f64::from(u8::from(s.full.is_some())),
    );
    counter(
        w,
        "overseer_log_failures_total",
        "Failed writes and fsyncs since the start.",
        s.failures,
    );
    counter(
        w,
        "overseer_log_quarantined_total",
        "Damaged stretches of the log found since the start.",
        s.quarantined_total,
    );
}

fn store(w: &mut Writer, app: &App) {
    let Some(store) = &app.parts.store else { return };
    let s = store.stats();
    counter(
        w,
        "overseer_store_records_applied_total",
        "Records applied to the engine.",
        s.records_applied,
    );
    counter(
        w,
        "overseer_store_records_panicked_total",
        "Records passed over because applying them panicked.",
        s.records_panicked,
    );
    counter(
        w,
        "overseer_store_positions_lost_total",
        "Positions that the log could not deliver.",
        s.positions_lost,
    );
    counter(w, "overseer_store_seals_total", "Seals done.", s.seals);
    counter(
        w,
        "overseer_store_compactions_total",
        "Steps of compaction done.",
        s.compactions,
    );
    counter(
        w,
        "overseer_store_failures_total",
        "Seals and compactions that failed and were tried again.",
        s.failures,
    );
    gauge(
        w,
        "overseer_store_files_held",
        "Files that are past their retention by the clock and by nothing else, and stay for now.",
        &[],
        s.files_held as f64,
    );
    counter(
        w,
        "overseer_store_merges_in_vain_total",
        "Merges that were not committed because nothing would have been gained; there should be none.",
        s.engine.merges_in_vain,
    );
    store_engine(w, &s.engine);
}

fn store_engine(w: &mut Writer, e: &series::engine::EngineStats) {
    gauge(w, "overseer_series", "Series in memory.", &[], e.series as f64);
    gauge(
        w,
        "overseer_unsealed_bytes",
        "Bytes of samples that are not sealed yet.",
        &[],
        e.unsealed_bytes as f64,
    );
    let name = "overseer_engine_memory_bytes";
    w.family(
        name,
        MetricKind::Gauge,
        "Memory of the engine: samples not sealed yet with their slots, the series table, what else is kept for each series, caches of files.",
    );
    for (part, bytes) in [
        ("heads", e.head_bytes),
        ("table", e.table_bytes),
        ("series", e.series_bytes),
        ("cache", e.cache_bytes),
        ("metadata", e.metadata.1),
    ] {
        w.sample(name, &[("part", part)], bytes as f64);
    }
    gauge(
        w,
        "overseer_metadata_metrics",
        "Metrics that metadata (type, help, unit) is kept of, by name.",
        &[],
        e.metadata.0 as f64,
    );
    gauge(w, "overseer_files", "Files of samples.", &[], e.files as f64);
    gauge(
        w,
        "overseer_file_bytes",
        "Bytes of the files of samples.",
        &[],
        e.file_bytes as f64,
    );
    gauge(
        w,
        "overseer_rollup_files",
        "Files of rollups.",
        &[],
        e.rollup_files as f64,
    );
    gauge(
        w,
        "overseer_rollup_bytes",
        "Bytes of the files of rollups.",
        &[],
        e.rollup_bytes as f64,
    );
    counter(
        w,
        "overseer_deltas_late_total",
        "Deltas that ended before the newest of their series, and were counted.",
        e.deltas_late,
    );
    counter(
        w,
        "overseer_deltas_skipped_total",
        "Deltas that ended where another one of their series does, and were not counted again.",
        e.deltas_skipped,
    );
    counter(
        w,
        "overseer_deltas_restarted_total",
        "Times that the running value of deltas started anew: it could not be read, or would have been infinite.",
        e.deltas_restarted,
    );
    counter(
        w,
        "overseer_scrub_bytes_total",
        "Stored bytes that were read again and checked.",
        e.scrub.bytes,
    );
    counter(
        w,
        "overseer_scrub_rounds_total",
        "Times that every stored byte was checked.",
        e.scrub.rounds,
    );
    gauge(
        w,
        "overseer_quarantined_files",
        "Files set aside because they are damaged.",
        &[],
        e.quarantined.len() as f64,
    );
}

fn agent(w: &mut Writer, app: &App) {
    let Some(agent) = &app.parts.agent else { return };
    counter(
        w,
        "overseer_agent_unstored_total",
        "Times that host metrics were not stored, because the log was busy or refused them.",
        agent.store_lost(),
    );
    counter(
        w,
        "overseer_agent_ring_left_out_total",
        "Values that were not shown live, because the ring had no room for their series.",
        agent.ring_left_out(),
    );
}

/// The process itself: its workers, its log lines, its configuration.
fn own(w: &mut Writer, app: &App) {
    let host::WorkerStats { running, died, panics } = app.parts.host.workers.stats();
    gauge(
        w,
        "overseer_workers",
        "Threads and long tasks that run.",
        &[],
        running as f64,
    );
    counter(
        w,
        "overseer_workers_died_total",
        "Workers that ended unasked; the first one stops the server.",
        died,
    );
    counter(
        w,
        "overseer_panics_total",
        "Faults in the program, those of single requests included.",
        panics,
    );
    let host::LogCounts {
        written,
        lost,
        left_out,
    } = app.parts.log_output.counts();
    let name = "overseer_log_lines_total";
    w.family(
        name,
        MetricKind::Counter,
        "Log lines: written, lost because they could not be, left out because they repeat.",
    );
    for (what, lines) in [("written", written), ("lost", lost), ("left_out", left_out)] {
        w.sample(name, &[("what", what)], lines as f64);
    }
    let crate::lifecycle::ReloadCounts {
        last_good,
        done_at_ms,
        done,
        failed,
    } = app.reloads.counts();
    gauge(
        w,
        "overseer_config_last_reload_successful",
        "1 when the last reload went well, the start counting as one.",
        &[],
        f64::from(u8::from(last_good)),
    );
    gauge(
        w,
        "overseer_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was read.",
        &[],
        done_at_ms as f64 / 1000.0,
    );
    let name = "overseer_config_reloads_total";
    w.family(name, MetricKind::Counter, "Reloads asked for, by how they went.");
    for (result, count) in [("done", done), ("refused", failed)] {
        w.sample(name, &[("result", result)], count as f64);
    }
}

fn http(w: &mut Writer, app: &App) {
    let name = "overseer_http_responses_total";
    w.family(name, MetricKind::Counter, "Answers, by class of their status.");
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"]
        .iter()
        .zip(&app.counts.by_class[1..])
    {
        w.sample(name, &[("class", class)], count.load(Relaxed) as f64);
    }
    counter(
        w,
        "overseer_queries_total",
        "Queries evaluated.",
        app.counts.queries.load(Relaxed),
    );
    counter(
        w,
        "overseer_query_failures_total",
        "Queries that failed.",
        app.counts.query_failures.load(Relaxed),
    );
    let (slow, lost) = app.slow.counts();
    counter(
        w,
        "overseer_slow_queries_total",
        "Queries that took query.slow_ms or longer.",
        slow,
    );
    counter(
        w,
        "overseer_slow_queries_unwritten_total",
        "Slow queries that could not be written to their file.",
        lost,
    );
    gauge(
        w,
        "overseer_query_bytes",
        "Bytes that running queries have taken, in steps of 1 MiB.",
        &[],
        app.pool.held_bytes() as f64,
    );
    for (name, help, value) in [
        ("overseer_queries_running", "Queries that run, by lane.", 0),
        (
            "overseer_queries_waiting",
            "Queries that wait for their turn, by lane.",
            1,
        ),
    ] {
        w.family(name, MetricKind::Gauge, help);
        for (lane, running, waiting) in app.pool.lanes() {
            let value = if value == 0 { running } else { waiting };
            w.sample(name, &[("lane", lane)], value as f64);
        }
    }
    room(w, app);
    let results = app.results.stats();
    let name = "overseer_result_cache_total";
    w.family(
        name,
        MetricKind::Counter,
        "Queries, by how much of their answer was there already.",
    );
    for (reused, count) in [
        ("all", results.whole),
        ("steps", results.partial),
        ("nothing", results.missed),
    ] {
        w.sample(name, &[("reused", reused)], count as f64);
    }
    gauge(
        w,
        "overseer_result_cache_bytes",
        "Bytes of answers kept.",
        &[],
        results.bytes as f64,
    );
    let (by_header, by_login, limited) = app.auth.guesses.counts();
    let name = "overseer_auth_failures_total";
    w.family(name, MetricKind::Counter, "Wrong tokens, by how they were given.");
    for (by, count) in [("header", by_header), ("login", by_login)] {
        w.sample(name, &[("by", by)], count as f64);
    }
    counter(
        w,
        "overseer_auth_limited_total",
        "Wrong tokens answered with 429: their address had sent many.",
        limited,
    );
    gauge(
        w,
        "overseer_live_pages",
        "Pages connected to the live channel.",
        &[],
        app.parts.live.pages() as f64,
    );
    counter(
        w,
        "overseer_live_behind_total",
        "How often a subscription of a live page missed frames and got a new snapshot.",
        app.parts.live.behind(),
    );
}

/// What is on its way between clients and the server.
fn room(w: &mut Writer, app: &App) {
    type Figure = fn(&crate::room::Share) -> u64;
    let rows: [(&str, MetricKind, &str, Figure); 3] = [
        (
            "overseer_server_memory_bytes",
            MetricKind::Gauge,
            "Bytes that bodies, answers and frames of live pages hold.",
            |share| share.held(),
        ),
        (
            "overseer_server_memory_max_bytes",
            MetricKind::Gauge,
            "Bytes that they may hold.",
            |share| share.bytes_max(),
        ),
        (
            "overseer_server_memory_refused_total",
            MetricKind::Counter,
            "How often there was no room for one of them.",
            |share| share.refused(),
        ),
    ];
    for (name, kind, help, figure) in rows {
        w.family(name, kind, help);
        for part in Part::ALL {
            w.sample(name, &[("part", part.as_str())], figure(app.room.of(part)) as f64);
        }
    }
    counter(
        w,
        "overseer_slow_bodies_total",
        "Bodies that were refused because they arrived too slowly.",
        app.room.of(Part::Bodies).slow(),
    );
    counter(
        w,
        "overseer_cut_answers_total",
        "Large answers that were not read to their end.",
        app.counts.cut_answers.load(Relaxed),
    );
}

/// The process' own figures, under the names Prometheus clients give them.
fn process(w: &mut Writer, app: &App) {
    for seen in app.parts.own_process.collect(app.parts.host.clock.now_ms()) {
        let name = seen.labels.metric_name();
        w.family(name, seen.kind, "");
        w.sample(name, &[], seen.value);
    }
}
