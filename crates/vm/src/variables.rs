//! The firmware's variables, as OVMF keeps them in flash memory.
//!
//! Secure Boot is on as soon as there is a platform key (UEFI specification 2.10, 32.3). The store's layout is that of EDK
//! II's `VariableFormat.h`: a header, then variables one after the other up to the first that is erased flash.

/// `gEfiAuthenticatedVariableGuid`: a store whose variables have the header that is written here.
const AUTHENTICATED_STORE: Guid =
    guid(0xaaf3_2c78, 0x947b, 0x439a, [0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92]);
/// `EFI_GLOBAL_VARIABLE`: whose `PK` and `KEK` are.
pub(crate) const GLOBAL: Guid =
    guid(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`: whose `db` is.
pub(crate) const SECURITY: Guid =
    guid(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
/// `SHIM_LOCK_GUID`: whose `MokListRT` is. Here also the owner of every certificate, which nobody looks at.
pub(crate) const SHIM: Guid =
    guid(0x605d_ab50, 0xe046, 0x4300, [0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23]);
/// `EFI_CERT_X509_GUID`: a list of certificates.
const X509: Guid = guid(0xa5c0_59a1, 0x94e4, 0x4aa7, [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72]);

/// Kept without power, and readable before and after the operating system has taken over.
pub(crate) const KEPT: u32 = 0x1 | 0x2 | 0x4;
/// Changed only with a signature that has a date.
pub(crate) const AUTHENTICATED: u32 = 0x20;

/// A GUID as UEFI writes it.
pub(crate) type Guid = [u8; 16];

const fn guid(first: u32, second: u16, third: u16, rest: [u8; 8]) -> Guid {
    let ([a, b, c, d], [e, f], [g, h]) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
    let [i, j, k, l, m, n, o, p] = rest;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// A variable with certificates, each in DER.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variable<'a> {
    name: &'a str,
    vendor: Guid,
    attributes: u32,
    certificates: &'a [Vec<u8>],
}

impl<'a> Variable<'a> {
    pub(crate) fn new(name: &'a str, vendor: Guid, attributes: u32, certificates: &'a [Vec<u8>]) -> Self {
        Self { name, vendor, attributes, certificates }
    }

    /// As it is in the store, up to where the next one begins; without certificates there is no variable.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        /// `EFI_TIME`: 1 January 2020. Any later signature may replace the variable.
        const WRITTEN: [u8; 16] = [0xe4, 0x07, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        if self.certificates.is_empty() {
            return Vec::new();
        }
        let name = self.encoded_name();
        let data: Vec<u8> =
            self.certificates.iter().flat_map(|certificate| signature_list(certificate)).collect();
        let mut variable = BEGINS.to_vec();
        variable.extend([COMPLETE, 0]);
        variable.extend(self.attributes.to_le_bytes());
        variable.extend([0; 8]); // a counter of another kind of authentication
        variable.extend(WRITTEN);
        variable.extend([0; 4]); // an index of keys of that kind
        variable.extend((name.len() as u32).to_le_bytes());
        variable.extend((data.len() as u32).to_le_bytes());
        variable.extend(self.vendor);
        variable.extend(name);
        variable.extend(data);
        variable.resize(variable.len().next_multiple_of(4), 0xff);
        variable
    }

    /// UTF-16 with a zero at the end.
    fn encoded_name(&self) -> Vec<u8> {
        self.name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }
}

/// How a variable begins.
const BEGINS: [u8; 2] = [0xaa, 0x55];
/// State of a variable that is written and not deleted.
const COMPLETE: u8 = 0x3f;
/// Bytes from where a variable begins to its name.
const HEADER: usize = 60;

/// An `EFI_SIGNATURE_LIST` of one certificate: all in a list have the same length, so each has its own.
fn signature_list(certificate: &[u8]) -> Vec<u8> {
    let signature = (16 + certificate.len()) as u32;
    let mut list = X509.to_vec();
    list.extend((28 + signature).to_le_bytes()); // of the list
    list.extend(0_u32.to_le_bytes()); // of a header, which certificates have not
    list.extend(signature.to_le_bytes());
    list.extend(SHIM);
    list.extend(certificate);
    list
}

/// The flash memory with these variables in its store, after those that are there. An error is what is to be said of the
/// store: that it is none, that it has such a variable, or that it is full.
pub(crate) fn added(mut flash: Vec<u8>, more: &[Variable<'_>]) -> Result<Vec<u8>, String> {
    let space = store(&mut flash).ok_or("is not a variable store")?;
    let mut end = 0;
    while space.get(end..end + 2) == Some(&BEGINS) {
        let (present, next) = present(space, end).ok_or("has a variable that does not end")?;
        if let Some(double) = more.iter().find(|variable| present.is(variable)) {
            return Err(format!("has a variable {} already", double.name));
        }
        end = next;
    }
    let bytes: Vec<u8> = more.iter().flat_map(Variable::bytes).collect();
    let free = &mut space[end..];
    if free.iter().any(|byte| *byte != 0xff) {
        return Err("is not a variable store".into());
    }
    let place = free.get_mut(..bytes.len());
    place.ok_or_else(|| format!("has no room for {} bytes of keys", bytes.len()))?.copy_from_slice(&bytes);
    Ok(flash)
}

/// The part of the flash memory that is for variables.
fn store(flash: &mut [u8]) -> Option<&mut [u8]> {
    // A firmware volume says at 48 how long its own header is. That of the store is its GUID, its size, and 8 bytes.
    let header = usize::from(u16::from_le_bytes(flash.get(48..50)?.try_into().ok()?));
    if flash.get(header..header + 16)? != AUTHENTICATED_STORE {
        return None;
    }
    let size = word(flash, header + 16)?;
    flash.get_mut(header + 28..header.checked_add(size)?)
}

/// A variable that is in a store.
struct Present<'a> {
    state: u8,
    vendor: &'a [u8],
    name: &'a [u8],
}

impl Present<'_> {
    fn is(&self, variable: &Variable<'_>) -> bool {
        self.state == COMPLETE && self.vendor == variable.vendor && self.name == variable.encoded_name()
    }
}

/// The variable that begins here, and where the next one does.
fn present(space: &[u8], at: usize) -> Option<(Present<'_>, usize)> {
    let (name_length, data_length) = (word(space, at + 36)?, word(space, at + 40)?);
    let name_end = (at + HEADER).checked_add(name_length)?;
    let next = name_end.checked_add(data_length)?.checked_next_multiple_of(4)?;
    let name = space.get(at + HEADER..name_end)?;
    space.get(..next)?;
    Some((Present { state: space[at + 2], vendor: &space[at + 44..at + HEADER], name }, next))
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flash memory with an empty store of this many bytes, and something else behind it.
    fn flash(size: u32) -> Vec<u8> {
        let mut flash = vec![0; 72];
        flash[48] = 72;
        flash.extend(AUTHENTICATED_STORE);
        flash.extend((28 + size).to_le_bytes());
        flash.extend([0x5a, 0xfe, 0, 0, 0, 0, 0, 0]);
        flash.resize(flash.len() + size as usize, 0xff);
        flash.extend([7; 10]);
        flash
    }

    #[test]
    fn guids_are_written_as_uefi_does() {
        assert_eq!(GLOBAL[..8], [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11]);
    }

    #[test]
    fn a_variable_has_its_name_and_each_certificate_in_a_list() {
        let certificates = [vec![1; 5], vec![2; 6]];
        let variable = Variable::new("db", SECURITY, KEPT | AUTHENTICATED, &certificates).bytes();
        assert_eq!(variable[..8], [0xaa, 0x55, 0x3f, 0, 0x27, 0, 0, 0]);
        assert_eq!(variable[36..44], [6, 0, 0, 0, 44 + 5 + 44 + 6, 0, 0, 0]);
        assert_eq!(variable[44..60], SECURITY);
        assert_eq!(variable[60..66], *b"d\0b\0\0\0");
        let (first, second) = variable[66..].split_at(49);
        assert_eq!(first, signature_list(&[1; 5]));
        assert_eq!(second[16..28], [50, 0, 0, 0, 0, 0, 0, 0, 22, 0, 0, 0]);
        assert_eq!(second[44..], [2, 2, 2, 2, 2, 2, 0xff, 0xff, 0xff], "up to where the next may begin");
    }

    #[test]
    fn variables_come_after_those_that_are_there() {
        let certificates = [vec![1; 5]];
        let [db, owner] = ["db", "MokList"].map(|name| Variable::new(name, SHIM, KEPT, &certificates));
        let (first, second) = (db.bytes(), owner.bytes());
        let full = (first.len() + second.len()) as u32;
        let one = added(flash(full), &[db]).unwrap();
        assert_eq!(one[..100], flash(full)[..100]);
        assert_eq!(one[100..100 + first.len()], first);
        let two = added(one.clone(), &[owner]).unwrap();
        assert_eq!(two[100..], [&first[..], &second, &[7; 10]].concat());
        assert_eq!(added(flash(full), &[db, owner]).unwrap(), two, "together or one after the other");
        assert_eq!(added(one.clone(), &[owner, db]).unwrap_err(), "has a variable db already");
        let of_another = Variable { vendor: GLOBAL, ..db };
        assert!(added(one, &[of_another]).is_ok(), "a name is one vendor's");
        let small = added(flash(full - 4), &[db, owner]).unwrap_err();
        assert_eq!(small, format!("has no room for {full} bytes of keys"));
    }

    #[test]
    fn a_deleted_variable_may_come_again() {
        let certificates = [vec![1; 5]];
        let owner = Variable::new("MokList", SHIM, KEPT, &certificates);
        let mut deleted = added(flash(500), &[owner]).unwrap();
        deleted[102] = 0x3c;
        assert!(added(deleted, &[owner]).is_ok());
    }

    #[test]
    fn what_is_no_store_is_refused() {
        let whole = flash(8);
        let mut used = whole.clone();
        used[101] = 1;
        for odd in [used, whole[..107].to_vec(), whole[..90].to_vec(), vec![0; 100], vec![]] {
            assert_eq!(added(odd, &[]).unwrap_err(), "is not a variable store");
        }
        let certificates = [vec![1; 5]];
        let owner = Variable::new("MokList", SHIM, KEPT, &certificates);
        let mut endless = added(flash(500), &[owner]).unwrap();
        for length in [136, 140] {
            let kept = endless.clone();
            endless[length..length + 4].fill(0xff);
            assert_eq!(added(endless, &[]).unwrap_err(), "has a variable that does not end");
            endless = kept;
        }
    }

    #[test]
    fn the_stores_of_the_package_can_be_read() {
        let certificates = [vec![1; 5]];
        let owner = Variable::new("MokList", SHIM, KEPT, &certificates);
        let key = Variable::new("PK", GLOBAL, KEPT | AUTHENTICATED, &certificates);
        let Ok(flash) = std::fs::read("/usr/share/OVMF/OVMF_VARS_4M.ms.fd") else {
            crate::testing::skipped("ovmf is not installed");
            return;
        };
        assert!(added(flash.clone(), &[owner]).is_ok());
        assert_eq!(added(flash, &[owner, key]).unwrap_err(), "has a variable PK already");
    }
}
