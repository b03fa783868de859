//! Running programs of the host: exact arguments, never a shell.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::VmError;

/// Runs a program to its end and gives its standard output.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<Vec<u8>, VmError> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|e| {
        if e.kind() == std::io::ErrorKind::NotFound {
            VmError::MissingProgram { program: program.into() }
        } else {
            VmError::io(format!("run {program}"), e)
        }
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().find(|line| line.contains("error: ")).or(said.trim().lines().last());
    let detail = error.unwrap_or("it said nothing").to_string();
    Err(VmError::Program { program: program.into(), detail })
}

/// Compiles one C file into a static program that runs in any guest.
pub fn compile_static(source: &Path, program: &Path) -> Result<(), VmError> {
    let (source, program) = (source.to_string_lossy(), program.to_string_lossy());
    output("gcc-12", &["-static", "-O2", "-Wall", "-Werror", "-o", &program, &source]).map(drop)
}

/// Copies a program without what only debuggers read of it, which guests have no room for.
pub fn strip(program: &Path, copy: &Path) -> Result<(), VmError> {
    output("strip", &["--strip-debug", "-o", &copy.to_string_lossy(), &program.to_string_lossy()]).map(drop)
}

/// The shared libraries of this machine that a program needs, and what loads them.
pub(crate) fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>, VmError> {
    let program = program.to_string_lossy();
    let listed = output("ldd", &[&program])?;
    let listed = String::from_utf8_lossy(&listed);
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f…)`, and what has no file (the vDSO) without a path.
    if let Some(line) = listed.lines().find(|line| line.ends_with("=> not found")) {
        return Err(VmError::Program {
            program: "ldd".into(),
            detail: format!("{program}: {}", line.trim()),
        });
    }
    let words = listed.lines().flat_map(str::split_whitespace);
    Ok(words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// What runs the guests: the first line of QEMU's `--version`.
pub fn machine_version() -> Result<String, VmError> {
    let text = output(crate::guest::QEMU, &["--version"])?;
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

/// Refuses with a clear error when a program is not in the search path.
pub(crate) fn must_exist(program: &str) -> Result<(), VmError> {
    installed(program).map(drop)
}

/// A program in the search path; a clear error when it is not there.
pub(crate) fn installed(program: &str) -> Result<PathBuf, VmError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file());
    found.ok_or_else(|| VmError::MissingProgram { program: program.into() })
}
