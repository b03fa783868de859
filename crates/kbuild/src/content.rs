//! What a directory holds, as one digest.
//!
//! A prepared tree is named by what it was made from, so the content of a source tree must be known at every build. To
//! read 1.3 GB each time would double the time of a small fix; to trust times and sizes alone would make another tree
//! of every copy. So content is read once, and found again by a fingerprint of what `stat` says of every file: a file
//! cannot change without its ctime, which no program can set.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use livepatch_manifest::sha256;
use livepatch_types::Sha256Digest;

use crate::KbuildError;

/// Not part of a source: no file of a kernel is made of it.
pub(crate) const VERSION_CONTROL: &str = ".git";

/// One entry of a directory, by its path below it.
struct Entry {
    path: PathBuf,
    metadata: Metadata,
}

/// All entries below a directory in the order of their names, directories before what they hold. Links are entries
/// like others and not followed.
fn entries(root: &Path) -> Result<Vec<Entry>, KbuildError> {
    let mut out = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        let at = root.join(&directory);
        for entry in fs::read_dir(&at).map_err(KbuildError::io("read", &at))? {
            let entry = entry.map_err(KbuildError::io("read", &at))?;
            if directory.as_os_str().is_empty() && entry.file_name() == VERSION_CONTROL {
                continue;
            }
            let path = directory.join(entry.file_name());
            let metadata = entry.metadata().map_err(KbuildError::io("read", entry.path()))?;
            if metadata.is_dir() {
                open.push(path.clone());
            }
            out.push(Entry { path, metadata });
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}

/// What `stat` says of every entry.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint {
    digest: Sha256Digest,
    /// When an entry last changed, in seconds.
    newest: i64,
}

impl Fingerprint {
    fn of(root: &Path) -> Result<Self, KbuildError> {
        let mut text = root.as_os_str().as_bytes().to_vec();
        let mut newest = 0;
        for Entry { path, metadata: m } in entries(root)? {
            text.push(0);
            text.extend_from_slice(path.as_os_str().as_bytes());
            for number in [m.dev(), m.ino(), m.mode().into(), m.size()] {
                text.extend_from_slice(&number.to_le_bytes());
            }
            for number in [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()] {
                text.extend_from_slice(&number.to_le_bytes());
            }
            newest = newest.max(m.ctime());
        }
        Ok(Self { digest: sha256(&text), newest })
    }
}

/// Names, kinds, modes and bytes of everything in a directory, as one digest: the same for every copy.
pub(crate) fn digest(root: &Path) -> Result<Sha256Digest, KbuildError> {
    let mut text = Vec::new();
    for Entry { path, metadata } in entries(root)? {
        let at = root.join(&path);
        let io = |action| KbuildError::io(action, &at);
        let kind = metadata.file_type();
        let (kind, content) = if kind.is_dir() {
            (b'd', Vec::new())
        } else if kind.is_symlink() {
            (b'l', fs::read_link(&at).map_err(io("read"))?.into_os_string().as_bytes().to_vec())
        } else if kind.is_file() {
            (b'f', file_digest(&at).map_err(io("read"))?.as_bytes().to_vec())
        } else {
            let why = "it is neither a file nor a directory nor a link".to_owned();
            return Err(KbuildError::Format { path: at, why });
        };
        // Of the mode what a version control system keeps: the rest is the umask of whoever made the copy.
        let runs = kind == b'f' && metadata.mode() & 0o100 != 0;
        text.extend_from_slice(path.as_os_str().as_bytes());
        text.extend_from_slice(&[0, kind, u8::from(runs)]);
        text.extend_from_slice(&(content.len() as u64).to_le_bytes());
        text.extend_from_slice(&content);
    }
    Ok(sha256(&text))
}

