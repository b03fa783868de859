//! What a section of a kernel object means: the table that everything else walks by.

use crate::elf::{Section, constants, relocation};

/// Sizes in bytes of table entries, read from a probe unit compiled in the target tree: never guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntrySizes {
    /// `struct alt_instr`
    pub alt_instr: u64,
    /// `struct bug_entry`
    pub bug_entry: u64,
    /// `struct exception_table_entry`
    pub exception_entry: u64,
    /// `struct jump_entry`
    pub jump_entry: u64,
    /// `struct paravirt_patch_site`; 0 where the kernel has none.
    pub paravirt_site: u64,
}

/// A table whose every entry belongs to the code that its first field points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialTable {
    /// Length of one entry in bytes.
    pub entry_size: u64,
    /// Length of the last entry, where the compiler leaves out its padding.
    pub last_entry_size: u64,
    /// What to do with the entries of code that is part of the livepatch.
    pub fate: Fate,
    /// Which instruction the first field means.
    pub mark: Mark,
}

/// Which instruction the first field of an entry means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The one that it points at.
    This,
    /// The one that ends there, which may be the end of the code.
    Previous,
}

/// What becomes of an entry when its code is taken into a livepatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes along.
    Keep,
    /// It goes along; bytes from `line_at` on, two of them, are a source line and never count as a change.
    KeepIgnoringLine {
        /// Offset of the line number in the entry.
        line_at: u64,
    },
    /// Its code holds a constant that the kernel writes at boot, into its own code only: such code cannot go along.
    RuntimeConstant,
    /// It is left behind: it only keeps the linker from dropping something, or is made anew by objtool.
    Drop,
}

/// What a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Code that stays: functions.
    Code,
    /// Code or data that is freed after boot or load, or used only at unload.
    Init,
    /// Variables and constants.
    Data,
    /// Mergeable strings.
    Strings,
    /// Mergeable constants of `entry_size` bytes.
    Constants,
    /// A table of entries that belong to code.
    Special(SpecialTable),
    /// A table that is read once (exports, parameters, module information): must not change, is never taken along.
    ReadOnce,
    /// Made by the compiler for debuggers and linkers and not loaded, or made anew by the target's objtool.
    Ignored,
    /// Marks of the patch's author ([`crate::author`]).
    Author,
    /// None of these: fatal when it points into the livepatch.
    Unknown,
}

/// Code sections of their own (include/asm-generic/vmlinux.lds.h). `.noinstr.text` and `.entry.text` are never
/// traceable, which the differ finds by the missing fentry.
const CODE: [&str; 12] = [
    ".text",
    ".noinstr.text",
    ".sched.text",
    ".spinlock.text",
    ".kprobes.text",
    ".cpuidle.text",
    ".entry.text",
    ".irqentry.text",
    ".softirqentry.text",
    ".altinstr_aux",
    // Trampolines of static calls; objtool knows the calls to them by name.
    ".static_call.text",
    // Before 5.16: where exceptions go on, jumping back into the function (arch/x86/include/asm/asm.h).
    ".fixup",
];

/// Tables of an object that objtool has seen. Extraction leaves them behind, because objtool of the target runs over
/// the extracted object again (tools/objtool/elf.c and check.c, `elf_create_section`). `.printk_index` only feeds
/// debugfs (kernel/printk/index.c), the last one is for architectures without `__mcount_loc`.
const IGNORED: [&str; 11] = [
    ".orc_unwind",
    ".orc_unwind_ip",
    ".orc_header",
    ".return_sites",
    ".retpoline_sites",
    ".call_sites",
    ".static_call_sites",
    ".ibt_endbr_seal",
    ".cfi_sites",
    ".printk_index",
    "__patchable_function_entries",
];

/// Marks for objtool, each entry a pointer to an instruction or function (tools/objtool/check.c, the functions that
/// `decode_sections` calls).
const ANNOTATIONS: [&str; 10] = [
    ".discard.instr_begin",
    ".discard.instr_end",
    ".discard.retpoline_safe",
    ".discard.ignore_alts",
    ".discard.intra_function_calls",
    ".discard.noendbr",
    ".discard.ibt_endbr_noseal",
    ".discard.validate_unret",
    ".discard.func_stack_frame_non_standard",
    ".discard.func_stack_frame_non_standard_fp",
];

const READ_ONCE: [&str; 14] = [
    ".modinfo",
    "__param",
    "__modver",
    ".export_symbol",
    ".initcall",
    ".con_initcall",
    "__syscalls_metadata",
    // Tracepoints and trace events are registered at boot or load (include/linux/tracepoint.h, trace/trace_events.h).
    "__tracepoints",
    "__tracepoints_ptrs",
    "__tracepoints_strings",
    "__bpf_raw_tp_map",
    "_ftrace_events",
    "_ftrace_eval_map",
    // Functions that fault injection may override: the patched ones no longer can be.
    "_error_injection_whitelist",
];

