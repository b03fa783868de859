//! Whether two compilations of a function differ in nothing but source lines that it reports.
//!
//! A line that moves changes `__LINE__` in every function below it. Taking "some number differs" for "a line
//! differs" would lose real changes, so the number must be loaded into the register of an argument that is known to
//! be a source line, and nothing but that call may see it: from the load, code must run straight to the call without
//! touching the register, and the call must be the same on both sides.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register,
};

use crate::unit::{Item, Reference, Target, Unit};

/// Functions that are told a source line, and which argument it is, from 0. They print or keep it for diagnosis. Each
/// row was checked against its declaration in Debian's 6.1 and 6.12 sources, in the file named above it, but for those
/// that say otherwise. A wrong row would hide a change: where arguments move between versions, a row is right only if
/// the argument can be no number in the others.
const LINE_ARGUMENT: [(&str, usize); 26] = [
    // include/linux/kernel.h
    ("__might_sleep", 1),
    // Before 5.16, not in 6.1: file, line, offset of the count, as objects of such kernels call it.
    ("___might_sleep", 1),
    ("__might_resched", 1),
    ("__might_fault", 1),
    ("__cant_sleep", 1),
    ("__cant_migrate", 1),
    // include/asm-generic/bug.h
    ("warn_slowpath_fmt", 1),
    // include/linux/lockdep.h
    ("lockdep_rcu_suspicious", 1),
    // fs/btrfs/messages.h, ctree.h before 6.2
    ("__btrfs_abort_transaction", 2),
    ("__btrfs_handle_fs_error", 2),
    ("__btrfs_panic", 2),
    // fs/ext4/ext4.h
    ("__ext4_error", 2),
    ("__ext4_error_inode", 2),
    ("__ext4_error_file", 2),
    ("__ext4_std_error", 2),
    ("__ext4_warning", 2),
    ("__ext4_warning_inode", 2),
    ("__ext4_grp_locked_error", 1),
    ("__ext4_check_dir_entry", 1),
    ("__ext4_iget", 4),
    // Before 6.2; the superblock since, which is never an immediate number. There the line is argument 2, which was the
    // type of the transaction before, so that it has no row.
    ("__ext4_journal_start_sb", 1),
    // fs/ext4/ext4_jbd2.h
    ("__ext4_journal_stop", 1),
    ("__ext4_journal_get_write_access", 1),
    ("__ext4_journal_get_create_access", 1),
    ("__ext4_handle_dirty_metadata", 1),
    ("__ext4_forget", 1),
];

/// Functions that are told a line only when the argument before it is a file's name (ASSERT_RTNL,
/// include/linux/rtnetlink.h, and its like), or a function's, and the text announces a line ("… in %s() at line %d").
const LINE_AFTER_FILE: [&str; 3] = ["printk", "_printk", "__warn_printk"];

/// Registers of arguments (psABI, "Parameter Passing").
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// Whether the bytes of two functions, whose references are the same, differ only in lines that they report.
pub(crate) fn only_lines_differ(original: &Unit, a: &Item, patched: &Unit, b: &Item) -> bool {
    let (x, y) = (original.bytes(a), patched.bytes(b));
    if x.len() != y.len() {
        return false;
    }
    let (old, new) = (decode(x), decode(y));
    if old.len() != new.len() {
        return false;
    }
    old.iter().zip(&new).enumerate().all(|(index, (i, j))| {
        let (start, end) = (i.ip() as usize, i.next_ip() as usize);
        j.next_ip() as usize == end
            && (x[start..end] == y[start..end]
                || i.code() == Code::Mov_r32_imm32
                    && j.code() == Code::Mov_r32_imm32
                    && i.op0_register() == j.op0_register()
                    && at(&b.references, j).is_none()
                    && only_tells_a_line(&new, index, patched, b))
    })
}

fn decode(code: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE).into_iter().collect()
}

/// The reference whose field is in this instruction.
fn at<'r>(references: &'r [Reference], instruction: &Instruction) -> Option<&'r Reference> {
    references.iter().find(|r| (instruction.ip()..instruction.next_ip()).contains(&r.offset))
}

