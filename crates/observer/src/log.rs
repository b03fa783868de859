//! What was seen since the boot, for whoever asks.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use livepatch_observer_api::{Complaint, MAX_COMPLAINTS, MAX_REFUSED, RefusedModule, Seen};

use crate::kmsg::{MAX_RECORD_BYTES, Record};
use crate::{Complaints, Livepatches, refused_module};

/// The complaints of this boot, and the modules that were kept out.
#[derive(Debug, Default)]
pub struct Log {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    seen: Seen,
    /// Counts those who wait: the last one goes on waiting, the others are let go.
    waits: u64,
}

impl Log {
    /// Reads records, one with each read, until that fails: the beginning of the log is what the kernel still has of it.
    pub fn follow(&self, mut records: impl Read, root: &Path) -> std::io::Error {
        let mut complaints = Complaints::default();
        let mut buffer = [0; MAX_RECORD_BYTES];
        loop {
            let bytes = match records.read(&mut buffer) {
                Ok(0) => return ErrorKind::UnexpectedEof.into(),
                Ok(length) => &buffer[..length],
                // What comes next was overwritten; the next read goes on with what is there.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    self.lock().seen.gaps += 1;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return error,
            };
            let Some(record) = Record::parse(bytes) else { continue };
            let said = complaints.push(record, || Livepatches::read(root));
            let refused = refused_module(record, || Livepatches::read(root));
            let mut inner = self.lock();
            inner.seen.next = inner.seen.next.max(record.sequence.saturating_add(1));
            for complaint in said {
                tracing::warn!(livepatch = %complaint.livepatch, function = complaint.function, "{}", complaint.title);
                inner.seen.add(complaint);
                self.changed.notify_all();
            }
            if let Some(refused) = refused {
                tracing::warn!(livepatch = %refused.livepatch, module = %refused.module, "a module was kept out");
                inner.seen.add_refused(refused);
                self.changed.notify_all();
            }
        }
    }

    /// The complaints from a sequence number on, and the modules that were kept out.
    pub fn seen(&self, from: u64) -> Seen {
        since(&self.lock().seen, from)
    }

