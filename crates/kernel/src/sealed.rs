use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// The bytes of a module in a memfd that nobody can change any more, this process included. They are verified through
/// [`SealedModule::bytes`] and loaded from the same descriptor, so that what was verified is what is loaded.
#[derive(Debug)]
pub struct SealedModule {
    file: File,
    bytes: Vec<u8>,
}

/// Why a module could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The source gave more bytes than allowed.
    #[error("the module is longer than the {0} bytes that are allowed")]
    TooLong(u64),
    /// Reading the source or writing the memfd failed.
    #[error("cannot read the module into memory: {0}")]
    Io(#[from] std::io::Error),
}

impl SealedModule {
    /// Copies at most `max_bytes` from `source` into a memfd, seals it, and reads it back.
    pub fn from_reader(source: impl Read, max_bytes: u64) -> Result<Self, SealError> {
        let mut file = create_memfd()?;
        let copied = std::io::copy(&mut source.take(max_bytes.saturating_add(1)), &mut file)?;
        if copied > max_bytes {
            return Err(SealError::TooLong(max_bytes));
        }
        file.flush()?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(std::io::Error::from)?;
        // Read back after sealing: from here on these are the bytes behind the descriptor.
        let mut bytes = vec![0; usize::try_from(copied).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Self { file, bytes })
    }

    /// The sealed bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsFd for SealedModule {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn create_memfd() -> Result<File, std::io::Error> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels from 6.3 on may demand NOEXEC_SEAL (vm.memfd_noexec); older ones do not know it.
    let fd = match rustix::fs::memfd_create("livepatch-module", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("livepatch-module", flags),
        other => other,
    };
    Ok(File::from(fd?))
}
