//! How much metadata (type, help, unit of metrics) there is: it stays in memory for as long as the data set is there, so it has
//! a budget for each tenant. Names are kept as hashes only; the texts are the engine's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use model::TenantId;

/// Bytes that an entry takes besides its texts, about: twice the name's, here and in the engine's map.
const ENTRY_BYTES: usize = 200;

/// What a tenant may have.
#[derive(Clone, Copy, Debug)]
pub struct MetadataLimits {
    /// Metrics.
    pub metrics: usize,
    /// Bytes of memory.
    pub bytes: usize,
}

/// Why an entry is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataFull {
    #[error("the tenant already has metadata of {0} metrics (limits.metadata_max); their samples are taken")]
    Metrics(usize),
    #[error("the tenant's metadata already takes {0} bytes (limits.metadata_bytes_max); samples are taken")]
    Bytes(usize),
}

#[derive(Default)]
struct OfTenant {
    /// Bytes by the hash of the metric's name.
    metrics: HashMap<u64, u32>,
    bytes: usize,
}

/// What metadata is there, and what is on its way. What is admitted and then not stored after all counts until the process
/// ends: whoever sends it again finds its place.
#[derive(Default)]
pub struct MetadataKnown(Mutex<HashMap<TenantId, OfTenant>>);

/// Bytes of memory of an entry.
fn bytes_of(metric: &str, texts: usize) -> usize {
    ENTRY_BYTES + 2 * metric.len() + texts
}

impl MetadataKnown {
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, OfTenant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an entry whose help and unit have `texts` bytes, unless that passes a limit. One that is there may always
    /// become smaller.
    pub(super) fn take(
        &self,
        tenant: TenantId,
        hash: u64,
        metric: &str,
        texts: usize,
        limits: MetadataLimits,
    ) -> Result<(), MetadataFull> {
        let bytes = bytes_of(metric, texts);
        let mut all = self.lock();
        let own = all.entry(tenant).or_default();
        let before = own.metrics.get(&hash).map(|&b| b as usize);
        if before.is_none() && own.metrics.len() >= limits.metrics {
            return Err(MetadataFull::Metrics(limits.metrics));
        }
        let after = own.bytes - before.unwrap_or(0) + bytes;
        if after > limits.bytes && before.is_none_or(|b| bytes > b) {
            return Err(MetadataFull::Bytes(limits.bytes));
        }
        own.metrics.insert(hash, u32::try_from(bytes).unwrap_or(u32::MAX));
        own.bytes = after;
        Ok(())
    }

    /// (metrics, bytes of memory) of all tenants.
    pub fn total(&self) -> (usize, usize) {
        let all = self.lock();
        let of = |t: &OfTenant| (t.metrics.len(), t.bytes + t.metrics.capacity() * 16);
        all.values().map(of).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}