fn is_or_below(name: &str, base: &str) -> bool {
    name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Length of the pointers that a table consists of.
fn pointer_bytes(section: &Section) -> u64 {
    section.relocations.first().and_then(|r| relocation::width(r.kind)).unwrap_or(4)
}

/// Decides by name and flags. The order matters: exact tables, then families of names.
pub fn classify(section: &Section, sizes: &EntrySizes) -> Class {
    let name = section.name.as_str();
    let table = |entry_size, fate| {
        Class::Special(SpecialTable { entry_size, last_entry_size: entry_size, fate, mark: Mark::This })
    };
    match name {
        "__mcount_loc" => return table(8, Fate::Keep),
        "__bug_table" => return table(sizes.bug_entry, Fate::KeepIgnoringLine { line_at: 8 }),
        "__ex_table" => return table(sizes.exception_entry, Fate::Keep),
        "__jump_table" => return table(sizes.jump_entry, Fate::Keep),
        ".altinstructions" => return table(sizes.alt_instr, Fate::Keep),
        ".parainstructions" => {
            // Pointer, type, length, before 5.0 also clobbered registers; aligned to 8
            // (arch/x86/include/asm/paravirt_types.h, `_paravirt_alt`).
            let (entry_size, last_entry_size) = (sizes.paravirt_site, sizes.paravirt_site.min(10));
            let (fate, mark) = (Fate::Keep, Mark::This);
            return Class::Special(SpecialTable { entry_size, last_entry_size, fate, mark });
        }
        ".smp_locks" | ".kcfi_traps" => return table(4, Fate::Keep),
        // Where kprobes must not go; modules have this table too since 5.8.
        "_kprobe_blacklist" => return table(8, Fate::Keep),
        name if IGNORED.contains(&name) => return Class::Ignored,
        // Read by objtool of the target, dropped by the final link (scripts/module.lds.S). Pointers are 8 bytes long
        // before 6.5, then most have 4 (include/linux/objtool.h, arch/x86/include/asm/nospec-branch.h).
        name if ANNOTATIONS.contains(&name) => return table(pointer_bytes(section), Fate::Keep),
        // tools/objtool/check.c, add_dead_ends
        ".discard.reachable" | ".discard.unreachable" => {
            let (fate, mark) = (Fate::Keep, Mark::Previous);
            return Class::Special(SpecialTable { entry_size: 4, last_entry_size: 4, fate, mark });
        }
        ".discard.addressable" => return table(8, Fate::Drop),
        ".altinstr_replacement" => return Class::Code,
        _ => {}
    }
    // A distance of 4 bytes per place (arch/x86/include/asm/runtime-const.h).
    if ["runtime_ptr_", "runtime_shift_"].iter().any(|family| name.starts_with(family)) {
        return table(4, Fate::RuntimeConstant);
    }
    if name.starts_with(".discard") {
        return Class::Unknown;
    }
    if section.is_debug() || !section.has(constants::ALLOC) {
        return Class::Ignored;
    }
    if section.kind == constants::NOTE {
        return Class::Ignored;
    }
    if name.starts_with(crate::author::SECTIONS) {
        return Class::Author;
    }
    if READ_ONCE.iter().any(|base| is_or_below(name, base)) {
        return Class::ReadOnce;
    }
    // Exports: `___ksymtab_gpl+NAME` and, before linking, any other of the families (include/linux/export.h).
    if ["___ksymtab", "___kcrctab", "__ksymtab", "__kcrctab"].iter().any(|family| name.starts_with(family)) {
        return Class::ReadOnce;
    }
    // `.initcall6.init` and the like.
    if name.starts_with(".initcall") || name.starts_with(".con_initcall") {
        return Class::ReadOnce;
    }
    // `.exitcall.exit` has the pointers to what runs at the end (include/linux/init.h, `__exitcall`): vmlinux drops it.
    for base in [".init", ".exit", ".exitcall", ".ref", ".meminit", ".memexit", ".cpuinit", ".cpuexit"] {
        if is_or_below(name, base) {
            return Class::Init;
        }
    }
    // Mergeable sections are never code, whatever their name.
    if section.is_strings() {
        return Class::Strings;
    }
    if section.has(constants::MERGE) {
        return Class::Constants;
    }
    if section.is_code() {
        return if CODE.iter().any(|base| is_or_below(name, base)) { Class::Code } else { Class::Unknown };
    }
    // `__dyndbg`, `__verbose` before 5.7, holds the descriptors of dynamic debug: a module has such an array of its own.
    for base in [".rodata", ".data", ".bss", "__dyndbg", "__verbose"] {
        if is_or_below(name, base) {
            return Class::Data;
        }
    }
    Class::Unknown
}
