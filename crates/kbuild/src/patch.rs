//! A source patch: untrusted text whose paths must stay inside the tree.

use std::collections::BTreeSet;
use std::path::Path;

use diffy::Patch;
use diffy::patch_set::{FileOperation, ParseOptions, PatchKind, PatchSet};

use crate::KbuildError;

/// Largest patch, in bytes.
const MAX_PATCH_BYTES: usize = 4 << 20;

/// Parts of the source tree that no kernel is made of.
const WITHOUT_EFFECT: [&str; 6] =
    ["Documentation/", "tools/", "samples/", "MAINTAINERS", "CREDITS", ".mailmap"];

/// A parsed patch.
#[derive(Debug)]
pub struct SourcePatch {
    /// Path, and that file's part of the patch.
    files: Vec<(String, String)>,
}

/// A source file after the patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchedFile {
    /// Path in the source tree, relative, without `..`.
    pub path: String,
    /// The whole new content.
    pub content: String,
}

impl SourcePatch {
    /// Reads a unified diff with `a/` and `b/` paths.
    pub fn parse(text: &str) -> Result<Self, KbuildError> {
        let bad = |why: String| KbuildError::Patch(why);
        if text.len() > MAX_PATCH_BYTES {
            return Err(bad(format!("has {} bytes, more than any livepatch should need", text.len())));
        }
        let none = "holds no changes: no --- and +++ lines with hunks were found";
        if !text.lines().any(|line| line.starts_with("@@ ")) {
            return Err(bad(none.into()));
        }
        let git = text.lines().any(|line| line.starts_with("diff --git "));
        let options = if git { ParseOptions::gitdiff() } else { ParseOptions::unidiff() };
        let mut files = Vec::new();
        let mut seen = BTreeSet::new();
        for file in PatchSet::parse(text, options) {
            let file = file.map_err(|error| bad(format!("does not parse: {error}")))?;
            let path = match file.operation().strip_prefix(1) {
                FileOperation::Modify { original, modified } if original == modified => {
                    checked_path(&modified)?
                }
                FileOperation::Create(path) | FileOperation::Delete(path) => {
                    return Err(KbuildError::Scope(format!(
                        "adds or removes the file {path}, which is not supported yet"
                    )));
                }
                _ => {
                    return Err(KbuildError::Scope(
                        "renames or copies a file, which is not supported yet".into(),
                    ));
                }
            };
            let PatchKind::Text(patch) = file.patch() else {
                return Err(KbuildError::Scope(format!("changes the binary file {path}")));
            };
            if !seen.insert(path.clone()) {
                return Err(bad(format!("names {path} twice")));
            }
            files.push((path, patch.to_string()));
        }
        if files.is_empty() {
            return Err(bad(none.into()));
        }
        Ok(Self { files })
    }

    /// The files it changes.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(path, _)| path.as_str())
    }

    /// The C files and headers it changes. Documentation and the like has no effect on a kernel and is passed over;
    /// what changes a kernel in another way than through the compiler is refused.
    pub fn sources(&self) -> Result<Vec<&str>, KbuildError> {
        let mut out = Vec::new();
        for path in self.paths() {
            if WITHOUT_EFFECT.iter().any(|start| path.starts_with(start)) || path.ends_with(".rst") {
                continue;
            }
            if path.ends_with(".c") || path.ends_with(".h") {
                out.push(path);
            } else if path.ends_with(".S") {
                let why = format!("changes the assembly file {path}, which cannot be livepatched");
                return Err(KbuildError::Scope(why));
            } else {
                return Err(KbuildError::Scope(format!("changes {path}, which the compiler does not see")));
            }
        }
        if out.is_empty() {
            return Err(KbuildError::Scope("changes nothing that is compiled into the kernel".into()));
        }
        Ok(out)
    }

    /// Applies the patch to a source tree and what earlier patches of the same livepatch made of it: their files are
    /// in `files`, and those of this patch are added or replaced there. Hunks must fit exactly, but may have moved.
    pub fn apply(&self, tree: &Path, files: &mut Vec<PatchedFile>) -> Result<(), KbuildError> {
        let mut made = Vec::new();
        for (path, patch) in &self.files {
            let does_not_apply = |why: String| KbuildError::DoesNotApply { file: path.clone(), why };
            let before = match files.iter().find(|file| file.path == *path) {
                Some(file) => file.content.clone(),
                None => {
                    let file = tree.join(path);
                    if !file.is_file() {
                        return Err(does_not_apply("the source has no such file".into()));
                    }
                    let bytes = std::fs::read(&file).map_err(KbuildError::io("read", &file))?;
                    String::from_utf8(bytes).map_err(|_| does_not_apply("it is not UTF-8 text".into()))?
                }
            };
            let patch = Patch::from_str(patch)
                .map_err(|error| KbuildError::Patch(format!("does not parse: {error}")))?;
            let content = diffy::apply(&before, &patch).map_err(|error| does_not_apply(error.to_string()))?;
            made.push(PatchedFile { path: path.clone(), content });
        }
        for file in made {
            files.retain(|earlier| earlier.path != file.path);
            files.push(file);
        }
        Ok(())
    }
}

