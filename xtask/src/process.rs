//! Running programs with exact arguments; never a shell.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::error::{Error, Exit};

/// A program in the C locale, so that its messages can be read, without standard input.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// Runs it to its end and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>, Error> {
    let program = name(command);
    let output = command.output().map_err(|e| cannot_start(&program, e))?;
    require_success(&program, &output).map(|()| output.stdout)
}

/// Runs one of our own programs to its end and gives its standard output; `note` hears what it says meanwhile.
pub(crate) fn tool(
    command: &mut Command,
    what: &str,
    exit: Exit,
    note: impl Fn(&str),
) -> Result<Vec<u8>, Error> {
    let program = name(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| cannot_start(&program, e))?;
    let pipe = child.stderr.take();
    let output = std::thread::spawn(move || child.wait_with_output());
    let mut said = String::new();
    for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')).map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        note(line.trim());
        said.push_str(line.trim_end());
        said.push('\n');
    }
    let output = output.join().map_err(|_| Error::TestsFailed { what: what.into() })?;
    let output = output.map_err(|e| cannot_start(&program, e))?;
    if output.status.success() { Ok(output.stdout) } else { Err(tool_error(what, exit, &said)) }
}

/// Our programs say `error: …` and `hint: …`; cargo says a lot before and after.
pub(crate) fn tool_error(what: &str, exit: Exit, said: &str) -> Error {
    if said.contains("No space left on device") {
        return Error::DiskFull { doing: format!("go on with {what}") };
    }
    let found =
        |prefix: &str| said.lines().find_map(|line| line.trim().strip_prefix(prefix)).map(String::from);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let message = found("error: ").unwrap_or_else(|| last.trim().into());
    Error::Tool { what: what.into(), message, hint: found("hint: "), exit }
}

/// Extracts members of a package, or all of it. Nothing is run from it.
pub(crate) fn extract(package: &Path, into: &Path, members: &[&str]) -> Result<(), Error> {
    let mut archive = command("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| cannot_start("dpkg-deb", e))?;
    let Some(pipe) = archive.stdout.take() else {
        return Err(Error::Program { program: "dpkg-deb".into(), detail: "it has no output".into() });
    };
    let tar = command("tar")
        .args(["--extract", "--no-same-owner", "--directory"])
        .arg(into)
        .arg("--")
        .args(members)
        .stdin(pipe)
        .output();
    let archive = archive.wait_with_output().map_err(|e| cannot_start("dpkg-deb", e))?;
    require_success("tar", &tar.map_err(|e| cannot_start("tar", e))?)?;
    require_success("dpkg-deb", &archive)
}

/// Turns what a program said into the error that it means.
pub(crate) fn require_success(program: &str, output: &Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let found = |texts: &[&str]| lines().find(|line| texts.iter().any(|text| line.contains(text)));
    if found(&["No space left on device", "enough free space", "Disk quota exceeded"]).is_some() {
        return Err(Error::DiskFull { doing: format!("go on with {program}") });
    }
    let network =
        ["Temporary failure resolving", "Could not resolve", "Could not connect", "Failed to fetch"];
    if let Some(line) = found(&network) {
        return Err(Error::NoNetwork { detail: line.trim_start_matches("E: ").into() });
    }
    let detail = found(&["E: ", "error"]).or_else(|| lines().next_back());
    let detail = detail.map_or_else(|| output.status.to_string(), String::from);
    Err(Error::Program { program: program.into(), detail })
}

pub(crate) fn cannot_start(program: &str, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::MissingProgram { program: program.into() },
        _ => Error::io(format!("run {program}"), error),
    }
}

fn name(command: &Command) -> String {
    Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("a program")).to_string_lossy().into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn failed(stderr: &str) -> Error {
        let output = Output { status: ExitStatus::from_raw(256), stdout: vec![], stderr: stderr.into() };
        require_success("apt-get", &output).unwrap_err()
    }

    #[test]
    fn our_programs_explain_themselves() {
        let error = tool_error("the build", Exit::Build, "reading\nerror: it is so\n\nhint: do this\n");
        assert_eq!(error.exit(), Exit::Build);
        assert_eq!(error.report(), "error: the build failed: it is so\n\nhint: do this\n");
    }

    #[test]
    fn messages_become_errors() {
        assert!(matches!(failed("tar: x: Cannot write: No space left on device\n"), Error::DiskFull { .. }));
        assert!(matches!(failed("E: You don't have enough free space in /x\n"), Error::DiskFull { .. }));
        let error = failed("W: hm\nE: Failed to fetch http://x  Could not connect to x\n");
        assert_eq!(
            error.to_string(),
            "cannot reach the package archive: Failed to fetch http://x  Could not connect to x"
        );
        assert_eq!(failed("W: hm\nE: why\n").to_string(), "apt-get failed: E: why");
    }
}
