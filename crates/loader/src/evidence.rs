//! Whether the kernel panicked: what it left behind, and whoever collects that.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Where records of panics are: the kernel's own store, where systemd-pstore(8) moves it, and where kdump-tools writes.
pub const PANIC_DIRECTORIES: [&str; 3] = ["/sys/fs/pstore", "/var/lib/systemd/pstore", "/var/crash"];

/// Below a directory by date or boot there may be one for each record.
const DEPTH: usize = 3;
/// A directory with more is looked at so far; a record that shows later changes nothing for the better.
const MOST_ENTRIES: usize = 1000;
/// Clocks of firmware, which date records, may be so far behind.
const SKEW: Duration = Duration::from_secs(3600);

/// A record of a panic since a time. The directories come in the order in which records move, so that none is missed
/// while it does. One that cannot be dated counts: better refused once too often.
pub fn panic_record(directories: &[PathBuf], since: Timestamp) -> Option<PathBuf> {
    // Before 1970 nothing was recorded.
    let since = Duration::from_secs(u64::try_from(since.as_second()).unwrap_or(0)).saturating_sub(SKEW);
    let since = SystemTime::UNIX_EPOCH + since;
    let mut left = MOST_ENTRIES;
    directories.iter().find_map(|directory| look(directory, since, DEPTH, &mut left))
}

fn look(directory: &Path, since: SystemTime, depth: usize, left: &mut usize) -> Option<PathBuf> {
    for entry in std::fs::read_dir(directory).ok()?.flatten() {
        *left = left.checked_sub(1)?;
        let path = entry.path();
        // A link is not followed.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth > 1
                && let Some(found) = look(&path, since, depth - 1, left)
            {
                return Some(found);
            }
            continue;
        }
        let name = entry.file_name();
        let is_new = || {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            modified.map_or(true, |modified| modified >= since)
        };
        if is_record(&name.to_string_lossy()) && is_new() {
            return Some(path);
        }
    }
    None
}

/// `dmesg-efi-167…`, `dmesg-ramoops-0` and `dmesg.txt` of pstore; `dmesg.202611…`, `dump.202611…` and `vmcore` of kdump.
fn is_record(name: &str) -> bool {
    ["dmesg-", "dmesg.", "dump.", "vmcore"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use livepatch_types::{Clock as _, SystemClock};

    use super::*;

    #[test]
    fn records_are_found_by_name_and_date() {
        let now = SystemClock.now();
        let (before, later) = (now - Duration::from_secs(60), now + Duration::from_secs(7200));
        for (path, since, expected) in [
            ("dmesg-efi-1", before, true),
            ("dmesg-efi-1", later, false),
            ("1797000000/boot/dmesg.txt", before, true),
            ("202611281600/dump.202611281600", before, true),
            ("a/b/c/dmesg.txt", before, false),
            ("console-ramoops-0", before, false),
            ("_usr_bin_foo.1000.crash", before, false),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            let directories = ["/no/such/directory".into(), directory.path().to_owned()];
            assert_eq!(panic_record(&directories, since), expected.then_some(file), "{path}");
        }
    }
}
