//! Floor 1: a kernel image as its distribution ships it, read without debug packages.
//!
//! `vmlinuz` → payload → vmlinux ELF → build-id, sections by address, and the symbol table that the kernel itself
//! resolves livepatches against (kallsyms). Pure: bytes in, values out; no bytes make it panic or allocate beyond
//! [`MAX_IMAGE_BYTES`].

mod bzimage;
mod elf;
pub mod kallsyms;

use livepatch_types::{BuildId, KernelRelease};

pub use elf::{NoteError, gnu_build_id};
pub use kallsyms::{KernelSymbol, SymbolTable};

/// Largest uncompressed kernel that is read, in bytes. Debian's generic kernel has about 60 MiB.
pub const MAX_IMAGE_BYTES: usize = 256 << 20;

/// Why bytes are not a kernel image that can be worked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Not an x86 bzImage.
    #[error("not an x86 kernel image: {0}")]
    NotABzImage(&'static str),
    /// A compression that is not read.
    #[error("the kernel image is packed with {0}, which is not read")]
    Compression(String),
    /// The payload does not unpack.
    #[error("the kernel image does not unpack: {0}")]
    Corrupt(String),
    /// The vmlinux inside is not a sound ELF file.
    #[error("the vmlinux inside the kernel image is damaged: {0}")]
    Elf(String),
    /// No build-id: such a kernel cannot be told from another.
    #[error("the kernel has no gnu build-id")]
    NoBuildId,
    /// No kallsyms, or in a layout that is not known.
    #[error("the kernel's symbol table (kallsyms) was not found: {0}")]
    Kallsyms(String),
}

/// A section of vmlinux that has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSection {
    /// Name, such as `.text`.
    pub name: String,
    /// Link-time virtual address.
    pub address: u64,
    /// Length in memory, in bytes.
    pub size: u64,
    /// Whether it is executable.
    pub is_code: bool,
    /// Where its bytes are in the ELF file; none for `.bss`.
    file_offset: Option<usize>,
}

/// An uncompressed kernel with its identity and symbols.
#[derive(Debug, Clone)]
pub struct KernelImage {
    /// `uname -r`, from the boot header; none for a bare vmlinux.
    pub release: Option<KernelRelease>,
    /// GNU build-id of vmlinux.
    pub build_id: BuildId,
    /// The sections that have addresses.
    pub sections: Vec<ImageSection>,
    /// kallsyms, in the kernel's order.
    pub symbols: SymbolTable,
    elf: Vec<u8>,
}

/// A kernel image unpacked and told from others, without its symbols.
#[derive(Debug, Clone)]
pub struct IdentifiedImage {
    /// `uname -r`, from the boot header; none for a bare vmlinux.
    pub release: Option<KernelRelease>,
    /// GNU build-id of vmlinux.
    pub build_id: BuildId,
    /// The kernel unpacked.
    pub vmlinux: Vec<u8>,
}

impl IdentifiedImage {
    /// Reads a bzImage (`vmlinuz`) or a bare vmlinux.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let (release, vmlinux) = if bytes.starts_with(b"\x7fELF") {
            (None, bytes.to_vec())
        } else {
            let image = bzimage::unpack(bytes)?;
            (image.release, image.vmlinux)
        };
        Ok(Self { release, build_id: elf::kernel_build_id(&vmlinux)?, vmlinux })
    }

    /// Finds the symbols as well.
    pub fn with_symbols(self) -> Result<KernelImage, ImageError> {
        let Self { release, build_id, vmlinux: elf } = self;
        let sections = elf::sections(&elf)?;
        let symbols = kallsyms::find(&elf, &sections)?;
        Ok(KernelImage { release, build_id, sections, symbols, elf })
    }
}

impl KernelImage {
    /// Reads a bzImage (`vmlinuz`) or a bare vmlinux.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        IdentifiedImage::parse(bytes)?.with_symbols()
    }

    /// `length` bytes at a link-time address; none when they are not all in one section of the file.
    pub fn bytes_at(&self, address: u64, length: usize) -> Option<&[u8]> {
        let section = self.section_at(address)?;
        let within = address - section.address;
        if within.checked_add(length as u64)? > section.size {
            return None;
        }
        let start = section.file_offset?.checked_add(usize::try_from(within).ok()?)?;
        self.elf.get(start..start.checked_add(length)?)
    }

    /// The kernel unpacked: what its build calls `vmlinux`, without debug information where that was taken out.
    pub fn vmlinux(&self) -> &[u8] {
        &self.elf
    }

    /// `Linux version …`, which the kernel prints first (`linux_banner`, init/version.c).
    pub fn banner(&self) -> Option<&str> {
        /// Longer than any; the text ends at its zero.
        const MOST: usize = 1024;
        let symbol = self.symbols.named("linux_banner").next()?;
        let section = self.section_at(symbol.address)?;
        let rest = usize::try_from(section.address + section.size - symbol.address).ok()?;
        let bytes = self.bytes_at(symbol.address, rest.min(MOST))?;
        std::ffi::CStr::from_bytes_until_nul(bytes).ok()?.to_str().ok()
    }

    /// The certificates that the kernel was built with, each in DER (`system_certificate_list`,
    /// certs/system_certificates.S); none when they are not seen, or not one after the other to the end.
    pub fn certificates(&self) -> Option<Vec<&[u8]>> {
        /// Longer than any such list.
        const MOST: usize = 1 << 20;
        let at = |name: &str| self.symbols.named(name).next().map(|symbol| symbol.address);
        let length = self.bytes_at(at("system_certificate_list_size")?, 8)?;
        let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
        let list =
            self.bytes_at(at("system_certificate_list")?, Some(length).filter(|&length| length <= MOST)?)?;
        certificates_in(list)
    }

    /// Addresses of functions whose `endbr64` the kernel overwrites at boot, because nothing takes their address: what
    /// the entries of `.ibt_endbr_seal` point at, each by its distance from itself (`apply_seal_endbr`,
    /// arch/x86/kernel/alternative.c). None when the kernel is built without that table.
    pub fn sealed(&self) -> Option<std::collections::BTreeSet<u64>> {
        let table = self.sections.iter().find(|s| s.name == ".ibt_endbr_seal")?;
        let data = self.bytes_at(table.address, usize::try_from(table.size).ok()?)?;
        let entry = |(index, bytes): (u64, &[u8; 4])| {
            let distance = i64::from(i32::from_le_bytes(*bytes));
            table.address.wrapping_add(4 * index).wrapping_add_signed(distance)
        };
        Some((0..).zip(data.as_chunks::<4>().0).map(entry).collect())
    }

    /// The section that holds an address. Per-CPU sections, which are linked at 0, are left out.
    pub fn section_at(&self, address: u64) -> Option<&ImageSection> {
        self.sections.iter().find(|s| s.address != 0 && address >= s.address && address - s.address < s.size)
    }
}

/// Certificates one after the other: each a SEQUENCE with a length in two bytes, as the kernel reads them
/// (`x509_load_certificate_list`).
fn certificates_in(mut list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut out = Vec::new();
    while !list.is_empty() {
        let &[0x30, 0x82, high, low, ..] = list else { return None };
        let (certificate, rest) = list.split_at_checked(4 + usize::from(u16::from_be_bytes([high, low])))?;
        out.push(certificate);
        list = rest;
    }
    Some(out)
}

#[cfg(test)]
mod tests;
