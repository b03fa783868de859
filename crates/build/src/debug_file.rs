//! The debug information of a livepatch module, in a file of its own. Debuggers (gdb, crash, drgn) find it by the module's
//! build-id below a directory with `.build-id`.

use std::fs;
use std::path::{Path, PathBuf};

use livepatch_kbuild::{KbuildError, LinkInput};
use livepatch_kimage::gnu_build_id;
use livepatch_klp::debug::keep;
use livepatch_klp::elf::{Object, Section, constants};
use livepatch_types::{BuildId, PatchVersion};

use crate::error::BuildError;
use crate::extraction::command_for;
use crate::files;
use crate::pipeline::{Compared, CompiledPatches, Linked, UnitWork, Workbench};

/// Section with the build-id (include/asm-generic/vmlinux.lds.h).
const NOTE: &str = ".note.gnu.build-id";

/// Debug information of exactly one module.
#[derive(Debug)]
pub struct DebugFile {
    build_id: BuildId,
    bytes: Vec<u8>,
}

impl DebugFile {
    /// Of a module that was linked twice, without and with debug information. All that is loaded must be the same, but
    /// for the build-id, which covers the debug information too: the file gets that of the module.
    pub(crate) fn of(plain: &[u8], full: &[u8]) -> Result<Self, BuildError> {
        let parse = |bytes| Object::parse(bytes).map_err(|error| BuildError::NoDebug(error.to_string()));
        let (plain, mut full) = (parse(plain)?, parse(full)?);
        if !loaded(&plain).eq(loaded(&full)) {
            return Err(BuildError::NoDebug("linked with it, the livepatch is another one".into()));
        }
        let none = || BuildError::NoDebug("the livepatch has no build-id".into());
        let note = plain.sections.iter().find(|section| section.name == NOTE).ok_or_else(none)?;
        let build_id = gnu_build_id(&note.data).ok().flatten().ok_or_else(none)?;
        for section in full.sections.iter_mut().filter(|section| section.name == NOTE) {
            section.data.clone_from(&note.data);
        }
        Ok(Self { build_id, bytes: full.to_bytes() })
    }

    /// The module's build-id.
    pub fn build_id(&self) -> &BuildId {
        &self.build_id
    }

    /// Where debuggers look for it below their directory (gdb's manual, "Separate Debug Files").
    pub fn path(&self) -> PathBuf {
        let id = self.build_id.to_string();
        let (directory, name) = id.split_at(2);
        Path::new(".build-id").join(directory).join(format!("{name}.debug"))
    }

    /// Writes it below a directory, whole or not at all; where it is.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, KbuildError> {
        let path = directory.join(self.path());
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(|source| KbuildError::Io {
            action: "make",
            path: parent.to_owned(),
            source,
        })?;
        files::write(&path, &self.bytes)?;
        Ok(path)
    }
}

/// Links a livepatch once more, with debug information.
pub(crate) fn make<'u>(
    bench: &Workbench,
    compiled: &CompiledPatches,
    units: impl Iterator<Item = (&'u UnitWork, &'u Compared)>,
    version: PatchVersion,
    linked: &Linked,
) -> Result<DebugFile, BuildError> {
    let objects = units.map(|(unit, compared)| with_debug(bench, compiled, unit, compared));
    let objects = objects.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
    let full = bench.tree().link_module(&LinkInput {
        module_name: version.module_name().as_str(),
        glue: &linked.glue,
        objects: &objects,
        keep_debug: true,
    })?;
    DebugFile::of(&linked.plain, &full)
}

/// What was extracted from a unit, with debug information. Where the kernel is compiled without, the unit is compiled
/// once more.
fn with_debug(
    bench: &Workbench,
    compiled: &CompiledPatches,
    unit: &UnitWork,
    compared: &Compared,
) -> Result<Option<Vec<u8>>, BuildError> {
    let Some(extracted) = &compared.extracted else { return Ok(None) };
    let code = compared.second_code.as_ref().unwrap_or(&unit.patched.object);
    let again = if unit.command.has_debug_information() {
        None
    } else {
        let command = command_for(&unit.command, &compared.reasons).with_debug_information();
        let original = bench.tree().original(&unit.unit, &command, bench.scratch())?;
        let patched = bench.tree().compile_patched(&original, &compiled.mirror, bench.scratch())?;
        Some(Object::parse(&patched).map_err(|error| BuildError::NoDebug(error.to_string()))?)
    };
    let debug = again.as_ref().unwrap_or(code);
    let made = keep::with_debug(&extracted.object, &extracted.places, code, debug);
    let made = made.map_err(|error| BuildError::NoDebug(format!("{}: {error}", unit.unit)))?;
    Ok(Some(made.to_bytes()))
}

/// Names, flags, sizes and bytes of what is loaded.
fn loaded(object: &Object) -> impl Iterator<Item = (&str, u64, u64, u64, &[u8])> {
    let plain = |s: &&Section| s.has(constants::ALLOC) && s.name != NOTE;
    object
        .sections
        .iter()
        .filter(plain)
        .map(|s| (s.name.as_str(), s.flags, s.align, s.size, s.data.as_slice()))
}
