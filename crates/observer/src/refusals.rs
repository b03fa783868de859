//! From a record of the kernel's log to the module that was kept out because of a livepatch of ours: the last line of
//! `klp_module_coming` (kernel/livepatch/core.c), whatever the reason was.

use livepatch_observer_api::RefusedModule;
use livepatch_types::ModuleName;

use crate::Livepatches;
use crate::kmsg::Record;
use crate::livepatches::ours;

/// How the line begins, and what stands between the names.
const PATCH: &str = "livepatch: patch '";
const FAILED: &str = "' failed for module '";
const REFUSING: &str = "', refusing to load module '";

/// The module that a record says was kept out. `look` says what livepatches there are: one that does not patch a module of that
/// name keeps none out.
pub fn refused_module(record: Record<'_>, look: impl FnOnce() -> Livepatches) -> Option<RefusedModule> {
    let (livepatch, rest) = record.text.strip_prefix(PATCH)?.split_once(FAILED)?;
    let (module, again) = rest.split_once(REFUSING)?;
    if !record.of_kernel || again.strip_suffix('\'') != Some(module) {
        return None;
    }
    let (livepatch, module) = (ours(livepatch)?, ModuleName::parse(module).ok()?);
    let patches = look().patches(&livepatch, &module);
    patches.then_some(RefusedModule { sequence: record.sequence, livepatch, module })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Debian's 6.1 logs it.
    const REFUSED: &str =
        "livepatch: patch 'livepatch_1_1' failed for module 'cls_u32', refusing to load module 'cls_u32'";

    fn known() -> Livepatches {
        let mut known = Livepatches::default();
        known.add(ModuleName::parse("livepatch_1_1").unwrap(), "cls_u32", "u32_change");
        known.add(ModuleName::parse("livepatch_2_1").unwrap(), "vmlinux", "do_wait");
        known
    }

    fn refused(of_kernel: bool, text: &str) -> Option<RefusedModule> {
        refused_module(Record { of_kernel, sequence: 7, at_us: 0, text }, known)
    }

    #[test]
    fn a_module_that_was_kept_out_is_told() {
        let name = |name| ModuleName::parse(name).unwrap();
        let expected =
            RefusedModule { sequence: 7, livepatch: name("livepatch_1_1"), module: name("cls_u32") };
        assert_eq!(refused(true, REFUSED), Some(expected));
    }

    #[test]
    fn what_does_not_say_so_of_a_module_that_one_of_ours_patches() {
        assert_eq!(refused(false, REFUSED), None, "a process wrote it");
        for text in [
            REFUSED.replace("livepatch: ", ""),
            format!("x {REFUSED}"),
            format!("{REFUSED} "),
            REFUSED.replace("livepatch_1_1", "kpatch_1_1"),
            // One that is not there, one that patches the kernel alone, a module that it does not patch.
            REFUSED.replace("livepatch_1_1", "livepatch_3_1"),
            REFUSED.replace("livepatch_1_1", "livepatch_2_1"),
            REFUSED.replace("cls_u32", "ext4"),
            REFUSED.replace("load module 'cls_u32'", "load module 'ext4'"),
            REFUSED.replace("cls_u32", ""),
            REFUSED.replace("cls_u32", "../x"),
        ] {
            assert_eq!(refused(true, &text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_does_not_panic(before in any::<String>(), between in any::<String>(), after in any::<String>()) {
            let _ = refused(true, &format!("{PATCH}{before}{FAILED}{between}{REFUSING}{after}"));
            let _ = refused(true, &before);
        }
    }
}
