//! Reading files of a directory that others may have filled: no link leads out of it, nothing but a file is opened.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Whether links may be followed, as long as they stay inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    Followed,
    Refused,
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Inside {
    directory: OwnedFd,
}

impl Inside {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: openat(CWD, directory, flags, Mode::empty())? })
    }

    fn file(&self, path: &str, links: Links, flags: OFlags) -> io::Result<(File, Metadata)> {
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let resolve = match links {
            Links::Followed => within,
            Links::Refused => within | ResolveFlags::NO_SYMLINKS,
        };
        let file = openat2(&self.directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        let file = File::from(file);
        let metadata = file.metadata()?;
        if metadata.is_file() { Ok((file, metadata)) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Whether there is a file of this name, which may be a link to another one inside.
    pub(crate) fn is_file(&self, path: &str) -> bool {
        self.file(path, Links::Followed, OFlags::PATH).is_ok()
    }

    /// Reads a file.
    pub(crate) fn read(&self, path: &str, links: Links) -> io::Result<Vec<u8>> {
        // A pipe or device would otherwise wait for somebody, or act.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let (file, metadata) = self.file(path, links, flags)?;
        if metadata.len() > MAX_FILE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_is_read() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(outside.path(), "secret").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("a")).unwrap();
        std::fs::write(at("a/x.h"), "x").unwrap();
        symlink("a/x.h", at("link.h")).unwrap();
        symlink("a", at("b")).unwrap();
        symlink(outside.path(), at("absolute")).unwrap();
        symlink("/", at("root")).unwrap();
        symlink("../../../../../../../../etc/passwd", at("a/relative")).unwrap();
        symlink("/proc/self/fd/0", at("magic")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();

        let inside = Inside::open(directory.path()).unwrap();
        for name in ["a/x.h", "link.h", "b/x.h"] {
            assert!(inside.is_file(name) && inside.read(name, Links::Followed).unwrap() == b"x", "{name}");
        }
        assert!(inside.read("a/x.h", Links::Refused).is_ok());
        for name in ["link.h", "b/x.h"] {
            assert!(inside.read(name, Links::Refused).is_err(), "{name}");
        }
        for name in
            ["absolute", "root/etc/passwd", "a/relative", "magic", "pipe", "a", "../x", "/etc/passwd", ""]
        {
            assert!(!inside.is_file(name) && inside.read(name, Links::Followed).is_err(), "{name}");
        }
    }
}
