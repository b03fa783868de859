//! The record of all that was said to and by a guest.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A file that grows while the guest runs. Without a given path it is a temporary file that vanishes with
/// the guest, unless a step failed.
pub(crate) struct Transcript {
    path: PathBuf,
    start: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    vanishes: bool,
}

impl Transcript {
    pub(crate) fn create(path: Option<&Path>) -> io::Result<Self> {
        let (file, path, vanishes) = match path {
            Some(path) => (File::create(path)?, path.to_path_buf(), false),
            None => {
                let (file, path) =
                    tempfile::Builder::new().prefix("livepatch-vm-").suffix(".log").tempfile()?.keep()?;
                (file, path, true)
            }
        };
        let inner = Mutex::new(Inner { file, vanishes });
        Ok(Self { path, start: Instant::now(), inner })
    }

    /// Adds text; each of its lines carries the time and who said it. What the disk refuses is lost.
    pub(crate) fn write(&self, who: &str, text: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        let lines: String = text.lines().map(|line| format!("{seconds:9.3} {who:<7} | {line}\n")).collect();
        let _ = self.lock().file.write_all(lines.as_bytes());
    }

    /// From now on the file stays; gives its path for the error.
    pub(crate) fn keep(&self) -> PathBuf {
        self.lock().vanishes = false;
        self.path.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        if self.lock().vanishes {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
