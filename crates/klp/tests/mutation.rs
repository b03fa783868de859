//! Real objects with flipped bytes and relocations: whatever the differ makes of them, it does not panic, hang or eat
//! memory. `LIVEPATCH_MUTATIONS=100000` for the long run, `LIVEPATCH_MUTATION_SEED` for another one.
//!
//! With `LIVEPATCH_GOLDEN_OBJECTS` kpatch's smaller unit objects are mutated too.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a test that fails")]

mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use livepatch_klp::compare::compare;
use livepatch_klp::debug::DebugInfo;
use livepatch_klp::debug::layout::{self, TypeChanges};
use livepatch_klp::elf::Object;
use livepatch_klp::extract::extract;
use livepatch_klp::finish::finish;
use livepatch_klp::shipped::{ShippedModule, prove};
use livepatch_klp::symvers::Exports;
use livepatch_klp::{Refusal, Unit};
use support::{SIZES, compile, directives};

/// No case may take longer, even in a debug build on a busy machine.
const LONGEST_CASE: Duration = Duration::from_secs(10);
/// The whole run may not need more memory.
const MOST_MEMORY_KIB: u64 = 1 << 20;
/// Larger objects make the run slow and find nothing more.
const LARGEST_OBJECT_BYTES: u64 = 60_000;

/// Xorshift: the same seed makes the same run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
    /// Numbers at which mistakes in arithmetic show.
    fn number(&mut self) -> u64 {
        let edges = [0, 1, 2, 4, 8, 0x7fff_ffff, 0x8000_0000, u64::MAX >> 1, 1 << 63, u64::MAX, u64::MAX - 7];
        match self.below(3) {
            0 => self.next(),
            1 => self.next() % 512,
            _ => edges[self.below(edges.len())],
        }
    }
}

fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    match random.below(5) {
        0 => {
            for _ in 0..=random.below(8) {
                let at = random.below(out.len());
                out[at] ^= 1 << random.below(8);
            }
        }
        // Headers of sections stand at the end, that of the file at the start.
        1 => {
            for _ in 0..=random.below(3) {
                let at = if random.below(4) == 0 {
                    random.below(64)
                } else {
                    out.len().saturating_sub(1 + random.below(3000))
                };
                out[at] = random.next() as u8;
            }
        }
        2 => {
            let width = [2, 4, 8][random.below(3)];
            let at = random.below(out.len().saturating_sub(8)) & !(width - 1);
            let number = random.number().to_le_bytes();
            out[at..at + width].copy_from_slice(&number[..width]);
        }
        3 => {
            let Ok(mut object) = Object::parse(bytes) else { return out };
            for _ in 0..=random.below(4) {
                mutate_meaning(&mut object, random);
            }
            out = object.to_bytes();
        }
        _ => out.truncate(random.below(bytes.len() + 1)),
    }
    out
}

/// A relocation, symbol or section that still reads well but means something else.
fn mutate_meaning(object: &mut Object, random: &mut Random) {
    let symbols = object.symbols.len();
    let with: Vec<usize> =
        (0..object.sections.len()).filter(|i| !object.sections[*i].relocations.is_empty()).collect();
    if random.below(3) > 0 && !with.is_empty() {
        let relocations = &mut object.sections[with[random.below(with.len())]].relocations;
        let at = random.below(relocations.len());
        match random.below(6) {
            0 => relocations[at].offset = random.number(),
            1 => relocations[at].symbol = random.below(symbols),
            2 => relocations[at].addend = random.number().cast_signed(),
            3 => relocations[at].kind = [0, 1, 2, 4, 10, 11, 24][random.below(7)],
            4 => _ = relocations.remove(at),
            _ => relocations[at].offset = relocations[at].offset.wrapping_add(random.next() % 5),
        }
    } else if random.below(2) > 0 {
        let symbol = &mut object.symbols[random.below(symbols)];
        match random.below(3) {
            0 => symbol.value = random.number() % 128,
            1 => symbol.size = random.number() % 128,
            _ => symbol.name.push_str([".1", ".cold", ".isra.0", "."][random.below(4)]),
        }
    } else {
        let names =
            ["__bug_table", ".altinstructions", "__jump_table", ".fixup", ".modinfo", ".text", "__ex_table"];
        let section = random.below(object.sections.len());
        let section = &mut object.sections[section];
        match random.below(3) {
            0 => section.name = names[random.below(names.len())].into(),
            1 => section.flags ^= 1 << random.below(12),
            _ => section.entry_size = random.number(),
        }
    }
}

