//! Unpacking with an end: of what is packed here, nothing gets larger than somebody said before.

use std::io::Read;

use liblzma::read::XzDecoder;
use liblzma::stream::Stream;

/// Memory for a dictionary, in bytes: `xz -9` takes 65 MiB.
const MAX_XZ_MEMORY_BYTES: u64 = 128 << 20;

/// Why bytes do not unpack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// They are no such stream, or damaged.
    #[error("it does not unpack: {0}")]
    Corrupt(String),
    /// There is more in it than was said.
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(u64),
}

/// A reader of what an xz stream holds.
pub(crate) fn xz_reader<R: Read>(packed: R) -> Result<XzDecoder<R>, UnpackError> {
    let stream = Stream::new_stream_decoder(MAX_XZ_MEMORY_BYTES, 0);
    let stream = stream.map_err(|error| UnpackError::Corrupt(error.to_string()))?;
    Ok(XzDecoder::new_stream(packed, stream))
}

/// Unpacks an xz stream to at most so many bytes; one byte more ends it.
pub fn unpack_xz(packed: &[u8], most_bytes: u64) -> Result<Vec<u8>, UnpackError> {
    let mut out = Vec::new();
    let read = xz_reader(packed)?.take(most_bytes.saturating_add(1)).read_to_end(&mut out);
    read.map_err(|error| UnpackError::Corrupt(error.to_string()))?;
    if out.len() as u64 > most_bytes { Err(UnpackError::TooLarge(most_bytes)) } else { Ok(out) }
}
