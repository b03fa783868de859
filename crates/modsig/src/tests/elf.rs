use object::write::{Object, StandardSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind};
use proptest::prelude::*;

use crate::*;

/// An ELF relocatable with these sections.
fn elf(sections: &[(&str, SectionKind, &[u8])]) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    object.append_section_data(text, &[0xc3], 1);
    for (name, kind, data) in sections {
        let id = object.add_section(Vec::new(), name.as_bytes().to_vec(), *kind);
        object.append_section_data(id, data, 4);
    }
    object.write().unwrap()
}

fn with_info(data: &[u8]) -> Vec<u8> {
    elf(&[(".modinfo", SectionKind::ReadOnlyData, data)])
}

fn note(id: &[u8]) -> Vec<u8> {
    note_of(b"GNU\0", 3, id)
}

fn note_of(name: &[u8; 4], kind: u32, content: &[u8]) -> Vec<u8> {
    let mut note = [4u32, content.len() as u32, kind].map(u32::to_le_bytes).concat();
    note.extend_from_slice(name);
    note.extend_from_slice(content);
    note
}

/// The same with empty sections up to so many, whose number no longer fits into the header (elf(5), `e_shnum`).
fn with_sections(elf: &[u8], number: usize) -> Vec<u8> {
    let long = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap()) as usize;
    let known = u16::from_le_bytes([elf[60], elf[61]]) as usize;
    let mut table = elf[long(40)..][..known * 64].to_vec();
    table[32..40].copy_from_slice(&(number as u64).to_le_bytes());
    table.resize(number * 64, 0);
    let mut more = elf.to_vec();
    more[40..48].copy_from_slice(&(elf.len() as u64).to_le_bytes());
    more[60..62].copy_from_slice(&[0; 2]);
    more.extend_from_slice(&table);
    more
}

#[test]
fn pairs_are_read_in_their_order() {
    let info =
        module_info(&with_info(b"license=GPL\0\0\0name=x\0parm=a=b\0alias=1\0alias=2\0empty=\0")).unwrap();
    assert_eq!(info.get_unique("license"), Ok("GPL"));
    assert_eq!(info.get_unique("parm"), Ok("a=b"));
    assert_eq!(info.get_unique("empty"), Ok(""));
    assert_eq!(info.all("alias").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(
        info.get_unique("alias").unwrap_err().to_string(),
        "the module's .modinfo is wrong: alias is there more than once"
    );
    assert!(info.get_unique("vermagic").unwrap_err().to_string().contains("vermagic is missing"));
    assert_eq!(info.iter().count(), 6);
}

#[test]
fn modinfo_that_is_refused() {
    for data in
        [b"license".as_slice(), b"license\0", b"license=GPL", b"author=\xff\xfe\0", &b"k=v\0".repeat(5000)]
    {
        assert!(matches!(module_info(&with_info(data)), Err(Error::ModuleInfo(_))), "{data:?}");
    }
    let twice = elf(&[
        (".modinfo", SectionKind::ReadOnlyData, b"license=GPL\0"),
        (".modinfo", SectionKind::ReadOnlyData, b"license=GPL\0"),
    ]);
    assert!(matches!(module_info(&twice), Err(Error::ModuleInfo(_))));
    assert!(matches!(module_info(&elf(&[])), Err(Error::ModuleInfo(_))));
    assert!(matches!(module_info(&with_info(&vec![0; 2 << 20])), Err(Error::ModuleInfo(_))));
}

#[test]
fn only_64_bit_little_endian_relocatables_are_read() {
    let good = with_info(b"license=GPL\0");
    for (at, to) in [(0, 0), (4, 1), (5, 2), (16, 2), (16, 3)] {
        let mut bad = good.clone();
        bad[at] = to;
        assert!(matches!(module_info(&bad), Err(Error::Elf(_))), "{at}");
        assert!(matches!(build_id(&bad), Err(Error::Elf(_))), "{at}");
    }
    for length in 0..good.len() {
        let _ = (module_info(&good[..length]), build_id(&good[..length]));
    }
}

#[test]
fn any_alignment_and_a_signature_after_it_do() {
    let file = append(&with_info(b"license=GPL\0"), b"signature");
    for shift in 0..8 {
        let shifted = [vec![0; shift], file.clone()].concat();
        assert_eq!(module_info(&shifted[shift..]).unwrap().get_unique("license"), Ok("GPL"));
    }
}

#[test]
fn build_ids() {
    let one = elf(&[(".note.gnu.build-id", SectionKind::Note, &note(&[7; 20]))]);
    assert_eq!(build_id(&one).unwrap().unwrap().as_bytes(), [7; 20]);
    assert_eq!(build_id(&elf(&[])), Ok(None));
    let two = elf(&[(".note.gnu.build-id", SectionKind::Note, &[note(&[7; 20]), note(&[8; 20])].concat())]);
    assert!(build_id(&two).is_err());
    let short = elf(&[(".note.gnu.build-id", SectionKind::Note, &note(&[7; 4]))]);
    assert!(build_id(&short).is_err());
}

/// The last number and size that is taken, and the first that is not.
#[test]
fn caps() {
    let info =
        |bytes: usize| module_info(&with_info(&[b"k=", vec![b'v'; bytes - 3].as_slice(), b"\0"].concat()));
    assert_eq!(info(1 << 20).unwrap().get_unique("k").unwrap().len(), (1 << 20) - 3);
    assert!(info((1 << 20) + 1).unwrap_err().to_string().contains("1 MiB"));
    let entries = |number: usize| module_info(&with_info(&b"k=v\0".repeat(number)));
    assert_eq!(entries(4096).unwrap().iter().count(), 4096);
    assert!(entries(4097).is_err());

    let noted = |notes: &[u8]| build_id(&elf(&[(".note", SectionKind::Note, notes)]));
    let notes = |number: usize| noted(&[note_of(b"GNU\0", 1, b"").repeat(number), note(&[7; 20])].concat());
    assert_eq!(notes(4095).unwrap().unwrap().as_bytes(), [7; 20]);
    assert!(notes(4096).unwrap_err().to_string().contains("more than 4096 notes"));

    let small = with_info(b"license=GPL\0");
    assert!(module_info(&with_sections(&small, 1 << 16)).is_ok());
    for number in [(1 << 16) + 1, (1 << 16) + 2] {
        let refused = module_info(&with_sections(&small, number)).unwrap_err();
        assert!(refused.to_string().contains("sections"), "{refused}");
    }
}

#[test]
fn other_notes_are_no_build_ids() {
    for (name, kind) in [(b"GNU\0", 1), (b"Xen\0", 3)] {
        let file = elf(&[(".note", SectionKind::Note, &note_of(name, kind, &[7; 20]))]);
        assert_eq!(build_id(&file), Ok(None), "{kind}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (module_info(&bytes), build_id(&bytes));
    }

    #[test]
    fn a_changed_module_does_not_panic(at in any::<prop::sample::Index>(), to: u64, size in 1usize..=8) {
        let mut elf = elf(&[
            (".modinfo", SectionKind::ReadOnlyData, b"license=GPL\0"),
            (".note.gnu.build-id", SectionKind::Note, &note(&[7; 20])),
        ]);
        let at = at.index(elf.len() - 8);
        elf[at..at + size].copy_from_slice(&to.to_le_bytes()[..size]);
        let _ = (module_info(&elf), build_id(&elf));
    }
}