/// Every step on one pair. Its result does not matter, but what is made reads back.
fn run(original: &[u8], patched: &[u8]) -> Result<usize, Refusal> {
    let exports = Exports::default();
    _ = finish(patched, &BTreeMap::new(), &exports);
    let original_unit = Unit::parse(original, &SIZES)?;
    let unit = Unit::parse(patched, &SIZES)?;
    if let Ok(shipped) = ShippedModule::parse("m", original) {
        _ = prove(&unit, &shipped);
    }
    let comparison = compare(&original_unit, &unit)?;
    let Some(extracted) = extract(&original_unit, &unit, &comparison, 0)? else { return Ok(0) };
    let bytes = extracted.object.to_bytes();
    assert_eq!(Object::parse(&bytes)?.to_bytes(), bytes, "what was extracted does not read back");
    Ok(extracted.functions.len())
}

/// Types and functions of a pair that has debug information. Its result does not matter, but a unit is like itself.
fn run_debug(original: &[u8], patched: &[u8]) -> Option<()> {
    let read = |bytes| DebugInfo::read(&Object::parse(bytes).ok()?).ok()?;
    let (old, new) = (read(original)?, read(patched)?);
    _ = new.functions();
    for change in layout::compare(&old, &new).ok()?.layouts {
        assert!(!change.place().is_empty() && !change.why().is_empty());
    }
    assert_eq!(layout::compare(&new, &new).ok()?, TypeChanges::default());
    Some(())
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn pairs() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out = Vec::new();
    for (directory, option) in [("cases", "-g0"), ("layouts", "-g")] {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(directory);
        let mut paths: Vec<_> = std::fs::read_dir(cases).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        for case in paths {
            let more = directives(&case, "flags").join(" ");
            let flags: Vec<&str> = [option].into_iter().chain(more.split_whitespace()).collect();
            out.push((compile(&case, false, &flags), compile(&case, true, &flags)));
        }
    }
    let objects = std::env::var_os("LIVEPATCH_GOLDEN_OBJECTS");
    for path in objects.iter().flat_map(|d| std::fs::read_dir(d).unwrap()).map(|e| e.unwrap().path()) {
        let name = path.to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".ORIG.o") else { continue };
        let patched = format!("{stem}.PATCHED.o");
        if path.metadata().unwrap().len() < LARGEST_OBJECT_BYTES && Path::new(&patched).exists() {
            out.push((std::fs::read(&path).unwrap(), std::fs::read(patched).unwrap()));
        }
    }
    out
}

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn no_bytes_make_it_panic_hang_or_eat_memory() {
    let pairs = pairs();
    let (cases, seed) = (number("LIVEPATCH_MUTATIONS", 20_000), number("LIVEPATCH_MUTATION_SEED", 1));
    let (mut panicked, mut accepted, mut refused, mut read) = (Vec::new(), 0, 0, 0);
    let mut longest = Duration::ZERO;
    for case in 0..cases {
        let mut random = Random((seed << 32 | case).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        let (original, patched) = &pairs[random.below(pairs.len())];
        let (mut a, mut b) = (original.clone(), patched.clone());
        match random.below(4) {
            0 => a = mutate(&a, &mut random),
            1 => {
                a = mutate(&a, &mut random);
                b = mutate(&b, &mut random);
            }
            _ => b = mutate(&b, &mut random),
        }
        let start = Instant::now();
        let both = || {
            read += u64::from(run_debug(&a, &b).is_some());
            run(&a, &b)
        };
        match catch_unwind(AssertUnwindSafe(both)) {
            Ok(Ok(_)) => accepted += 1,
            Ok(Err(_)) => refused += 1,
            Err(_) => panicked.push(case),
        }
        longest = longest.max(start.elapsed());
        assert!(longest < LONGEST_CASE, "case {case} of seed {seed} took {longest:?}");
    }
    let peak = peak_memory_kib();
    println!(
        "{cases} mutations: {accepted} accepted, {refused} refused, {read} with types that read, {} panics; longest {longest:?}, peak {peak} KiB",
        panicked.len()
    );
    assert!(panicked.is_empty(), "cases of seed {seed} that panicked: {panicked:?}");
    assert!(peak < MOST_MEMORY_KIB, "{peak} KiB");
}
