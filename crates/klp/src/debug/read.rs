//! Reading the entries. A relocatable object's debug information has relocations, which are applied first; only those
//! into other debug sections matter, as no address is asked for.

use gimli::{Attribute, AttributeValue, Dwarf, EndianSlice, LittleEndian, SectionId, Unit, constants as dw};

use super::{DebugInfo, Entry, Kind};
use crate::elf::{Object, Placement, relocation};

/// Most units in one object: a compiler makes one.
const MAX_UNITS: usize = 64;
/// Most entries that are kept. The largest unit of a kernel has less than a million.
const MAX_ENTRIES: usize = 2_000_000;
/// Most attributes that are read, some tens of each entry's. Without it a few bytes could stand for endless work: an
/// entry may be one byte, and have thousands of attributes that need no bytes at all.
const MAX_STEPS: usize = 64_000_000;
/// Longest name. The kernel's own have at most 512 bytes (KSYM_NAME_LEN).
const MAX_NAME_BYTES: usize = 4096;

type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// Why debug information cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DebugError {
    /// Some part breaks a rule.
    #[error("the debug information is damaged: {0}")]
    Damaged(String),
    /// Something sound that is not handled.
    #[error("the debug information has {0}, which is not handled")]
    Unsupported(String),
}

impl From<gimli::Error> for DebugError {
    fn from(error: gimli::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// A debug section with its relocations applied.
fn relocated(object: &Object, section: usize) -> Result<Vec<u8>, DebugError> {
    let section = &object.sections[section];
    let mut data = section.data.clone();
    for relocation in &section.relocations {
        let width = match relocation.kind {
            relocation::ABS64 => 8,
            relocation::ABS32 => 4,
            // Distances: of thread-local variables and the like, which are not asked for.
            _ => continue,
        };
        let symbol = &object.symbols[relocation.symbol];
        if !matches!(symbol.placement, Placement::Section(_)) {
            continue;
        }
        let value = symbol.value.wrapping_add_signed(relocation.addend).to_le_bytes();
        let start = usize::try_from(relocation.offset).ok();
        let field = start.and_then(|start| data.get_mut(start..start.checked_add(width)?));
        let field = field.ok_or_else(|| DebugError::Damaged("a relocation lies outside".into()))?;
        field.copy_from_slice(&value[..width]);
    }
    Ok(data)
}

impl DebugInfo {
    /// Reads the debug information of an object; none when it has none. Any bytes are answered, none panic.
    pub fn read(object: &Object) -> Result<Option<Self>, DebugError> {
        if object.section_named(".debug_info").is_none() {
            return Ok(None);
        }
        let named = |name| object.sections.iter().position(|section| section.name == name);
        let load = |id: SectionId| {
            let wanted = matches!(id, SectionId::DebugInfo | SectionId::DebugAbbrev | SectionId::DebugLine)
                || matches!(id, SectionId::DebugStr | SectionId::DebugLineStr | SectionId::DebugStrOffsets);
            let section = named(id.name()).filter(|_| wanted);
            section.map_or(Ok(Vec::new()), |section| relocated(object, section))
        };
        let sections = gimli::DwarfSections::load(load)?;
        let dwarf = sections.borrow(|data| EndianSlice::new(data, LittleEndian));
        let mut reader = Reader { info: Self::default(), steps: 0 };
        let mut headers = dwarf.units();
        let mut units = 0;
        while let Some(header) = headers.next()? {
            units += 1;
            if units > MAX_UNITS {
                return Err(DebugError::Unsupported(format!("more than {MAX_UNITS} units")));
            }
            let start = header.debug_info_offset().map_or(0, |offset| offset.0);
            reader.unit(&dwarf, &dwarf.unit(header)?, start)?;
        }
        Ok(Some(reader.info))
    }
}

/// What is kept of a tag; none is passed over.
fn kind(tag: gimli::DwTag) -> Option<Kind> {
    Some(match tag {
        dw::DW_TAG_structure_type | dw::DW_TAG_class_type => Kind::Struct,
        dw::DW_TAG_union_type => Kind::Union,
        dw::DW_TAG_enumeration_type => Kind::Enum,
        dw::DW_TAG_typedef => Kind::Typedef,
        dw::DW_TAG_base_type => Kind::Base,
        dw::DW_TAG_pointer_type => Kind::Pointer,
        dw::DW_TAG_array_type => Kind::Array,
        dw::DW_TAG_const_type
        | dw::DW_TAG_volatile_type
        | dw::DW_TAG_restrict_type
        | dw::DW_TAG_atomic_type => Kind::Qualifier,
        dw::DW_TAG_subroutine_type => Kind::FunctionType,
        dw::DW_TAG_member => Kind::Member,
        dw::DW_TAG_enumerator => Kind::Enumerator,
        dw::DW_TAG_subrange_type => Kind::Dimension,
        dw::DW_TAG_formal_parameter | dw::DW_TAG_unspecified_parameters => Kind::Parameter,
        dw::DW_TAG_subprogram => Kind::Function,
        dw::DW_TAG_inlined_subroutine => Kind::Inlined,
        dw::DW_TAG_unspecified_type => Kind::Other,
        _ => return None,
    })
}

struct Reader {
    info: DebugInfo,
    steps: usize,
}

impl Reader {
    fn unit(
        &mut self,
        dwarf: &Dwarf<Slice<'_>>,
        unit: &Unit<Slice<'_>>,
        start: usize,
    ) -> Result<(), DebugError> {
        let first_file = self.info.files.len();
        let files = self.files(dwarf, unit)?;
        let mut entries = unit.entries_raw(None)?;
        // The kept entries around the next one, with their depths.
        let mut around: Vec<(isize, usize)> = Vec::new();
        while !entries.is_empty() {
            let (depth, offset) = (entries.next_depth(), entries.next_offset().0);
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            let specifications = abbreviation.attributes();
            self.steps = self.steps.saturating_add(specifications.len() + 1);
            if self.steps > MAX_STEPS {
                return Err(DebugError::Unsupported(format!("more than {MAX_STEPS} attributes")));
            }
            while around.last().is_some_and(|(of, _)| *of >= depth) {
                around.pop();
            }
            let parent = around.last().map(|(_, index)| *index);
            let parent_kind = parent.map(|parent| self.info.entries[parent].kind);
            let function = parent.and_then(|parent| match parent_kind {
                Some(Kind::Function) => Some(parent),
                _ => self.info.entries[parent].function,
            });
            // Parameters matter as part of a function's type only.
            let kept = kind(abbreviation.tag())
                .filter(|kind| *kind != Kind::Parameter || parent_kind == Some(Kind::FunctionType));
            let Some(kind) = kept else {
                entries.skip_attributes(specifications)?;
                continue;
            };
            let mut entry = Entry {
                kind,
                name: None,
                function,
                children: Vec::new(),
                refers: None,
                origin: None,
                size: None,
                bit_offset: 0,
                bit_size: None,
                number: None,
                declaration: false,
                has_code: false,
                declared: None,
            };
            let mut raw = Raw::default();
            for specification in specifications {
                let attribute = entries.read_attribute(*specification)?;
                raw.take(&mut entry, &attribute, dwarf, unit, start)?;
            }
            raw.finish(&mut entry)?;
            let file = raw.file.and_then(|file| usize::try_from(file).ok()).filter(|file| *file < files);
            entry.declared = file.map(|file| first_file + file).zip(raw.line);
            let index = self.info.entries.len();
            if index == MAX_ENTRIES {
                return Err(DebugError::Unsupported(format!("more than {MAX_ENTRIES} types and functions")));
            }
            if let Some(parent) = parent {
                self.info.entries[parent].children.push(index);
            }
            self.info.by_offset.insert(start.saturating_add(offset), index);
            self.info.entries.push(entry);
            if abbreviation.has_children() {
                around.push((depth, index));
            }
        }
        Ok(())
    }

    /// Appends the names of the unit's files, so that `DW_AT_decl_file` counts from there; returns how many.
    fn files(&mut self, dwarf: &Dwarf<Slice<'_>>, unit: &Unit<Slice<'_>>) -> Result<usize, DebugError> {
        let Some(program) = &unit.line_program else { return Ok(0) };
        let header = program.header();
        let mut bytes = 0usize;
        // Before DWARF 5 the first file has the number 1.
        let offset = u64::from(header.version() <= 4);
        let count = header.file_names().len();
        if count > MAX_ENTRIES {
            return Err(DebugError::Unsupported(format!("more than {MAX_ENTRIES} files")));
        }
        self.info.files.extend((offset == 1).then(String::new));
        for number in (offset..).take(count) {
            let mut path = String::new();
            if let Some(file) = header.file(number) {
                // The directory of the compilation has the number 0, and paths are relative to it.
                let directory = file.directory(header).filter(|_| file.directory_index() != 0);
                for part in directory.into_iter().chain([file.path_name()]) {
                    let part = text(dwarf.attr_string(unit, part)?)?;
                    if !path.is_empty() {
                        path.push('/');
                    }
                    path.push_str(&part);
                }
            }
            bytes = bytes.saturating_add(path.len());
            if bytes > MAX_STEPS {
                return Err(DebugError::Unsupported("too many names of files".into()));
            }
            self.info.files.push(path);
        }
        Ok(count + usize::from(offset == 1))
    }
}

fn text(bytes: Slice<'_>) -> Result<String, DebugError> {
    if bytes.slice().len() > MAX_NAME_BYTES {
        return Err(DebugError::Unsupported(format!("names longer than {MAX_NAME_BYTES} bytes")));
    }
    Ok(String::from_utf8_lossy(bytes.slice()).into_owned())
}

/// Attributes whose meaning depends on others.
#[derive(Default)]
struct Raw {
    byte_offset: u64,
    /// `DW_AT_bit_offset` of DWARF 2 and 3: from the most significant bit of the storage unit.
    old_bit_offset: Option<i64>,
    data_bit_offset: Option<u64>,
    upper_bound: Option<i64>,
    count: Option<u64>,
    value: Option<i128>,
    encoding: Option<u64>,
    file: Option<u64>,
    line: Option<u64>,
}

impl Raw {
    fn take(
        &mut self,
        entry: &mut Entry,
        attribute: &Attribute<Slice<'_>>,
        dwarf: &Dwarf<Slice<'_>>,
        unit: &Unit<Slice<'_>>,
        start: usize,
    ) -> Result<(), DebugError> {
        let value = attribute.value();
        match attribute.name() {
            dw::DW_AT_name => entry.name = Some(text(dwarf.attr_string(unit, value)?)?.into()),
            dw::DW_AT_type => entry.refers = reference(&value, start)?,
            dw::DW_AT_abstract_origin | dw::DW_AT_specification => entry.origin = reference(&value, start)?,
            dw::DW_AT_byte_size => entry.size = value.udata_value(),
            dw::DW_AT_bit_size => entry.bit_size = value.udata_value(),
            dw::DW_AT_data_bit_offset => self.data_bit_offset = value.udata_value(),
            dw::DW_AT_bit_offset => self.old_bit_offset = value.sdata_value(),
            dw::DW_AT_data_member_location => {
                let found = value.udata_value();
                self.byte_offset = found
                    .ok_or_else(|| DebugError::Unsupported("a member whose place is computed".into()))?;
            }
            dw::DW_AT_upper_bound => {
                self.upper_bound =
                    value.udata_value().and_then(|v| i64::try_from(v).ok()).or_else(|| value.sdata_value())
            }
            dw::DW_AT_count => self.count = value.udata_value(),
            dw::DW_AT_const_value => {
                // Signed and unsigned forms of one value: as the compiler chose.
                self.value = match value {
                    AttributeValue::Sdata(value) => Some(value.into()),
                    value => value.udata_value().map(i128::from),
                };
            }
            dw::DW_AT_encoding => {
                self.encoding = match value {
                    AttributeValue::Encoding(encoding) => Some(encoding.0.into()),
                    value => value.udata_value(),
                };
            }
            dw::DW_AT_declaration => entry.declaration = matches!(value, AttributeValue::Flag(true)),
            dw::DW_AT_low_pc | dw::DW_AT_ranges => entry.has_code = true,
            dw::DW_AT_decl_file => {
                self.file = match value {
                    AttributeValue::FileIndex(file) => Some(file),
                    value => value.udata_value(),
                };
            }
            dw::DW_AT_decl_line => self.line = value.udata_value(),
            _ => {}
        }
        Ok(())
    }

    fn finish(&self, entry: &mut Entry) -> Result<(), DebugError> {
        entry.number = match entry.kind {
            Kind::Dimension => {
                // An upper bound of -1 is that of no elements.
                let bound = self.upper_bound.map(|bound| i128::from(bound) + 1);
                self.count.map(i128::from).or(bound)
            }
            Kind::Base => self.encoding.map(i128::from),
            _ => self.value,
        };
        if entry.kind == Kind::Member {
            let bytes = self.byte_offset.checked_mul(8);
            let bits = match (self.data_bit_offset, self.old_bit_offset, entry.size, entry.bit_size) {
                (Some(offset), ..) => bytes.and_then(|bytes| bytes.checked_add(offset)),
                // Little endian: the storage unit's last bit is its most significant one.
                (None, Some(from_top), Some(size), Some(bits)) => bytes
                    .zip(size.checked_mul(8))
                    .and_then(|(bytes, size)| bytes.checked_add(size)?.checked_sub(bits))
                    .and_then(|end| end.checked_add_signed(from_top.checked_neg()?)),
                _ => bytes,
            };
            entry.bit_offset =
                bits.ok_or_else(|| DebugError::Damaged("a member lies outside of any structure".into()))?;
        }
        Ok(())
    }
}

/// Offset in the section of what an attribute refers to.
fn reference(value: &AttributeValue<Slice<'_>>, start: usize) -> Result<Option<usize>, DebugError> {
    match value {
        AttributeValue::UnitRef(offset) => Ok(start.checked_add(offset.0)),
        AttributeValue::DebugInfoRef(offset) => Ok(Some(offset.0)),
        _ => Err(DebugError::Unsupported("references into other files or sections".into())),
    }
}
