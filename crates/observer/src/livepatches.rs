//! Which functions our livepatches replace: `/sys/kernel/livepatch/PATCH/OBJECT/FUNCTION,POSITION`.

use std::collections::BTreeMap;
use std::path::Path;

use livepatch_types::{ModuleName, PatchVersion};

use crate::Frame;

/// The kernel's own object.
const VMLINUX: &str = "vmlinux";
/// What is beyond is not looked at: a livepatch has hundreds of functions at most.
const MOST_ENTRIES: usize = 1 << 16;

/// The functions of our livepatches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Livepatches {
    /// Function and object; by whom.
    functions: BTreeMap<(String, String), Vec<ModuleName>>,
}

impl Livepatches {
    /// Reads them below a root.
    pub fn read(root: &Path) -> Self {
        let mut all = Self::default();
        let mut left = MOST_ENTRIES;
        let mut names = |path: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten().take(left);
            let names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            left -= names.len();
            names
        };
        let directory = root.join("sys/kernel/livepatch");
        for patch in names(&directory) {
            let Some(livepatch) = ours(&patch) else { continue };
            for object in names(&directory.join(&patch)) {
                for function in names(&directory.join(&patch).join(&object)) {
                    if let Some((function, _)) = function.split_once(',') {
                        all.add(livepatch.clone(), &object, function);
                    }
                }
            }
        }
        all
    }

    /// Adds a function of an object.
    pub fn add(&mut self, livepatch: ModuleName, object: &str, function: &str) {
        self.functions.entry((function.to_owned(), object.to_owned())).or_default().push(livepatch);
    }

    /// The livepatches of ours whose code this is, or whose function by its name.
    pub fn of(&self, frame: Frame<'_>) -> Vec<ModuleName> {
        if let Some(livepatch) = frame.module.and_then(ours) {
            return vec![livepatch];
        }
        let key = (frame.function.to_owned(), frame.module.unwrap_or(VMLINUX).to_owned());
        self.functions.get(&key).cloned().unwrap_or_default()
    }

    /// Whether a livepatch replaces functions of a module.
    pub fn patches(&self, livepatch: &ModuleName, module: &ModuleName) -> bool {
        let of = |object: &str| object != VMLINUX && object == module.as_str();
        self.functions.iter().any(|((_, object), by)| of(object) && by.contains(livepatch))
    }
}

/// The name of a livepatch of ours.
pub(crate) fn ours(name: &str) -> Option<ModuleName> {
    let name = ModuleName::parse(name).ok()?;
    PatchVersion::of_module(&name).map(|_| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_object() {
        let root = tempfile::tempdir().unwrap();
        let patches = root.path().join("sys/kernel/livepatch");
        for path in [
            "livepatch_1_1/vmlinux/cmdline_proc_show,1",
            "livepatch_1_1/cls_u32/u32_change,1",
            "livepatch_2_1/vmlinux/cmdline_proc_show,1",
            "kpatch_x/vmlinux/do_wait,1",
        ] {
            std::fs::create_dir_all(patches.join(path)).unwrap();
        }
        std::fs::write(patches.join("livepatch_1_1/enabled"), "1").unwrap();
        let all = Livepatches::read(root.path());
        for (function, module, mut expected) in [
            ("cmdline_proc_show", None, vec!["livepatch_1_1", "livepatch_2_1"]),
            ("cmdline_proc_show", Some("ext4"), vec![]),
            ("u32_change", Some("cls_u32"), vec!["livepatch_1_1"]),
            ("u32_change", None, vec![]),
            ("anything", Some("livepatch_9_9"), vec!["livepatch_9_9"]),
            ("anything", Some("livepatch_x"), vec![]),
            ("do_wait", None, vec![]),
        ] {
            let mut found: Vec<_> =
                all.of(Frame { function, module }).iter().map(|name| name.as_str().to_owned()).collect();
            found.sort();
            expected.sort_unstable();
            assert_eq!(found, expected, "{function} {module:?}");
        }
        let name = |name| ModuleName::parse(name).unwrap();
        let patches = |livepatch, module| all.patches(&name(livepatch), &name(module));
        assert!(patches("livepatch_1_1", "cls_u32"));
        assert!(!patches("livepatch_2_1", "cls_u32") && !patches("livepatch_1_1", "ext4"));
        assert!(!patches("livepatch_1_1", "vmlinux"), "it is no module");
        assert_eq!(Livepatches::read(Path::new("/no/such/root")), Livepatches::default());
    }
}
