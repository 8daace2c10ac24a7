use std::path::PathBuf;

use model::MetricKind;

use crate::{ProcRoot, collectors::State, config::Exclusions, observation::Recorder};

/// A row of [`COLLECTORS`](crate::COLLECTORS).
pub struct Collector {
    /// As node_exporter calls it, where it has it.
    pub name: &'static str,
    /// One sentence.
    pub doc: &'static str,
    pub metrics: &'static [Metric],
    pub collect: fn(&mut Context<'_>) -> Result<(), CollectError>,
}

/// A metric that a collector may emit.
pub struct Metric {
    /// A `*` stands for names that the kernel chooses.
    pub name: &'static str,
    pub kind: MetricKind,
    /// A `*` is replaced by what the name's `*` stood for.
    pub help: &'static str,
    /// Whether it is stored, or only shown live.
    pub stored: bool,
}

/// Why a collector found nothing. It is tried again at the next tick.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    #[error("{} cannot be read: {reason}", path.display())]
    Read { path: PathBuf, reason: String },
    #[error("/{path} holds no {missing}")]
    Parse { path: &'static str, missing: &'static str },
}

/// What a collector works with during one tick.
pub struct Context<'a> {
    pub(crate) proc: &'a ProcRoot,
    pub(crate) exclusions: &'a Exclusions,
    pub(crate) process_top: usize,
    /// What collectors remember from tick to tick.
    pub(crate) state: &'a mut State,
    pub(crate) out: &'a mut Recorder,
    pub(crate) now_ms: i64,
}

pub(crate) const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Counter,
        help,
        stored: true,
    }
}

pub(crate) const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Gauge,
        help,
        stored: true,
    }
}

/// The kernel does not say whether it counts up.
pub(crate) const fn unknown(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Unknown,
        help,
        stored: true,
    }
}

impl Metric {
    /// What `*` stands for in `metric`; the empty text when the row has none and the names are equal.
    pub(crate) fn star<'m>(&self, metric: &'m str) -> Option<&'m str> {
        match self.name.split_once('*') {
            None => (self.name == metric).then_some(""),
            Some((before, after)) => metric
                .strip_prefix(before)?
                .strip_suffix(after)
                .filter(|star| !star.is_empty()),
        }
    }

    /// The help text for one metric that this row covers.
    pub(crate) fn help_for(&self, metric: &str) -> String {
        self.help.replace('*', self.star(metric).unwrap_or(""))
    }
}
