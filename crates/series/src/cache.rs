//! What readers keep in memory, bounded in bytes: directories, indexes and groups of chunks, and what was found in them.

use std::any::Any;
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;

/// Which part of which block.
pub(crate) type Key = (u64, u32);

type Value = (Arc<dyn Any + Send + Sync>, usize);

#[derive(Default)]
struct Inner {
    young: HashMap<Key, Value>,
    old: HashMap<Key, Value>,
    young_bytes: usize,
    old_bytes: usize,
}

/// Two generations: what is used moves to the young one; when that holds half the bound, the old one is dropped.
pub(crate) struct Cache {
    inner: Mutex<Inner>,
    bytes_max: usize,
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Cache {
            inner: Mutex::default(),
            bytes_max,
        }
    }

    pub(crate) fn get<T: Any + Send + Sync>(&self, key: Key) -> Option<Arc<T>> {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((v, _)) = inner.young.get(&key) {
            return Arc::clone(v).downcast().ok();
        }
        let (v, bytes) = inner.old.remove(&key)?;
        inner.old_bytes -= bytes;
        let found = Arc::clone(&v).downcast().ok();
        self.put(&mut inner, key, (v, bytes));
        found
    }

    pub(crate) fn insert<T: Any + Send + Sync>(&self, key: Key, value: Arc<T>, bytes: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        self.put(&mut inner, key, (value, bytes));
    }

    fn put(&self, inner: &mut Inner, key: Key, value: Value) {
        if inner.young_bytes + value.1 > self.bytes_max / 2 {
            inner.old = std::mem::take(&mut inner.young);
            inner.old_bytes = std::mem::take(&mut inner.young_bytes);
        }
        if value.1 <= self.bytes_max / 2 {
            inner.young_bytes += value.1;
            if let Some((_, bytes)) = inner.young.insert(key, value) {
                inner.young_bytes -= bytes;
            }
        }
    }

    /// Drops everything of one block.
    pub(crate) fn forget(&self, block: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.young.retain(|k, _| k.0 != block);
        inner.old.retain(|k, _| k.0 != block);
        inner.young_bytes = inner.young.values().map(|v| v.1).sum();
        inner.old_bytes = inner.old.values().map(|v| v.1).sum();
    }

    pub(crate) fn clear(&self) {
        *self.inner.lock().unwrap_or_else(|e| e.into_inner()) = Inner::default();
    }

    pub(crate) fn bytes(&self) -> usize {
        let inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.young_bytes + inner.old_bytes
    }
}
