use std::path::Path;
use std::sync::Arc;

use bus::{Codec, Decode};
use host::sim::Machine;
use model::{Batch, Budget, HistogramRow, Record, TenantId};
use query::promql::eval::{EvalContext, Query, evaluate};
use query::promql::parse;
use query::promql::script::{Answer, Loaded, LoadedSample, LoadedValue, Target};
use series::engine::{Engine, EngineSettings};
use series::table::SeriesTable;
use store::{RecordCodec, RecordDecode};

/// Records that one load is cut into.
const PARTS: usize = 4;

/// Where the engine holds what a script loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Head,
    Sealed,
    /// A file for each record, then merged.
    Merged,
    /// The earlier half of each series in a file, the later in the head.
    HalfSealed,
    /// Every other sample merged, the rest in the head.
    Interleaved,
}

impl Stage {
    pub(crate) const ALL: [Stage; 5] = [
        Stage::Head,
        Stage::Sealed,
        Stage::Merged,
        Stage::HalfSealed,
        Stage::Interleaved,
    ];
}

/// The engine behind the log's byte form.
pub(crate) struct EngineTarget {
    stage: Stage,
    threads: usize,
    engine: Engine,
    /// The sender's table: ids differ from the engine's.
    outside: Arc<SeriesTable>,
    encoder: RecordCodec,
    decoder: RecordDecode,
    position: u64,
}

impl EngineTarget {
    pub(crate) fn new(stage: Stage, threads: usize) -> Self {
        let outside = Arc::new(SeriesTable::new([3; 16]));
        let table = Arc::new(SeriesTable::new([7; 16]));
        let machine = Machine::new(1);
        let (engine, _) = Engine::open(
            machine.host(),
            Path::new("/data/series"),
            EngineSettings::default(),
            Arc::clone(&table),
        )
        .unwrap();
        let mut encoder = RecordCodec::new(Arc::clone(&outside));
        encoder.begin();
        let mut decoder = RecordDecode::new(table);
        decoder.begin(None);
        EngineTarget {
            stage,
            threads,
            engine,
            outside,
            encoder,
            decoder,
            position: 0,
        }
    }

    fn apply(&mut self, batch: Batch) {
        let mut bytes = Vec::new();
        self.encoder.encode(&Record::Batch(batch), &mut bytes);
        let record = self.decoder.decode(&bytes).unwrap();
        self.position += 1;
        self.engine.apply(self.position, &record);
    }

    pub(crate) fn source(&self) -> &dyn model::SampleSource {
        &self.engine
    }

    pub(crate) fn query(&self, text: &str, query: Query) -> Result<query::promql::eval::Answer, String> {
        let expr = parse(text).map_err(|e| e.to_string())?;
        let budget = Budget::unlimited();
        let context = EvalContext {
            text,
            threads: self.threads,
            use_start_times: true,
            ..EvalContext::new(&self.engine, TenantId::DEFAULT, &budget)
        };
        evaluate(&expr, &context, query).map_err(|e| e.to_string())
    }

    fn answer(&self, text: &str, query: Query) -> Result<Answer, String> {
        let answer = self.query(text, query)?;
        Ok(Answer {
            value: answer.value,
            warnings: answer.warnings,
            infos: answer.infos,
        })
    }

    /// Which record of a load takes sample `i` of `n`.
    fn part(&self, i: usize, n: usize) -> usize {
        match self.stage {
            Stage::Interleaved => i % 2 * PARTS / 2 + i * PARTS / 2 / n,
            _ => i * PARTS / n,
        }
    }
}

fn push(batch: &mut Batch, series: model::SeriesId, sample: LoadedSample) {
    match sample.value {
        LoadedValue::Float(v) => batch.floats.push(series, sample.at_ms, v, sample.start_ms),
        LoadedValue::Histogram(value) => batch.histograms.push(HistogramRow {
            series,
            at_ms: sample.at_ms,
            start_ms: sample.start_ms,
            value,
        }),
    }
}

impl Target for EngineTarget {
    fn clear(&mut self) -> Result<(), String> {
        *self = EngineTarget::new(self.stage, self.threads);
        Ok(())
    }

    fn load(&mut self, series: Vec<Loaded>) -> Result<(), String> {
        let mut batches: Vec<Batch> = (0..PARTS).map(|_| Batch::new(TenantId::DEFAULT)).collect();
        for s in series {
            let id = self
                .outside
                .intern(TenantId::DEFAULT, s.labels.as_bytes(), None)
                .map_err(|e| e.to_string())?;
            let n = s.samples.len();
            for (i, sample) in s.samples.into_iter().enumerate() {
                push(&mut batches[self.part(i, n)], id, sample);
            }
        }
        for (part, batch) in batches.into_iter().enumerate() {
            self.apply(batch);
            let seal = match self.stage {
                Stage::Head => false,
                Stage::Sealed => part + 1 == PARTS,
                Stage::Merged => true,
                Stage::HalfSealed | Stage::Interleaved => part < PARTS / 2,
            };
            if seal {
                self.engine.seal().map_err(|e| e.to_string())?;
            }
            let merge = match self.stage {
                Stage::Merged => part + 1 == PARTS,
                Stage::Interleaved => part + 1 == PARTS / 2,
                _ => false,
            };
            if merge {
                self.engine.compact_all().map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    fn instant(&mut self, query: &str, at_ms: i64) -> Result<Answer, String> {
        self.answer(query, Query::Instant { at_ms })
    }

    fn range(&mut self, query: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Answer, String> {
        self.answer(
            query,
            Query::Range {
                start_ms,
                end_ms,
                step_ms,
            },
        )
    }
}
