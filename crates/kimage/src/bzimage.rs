//! The x86 boot protocol's image (Documentation/arch/x86/boot.rst): offsets are those of its header.

use std::io::Read as _;

use livepatch_types::KernelRelease;

use crate::{ImageError, MAX_IMAGE_BYTES};

pub(crate) struct Unpacked {
    pub(crate) release: Option<KernelRelease>,
    pub(crate) vmlinux: Vec<u8>,
}

pub(crate) fn unpack(bytes: &[u8]) -> Result<Unpacked, ImageError> {
    let short = ImageError::NotABzImage("the file is too short");
    if bytes.get(0x202..0x206).ok_or(short.clone())? != b"HdrS" {
        return Err(ImageError::NotABzImage("the boot header HdrS is missing"));
    }
    let word =
        |at: usize| -> Option<u32> { Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
    let version = bytes.get(0x206..0x208).map(|v| u16::from_le_bytes([v[0], v[1]])).ok_or(short.clone())?;
    if version < 0x208 {
        return Err(ImageError::NotABzImage(
            "its boot protocol is older than 2.08 and does not say where the payload is",
        ));
    }
    // "If this value is 0, the real value is 4."
    let setup_sectors = match bytes.get(0x1f1).copied().ok_or(short.clone())? {
        0 => 4,
        n => usize::from(n),
    };
    let offset = word(0x248).ok_or(short.clone())? as usize;
    let length = word(0x24c).ok_or(short.clone())? as usize;
    let start = ((setup_sectors + 1) * 512).checked_add(offset).ok_or(short.clone())?;
    let payload = start
        .checked_add(length)
        .and_then(|end| bytes.get(start..end))
        .ok_or(ImageError::NotABzImage("the payload lies outside the file"))?;
    let vmlinux = decompress(payload)?;
    if !vmlinux.starts_with(b"\x7fELF") {
        return Err(ImageError::Corrupt("the payload is not an ELF file".into()));
    }
    Ok(Unpacked { release: release(bytes), vmlinux })
}

/// `kernel_version` points, less 0x200, to a string whose first word is the release.
fn release(bytes: &[u8]) -> Option<KernelRelease> {
    let pointer = usize::from(u16::from_le_bytes(bytes.get(0x20e..0x210)?.try_into().ok()?));
    let text = bytes.get(pointer + 0x200..)?;
    let text = text.get(..text.iter().take(512).position(|&b| b == 0)?)?;
    KernelRelease::parse(std::str::from_utf8(text).ok()?.split(' ').next()?).ok()
}

/// The payload is what `cmd_lz4`, `cmd_xzkern` or `cmd_zstd22` of scripts/Makefile.lib made: the stream and, but for
/// xz, four bytes of uncompressed size after it.
fn decompress(payload: &[u8]) -> Result<Vec<u8>, ImageError> {
    let corrupt = |error: std::io::Error| ImageError::Corrupt(error.to_string());
    let without_size = payload.get(..payload.len().saturating_sub(4)).unwrap_or_default();
    match payload {
        [0x02, 0x21, 0x4c, 0x18, ..] => lz4_legacy(&without_size[4..]),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            read_capped(liblzma::read::XzDecoder::new(payload)).map_err(corrupt)
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::stream::read::Decoder::new(without_size).map_err(corrupt)?;
            read_capped(decoder.single_frame()).map_err(corrupt)
        }
        [0x1f, 0x8b, ..] => Err(ImageError::Compression("gzip".into())),
        [b'B', b'Z', b'h', ..] => Err(ImageError::Compression("bzip2".into())),
        [0x89, b'L', b'Z', b'O', ..] => Err(ImageError::Compression("lzo".into())),
        [0x5d, 0, 0, ..] => Err(ImageError::Compression("lzma".into())),
        [0x7f, b'E', b'L', b'F', ..] => Ok(payload.to_vec()),
        _ => Err(ImageError::Compression("an unknown method".into())),
    }
}

fn read_capped(reader: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(MAX_IMAGE_BYTES as u64 + 1).read_to_end(&mut out)?;
    if out.len() > MAX_IMAGE_BYTES {
        return Err(std::io::Error::other("it is larger than any kernel should be"));
    }
    Ok(out)
}

/// The legacy frame of `lz4 -l`: blocks of at most 8 MiB, each after its packed length.
fn lz4_legacy(mut rest: &[u8]) -> Result<Vec<u8>, ImageError> {
    const BLOCK: usize = 8 << 20;
    let corrupt = |why: &str| ImageError::Corrupt(why.to_owned());
    let mut out = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let block = tail.get(..length).ok_or_else(|| corrupt("an lz4 block ends outside the file"))?;
        let start = out.len();
        if start + BLOCK > MAX_IMAGE_BYTES {
            return Err(corrupt("it is larger than any kernel should be"));
        }
        out.resize(start + BLOCK, 0);
        let written = lz4_flex::block::decompress_into(block, &mut out[start..])
            .map_err(|error| ImageError::Corrupt(error.to_string()))?;
        out.truncate(start + written);
        rest = &tail[length..];
    }
    Ok(out)
}
