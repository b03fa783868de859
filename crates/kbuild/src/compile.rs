//! Compiling one unit, original and patched, with one and the same command line.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use crate::command::tail;
use crate::inside::{Inside, Links};
use crate::mirror::Sees;
use crate::sandbox::Job;
use crate::units::{CompilerCommand, Membership, plain_path};
use crate::{KbuildError, Mirror, PreparedTree};

/// Options that are added to the distribution's own: each function and variable in a section of its own.
pub(crate) const SECTION_FLAGS: &str = "-ffunction-sections -fdata-sections";

/// A unit's object and how it was made.
#[derive(Debug, Clone)]
pub struct CompiledUnit {
    /// The object's bytes, not touched by objtool.
    pub object: Vec<u8>,
    /// What it belongs to.
    pub membership: Membership,
    /// The command line, for compiling it again.
    pub command: CompilerCommand,
}

/// Name of the file in a prepared tree that has [`STATIC_KEYS_HEADER`].
pub(crate) const STATIC_KEYS_FILE: &str = ".livepatch-static-keys.h";

/// The branches on static keys (include/linux/jump_label.h), as reads of their counts. A count that is not 0 means on:
/// it is -1 while a key is being switched on for the first time (kernel/jump_label.c, `static_key_count`).
pub(crate) const STATIC_KEYS_HEADER: &str = r"#include <linux/jump_label.h>
#undef static_branch_likely
#undef static_branch_unlikely
#define livepatch_key_is_on(key) (READ_ONCE((key)->enabled.counter) != 0)
#define static_branch_likely(x) likely_notrace(livepatch_key_is_on(&(x)->key))
#define static_branch_unlikely(x) unlikely_notrace(livepatch_key_is_on(&(x)->key))
#define static_key_true(key) likely_notrace(livepatch_key_is_on(key))
#define static_key_false(key) unlikely_notrace(livepatch_key_is_on(key))
";

impl PreparedTree {
    /// The command that compiles a unit (`kernel/time/namespace.o`); none when this configuration does not have it.
    pub fn unit_command(&self, unit: &str) -> Result<Option<CompilerCommand>, KbuildError> {
        let damaged = |why: &str| KbuildError::Format { path: self.path().join(unit), why: why.to_owned() };
        self.units().command(unit).transpose().map_err(damaged)
    }

    /// Compiles a unit of the unpatched source. objtool is left out: code is compared as the compiler wrote it.
    pub fn compile_original(
        &self,
        unit: &str,
        command: &CompilerCommand,
        scratch: &Path,
    ) -> Result<CompiledUnit, KbuildError> {
        let what = format!("compiling {unit}");
        let first = self.compile(command, self.path(), scratch, &what)?;
        let object = match first {
            Ok((object, _)) => object,
            // A few units include files that make generates beside them: let make compile those once.
            Err(output) if lacks_a_file(&output) => {
                let mut make = self.make();
                make.arg("objtool=true").arg(format!("KCFLAGS={SECTION_FLAGS}")).arg(unit);
                self.change_by(make, &what)?;
                match self.compile(command, self.path(), scratch, &what)? {
                    Ok((object, _)) => object,
                    Err(output) => return Err(KbuildError::Failed { what, output: tail(&output) }),
                }
            }
            Err(output) => return Err(KbuildError::Failed { what, output: tail(&output) }),
        };
        let format = |why: String| KbuildError::Format { path: self.path().join(unit), why };
        Ok(CompiledUnit {
            object,
            membership: command.membership().map_err(format)?,
            command: command.clone(),
        })
    }

    /// Compiles the same unit with the patched files of a mirror.
    pub fn compile_patched(
        &self,
        original: &CompiledUnit,
        mirror: &Mirror,
        scratch: &Path,
    ) -> Result<Vec<u8>, KbuildError> {
        let what = format!("compiling {} with the patch", original.command.source());
        let command = original.command.with_author_headers().with_debug_paths_below(mirror.root());
        let compile = || self.compile(&command, mirror.root(), scratch, &what);
        let compiled = match compile()? {
            Err(output) if lacks_a_file(&output) => {
                mirror.renew()?;
                compile()?
            }
            compiled => compiled,
        };
        match compiled {
            Ok((object, dependencies)) => match mirror.see_patched_files(&dependencies)? {
                Sees::All => Ok(object),
                Sees::Now => match compile()? {
                    Ok((object, dependencies)) => {
                        mirror.check_dependencies(&dependencies)?;
                        Ok(object)
                    }
                    Err(output) => Err(KbuildError::Failed { what, output: tail(&output) }),
                },
            },
            Err(output) => Err(KbuildError::Failed { what, output: tail(&output) }),
        }
    }

    /// Whether the unpatched unit includes one of these files, by the preprocessor's word.
    pub fn includes(
        &self,
        command: &CompilerCommand,
        files: &BTreeSet<String>,
        scratch: &Path,
    ) -> Result<bool, KbuildError> {
        let scratch =
            tempfile::tempdir_in(scratch).map_err(KbuildError::io("make a directory in", scratch))?;
        let list = scratch.path().join("unit.d");
        let words = command.listing(&list);
        let mut compiler = Job::new(words[0].as_str(), self.path());
        compiler.args(&words[1..]).reads(self.path()).writes(scratch.path());
        let output = self.sandbox().run(&compiler, "listing includes")?;
        if !output.status.success() {
            // It needs a generated file that is not there yet: compiling will tell.
            return Ok(true);
        }
        let text = read_output(scratch.path(), "unit.d")?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.split_whitespace().any(|word| files.contains(&plain_path(word))))
    }

    /// One run of the compiler: the object and the list of what it read, or what it said.
    fn compile(
        &self,
        command: &CompilerCommand,
        directory: &Path,
        scratch: &Path,
        what: &str,
    ) -> Result<Result<(Vec<u8>, String), Output>, KbuildError> {
        let scratch =
            tempfile::tempdir_in(scratch).map_err(KbuildError::io("make a directory in", scratch))?;
        let (object, dependencies) = (scratch.path().join("unit.o"), scratch.path().join("unit.d"));
        let words = command.redirected(&object, &dependencies);
        let mut compiler = Job::new(words[0].as_str(), directory);
        compiler.args(&words[1..]).reads(self.path()).reads(directory).writes(scratch.path());
        let output = self.sandbox().run(&compiler, what)?;
        if !output.status.success() {
            return Ok(Err(output));
        }
        let text = read_output(scratch.path(), "unit.d")?;
        Ok(Ok((read_output(scratch.path(), "unit.o")?, String::from_utf8_lossy(&text).into_owned())))
    }
}

/// Reads a file that a program in the sandbox wrote.
pub(crate) fn read_output(directory: &Path, name: &str) -> Result<Vec<u8>, KbuildError> {
    let inside = Inside::open(directory).map_err(KbuildError::io("read", directory))?;
    inside.read(name, Links::Refused).map_err(KbuildError::io("read", directory.join(name)))
}

/// Whether the compiler did not find what a unit includes.
fn lacks_a_file(output: &Output) -> bool {
    tail(output).contains("No such file or directory")
}