    /// The same, as soon as there is one, or somebody else waits.
    pub fn wait(&self, from: u64) -> Seen {
        let mut inner = self.lock();
        inner.waits += 1;
        let turn = inner.waits;
        self.changed.notify_all();
        let nothing = |inner: &mut Inner| inner.waits == turn && is_nothing(&since(&inner.seen, from));
        let inner = self.changed.wait_while(inner, nothing).unwrap_or_else(PoisonError::into_inner);
        since(&inner.seen, from)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

trait Add {
    /// Adds a complaint, in the place of an earlier one about the same function.
    fn add(&mut self, complaint: Complaint);
    /// Adds a module, in the place of an earlier time.
    fn add_refused(&mut self, refused: RefusedModule);
}

impl Add for Seen {
    fn add(&mut self, complaint: Complaint) {
        self.complaints.retain(|known| {
            (&known.livepatch, &known.function) != (&complaint.livepatch, &complaint.function)
        });
        if self.complaints.len() >= MAX_COMPLAINTS {
            self.complaints.remove(0);
        }
        self.complaints.push(complaint);
    }

    fn add_refused(&mut self, refused: RefusedModule) {
        self.refused
            .retain(|known| (&known.livepatch, &known.module) != (&refused.livepatch, &refused.module));
        if self.refused.len() >= MAX_REFUSED {
            self.refused.remove(0);
        }
        self.refused.push(refused);
    }
}

fn since(seen: &Seen, from: u64) -> Seen {
    let complaints = seen.complaints.iter().filter(|complaint| complaint.sequence >= from);
    let refused = seen.refused.iter().filter(|refused| refused.sequence >= from);
    Seen { complaints: complaints.cloned().collect(), refused: refused.cloned().collect(), ..*seen }
}

fn is_nothing(seen: &Seen) -> bool {
    seen.complaints.is_empty() && seen.refused.is_empty()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use super::*;

    /// Gives one record with each read, as /dev/kmsg does.
    struct Source(VecDeque<Result<String, ErrorKind>>);

    impl Read for Source {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let Some(next) = self.0.pop_front() else { return Err(ErrorKind::NotConnected.into()) };
            let text = next?;
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Ok(text.len())
        }
    }

    fn warning(sequence: u64, version: u64) -> Result<String, ErrorKind> {
        let place = format!("f+0x1/0x2 [livepatch_{version}_1]");
        Ok(format!("4,{sequence},{sequence},-;WARNING: CPU: 0 PID: 1 at x.c:1 {place}\n"))
    }

    fn follow(log: &Log, records: impl IntoIterator<Item = Result<String, ErrorKind>>) {
        follow_below(log, records, Path::new("/no/such/root"));
    }

    fn follow_below(log: &Log, records: impl IntoIterator<Item = Result<String, ErrorKind>>, root: &Path) {
        let ended = log.follow(Source(records.into_iter().collect()), root);
        assert_eq!(ended.kind(), ErrorKind::NotConnected);
    }

    fn sequences(seen: &Seen) -> Vec<u64> {
        seen.complaints.iter().map(|complaint| complaint.sequence).collect()
    }

    #[test]
    fn the_newest_complaints_are_kept() {
        let log = Log::default();
        follow(&log, (0..100).map(|number| warning(number, number)));
        let seen = log.seen(0);
        assert_eq!((seen.next, seen.complaints.len()), (100, MAX_COMPLAINTS));
        assert_eq!(sequences(&log.seen(97)), [97, 98, 99]);
        // The same again is one.
        follow(&log, (100..300).map(|number| warning(number, 99)));
        assert_eq!((sequences(&log.seen(97)), log.seen(0).next), (vec![97, 98, 299], 300));
    }

    #[test]
    fn the_newest_modules_that_were_kept_out_are_kept_and_wake_who_waits() {
        let root = tempfile::tempdir().unwrap();
        let refused = |sequence: u64, module: u64| {
            let object = root.path().join(format!("sys/kernel/livepatch/livepatch_1_1/m{module}/f,1"));
            std::fs::create_dir_all(object).unwrap();
            let says = format!("'m{module}', refusing to load module 'm{module}'");
            Ok(format!(
                "4,{sequence},{sequence},-;livepatch: patch 'livepatch_1_1' failed for module {says}\n"
            ))
        };
        let log = Log::default();
        follow_below(&log, (0..20).map(|number| refused(number, number)), root.path());
        let sequences = |seen: Seen| seen.refused.iter().map(|refused| refused.sequence).collect::<Vec<_>>();
        assert_eq!(sequences(log.seen(0)), (4..20).collect::<Vec<_>>());
        assert_eq!(sequences(log.wait(18)), [18, 19], "it is there already");
        // The same again is one.
        follow_below(&log, [refused(20, 19), refused(21, 19)], root.path());
        assert_eq!((sequences(log.seen(18)), log.seen(0).complaints.len()), (vec![18, 21], 0));
        // A livepatch that is not there keeps nothing out.
        let elsewhere = Log::default();
        follow(&elsewhere, [refused(1, 1)]);
        assert_eq!((elsewhere.seen(0).refused.len(), elsewhere.seen(0).next), (0, 2));
    }

    #[test]
    fn overwritten_records_and_what_is_none_are_passed_over() {
        let log = Log::default();
        let broken = [Err(ErrorKind::BrokenPipe), Err(ErrorKind::Interrupted), Ok("garbage".into())];
        follow(&log, broken.into_iter().chain([warning(7, 1)]));
        assert_eq!((log.seen(0).gaps, sequences(&log.seen(0))), (1, vec![7]));
    }

    #[test]
    fn who_waits_is_told_and_who_waited_before_is_let_go() {
        let log = Arc::new(Log::default());
        follow(&log, [warning(1, 1)]);
        let wait = |from| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || log.wait(from))
        };
        let first = wait(2);
        let waits = |count| {
            let inner = log.changed.wait_while(log.lock(), |inner| inner.waits < count);
            drop(inner);
        };
        waits(1);
        let second = wait(2);
        assert_eq!(sequences(&first.join().unwrap()).len(), 0);
        waits(2);
        follow(&log, [warning(3, 1)]);
        assert_eq!(sequences(&second.join().unwrap()), [3]);
        // What was there already needs no wait.
        assert_eq!(sequences(&log.wait(3)), [3]);
    }
}
