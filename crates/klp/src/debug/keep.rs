//! Debug information for extracted code: that of the compilation it was taken from, led to where the code went.
//!
//! What it says of code that stays in the kernel is cut off: it gets an address that nothing can have.

use std::collections::{BTreeMap, HashMap};

use crate::elf::{Object, Placement, Relocation, Section, relocation};
use crate::extract::Place;

/// Not canonical (48 or 57 bits are sign-extended), so nowhere near anything. Linkers write 0 or -1 for code that they
/// drop; but sections of a module begin at 0 until it is loaded, and behind -1 the addresses start again.
const NOWHERE: u64 = 1 << 63;

/// Why the debug information does not belong to the code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the compilation with debug information has other code in section {0}")]
pub struct OtherCode(String);

/// The extracted object with debug information. `code` is what it was taken from, at `places`; `debug` is the same
/// compilation with debug information, and may be the same object.
pub fn with_debug(
    extracted: &Object,
    places: &[Place],
    code: &Object,
    debug: &Object,
) -> Result<Object, OtherCode> {
    let mut out = extracted.clone();
    let counterparts = counterparts(places, code, debug)?;
    let mut moved = BTreeMap::new();
    for (index, section) in debug.sections.iter().enumerate().filter(|(_, section)| section.is_debug()) {
        moved.insert(index, out.sections.len());
        out.sections.push(Section { relocations: Vec::new(), ..section.clone() });
    }
    let mut symbols: HashMap<usize, usize> = HashMap::new();
    for (&from, &to) in &moved {
        for relocation in &debug.sections[from].relocations {
            let symbol = &debug.symbols[relocation.symbol];
            let offset = symbol.value.wrapping_add_signed(relocation.addend);
            let target = match symbol.placement {
                Placement::Section(section) => match (moved.get(&section), counterparts.get(&section)) {
                    (Some(debug), _) => Some((*debug, offset)),
                    (None, Some(places)) => place_of(places, offset),
                    (None, None) => None,
                },
                _ => None,
            };
            match target {
                Some((section, offset)) => {
                    let symbol = *symbols.entry(section).or_insert_with(|| out.section_symbol(section));
                    let made = Relocation { symbol, addend: offset.cast_signed(), ..*relocation };
                    out.sections[to].relocations.push(made);
                }
                None => cut_off(&mut out.sections[to], relocation),
            }
        }
    }
    Ok(out)
}

/// The places by the sections of the compilation with debug information, which must have the same code.
fn counterparts<'p>(
    places: &'p [Place],
    code: &Object,
    debug: &Object,
) -> Result<HashMap<usize, Vec<&'p Place>>, OtherCode> {
    let mut out: HashMap<usize, Vec<&Place>> = HashMap::new();
    for place in places {
        let section = &code.sections[place.section];
        // Several may have one name: the first is the counterpart of the first.
        let same_name = |object: &Object| -> Vec<usize> {
            let named = object.sections.iter().enumerate().filter(|(_, other)| other.name == section.name);
            named.map(|(index, _)| index).collect()
        };
        let order = same_name(code).iter().position(|index| *index == place.section);
        let found = order.and_then(|order| same_name(debug).get(order).copied());
        let same = |index: &usize| {
            let other = &debug.sections[*index];
            (&other.data, other.size) == (&section.data, section.size)
        };
        let found = found.filter(same).ok_or_else(|| OtherCode(section.name.clone()))?;
        out.entry(found).or_default().push(place);
    }
    Ok(out)
}

/// Where an offset of a section went. The end of one place may be the start of another, which is then meant.
fn place_of(places: &[&Place], offset: u64) -> Option<(usize, u64)> {
    let inside = |place: &&&Place| offset.checked_sub(place.start).is_some_and(|at| at < place.size);
    let at_end = |place: &&&Place| offset.checked_sub(place.start) == Some(place.size);
    let place = places.iter().find(inside).or_else(|| places.iter().find(at_end))?;
    Some((place.to_section, place.to + (offset - place.start)))
}

fn cut_off(section: &mut Section, relocation: &Relocation) {
    let start = usize::try_from(relocation.offset).ok().filter(|_| relocation.kind == relocation::ABS64);
    let address = NOWHERE.to_le_bytes();
    let field = start.and_then(|start| section.data.get_mut(start..start.checked_add(address.len())?));
    if let Some(field) = field {
        field.copy_from_slice(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{Binding, Symbol, SymbolKind};

    fn section(name: &str, data: &[u8]) -> Section {
        let size = data.len() as u64;
        Section { data: data.to_vec(), size, ..Section::empty(name, 1) }
    }

    fn symbol(section: usize) -> Symbol {
        let (name, value, size) = (String::new(), 0, 0);
        let placement = Placement::Section(section);
        Symbol { name, placement, value, size, kind: SymbolKind::Section, binding: Binding::Local, other: 0 }
    }

    /// Two functions, and debug information with an address of each.
    fn compiled() -> Object {
        let mut info = section(".debug_info", &[0; 16]);
        let address = |offset, symbol, addend| Relocation { offset, kind: relocation::ABS64, symbol, addend };
        info.relocations = vec![address(0, 0, 1), address(8, 1, 0)];
        let sections = vec![section(".text.stays", &[1; 4]), section(".text.goes", &[2; 4]), info];
        Object { sections, symbols: vec![symbol(0), symbol(1)] }
    }

    fn extracted() -> (Object, Vec<Place>) {
        let object = Object { sections: vec![section(".text.goes", &[2; 4])], symbols: Vec::new() };
        (object, vec![Place { section: 1, start: 0, size: 4, to_section: 0, to: 16 }])
    }

    #[test]
    fn addresses_follow_the_code_and_those_of_other_code_are_cut_off() {
        let (object, places) = extracted();
        let code = compiled();
        let out = with_debug(&object, &places, &code, &code).unwrap();
        let info = &out.sections[1];
        assert_eq!(info.data[..8], NOWHERE.to_le_bytes());
        let [made] = info.relocations[..] else { panic!("{info:?}") };
        assert_eq!((made.offset, made.addend), (8, 16));
        assert_eq!(out.symbols[made.symbol].placement, Placement::Section(0));
        assert_eq!(out.sections[0], object.sections[0]);
    }

    #[test]
    fn other_code_is_refused() {
        let (object, places) = extracted();
        let code = compiled();
        let mut debug = code.clone();
        debug.sections.insert(0, section(".text.more", &[]));
        debug.symbols.iter_mut().for_each(|symbol| {
            if let Placement::Section(at) = &mut symbol.placement {
                *at += 1;
            }
        });
        assert_eq!(with_debug(&object, &places, &code, &debug), with_debug(&object, &places, &code, &code));
        debug.sections[2].data[0] = 9;
        let refused = with_debug(&object, &places, &code, &debug);
        assert_eq!(refused, Err(OtherCode(".text.goes".into())));
    }
}