/// Digest of the digests of a file's pieces: a file of any size in little memory.
fn file_digest(path: &Path) -> io::Result<Sha256Digest> {
    const PIECE: u64 = 1 << 20;
    let file = File::open(path)?;
    let mut digests = Vec::new();
    let mut piece = Vec::new();
    loop {
        piece.clear();
        if (&file).take(PIECE).read_to_end(&mut piece)? == 0 {
            return Ok(sha256(&digests));
        }
        digests.extend_from_slice(sha256(&piece).as_bytes());
    }
}

/// The digest of a directory, out of the cache when nothing in it changed since.
pub(crate) fn known_digest(root: &Path, cache: &Path) -> Result<Sha256Digest, KbuildError> {
    let fingerprint = Fingerprint::of(root)?;
    let known = cache.join(fingerprint.digest.to_string());
    if let Some(digest) =
        fs::read_to_string(&known).ok().and_then(|text| Sha256Digest::parse(text.trim()).ok())
    {
        return Ok(digest);
    }
    let digest = digest(root)?;
    fs::create_dir_all(cache).map_err(KbuildError::io("make", cache))?;
    let mut file = tempfile::NamedTempFile::new_in(cache).map_err(KbuildError::io("write in", cache))?;
    writeln!(file, "{digest}").map_err(KbuildError::io("write", file.path()))?;
    // What changes again within the tick of the file system's clock may look the same: such a digest is not kept. The
    // file just written tells that clock.
    let now = file.as_file().metadata().map_err(KbuildError::io("read", file.path()))?.mtime();
    if fingerprint.newest + 2 <= now && Fingerprint::of(root)? == fingerprint {
        file.persist(&known).map_err(|error| KbuildError::io("write", &known)(error.error))?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn filled() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        fs::write(directory.path().join("a/x"), "one").unwrap();
        fs::write(directory.path().join("a-x"), "").unwrap();
        symlink("a/x", directory.path().join("l")).unwrap();
        directory
    }

    #[test]
    fn copies_have_one_digest_and_every_change_another() {
        let original = digest(filled().path()).unwrap();
        assert_eq!(digest(filled().path()).unwrap(), original);
        type Change = (&'static str, fn(&Path));
        let changes: [Change; 7] = [
            ("content of the same length", |d| fs::write(d.join("a/x"), "two").unwrap()),
            ("a name", |d| fs::rename(d.join("a/x"), d.join("a/y")).unwrap()),
            ("a new file", |d| fs::write(d.join("b"), "").unwrap()),
            ("a new directory", |d| fs::create_dir(d.join("b")).unwrap()),
            ("a link's target", |d| {
                fs::remove_file(d.join("l")).unwrap();
                symlink("a/y", d.join("l")).unwrap();
            }),
            ("a link in place of a file", |d| {
                fs::remove_file(d.join("a-x")).unwrap();
                symlink("a/x", d.join("a-x")).unwrap();
            }),
            ("a program", |d| {
                fs::set_permissions(d.join("a-x"), fs::Permissions::from_mode(0o755)).unwrap();
            }),
        ];
        for (name, change) in changes {
            let directory = filled();
            let before = Fingerprint::of(directory.path()).unwrap();
            change(directory.path());
            assert_ne!(digest(directory.path()).unwrap(), original, "{name}");
            assert_ne!(Fingerprint::of(directory.path()).unwrap(), before, "{name}");
        }
        let directory = filled();
        fs::create_dir(directory.path().join(VERSION_CONTROL)).unwrap();
        assert_eq!(digest(directory.path()).unwrap(), original);
    }

    #[test]
    fn a_change_that_keeps_size_and_time_is_seen() {
        let (directory, cache) = (filled(), tempfile::tempdir().unwrap());
        let path = directory.path().join("a/x");
        let first = known_digest(directory.path(), cache.path()).unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let second = known_digest(directory.path(), cache.path()).unwrap();
        assert_ne!(first, second);
        assert_eq!(second, digest(directory.path()).unwrap());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = filled();
        let pipe = directory.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        assert!(matches!(digest(directory.path()), Err(KbuildError::Format { .. })));
    }
}
