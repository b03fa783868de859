//! Variables of UEFI firmware, as efivarfs gives them: bytes to values.

/// Longest variable that is read, in bytes. A list of the machine owner's keys has some KiB; firmware stores have less than
/// this altogether.
pub const MAX_VARIABLE_BYTES: usize = 1 << 20;

/// `EFI_CERT_X509_GUID` as it lies in memory: a list of certificates (UEFI specification 2.10, 32.4.1).
const X509: [u8; 16] =
    [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
/// An `EFI_SIGNATURE_LIST` without header and entries: type, size of the list, of its header, of each entry.
const LIST_BYTES: usize = 28;
/// Each entry of a list begins with the GUID of its owner.
const OWNER_BYTES: usize = 16;

/// Why bytes are not lists of signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureListError {
    /// More than [`MAX_VARIABLE_BYTES`].
    #[error("there are more than {MAX_VARIABLE_BYTES} bytes")]
    TooLong,
    /// A list is longer than what is there.
    #[error("a list ends early")]
    Truncated,
    /// The sizes in a list contradict one another.
    #[error("the sizes in a list do not fit together")]
    Sizes,
}

/// The content of a variable: efivarfs puts its attributes, four bytes, in front (Documentation/filesystems/efivarfs.rst).
/// None when there are not even those.
pub fn efi_variable(file: &[u8]) -> Option<&[u8]> {
    file.split_first_chunk::<4>().map(|(_, content)| content)
}

/// A variable of one byte, as `SecureBoot` and `SetupMode` are: 0 or 1.
pub(crate) fn efi_switch(file: &[u8]) -> Option<bool> {
    match efi_variable(file)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

/// The certificates (DER) in lists of signatures, one list after the other: `db`, `MokListRT`, `MokNew`. Entries of other
/// types, such as digests, are passed over. What is returned lies in `lists`: nothing is copied.
pub fn efi_certificates(lists: &[u8]) -> Result<Vec<&[u8]>, SignatureListError> {
    if lists.len() > MAX_VARIABLE_BYTES {
        return Err(SignatureListError::TooLong);
    }
    let mut certificates = Vec::new();
    let mut rest = lists;
    while !rest.is_empty() {
        let head = rest.get(..LIST_BYTES).ok_or(SignatureListError::Truncated)?;
        let word = |at: usize| -> usize {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            u32::from_le_bytes(bytes) as usize
        };
        let (list_bytes, header_bytes, entry_bytes) = (word(16), word(20), word(24));
        let list = rest.get(..list_bytes).ok_or(SignatureListError::Truncated)?;
        let entries = list.get(LIST_BYTES..).and_then(|list| list.get(header_bytes..));
        let entries = entries.ok_or(SignatureListError::Sizes)?;
        if entry_bytes <= OWNER_BYTES || entries.len() % entry_bytes != 0 {
            return Err(SignatureListError::Sizes);
        }
        if head.starts_with(&X509) {
            certificates.extend(entries.chunks_exact(entry_bytes).map(|entry| &entry[OWNER_BYTES..]));
        }
        rest = &rest[list_bytes..];
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A list with these entries, which have one length.
    fn list(kind: &[u8; 16], header: &[u8], entries: &[&[u8]]) -> Vec<u8> {
        let entry_bytes = OWNER_BYTES + entries.first().map_or(1, |entry| entry.len());
        let list_bytes = LIST_BYTES + header.len() + entries.len() * entry_bytes;
        let mut out = kind.to_vec();
        for size in [list_bytes, header.len(), entry_bytes] {
            out.extend((size as u32).to_le_bytes());
        }
        out.extend(header);
        for entry in entries {
            out.extend([7; OWNER_BYTES]);
            out.extend(*entry);
        }
        out
    }

    #[test]
    fn certificates_are_found_among_lists() {
        let digests = list(&[1; 16], &[], &[&[9; 32], &[8; 32]]);
        let lists =
            [list(&X509, &[], &[b"one"]), digests, list(&X509, b"head", &[b"two!", b"four"])].concat();
        assert_eq!(efi_certificates(&lists), Ok(vec![&b"one"[..], b"two!", b"four"]));
        assert_eq!(efi_certificates(&[]), Ok(Vec::new()));
        assert_eq!(efi_certificates(&list(&X509, &[], &[])), Ok(Vec::new()));
    }

    #[test]
    fn lists_that_are_not_whole_are_refused() {
        let good = list(&X509, b"head", &[b"one"]);
        for cut in 1..good.len() {
            assert_eq!(efi_certificates(&good[..cut]), Err(SignatureListError::Truncated), "{cut}");
        }
        let with = |at: usize, value: u32| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            bytes
        };
        // Size of the list, of the header, of an entry.
        for (at, value, expected) in [
            (16, 0, SignatureListError::Sizes),
            (16, 27, SignatureListError::Sizes),
            (16, u32::MAX, SignatureListError::Truncated),
            (20, u32::MAX, SignatureListError::Sizes),
            (20, 5, SignatureListError::Sizes),
            (24, 0, SignatureListError::Sizes),
            (24, 16, SignatureListError::Sizes),
            (24, 18, SignatureListError::Sizes),
        ] {
            assert_eq!(efi_certificates(&with(at, value)), Err(expected), "{at} {value}");
        }
        assert_eq!(efi_certificates(&vec![0; MAX_VARIABLE_BYTES + 1]), Err(SignatureListError::TooLong));
    }

    #[test]
    fn attributes_come_first() {
        for (file, expected) in [
            (&[6, 0, 0, 0, 1][..], Some(true)),
            (&[6, 0, 0, 0, 0], Some(false)),
            (&[6, 0, 0, 0, 2], None),
            (&[6, 0, 0, 0], None),
            (&[6, 0, 0, 0, 1, 1], None),
            (&[1], None),
            (&[], None),
        ] {
            assert_eq!(efi_switch(file), expected, "{file:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_listed_is_read(entries in prop::collection::vec(any::<[u8; 5]>(), 1..5), lists in 1..4_usize) {
            let entries: Vec<&[u8]> = entries.iter().map(|entry| &entry[..]).collect();
            let bytes = list(&X509, &[], &entries).repeat(lists);
            prop_assert_eq!(efi_certificates(&bytes), Ok(entries.repeat(lists)));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = efi_certificates(&bytes);
            let _ = efi_certificates(&[&X509[..], &bytes].concat());
            let _ = efi_switch(&bytes);
        }
    }
}
