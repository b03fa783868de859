//! The frame of a clear-signed text (RFC 4880, section 7), before any program looks at it.
//!
//! What is signed is read from what the verifying program wrote, never out of this file; but a file with something before,
//! between or behind the one text and its signatures is refused, since programs differ in what they make of that.

/// Longest `InRelease` that is read, in bytes. Debian's has 200 kB.
pub const MAX_BYTES: u64 = 16 << 20;

/// A text without signature, or with more than one text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame at all.
    #[error("it is not signed")]
    NotSigned,
    /// Something else than one text and its signatures.
    #[error("it is not one signed text and nothing else")]
    NotOneText,
}

/// Checks that a file is one signed text and nothing else.
pub fn check_frame(bytes: &[u8]) -> Result<(), FrameError> {
    const ARMOR: [&[u8]; 3] = [
        b"-----BEGIN PGP SIGNED MESSAGE-----",
        b"-----BEGIN PGP SIGNATURE-----",
        b"-----END PGP SIGNATURE-----",
    ];
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
    // Lines of the text that begin with a dash are escaped by another one and a space.
    let armor: Vec<&[u8]> = lines.iter().copied().filter(|line| line.starts_with(b"-----")).collect();
    if armor.is_empty() {
        return Err(FrameError::NotSigned);
    }
    let last = lines.iter().rev().find(|line| !line.is_empty());
    let framed = lines.first() == Some(&ARMOR[0]) && last == Some(&ARMOR[2]);
    if armor == ARMOR && framed && !bytes.contains(&0) { Ok(()) } else { Err(FrameError::NotOneText) }
}
