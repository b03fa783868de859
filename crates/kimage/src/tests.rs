use proptest::prelude::*;

use crate::*;

fn note(name: &[u8], kind: u32, descriptor: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&(name.len() as u32).to_le_bytes());
    out.extend_from_slice(&(descriptor.len() as u32).to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    for part in [name, descriptor] {
        out.extend_from_slice(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

#[test]
fn the_build_id_is_found_among_other_notes() {
    let mut notes = note(b"Xen\0", 6, b"x");
    notes.extend(note(b"Linux\0", 0x100, &[1, 2, 3]));
    notes.extend(note(b"GNU\0", 3, &[7; 20]));
    assert_eq!(gnu_build_id(&notes), Ok(Some(BuildId::from_bytes(&[7; 20]).unwrap())));
    assert_eq!(gnu_build_id(&note(b"GNU\0", 1, &[7; 20])), Ok(None));
    assert_eq!(gnu_build_id(&[]), Ok(None));
    for cut in 1..notes.len() {
        let _ = gnu_build_id(&notes[..cut]);
    }
}

#[test]
fn certificates_stand_one_after_the_other() {
    let list = [0x30, 0x82, 0, 2, 1, 2, 0x30, 0x82, 0, 1, 3];
    assert_eq!(certificates_in(&list), Some(vec![&list[..6], &list[6..]]));
    assert_eq!(certificates_in(&[]), Some(Vec::new()));
    for cut in [1, 4, 5, 7, 10] {
        assert_eq!(certificates_in(&list[..cut]), None, "{cut}");
    }
}

#[test]
fn what_is_not_a_kernel_is_refused_by_name() {
    assert!(matches!(KernelImage::parse(b""), Err(ImageError::NotABzImage(_))));
    assert!(matches!(KernelImage::parse(&[0; 4096]), Err(ImageError::NotABzImage(_))));
    assert!(matches!(KernelImage::parse(b"\x7fELF"), Err(ImageError::Elf(_))));
    let mut image = vec![0u8; 4096];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    image[0x1f1] = 1;
    image[0x24c..0x250].copy_from_slice(&64u32.to_le_bytes());
    image[1024..1028].copy_from_slice(&[0x1f, 0x8b, 8, 0]);
    assert_eq!(KernelImage::parse(&image).unwrap_err(), ImageError::Compression("gzip".into()));
    image[1024..1028].copy_from_slice(&[0x02, 0x21, 0x4c, 0x18]);
    assert!(matches!(KernelImage::parse(&image), Err(ImageError::Corrupt(_))));
    image[0x248..0x24c].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(KernelImage::parse(&image), Err(ImageError::NotABzImage(_))));
}

/// kallsyms tables as scripts/kallsyms.c of `after_6_4` or before lays them out, of one-letter tokens.
fn kallsyms_tables(symbols: &[(u64, &str)], after_6_4: bool) -> Vec<u8> {
    let base = 0xffff_ffff_8100_0000u64;
    let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(8), 0);
    let mut offsets = Vec::new();
    for (address, _) in symbols {
        let offset = if *address < base { *address as i32 } else { -((address - base) as i64) as i32 - 1 };
        offsets.extend_from_slice(&offset.to_le_bytes());
    }
    pad(&mut offsets);
    offsets.extend_from_slice(&base.to_le_bytes());
    let mut names = (symbols.len() as u64).to_le_bytes().to_vec();
    let names_at = names.len();
    let mut markers = Vec::new();
    for (index, (_, name)) in symbols.iter().enumerate() {
        if index % 256 == 0 {
            markers.extend_from_slice(&((names.len() - names_at) as u32).to_le_bytes());
        }
        names.push(name.len() as u8);
        names.extend_from_slice(name.as_bytes());
    }
    pad(&mut names);
    pad(&mut markers);
    let (mut table, mut index) = (Vec::new(), Vec::new());
    for byte in 0..=255u8 {
        index.extend_from_slice(&(table.len() as u16).to_le_bytes());
        table.extend_from_slice(&[if byte == 0 { b'?' } else { byte }, 0]);
    }
    pad(&mut table);
    let parts: [&[u8]; 5] = if after_6_4 {
        [&names, &markers, &table, &index, &offsets]
    } else {
        [&offsets, &names, &markers, &table, &index]
    };
    let mut out = vec![0xaa; 64];
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(&[0x55; 64]);
    out
}

#[test]
fn both_layouts_of_kallsyms_are_read() {
    let many: Vec<(u64, String)> = (0..700u64)
        .map(|i| (if i < 3 { i } else { 0xffff_ffff_8100_0000 + (i - 3) * 16 }, format!("tname_{}", i % 650)))
        .collect();
    let symbols: Vec<(u64, &str)> = many.iter().map(|(address, name)| (*address, name.as_str())).collect();
    for after_6_4 in [false, true] {
        let data = kallsyms_tables(&symbols, after_6_4);
        let table = kallsyms::find_in(&data, 0xffff_ffff_8200_0000).unwrap();
        let read: Vec<(u64, String)> =
            table.all().iter().map(|s| (s.address, format!("{}{}", char::from(s.kind), s.name))).collect();
        assert_eq!(read, many);
        assert_eq!(table.sympos("name_649", 0xffff_ffff_8100_0000 + 646 * 16), Some(0));
        assert_eq!(table.sympos("name_10", 0xffff_ffff_8100_0000 + 7 * 16), Some(1));
        assert_eq!(table.sympos("name_10", 0xffff_ffff_8100_0000 + 657 * 16), Some(2));
        assert_eq!(table.sympos("name_10", 1), None);
        assert_eq!(table.sympos("no_such", 1), None);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3000), at in 0usize..2000, value: u8) {
        let _ = KernelImage::parse(&bytes);
        let _ = gnu_build_id(&bytes);
        let _ = kallsyms::find_in(&bytes, 0);
        let symbols: Vec<(u64, &str)> = (0..300).map(|i| (0xffff_ffff_8100_0000 + i * 16, "tx")).collect();
        let mut tables = kallsyms_tables(&symbols, true);
        let at = at % tables.len();
        tables[at] = value;
        let _ = kallsyms::find_in(&tables, 0xffff_ffff_8200_0000);
    }
}
