//! What a module says about itself: `.modinfo` and its build-id.

use livepatch_types::BuildId;
use object::LittleEndian;
use object::elf::{
    ELF_NOTE_GNU, ET_REL, FileHeader64, NT_GNU_BUILD_ID, SHF_COMPRESSED, SHT_NOTE, SectionHeader64,
};
use object::read::elf::{FileHeader as _, SectionHeader as _};

use crate::Error;

type Header = FileHeader64<LittleEndian>;
type Section = SectionHeader64<LittleEndian>;

const MAX_SECTIONS: usize = 1 << 16;
const MAX_INFO_BYTES: usize = 1 << 20;
const MAX_INFO_ENTRIES: usize = 4096;
const MAX_NOTES: usize = 4096;

/// The `key=value` pairs of a module's `.modinfo` section, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleInfo {
    entries: Vec<(String, String)>,
}

impl ModuleInfo {
    /// All pairs, in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// All values of one key, in file order.
    pub fn all<'a, 'k>(&'a self, key: &'k str) -> impl Iterator<Item = &'a str> + use<'a, 'k> {
        self.iter().filter(move |(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The value of a key that is relied on: none or two of it are an error, for the kernel takes the first and
    /// another reader may take the last.
    pub fn get_unique(&self, key: &str) -> Result<&str, Error> {
        let mut values = self.all(key);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            (None, _) => Err(Error::ModuleInfo(format!("{key} is missing"))),
            (Some(_), Some(_)) => Err(Error::ModuleInfo(format!("{key} is there more than once"))),
        }
    }
}

/// Reads `.modinfo` of a module, signed or not.
pub fn module_info(elf: &[u8]) -> Result<ModuleInfo, Error> {
    let wrong = |why: &str| Error::ModuleInfo(why.to_owned());
    let mut found = None;
    for (name, section) in sections(elf)? {
        if name == b".modinfo" && found.replace(section).is_some() {
            return Err(wrong("the section is there more than once"));
        }
    }
    let section = found.ok_or_else(|| wrong("the section is missing"))?;
    if section.sh_flags(LittleEndian).0 & SHF_COMPRESSED.0 != 0 {
        return Err(wrong("the section is compressed"));
    }
    let data = section.data(LittleEndian, elf).map_err(not_elf)?;
    if data.len() > MAX_INFO_BYTES {
        return Err(wrong("the section is larger than 1 MiB"));
    }
    if data.last().is_some_and(|last| *last != 0) {
        return Err(wrong("the last entry does not end"));
    }
    let mut entries = Vec::new();
    for entry in data.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        if entries.len() == MAX_INFO_ENTRIES {
            return Err(Error::ModuleInfo(format!("more than {MAX_INFO_ENTRIES} entries")));
        }
        let entry = std::str::from_utf8(entry).map_err(|_| wrong("an entry is not UTF-8"))?;
        let (key, value) = entry.split_once('=').ok_or_else(|| wrong("an entry is not key=value"))?;
        entries.push((key.to_owned(), value.to_owned()));
    }
    Ok(ModuleInfo { entries })
}

/// Reads the GNU build-id of a module, signed or not; none when it has none, an error when it has two.
pub fn build_id(elf: &[u8]) -> Result<Option<BuildId>, Error> {
    let mut found: Option<BuildId> = None;
    let mut seen = 0;
    for (_, section) in sections(elf)? {
        if section.sh_type(LittleEndian) != SHT_NOTE {
            continue;
        }
        let Some(mut notes) = section.notes(LittleEndian, elf).map_err(not_elf)? else { continue };
        while let Some(note) = notes.next().map_err(not_elf)? {
            seen += 1;
            if seen > MAX_NOTES {
                return Err(Error::Elf(format!("more than {MAX_NOTES} notes")));
            }
            if note.name() == ELF_NOTE_GNU && note.n_type(LittleEndian) == NT_GNU_BUILD_ID {
                let id = BuildId::from_bytes(note.desc()).map_err(|error| Error::Elf(error.to_string()))?;
                if found.replace(id).is_some() {
                    return Err(Error::Elf("it has more than one build-id".into()));
                }
            }
        }
    }
    Ok(found)
}

/// Names and headers of all sections.
fn sections(elf: &[u8]) -> Result<Vec<(&[u8], &Section)>, Error> {
    let header = Header::parse(elf).map_err(not_elf)?;
    header.endian().map_err(not_elf)?;
    if header.e_type(LittleEndian) != ET_REL {
        return Err(Error::Elf("it is not relocatable".into()));
    }
    let table = header.sections(LittleEndian, elf).map_err(not_elf)?;
    if table.len() > MAX_SECTIONS {
        return Err(Error::Elf(format!("more than {MAX_SECTIONS} sections")));
    }
    table
        .iter()
        .map(|section| Ok((table.section_name(LittleEndian, section).map_err(not_elf)?, section)))
        .collect()
}

fn not_elf(error: object::read::Error) -> Error {
    Error::Elf(error.to_string())
}
