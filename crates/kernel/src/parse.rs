//! Parsers of what /proc and /sys say: bytes to values.

use std::time::Duration;

use livepatch_types::{Architecture, BuildId, ModuleName};

use crate::Lockdown;

const NT_GNU_BUILD_ID: u32 = 3;

/// The GNU build-id among ELF notes (gabi "Note Section": name size, descriptor size, type, each a native word, then
/// name and descriptor padded to four bytes). None if there is none or the notes end early.
pub(crate) fn gnu_build_id(notes: &[u8]) -> Option<BuildId> {
    let mut rest = notes;
    loop {
        let (name_size, rest_1) = word(rest)?;
        let (descriptor_size, rest_2) = word(rest_1)?;
        let (kind, rest_3) = word(rest_2)?;
        let (name, rest_4) = padded(rest_3, name_size)?;
        let (descriptor, rest_5) = padded(rest_4, descriptor_size)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return BuildId::from_bytes(descriptor).ok();
        }
        rest = rest_5;
    }
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_ne_bytes(*head), rest))
}

/// The first `size` bytes, and what follows their padding. The last note need not be padded.
fn padded(bytes: &[u8], size: u32) -> Option<(&[u8], &[u8])> {
    let size = size as usize;
    let (head, rest) = bytes.split_at_checked(size)?;
    let padding = (size.next_multiple_of(4) - size).min(rest.len());
    Some((head, &rest[padding..]))
}

/// The first number of /proc/uptime: seconds since the boot (proc(5)).
pub(crate) fn uptime(text: &str) -> Option<Duration> {
    let seconds = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The names in /proc/modules: the first word of each line. Names that are not module names are passed over.
pub(crate) fn module_names(text: &str) -> Vec<ModuleName> {
    let words = text.lines().filter_map(|line| line.split_whitespace().next());
    words.filter_map(|name| ModuleName::parse(name).ok()).collect()
}

/// The file of a module in modules.dep(5): `kernel/net/sched/cls_u32.ko.xz: kernel/…`. Names of files may have `-` where
/// modules have `_`.
pub(crate) fn module_file(list: &str, name: &ModuleName) -> Option<String> {
    let files = list.lines().filter_map(|line| line.split_once(':')).map(|(file, _)| file.trim());
    let is_of = |file: &&str| {
        let base = file.rsplit('/').next().unwrap_or_default();
        base.split_once(".ko").is_some_and(|(stem, _)| stem.replace('-', "_") == name.as_str())
    };
    files.into_iter().find(is_of).map(str::to_owned)
}

/// `[none] integrity confidentiality`: the one in brackets holds.
pub(crate) fn lockdown(text: &str) -> Option<Lockdown> {
    let current = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))?;
    match current {
        "none" => Some(Lockdown::Off),
        "integrity" => Some(Lockdown::Integrity),
        "confidentiality" => Some(Lockdown::Confidentiality),
        _ => None,
    }
}

/// A switch as the kernel writes it: `0`, `1`, `N`, `Y`.
pub(crate) fn switch(text: &str) -> Option<bool> {
    match text.trim_end() {
        "1" | "Y" => Some(true),
        "0" | "N" => Some(false),
        _ => None,
    }
}

/// The architecture by `uname -m`.
pub(crate) fn architecture(machine: &str) -> Option<Architecture> {
    (machine == "x86_64").then_some(Architecture::Amd64)
}

/// Whether this is a kernel that takes modules signed by keys of the firmware, by its /proc/version and, where there is
/// one, /proc/version_signature: Debian and Ubuntu build theirs so. None for others, which may or may not.
pub(crate) fn platform_signs_modules(version: &str, signature: &str) -> Option<bool> {
    let debian = version.contains("(debian-kernel@lists.debian.org)");
    (debian || signature.starts_with("Ubuntu ")).then_some(true)
}
