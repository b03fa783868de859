//! `struct module_signature` of include/linux/module_signature.h and the marker after it.

use crate::Error;

const MARKER: &[u8; 28] = b"~Module signature appended~\n";
const STRUCT_BYTES: usize = 12;
/// `PKEY_ID_PKCS7`, the only kind of signature that the kernel takes.
const ID_TYPE_PKCS7: u8 = 2;

/// Largest signature that is read, in bytes: RSA-4096 in the kernel's form takes about 700.
pub const MAX_SIGNATURE_BYTES: usize = 16 << 10;

/// A module taken apart; nothing is verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedModule<'a> {
    /// The module without signature: what is signed.
    pub content: &'a [u8],
    /// The CMS SignedData.
    pub signature_der: &'a [u8],
}

/// Takes a signed module apart.
pub fn split(module: &[u8]) -> Result<SignedModule<'_>, Error> {
    let malformed = |why: String| Error::Trailer(why);
    let rest = module.strip_suffix(MARKER.as_slice()).ok_or(Error::Unsigned)?;
    let (rest, fields) = rest
        .split_last_chunk::<STRUCT_BYTES>()
        .ok_or_else(|| malformed("there is nothing before the marker".into()))?;
    let [algo, hash, id_type, signer_len, key_id_len, pad @ .., l3, l2, l1, l0] = *fields;
    if id_type != ID_TYPE_PKCS7 {
        return Err(malformed(format!("its kind is {id_type} where {ID_TYPE_PKCS7} (PKCS#7) is expected")));
    }
    let pad: [u8; 3] = pad;
    if [algo, hash, signer_len, key_id_len] != [0; 4] || pad != [0; 3] {
        return Err(malformed("a field that must be 0 is not".into()));
    }
    let length = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
    if length == 0 || length > MAX_SIGNATURE_BYTES {
        return Err(malformed(format!(
            "the signature has {length} bytes where 1 to {MAX_SIGNATURE_BYTES} are allowed"
        )));
    }
    let at = rest.len().checked_sub(length).ok_or_else(|| {
        malformed(format!("the signature has {length} bytes where the file has {}", rest.len()))
    })?;
    let (content, signature_der) = rest.split_at(at);
    Ok(SignedModule { content, signature_der })
}

/// Appends a signature in the kernel's form. The caller sees to it that `content` is not signed already.
pub fn append(content: &[u8], signature_der: &[u8]) -> Vec<u8> {
    let length = u32::try_from(signature_der.len()).unwrap_or(u32::MAX); // split() refuses the absurd ones
    let mut out = Vec::with_capacity(content.len() + signature_der.len() + STRUCT_BYTES + MARKER.len());
    out.extend_from_slice(content);
    out.extend_from_slice(signature_der);
    out.extend_from_slice(&[0, 0, ID_TYPE_PKCS7, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(MARKER);
    out
}
