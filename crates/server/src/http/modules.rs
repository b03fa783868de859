use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::Context as _;
use axum::body::Bytes;
use livepatch_store::ObjectStore;
use livepatch_types::Sha256Digest;
use tokio::sync::Semaphore;

use super::error::ApiError;

/// How many modules are read and hashed at a time.
const READS_AT_A_TIME: usize = 4;

/// Module files for download. Downloads of the same module at the same time share its bytes, so that memory is
/// bounded by the modules there are and not by slow clients.
#[derive(Debug)]
pub(super) struct Modules {
    objects: ObjectStore,
    reads: Semaphore,
    in_flight: Mutex<HashMap<Sha256Digest, Weak<Vec<u8>>>>,
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Modules {
    pub(super) fn new(objects: ObjectStore) -> Self {
        Self { objects, reads: Semaphore::new(READS_AT_A_TIME), in_flight: Mutex::default() }
    }

    /// The bytes of a module, checked against its name.
    pub(super) async fn get(&self, name: Sha256Digest) -> Result<Option<Bytes>, ApiError> {
        let _permit = self.reads.acquire().await.map_err(ApiError::internal)?;
        let shared = self.in_flight().get(&name).and_then(Weak::upgrade);
        if let Some(bytes) = shared {
            return Ok(Some(Bytes::from_owner(Shared(bytes))));
        }
        let objects = self.objects.clone();
        let read = tokio::task::spawn_blocking(move || objects.get(&name)).await;
        let Some(bytes) = read.context("reading a module was stopped").map_err(ApiError::internal)?? else {
            return Ok(None);
        };
        let bytes = Arc::new(bytes);
        let mut in_flight = self.in_flight();
        in_flight.retain(|_, bytes| bytes.strong_count() > 0);
        in_flight.insert(name, Arc::downgrade(&bytes));
        Ok(Some(Bytes::from_owner(Shared(bytes))))
    }

    fn in_flight(&self) -> std::sync::MutexGuard<'_, HashMap<Sha256Digest, Weak<Vec<u8>>>> {
        // Nothing can panic while it is held; if something did, the map would still be right.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
