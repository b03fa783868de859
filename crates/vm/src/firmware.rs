//! What starts the kernel: QEMU's BIOS, or UEFI firmware with Secure Boot on and keys of the caller's choice.
//!
//! The firmware is OVMF, as Debian packages it. It keeps its variables in flash memory, whose first content this module
//! makes: the empty store of the package, followed by the variables. Secure Boot is on as soon as there is a platform key
//! (UEFI specification 2.10, 32.3). The store's layout is that of EDK II's `VariableFormat.h`: a header, then variables one
//! after the other up to the first that is erased flash.

use std::ffi::OsString;
use std::path::Path;

use crate::VmError;

/// The firmware's code. It takes variables from the operating system only in system management mode, so that a kernel
/// cannot write the keys.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// A variable store without variables.
const EMPTY_STORE: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// `gEfiAuthenticatedVariableGuid`: a store whose variables have the header that is written here.
const AUTHENTICATED_STORE: Guid =
    guid(0xaaf3_2c78, 0x947b, 0x439a, [0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92]);
/// `EFI_GLOBAL_VARIABLE`: whose `PK` and `KEK` are.
const GLOBAL: Guid = guid(0x8be4_df61, 0x93ca, 0x11d2, [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
/// `EFI_IMAGE_SECURITY_DATABASE_GUID`: whose `db` is.
const SECURITY: Guid = guid(0xd719_b2cb, 0x3d3a, 0x4596, [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
/// `SHIM_LOCK_GUID`: whose `MokListRT` is. Here also the owner of every certificate, which nobody looks at.
const SHIM: Guid = guid(0x605d_ab50, 0xe046, 0x4300, [0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23]);
/// `EFI_CERT_X509_GUID`: a list of certificates.
const X509: Guid = guid(0xa5c0_59a1, 0x94e4, 0x4aa7, [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72]);

/// Kept without power, and readable before and after the operating system has taken over.
const KEPT: u32 = 0x1 | 0x2 | 0x4;
/// Changed only with a signature that has a date.
const AUTHENTICATED: u32 = 0x20;

/// What starts the kernel.
#[derive(Debug, Clone, Default)]
pub enum Firmware {
    /// QEMU's own, which asks for no keys.
    #[default]
    Bios,
    /// UEFI firmware with Secure Boot on, which the kernel finds on and locks itself down.
    ///
    /// The firmware does not verify the kernel, which QEMU hands to it past its boot manager: what is tested with this is
    /// what a kernel does that was started so, and not who may start it.
    SecureBoot(SecureBootKeys),
}

/// Certificates in the firmware's variables, each in DER.
#[derive(Debug, Clone, Default)]
pub struct SecureBootKeys {
    /// Of the machine's owner: the platform key, and the key that may change `db`. A kernel trusts no module by it.
    pub platform: Vec<u8>,
    /// `db`: whose programs the firmware starts.
    pub db: Vec<Vec<u8>>,
    /// What `mokutil --import` enrols, in the variable `MokListRT` in which shim hands it to the kernel. There is no shim:
    /// the variable is there from the start.
    pub machine_owner: Vec<Vec<u8>>,
    /// What `mokutil --import` asks for, in the variable `MokNew`, and nobody has confirmed yet.
    pub requested: Vec<Vec<u8>>,
}

impl Firmware {
    /// QEMU's arguments, `-machine` among them; writes into `directory` what they name.
    pub(crate) fn arguments(&self, directory: &Path) -> Result<Vec<OsString>, VmError> {
        let Self::SecureBoot(keys) = self else {
            return Ok(["-machine", "q35"].map(OsString::from).into());
        };
        let empty = std::fs::read(EMPTY_STORE).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => VmError::MissingProgram { program: "ovmf".into() },
            _ => VmError::io(format!("read {EMPTY_STORE}"), error),
        })?;
        let store = directory.join("variables");
        std::fs::write(&store, filled(empty, &keys.variables())?)
            .map_err(|e| VmError::io("write the firmware's variables", e))?;
        let store = store.to_string_lossy().replace(',', ",,");
        Ok([
            "-machine",
            "q35,smm=on",
            "-global",
            "driver=cfi.pflash01,property=secure,value=on",
            "-drive",
            &format!("if=pflash,unit=0,format=raw,readonly=on,file={CODE}"),
            "-drive",
            &format!("if=pflash,unit=1,format=raw,file={store}"),
        ]
        .map(OsString::from)
        .into())
    }
}

impl SecureBootKeys {
    /// All variables, one after the other.
    fn variables(&self) -> Vec<u8> {
        let platform = std::slice::from_ref(&self.platform);
        [
            variable("PK", GLOBAL, KEPT | AUTHENTICATED, platform),
            variable("KEK", GLOBAL, KEPT | AUTHENTICATED, platform),
            variable("db", SECURITY, KEPT | AUTHENTICATED, &self.db),
            variable("MokListRT", SHIM, KEPT, &self.machine_owner),
            variable("MokNew", SHIM, KEPT, &self.requested),
        ]
        .concat()
    }
}

/// A GUID as UEFI writes it.
type Guid = [u8; 16];

const fn guid(first: u32, second: u16, third: u16, rest: [u8; 8]) -> Guid {
    let ([a, b, c, d], [e, f], [g, h]) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
    let [i, j, k, l, m, n, o, p] = rest;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// A variable with certificates, up to where the next one begins; without certificates there is no variable.
fn variable(name: &str, vendor: Guid, attributes: u32, certificates: &[Vec<u8>]) -> Vec<u8> {
    /// `EFI_TIME`: 1 January 2020. Any later signature may replace the variable.
    const WRITTEN: [u8; 16] = [0xe4, 0x07, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if certificates.is_empty() {
        return Vec::new();
    }
    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let data: Vec<u8> = certificates.iter().flat_map(|certificate| signature_list(certificate)).collect();
    let mut variable = vec![0xaa, 0x55]; // that one begins
    variable.extend([0x3f, 0]); // complete and not deleted
    variable.extend(attributes.to_le_bytes());
    variable.extend([0; 8]); // a counter of another kind of authentication
    variable.extend(WRITTEN);
    variable.extend([0; 4]); // an index of keys of that kind
    variable.extend((name.len() as u32).to_le_bytes());
    variable.extend((data.len() as u32).to_le_bytes());
    variable.extend(vendor);
    variable.extend(name);
    variable.extend(data);
    variable.resize(variable.len().next_multiple_of(4), 0xff);
    variable
}

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

/// The flash memory with these variables in its store, which must be empty.
fn filled(mut flash: Vec<u8>, variables: &[u8]) -> Result<Vec<u8>, VmError> {
    let refused = || VmError::Invalid(format!("{EMPTY_STORE} is not an empty variable store"));
    // A firmware volume says at 48 how long its own header is. That of the store is its GUID, its size, and 8 bytes.
    let volume_header = flash.get(48..50).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes);
    let header = usize::from(volume_header.ok_or_else(refused)?);
    if flash.get(header..header + 16) != Some(AUTHENTICATED_STORE.as_slice()) {
        return Err(refused());
    }
    let size = flash.get(header + 16..header + 20).and_then(|bytes| bytes.try_into().ok());
    let size = size.map(u32::from_le_bytes).ok_or_else(refused)? as usize;
    let space = flash.get_mut(header + 28..header + size).ok_or_else(refused)?;
    if space.iter().any(|byte| *byte != 0xff) {
        return Err(refused());
    }
    let place = space.get_mut(..variables.len()).ok_or_else(|| {
        VmError::Invalid(format!("{} bytes of keys are too many for the firmware", variables.len()))
    })?;
    place.copy_from_slice(variables);
    Ok(flash)
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
        let variable = variable("db", SECURITY, KEPT | AUTHENTICATED, &[vec![1; 5], vec![2; 6]]);
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
    fn without_certificates_there_is_no_variable() {
        let keys = SecureBootKeys { platform: vec![1; 5], ..SecureBootKeys::default() };
        let names = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let variables = keys.variables();
        let has = |name: &str| variables.windows(2 * name.len()).any(|bytes| bytes == names(name));
        assert_eq!(["PK", "KEK", "db", "MokListRT"].map(has), [true, true, false, false]);
    }

    #[test]
    fn variables_are_put_into_an_empty_store_and_nowhere_else() {
        let filled_flash = filled(flash(8), &[1, 2, 3, 4]).unwrap();
        assert_eq!(filled_flash[..100], flash(8)[..100]);
        assert_eq!(filled_flash[100..108], [1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(filled_flash[108..], [7; 10]);
        let error = filled(flash(8), &[0; 9]).unwrap_err();
        assert_eq!(error.to_string(), "9 bytes of keys are too many for the firmware");
        for odd in [filled_flash, flash(8)[..107].to_vec(), flash(8)[..90].to_vec(), vec![0; 100], vec![]] {
            let error = filled(odd, &[1]).unwrap_err();
            assert!(error.to_string().ends_with("is not an empty variable store"), "{error}");
        }
    }
}
