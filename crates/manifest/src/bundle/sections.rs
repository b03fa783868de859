use super::{BundleError, ENTRY_BYTES, FORMAT_VERSION, HEADER_BYTES, MAGIC, SECTIONS};

/// The sections as they lie in a bundle: nothing is copied, nothing in them is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sections<'b> {
    /// The manifest: what the signature is over.
    pub manifest: &'b [u8],
    /// The module.
    pub module: &'b [u8],
    /// The signature.
    pub signature: Option<&'b [u8]>,
    /// The build report.
    pub report: Option<&'b [u8]>,
    /// The source patches.
    pub sources: Option<&'b [u8]>,
    /// The proof.
    pub proof: Option<&'b [u8]>,
    /// The vendor's metadata.
    pub vendor: Option<&'b [u8]>,
    /// The proof that it is in a transparency log.
    pub logged: Option<&'b [u8]>,
}

impl<'b> Sections<'b> {
    /// Finds the sections of a bundle; checks structure and caps alone.
    pub fn read(bytes: &'b [u8]) -> Result<Self, BundleError> {
        let word = |at: usize| -> Option<u32> {
            bytes.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(u32::from_le_bytes)
        };
        let long = |at: usize| -> Option<u64> {
            bytes.get(at..at + 8).and_then(|b| <[u8; 8]>::try_from(b).ok()).map(u64::from_le_bytes)
        };
        let short = || BundleError::Length { declared: HEADER_BYTES as u64, actual: bytes.len() as u64 };
        if bytes.get(..8) != Some(MAGIC.as_slice()) {
            return Err(BundleError::NotABundle);
        }
        let format = word(8).ok_or_else(short)?;
        if format != FORMAT_VERSION {
            return Err(BundleError::Format(format));
        }
        let count = word(12).ok_or_else(short)? as usize;
        if count > SECTIONS.len() {
            return Err(BundleError::Table(format!(
                "{count} sections where at most {} exist",
                SECTIONS.len()
            )));
        }
        let mut offset = HEADER_BYTES + count * ENTRY_BYTES;
        let mut parts: [Option<&[u8]>; SECTIONS.len()] = [None; SECTIONS.len()];
        let mut previous = 0;
        for index in 0..count {
            let at = HEADER_BYTES + index * ENTRY_BYTES;
            let (Some(kind), Some(reserved), Some(length)) = (word(at), word(at + 4), long(at + 8)) else {
                return Err(BundleError::Length { declared: offset as u64, actual: bytes.len() as u64 });
            };
            let Some(slot) = SECTIONS.iter().position(|(known, _, _)| *known == kind) else {
                return Err(BundleError::Table(format!("unknown section kind {kind}")));
            };
            let (_, name, cap) = SECTIONS[slot];
            if kind <= previous {
                return Err(BundleError::Table(format!("section {name} is out of order or there twice")));
            }
            if reserved != 0 {
                return Err(BundleError::Table(format!("a reserved field of section {name} is not 0")));
            }
            if length > cap {
                return Err(BundleError::Table(format!(
                    "section {name} has {length} bytes where {cap} are allowed"
                )));
            }
            let end = offset + length as usize;
            parts[slot] = Some(
                bytes
                    .get(offset..end)
                    .ok_or(BundleError::Length { declared: end as u64, actual: bytes.len() as u64 })?,
            );
            (offset, previous) = (end, kind);
        }
        if offset != bytes.len() {
            return Err(BundleError::Length { declared: offset as u64, actual: bytes.len() as u64 });
        }
        let [Some(manifest), Some(module), signature, report, sources, proof, vendor, logged] = parts else {
            return Err(BundleError::Table("manifest or module is missing".into()));
        };
        Ok(Self { manifest, module, signature, report, sources, proof, vendor, logged })
    }
}
