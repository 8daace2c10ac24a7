//! The log in segment files of one directory: `docs/format/log.md` has the bytes.

use std::{marker::PhantomData, path::Path, sync::Arc, time::Duration};

use host::Host;

use crate::{BusError, Codec, Consumer, Decode, Log, LogStatus, Position, Publish, Quarantined};

/// How one local log is kept.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// Name for messages and threads: `samples`, `events`, `control`.
    pub topic: String,
    /// A segment closes once it holds this many bytes and the codec agrees; at twice as many regardless.
    pub segment_bytes: u64,
    /// Size a segment file starts with; it doubles from there.
    pub initial_bytes: u64,
    /// All files of the log together; what would go beyond is refused.
    pub max_bytes: u64,
    /// Decoded items kept in memory for attached consumers.
    pub handover_bytes: usize,
    /// Nothing they have not committed is ever dropped, attached or not.
    pub required: Vec<String>,
    /// The highest position any consumer is known to have stored; a log that ends before it has lost records.
    pub known_position: Position,
}

/// What was found at open.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    pub durable: Position,
    pub first_kept: Position,
    pub segments: usize,
    pub bytes: u64,
    /// Everything that was damaged or missing; an unfinished last write after a crash is neither.
    pub quarantined: Vec<Quarantined>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: another process uses this log; stop it, or choose another data directory")]
    Locked { path: String },
    #[error("{path}: {error}")]
    Io { path: String, error: std::io::Error },
    #[error("{path}: written by a newer version (format {found}, this one reads up to {known}); use that version")]
    Newer { path: String, found: u16, known: u16 },
    #[error("setting {field} = {value}: {expected}")]
    Setting {
        field: &'static str,
        value: String,
        expected: &'static str,
    },
}

pub struct LocalLog<C: Codec, D: Decode<Item = C::Item>> {
    marker: PhantomData<fn(C, D)>,
}

impl<C, D> LocalLog<C, D>
where
    C: Codec + 'static,
    D: Decode<Item = C::Item> + 'static,
{
    /// Opens the log in `dir`, or creates it; damage never stops it.
    pub fn open(
        _host: &Host,
        dir: &Path,
        _settings: LocalSettings,
        _codec: C,
        _make_decoder: impl Fn() -> D + Send + Sync + 'static,
    ) -> Result<(Self, OpenReport), OpenError> {
        Err(OpenError::Locked {
            path: dir.display().to_string(),
        })
    }
}

impl<C, D> Log<C::Item> for LocalLog<C, D>
where
    C: Codec + 'static,
    D: Decode<Item = C::Item> + 'static,
{
    fn publish(&self, _item: Arc<C::Item>, _bytes: usize) -> Publish {
        Publish::ready(Err(BusError::Stopped))
    }

    fn consume(&self, _name: &str, _from: Position) -> Result<Box<dyn Consumer<C::Item>>, BusError> {
        Err(BusError::Stopped)
    }

    fn commit(&self, _name: &str, _position: Position) -> Result<(), BusError> {
        Err(BusError::Stopped)
    }

    fn durable(&self) -> Position {
        0
    }

    fn status(&self) -> LogStatus {
        LogStatus::default()
    }

    fn drop_spares(&self) {}

    fn close(&self, _within: Duration) -> Result<(), BusError> {
        Ok(())
    }
}

impl LocalSettings {
    /// Defaults for a topic.
    pub fn new(topic: &str) -> LocalSettings {
        LocalSettings {
            topic: topic.to_owned(),
            segment_bytes: 64 << 20,
            initial_bytes: 1 << 20,
            max_bytes: 4 << 30,
            handover_bytes: 64 << 20,
            required: Vec::new(),
            known_position: 0,
        }
    }
}
