//! The queue in its file. What cannot be read is begun anew, what cannot be written stays in memory: no livepatch hangs on
//! reports.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::queue::Queue;
use crate::state::write_atomically;

const FILE_NAME: &str = "reports.json";
/// More than a full queue has, escaped as JSON in JSON.
const MAX_FILE_BYTES: u64 = 2 << 20;

/// The queue in memory and in its file.
#[derive(Debug)]
pub(crate) struct QueueFile {
    path: PathBuf,
    queue: Mutex<Queue>,
}

impl QueueFile {
    pub(crate) fn open(directory: &Path) -> Self {
        let path = directory.join(FILE_NAME);
        let queue = read(&path).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), error, "reports that waited are lost");
            Queue::default()
        });
        Self { path, queue: Mutex::new(queue) }
    }

    /// Looks at the queue.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Queue) -> T) -> T {
        look(&self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets what waits, and what was told: another fleet, or none, or nothing is to be told.
    pub(crate) fn forget(&self) {
        self.update(|queue| *queue = Queue::default());
    }

    /// Changes the queue, in memory and then on the disk.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let before = queue.clone();
        let changed = change(&mut queue);
        if *queue != before {
            let written = serde_json::to_vec(&*queue)
                .map_err(std::io::Error::from)
                .and_then(|bytes| write_atomically(&self.path, &bytes, 0o600));
            if let Err(error) = written {
                tracing::warn!(path = %self.path.display(), %error, "reports wait in memory alone");
            }
        }
        changed
    }
}

fn read(path: &Path) -> Result<Queue, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Queue::default()),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => return Err("the file is too large".into()),
        _ => {}
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use livepatch_manifest::sha256;

    use super::*;

    #[test]
    fn what_waits_outlives_the_daemon_and_what_is_unreadable_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let file = QueueFile::open(directory.path());
        assert!(file.update(|queue| queue.push(sha256(b"1"), |_| "{}".into())));
        assert_eq!(QueueFile::open(directory.path()).look(Queue::clone), file.look(Queue::clone));
        for text in ["", "{", "[]", r#"{"waiting": 1}"#] {
            std::fs::write(directory.path().join(FILE_NAME), text).unwrap();
            assert_eq!(QueueFile::open(directory.path()).look(Queue::clone), Queue::default(), "{text}");
        }
        // Without a disk it goes on in memory.
        let nowhere = QueueFile::open(&directory.path().join("missing"));
        assert!(nowhere.update(|queue| queue.push(sha256(b"1"), |_| "{}".into())));
        assert_eq!(nowhere.look(|queue| queue.waiting().count()), 1);
    }
}
