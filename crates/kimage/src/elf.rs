//! The little of ELF that is needed of vmlinux, over `object`'s raw structures.

use livepatch_types::BuildId;
use object::elf::{
    FileHeader64, NT_GNU_BUILD_ID, SHF_ALLOC, SHF_EXECINSTR, SHT_NOBITS, SHT_NOTE, SectionHeader64,
};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader as _, SectionHeader as _, SectionTable};

use crate::{ImageError, ImageSection};

/// A table of ELF notes that breaks off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the elf notes are damaged")]
pub struct NoteError;

type Sections<'a> = SectionTable<'a, FileHeader64<LittleEndian>>;

fn read(elf: &[u8]) -> Result<Sections<'_>, ImageError> {
    let bad = |error: object::read::Error| ImageError::Elf(error.to_string());
    let header = FileHeader64::<LittleEndian>::parse(elf).map_err(bad)?;
    if header.e_machine.get(LittleEndian) != object::elf::EM_X86_64 {
        return Err(ImageError::Elf("it is not for x86_64".into()));
    }
    header.sections(LittleEndian, elf).map_err(bad)
}

pub(crate) fn sections(elf: &[u8]) -> Result<Vec<ImageSection>, ImageError> {
    let table = read(elf)?;
    let mut out = Vec::new();
    for section in table.iter() {
        let header: &SectionHeader64<LittleEndian> = section;
        let flags = header.sh_flags(LittleEndian).0;
        if flags & SHF_ALLOC.0 == 0 {
            continue;
        }
        let name = table.section_name(LittleEndian, header).unwrap_or_default();
        let bytes = header.sh_type(LittleEndian) != SHT_NOBITS;
        out.push(ImageSection {
            name: String::from_utf8_lossy(name).into_owned(),
            address: header.sh_addr(LittleEndian),
            size: header.sh_size(LittleEndian),
            is_code: flags & SHF_EXECINSTR.0 != 0,
            file_offset: bytes.then(|| header.sh_offset(LittleEndian) as usize),
        });
    }
    Ok(out)
}

pub(crate) fn kernel_build_id(elf: &[u8]) -> Result<BuildId, ImageError> {
    let table = read(elf)?;
    for section in table.iter() {
        if section.sh_type(LittleEndian) != SHT_NOTE {
            continue;
        }
        let data = section.data(LittleEndian, elf).map_err(|error| ImageError::Elf(error.to_string()))?;
        if let Ok(Some(id)) = gnu_build_id(data) {
            return Ok(id);
        }
    }
    Err(ImageError::NoBuildId)
}

/// Finds the GNU build-id among ELF notes, such as /sys/kernel/notes or a `.notes` section holds
/// (elf(5): namesz, descsz, type, then name and descriptor padded to 4 bytes each).
pub fn gnu_build_id(mut notes: &[u8]) -> Result<Option<BuildId>, NoteError> {
    while !notes.is_empty() {
        let word =
            |at: usize| -> Option<u32> { Some(u32::from_le_bytes(notes.get(at..at + 4)?.try_into().ok()?)) };
        let (Some(name_size), Some(descriptor_size), Some(kind)) = (word(0), word(4), word(8)) else {
            return Err(NoteError);
        };
        let padded = |size: u32| (size as usize).checked_next_multiple_of(4).ok_or(NoteError);
        let descriptor_at = padded(name_size)?.checked_add(12).ok_or(NoteError)?;
        let end = descriptor_at.checked_add(padded(descriptor_size)?).ok_or(NoteError)?;
        let name = notes.get(12..12 + name_size as usize).ok_or(NoteError)?;
        let descriptor =
            notes.get(descriptor_at..descriptor_at + descriptor_size as usize).ok_or(NoteError)?;
        if kind == NT_GNU_BUILD_ID.0 && name == b"GNU\0" {
            return BuildId::from_bytes(descriptor).map(Some).map_err(|_| NoteError);
        }
        notes = notes.get(end..).unwrap_or_default();
    }
    Ok(None)
}
