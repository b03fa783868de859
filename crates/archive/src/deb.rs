//! The kernel image in a binary package (deb(5)): an `ar` archive with a packed tar archive in it.
//!
//! Nothing is written anywhere, and no name in the archive becomes a path: the archive is read until `boot/vmlinuz-RELEASE`
//! comes, which is near its beginning.

use std::io::{self, Read};

use jiff::Timestamp;
use livepatch_types::KernelRelease;

use crate::unpack::{UnpackError, xz_reader};

/// Largest package that is read, in bytes. Kernels have 30 to 110 MB.
pub const MAX_DEB_BYTES: u64 = 512 << 20;

/// Largest kernel image in it, as packed by its build, in bytes. Kernels have 7 to 15 MB.
pub const MAX_IMAGE_BYTES: u64 = 128 << 20;

/// Most bytes of files that are passed over before the image comes.
const MAX_PASSED_BYTES: u64 = 2 << 30;

const AR_MAGIC: &[u8] = b"!<arch>\n";
const AR_HEADER_BYTES: usize = 60;
const TAR_BLOCK_BYTES: usize = 512;

/// Why a package has no kernel image that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DebError {
    /// No package.
    #[error("it is no debian package: {0}")]
    NotADeb(&'static str),
    /// A packing that is not read.
    #[error("its files are packed as {0:?}, which is not read")]
    Packing(String),
    /// The files' archive is damaged.
    #[error("its archive of files is damaged: {0}")]
    Damaged(String),
    /// No kernel in it.
    #[error("it has no boot/vmlinuz-RELEASE")]
    NoImage,
}

/// A kernel image as it is in its package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagedImage {
    /// The release that its name says.
    pub release: KernelRelease,
    /// When the file was last changed.
    pub modified: Timestamp,
    /// The image, `vmlinuz`.
    pub bytes: Vec<u8>,
}

/// The kernel image of a package.
pub fn kernel_image(deb: &[u8]) -> Result<PackagedImage, DebError> {
    let (name, data) = data_member(deb)?;
    let reader: Box<dyn Read + '_> = match name {
        "data.tar" => Box::new(data),
        "data.tar.xz" => Box::new(xz_reader(data).map_err(|error| match error {
            UnpackError::Corrupt(why) => DebError::Damaged(why),
            UnpackError::TooLarge(_) => DebError::Damaged("it is too large".into()),
        })?),
        "data.tar.zst" => Box::new(zstd::stream::read::Decoder::new(data).map_err(damaged)?),
        other => return Err(DebError::Packing(other.chars().take(16).collect())),
    };
    find_image(reader)
}

fn damaged(error: io::Error) -> DebError {
    DebError::Damaged(error.to_string())
}

/// Name and bytes of the member with the files (ar(5): name, times, owner, mode, length in decimal).
fn data_member(deb: &[u8]) -> Result<(&str, &[u8]), DebError> {
    let mut rest = deb.strip_prefix(AR_MAGIC).ok_or(DebError::NotADeb("it does not begin as one"))?;
    let broken = DebError::NotADeb("it is not all there");
    let mut first = true;
    while !rest.is_empty() {
        let (header, tail) = rest.split_at_checked(AR_HEADER_BYTES).ok_or(broken.clone())?;
        let text = std::str::from_utf8(header).ok().filter(|text| text.is_ascii() && text.ends_with("`\n"));
        let text = text.ok_or(broken.clone())?;
        let name = text[..16].trim_end().trim_end_matches('/');
        let length = text[48..58].trim_end().parse::<usize>().map_err(|_| broken.clone())?;
        let content = tail.get(..length).ok_or(broken.clone())?;
        match (first, name) {
            (true, "debian-binary") if content.starts_with(b"2.") => first = false,
            (true, _) => return Err(DebError::NotADeb("its format is not 2")),
            (false, name) if name.starts_with("data.tar") => return Ok((name, content)),
            (false, _) => {}
        }
        // Members begin at even offsets.
        rest = tail.get(length.next_multiple_of(2)..).unwrap_or_default();
    }
    Err(DebError::NotADeb("it has no archive of files"))
}

/// Reads a tar archive (the format `ustar` of POSIX) until the image comes.
fn find_image(mut reader: impl Read) -> Result<PackagedImage, DebError> {
    let mut passed = 0u64;
    loop {
        let mut block = [0; TAR_BLOCK_BYTES];
        reader.read_exact(&mut block).map_err(damaged)?;
        if block == [0; TAR_BLOCK_BYTES] {
            return Err(DebError::NoImage);
        }
        let header = TarHeader::parse(&block).ok_or_else(|| DebError::Damaged("a header is wrong".into()))?;
        if let Some(release) = header.release() {
            if header.size_bytes > MAX_IMAGE_BYTES {
                return Err(DebError::Damaged("the kernel image is larger than any should be".into()));
            }
            let mut bytes = Vec::new();
            reader.take(header.size_bytes).read_to_end(&mut bytes).map_err(damaged)?;
            if bytes.len() as u64 != header.size_bytes {
                return Err(DebError::Damaged("the kernel image is not all there".into()));
            }
            let modified = Timestamp::from_second(header.modified_seconds);
            let modified = modified.map_err(|_| DebError::Damaged("the kernel image has no time".into()))?;
            return Ok(PackagedImage { release, modified, bytes });
        }
        let padded = header.size_bytes.checked_next_multiple_of(TAR_BLOCK_BYTES as u64);
        let padded = padded.filter(|size| passed.saturating_add(*size) <= MAX_PASSED_BYTES);
        let padded = padded.ok_or_else(|| DebError::Damaged("the kernel image does not come".into()))?;
        passed += padded + TAR_BLOCK_BYTES as u64;
        let skipped = io::copy(&mut (&mut reader).take(padded), &mut io::sink()).map_err(damaged)?;
        if skipped != padded {
            return Err(DebError::Damaged("it is not all there".into()));
        }
    }
}

/// What is needed of a header.
struct TarHeader<'b> {
    name: &'b str,
    size_bytes: u64,
    modified_seconds: i64,
    is_file: bool,
}

impl<'b> TarHeader<'b> {
    fn parse(block: &'b [u8; TAR_BLOCK_BYTES]) -> Option<Self> {
        let octal = |field: &[u8]| {
            let text = std::str::from_utf8(field).ok()?;
            u64::from_str_radix(text.trim_matches([' ', '\0']), 8).ok()
        };
        // The sum of all bytes, those of the sum itself as spaces.
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        let own: u64 = block[148..156].iter().map(|&byte| u64::from(byte)).sum();
        if octal(&block[148..156])? != sum - own + 8 * u64::from(b' ') {
            return None;
        }
        let name = &block[..100];
        let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())];
        Some(Self {
            // Long names are in a record before; the image's is short.
            name: std::str::from_utf8(name).unwrap_or_default(),
            size_bytes: octal(&block[124..136])?,
            modified_seconds: i64::try_from(octal(&block[136..148])?).ok()?,
            is_file: matches!(block[156], b'0' | 0) && block[345] == 0,
        })
    }

    /// The release, when it is a kernel image.
    fn release(&self) -> Option<KernelRelease> {
        let name = self.name.strip_prefix("./").unwrap_or(self.name);
        let release = name.strip_prefix("boot/vmlinuz-").filter(|_| self.is_file)?;
        KernelRelease::parse(release).ok()
    }
}