/// A relative path of plain components: nothing else may come near the file system.
fn checked_path(path: &str) -> Result<String, KbuildError> {
    // By hand: `Path::components` passes over `a//b`, `a/./b` and `a/`, second spellings of a file.
    let plain = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    let safe = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+-,".contains(&b));
    if plain && safe && !path.is_empty() && path.len() < 256 && !path.starts_with('-') {
        Ok(path.to_owned())
    } else {
        Err(KbuildError::Patch(format!("names the path {path:?}, which is not inside the source tree")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIX: &str =
        "fix\n\n--- a/kernel/x.c\n+++ b/kernel/x.c\n@@ -1,3 +1,4 @@\n one\n+more\n two\n three\n";

    #[test]
    fn a_patch_applies_where_it_fits() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("kernel")).unwrap();
        std::fs::write(tree.path().join("kernel/x.c"), "zero\none\ntwo\nthree\n").unwrap();
        let patch = SourcePatch::parse(FIX).unwrap();
        assert_eq!(patch.sources().unwrap(), ["kernel/x.c"]);
        let mut files = Vec::new();
        patch.apply(tree.path(), &mut files).unwrap();
        assert_eq!(files[0].content, "zero\none\nmore\ntwo\nthree\n");
        let again = SourcePatch::parse(&FIX.replace("+more", "+again").replace(" two\n", " more\n")).unwrap();
        assert!(
            again.apply(tree.path(), &mut files).is_err(),
            "the context of line three is another one now"
        );
        assert_eq!(files.len(), 1, "a patch that does not apply changes nothing");
        let next = FIX.replace("+more", "+again").replace("@@ -1,3 +1,4 @@\n one", "@@ -2,3 +2,4 @@\n more");
        SourcePatch::parse(&next).unwrap().apply(tree.path(), &mut files).unwrap();
        assert_eq!(files[0].content, "zero\none\nmore\nagain\ntwo\nthree\n");
        std::fs::write(tree.path().join("kernel/x.c"), "something else\n").unwrap();
        assert!(matches!(patch.apply(tree.path(), &mut Vec::new()), Err(KbuildError::DoesNotApply { .. })));
    }

    #[test]
    fn what_is_refused() {
        for path in [
            "../../etc/passwd",
            "/etc/passwd",
            "kernel/../../x.c",
            "kernel/$(x).c",
            "a b.c",
            "kernel//x.c",
            "kernel/./x.c",
        ] {
            let text = FIX.replace("kernel/x.c", path);
            assert!(SourcePatch::parse(&text).is_err(), "{path}");
        }
        assert!(SourcePatch::parse("").is_err());
        assert!(SourcePatch::parse("no patch at all\n").is_err());
        for path in ["arch/x86/entry/x.S", "Documentation/x.rst", "kernel/Makefile"] {
            let patch = SourcePatch::parse(&FIX.replace("kernel/x.c", path)).unwrap();
            assert!(matches!(patch.sources(), Err(KbuildError::Scope(_))), "{path}");
        }
        let both = format!("{FIX}{}", FIX.replace("kernel/x.c", "Documentation/x.txt"));
        assert_eq!(SourcePatch::parse(&both).unwrap().sources().unwrap(), ["kernel/x.c"]);
        let created = "--- /dev/null\n+++ b/kernel/new.c\n@@ -0,0 +1 @@\n+int x;\n";
        assert!(matches!(SourcePatch::parse(created), Err(KbuildError::Scope(_))));
    }
}