/// Whether the number that the instruction loads reaches only a call that takes it for a line.
fn only_tells_a_line(code: &[Instruction], load: usize, unit: &Unit, function: &Item) -> bool {
    let register = code[load].op0_register().full_register();
    let Some(argument) = ARGUMENTS.iter().position(|r| *r == register) else { return false };
    let next = code.iter().enumerate().skip(load + 1);
    for (index, instruction) in next {
        match instruction.flow_control() {
            FlowControl::Next if touches(instruction, register) => return false,
            FlowControl::Next => {}
            FlowControl::Call | FlowControl::UnconditionalBranch => {
                let Some(Reference { target: Target::External { name, offset: 0 }, branch: true, .. }) =
                    at(&function.references, instruction)
                else {
                    return false;
                };
                return LINE_ARGUMENT.contains(&(name, argument))
                    || LINE_AFTER_FILE.contains(&name.as_str())
                        && argument > 0
                        && is_place(&code[..index], argument, unit, function);
            }
            _ => return false,
        }
    }
    false
}

fn touches(instruction: &Instruction, register: Register) -> bool {
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(instruction).used_registers().iter();
    used.filter(|u| u.access() != OpAccess::None).any(|u| u.register().full_register() == register)
}

/// Whether the argument before the number says where in the source it is, in the straight code before a call.
fn is_place(before: &[Instruction], number: usize, unit: &Unit, function: &Item) -> bool {
    let loaded = |argument: usize| loaded(before, ARGUMENTS[argument], function);
    match loaded(number - 1) {
        Some(Target::Literal { bytes, offset: 0, .. }) => {
            [b".c\0", b".h\0"].iter().any(|end| bytes.ends_with(*end))
        }
        Some(Target::Item { item, offset: 0 }) => {
            let name = crate::compare::plain_name(unit.items[*item].name());
            let announces = |text: &[u8]| {
                let text = String::from_utf8_lossy(text).to_lowercase();
                ["line %d", "line %u", "line=%d", "line: %d", "%s:%d", "%s:%u"]
                    .iter()
                    .any(|w| text.contains(w))
            };
            ["__func__", "__FUNCTION__"].contains(&name.trim_end_matches('.'))
                && matches!(loaded(0), Some(Target::Literal { bytes, offset: 0, .. }) if announces(bytes))
        }
        _ => false,
    }
}

/// Whether two texts that differ do so only in a line behind the name of a source file, as the preprocessor writes `FILE_LINE`
/// (include/linux/fortify-string.h, include/linux/stringify.h): `… at drivers/a.c:17`.
pub(crate) fn same_but_for_a_line(x: &[u8], y: &[u8]) -> bool {
    let common = x.iter().zip(y).take_while(|(a, b)| a == b).count();
    let start = x[..common].iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
    let number = |text: &[u8]| text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (i, j) = (number(x), number(y));
    i > 0
        && j > 0
        && [&b".c:"[..], b".h:"].iter().any(|end| x[..start].ends_with(end))
        && x[start + i..] == y[start + j..]
}

/// What a register holds at the end of straight code, if its address was loaded there.
fn loaded<'f>(before: &[Instruction], register: Register, function: &'f Item) -> Option<&'f Target> {
    let straight = before.iter().rev().take_while(|i| i.flow_control() == FlowControl::Next);
    let load = straight.into_iter().find(|i| touches(i, register))?;
    let loads = load.op0_register().full_register() == register;
    at(&function.references, load).filter(|_| loads).map(|reference| &reference.target)
}

#[cfg(test)]
mod tests {
    use super::same_but_for_a_line;

    #[test]
    fn only_a_line_behind_a_file_may_differ() {
        for (x, y, same) in [
            ("field \"a\" at net/core/dev.c:99\0", "field \"a\" at net/core/dev.c:100\0", true),
            ("at a.h:17, twice\0", "at a.h:18, twice\0", true),
            ("field \"a\" at dev.c:99\0", "field \"b\" at dev.c:99\0", false),
            ("at a.c:17 of 3\0", "at a.c:18 of 4\0", false),
            ("at a.c:17\0", "at a.c:\0", false),
            ("limit:17\0", "limit:18\0", false),
            ("17\0", "18\0", false),
            ("a.c:\0", "a.c:1\0", false),
            ("", "", false),
        ] {
            assert_eq!(same_but_for_a_line(x.as_bytes(), y.as_bytes()), same, "{x:?} {y:?}");
        }
    }
}
