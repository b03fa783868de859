//! The index of kernels that an operator gave: it says of a kernel without livepatches where it was published.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use livepatch_api::server::PublishedKernel;
use livepatch_archive::index::MAX_BYTES;
use livepatch_archive::{KernelIndex, KernelRow, Standing};
use livepatch_types::{Architecture, BuildId};

use crate::data_dir::write_over;
use crate::{Exit, Failure};

/// Most places of one kernel that are told.
const MOST_PLACES: usize = 8;

/// The index in a data directory, read anew when it is another file.
#[derive(Debug)]
pub struct KnownKernels {
    path: PathBuf,
    read: Mutex<Option<(SystemTime, Arc<KernelIndex>)>>,
}

impl KnownKernels {
    /// Speaks of a file that need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::new(None) }
    }

    /// Takes an index in place of the one before; says how many kernels it has.
    pub fn import(&self, file: &Path) -> Result<usize, Failure> {
        let hint = "give a file that `livepatch-build index` wrote";
        let wrong = |error: anyhow::Error| {
            Failure::new(Exit::Refused, error).context(format!("cannot use {}", file.display())).hint(hint)
        };
        let length = std::fs::metadata(file).map_err(|error| wrong(error.into()))?.len();
        if length > MAX_BYTES {
            return Err(wrong(anyhow::anyhow!("it is larger than {MAX_BYTES} bytes")));
        }
        let bytes = std::fs::read(file).map_err(|error| wrong(error.into()))?;
        let index = KernelIndex::parse(&bytes).map_err(|error| wrong(error.into()))?;
        write_over(&self.path, &index.to_bytes())?;
        Ok(index.count())
    }

    /// Where a kernel was published, official places first. Reads a file: not for a thread that must not wait.
    pub fn published(&self, build_id: &BuildId) -> Vec<PublishedKernel> {
        let Some(index) = self.index() else { return Vec::new() };
        let rows = index.find(Architecture::Amd64, build_id);
        rows.into_iter().take(MOST_PLACES).map(place).collect()
    }

    fn index(&self) -> Option<Arc<KernelIndex>> {
        let changed = std::fs::metadata(&self.path).ok()?.modified().ok()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, index)) = read.as_ref().filter(|(at, _)| *at == changed) {
            return Some(Arc::clone(index));
        }
        let parsed = KernelIndex::parse(&std::fs::read(&self.path).ok()?);
        let index = parsed
            .inspect_err(|error| tracing::error!(%error, "the index of kernels is damaged: import it again"))
            .ok()
            .map(Arc::new)?;
        *read = Some((changed, Arc::clone(&index)));
        Some(index)
    }
}

fn place(row: &KernelRow) -> PublishedKernel {
    PublishedKernel {
        distribution: row.distribution.clone(),
        suite: row.suite.clone(),
        pocket: row.pocket.clone(),
        version: row.version.clone(),
        official: row.standing == Standing::Official,
    }
}
