use std::sync::Arc;

use bus::{BusError, Log, Position};
use model::{Batch, Record};

/// Puts records on the samples topic.
#[derive(Clone)]
pub struct Publisher {
    log: Arc<dyn Log<Record>>,
}

/// Why a batch is not on the bus; nothing of it will be seen.
pub type PublishError = BusError;

impl Publisher {
    pub fn new(log: Arc<dyn Log<Record>>) -> Self {
        Publisher { log }
    }

    /// Resolves when the batch is durable; an empty batch needs nothing and is durable at once.
    pub async fn batch(&self, batch: Batch) -> Result<Position, PublishError> {
        if batch.is_empty() {
            return Ok(self.log.durable());
        }
        self.record(Record::Batch(batch)).await
    }

    pub async fn record(&self, record: Record) -> Result<Position, PublishError> {
        let bytes = match &record {
            Record::Batch(b) => b.bytes(),
            Record::Delete(_) => size_of::<Record>(),
        };
        self.log.publish(Arc::new(record), bytes).await
    }
}
