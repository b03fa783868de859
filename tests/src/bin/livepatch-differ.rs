//! Compares one pair of objects and takes the changes out, in a process of its own, so that its time and memory can be
//! measured: `cargo xtask bench builder` calls it. Prints the most memory that it had, in KiB.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap::Parser;
use livepatch_klp::compare::compare;
use livepatch_klp::extract::extract;
use livepatch_klp::{EntrySizes, Refusal, Unit};

/// Compare one pair of objects and take the changes out.
#[derive(Debug, Parser)]
struct Arguments {
    /// Sizes of alt_instr, bug_entry, exception_entry, jump_entry and paravirt_site, in bytes.
    #[arg(long, num_args = 5, value_name = "BYTES")]
    sizes: Vec<u64>,
    /// The original object.
    original: PathBuf,
    /// The patched one.
    patched: PathBuf,
    /// Where the changes go.
    output: PathBuf,
}

fn differ(original: &[u8], patched: &[u8], sizes: &EntrySizes) -> Result<Option<Vec<u8>>, Refusal> {
    let (original, patched) = (Unit::parse(original, sizes)?, Unit::parse(patched, sizes)?);
    let extracted = extract(&original, &patched, &compare(&original, &patched)?, 0)?;
    Ok(extracted.map(|extracted| extracted.object.to_bytes()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let &[alt_instr, bug_entry, exception_entry, jump_entry, paravirt_site] = arguments.sizes.as_slice()
    else {
        return Err("--sizes takes five numbers".into());
    };
    let sizes = EntrySizes { alt_instr, bug_entry, exception_entry, jump_entry, paravirt_site };
    let (original, patched) = (fs::read(&arguments.original)?, fs::read(&arguments.patched)?);
    match differ(&original, &patched, &sizes) {
        Ok(None) => {}
        Ok(Some(object)) => fs::write(&arguments.output, object)?,
        // A result like any other.
        Err(refusal) => eprintln!("refused: {refusal}"),
    }
    // VmHWM of proc(5): the most memory that the process ever had.
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    println!("{}", peak.trim().trim_end_matches("kB").trim());
    Ok(())
}
