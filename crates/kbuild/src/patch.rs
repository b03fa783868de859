//! A source patch: untrusted text whose paths must stay inside the tree.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use diffy::Patch;
use diffy::patch_set::{FileOperation, ParseOptions, PatchKind, PatchSet};

use crate::KbuildError;
use crate::inside::{Inside, Links};

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

/// How a patch stands to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatchState {
    /// It applies.
    Applies,
    /// All of it is there already.
    Contained,
    /// These files have it, the others do not.
    InPart(Vec<String>),
    /// Neither.
    DoesNotApply {
        /// The file.
        file: String,
        /// What of it.
        why: String,
    },
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

    /// Whether the source, with what earlier patches made of it, has the patch already: its hunks are then found
    /// backwards.
    pub fn state(&self, tree: &Path, files: &[PatchedFile]) -> Result<PatchState, KbuildError> {
        let mut contained = Vec::new();
        for (path, patch) in &self.files {
            let content = match content_of(path, tree, files) {
                Err(KbuildError::DoesNotApply { file, why }) => {
                    return Ok(PatchState::DoesNotApply { file, why });
                }
                content => content?,
            };
            let patch = parsed(patch)?;
            match (diffy::apply(&content, &patch), diffy::apply(&content, &patch.reverse())) {
                (Ok(_), Err(_)) => {}
                (Err(_), Ok(_)) => contained.push(path.clone()),
                (Err(error), Err(_)) => {
                    return Ok(PatchState::DoesNotApply { file: path.clone(), why: error.to_string() });
                }
                (Ok(_), Ok(_)) => {
                    let why = "it fits forwards and backwards, so whether the source has it cannot be told";
                    return Ok(PatchState::DoesNotApply { file: path.clone(), why: why.into() });
                }
            }
        }
        Ok(match contained.len() {
            0 => PatchState::Applies,
            all if all == self.files.len() => PatchState::Contained,
            _ => PatchState::InPart(contained),
        })
    }

    /// Applies the patch to a source tree and what earlier patches of the same livepatch made of it: their files are
    /// in `files`, and those of this patch are added or replaced there. Hunks must fit exactly, but may have moved.
    pub fn apply(&self, tree: &Path, files: &mut Vec<PatchedFile>) -> Result<(), KbuildError> {
        let mut made = Vec::new();
        for (path, patch) in &self.files {
            let before = content_of(path, tree, files)?;
            let content = diffy::apply(&before, &parsed(patch)?)
                .map_err(|error| KbuildError::DoesNotApply { file: path.clone(), why: error.to_string() })?;
            made.push(PatchedFile { path: path.clone(), content });
        }
        for file in made {
            files.retain(|earlier| earlier.path != file.path);
            files.push(file);
        }
        Ok(())
    }
}

/// The content of a file after what earlier patches made of it.
fn content_of(path: &str, tree: &Path, files: &[PatchedFile]) -> Result<String, KbuildError> {
    if let Some(file) = files.iter().find(|file| file.path == path) {
        return Ok(file.content.clone());
    }
    let does_not_apply = |why: &str| KbuildError::DoesNotApply { file: path.to_owned(), why: why.to_owned() };
    let source = Inside::open(tree).map_err(KbuildError::io("read", tree))?;
    let bytes = source.read(path, Links::Refused).map_err(|error| match error.kind() {
        ErrorKind::NotFound => does_not_apply("the source has no such file"),
        // A link, in the last name or before, is ELOOP; what leaves the tree EXDEV.
        _ => does_not_apply(&format!("it is no plain file of the source ({error})")),
    })?;
    String::from_utf8(bytes).map_err(|_| does_not_apply("it is not UTF-8 text"))
}

fn parsed(patch: &str) -> Result<Patch<'_, str>, KbuildError> {
    Patch::from_str(patch).map_err(|error| KbuildError::Patch(format!("does not parse: {error}")))
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
    fn what_the_source_has_already_is_found() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("kernel")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(tree.path().join(name), text).unwrap();
        write("kernel/x.c", "one\ntwo\nthree\n");
        write("kernel/y.c", "zero\none\nmore\ntwo\nthree\n");
        let state = |text: &str| SourcePatch::parse(text).unwrap().state(tree.path(), &[]).unwrap();
        let other = FIX.replace("kernel/x.c", "kernel/y.c").replace("fix\n\n", "");
        assert_eq!(state(FIX), PatchState::Applies);
        assert_eq!(state(&other), PatchState::Contained);
        assert_eq!(state(&format!("{FIX}{other}")), PatchState::InPart(vec!["kernel/y.c".into()]));
        let strange = FIX.replace(" three", " four");
        assert!(matches!(state(&strange), PatchState::DoesNotApply { .. }));
        let missing = FIX.replace("kernel/x.c", "kernel/z.c");
        assert!(matches!(state(&missing), PatchState::DoesNotApply { .. }));
        // The same line was added before: both directions fit, one of them by chance.
        write("kernel/x.c", "one\ntwo\nthree\none\nmore\ntwo\nthree\n");
        assert!(matches!(state(FIX), PatchState::DoesNotApply { .. }));
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
