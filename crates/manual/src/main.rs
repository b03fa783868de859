//! Renders man pages and shell completions of all programs from their command lines: `cargo xtask dist` calls it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory as _, Parser};
use clap_complete::Shell;

/// Render man pages and completions of all programs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to: DIR/PROGRAM/ gets the part of the installed tree that belongs to a program
    directory: PathBuf,
}

/// Section 1 is for users, 8 for administrators.
type Section = &'static str;

fn programs() -> [(Section, Command); 7] {
    [
        ("1", livepatch_cli::Arguments::command()),
        ("1", livepatch_cli::legacy::Arguments::command()),
        ("8", livepatch_agent::Arguments::command()),
        ("8", livepatch_loader::Arguments::command()),
        ("8", livepatch_observer::Arguments::command()),
        ("8", livepatch_server::Arguments::command()),
        ("1", livepatch_build::cli::Arguments::command()),
    ]
}

fn main() -> ExitCode {
    let directory = Arguments::parse().directory;
    for (section, command) in programs() {
        let root = directory.join(command.get_name());
        if let Err(error) = completions(&command, &root).and_then(|()| pages(command, section, &root)) {
            eprintln!("error: cannot write to {}: {error}", root.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One completion per shell, where Debian's shells look for them.
fn completions(command: &Command, root: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    for (shell, file) in [
        (Shell::Bash, format!("bash-completion/completions/{name}")),
        (Shell::Zsh, format!("zsh/vendor-completions/_{name}")),
        (Shell::Fish, format!("fish/vendor_completions.d/{name}.fish")),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), &name, &mut text);
        write(&root.join("usr/share").join(file), &text)?;
    }
    Ok(())
}

/// A page for the program and one for each command, as `livepatch-enable(1)`.
fn pages(command: Command, section: Section, root: &Path) -> io::Result<()> {
    let directory = root.join(format!("usr/share/man/man{section}"));
    let mut command = command.disable_help_subcommand(true);
    command.build();
    page(&command, section, &directory)
}

fn page(command: &Command, section: Section, directory: &Path) -> io::Result<()> {
    // `build` has named them: "livepatch-server-token-create".
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut text = Vec::new();
    // All programs have the version of the workspace; commands inherit it.
    let command_with_version = command.clone().version(env!("CARGO_PKG_VERSION"));
    let source = concat!("livepatch ", env!("CARGO_PKG_VERSION"));
    let rendered = clap_mangen::Man::new(command_with_version).section(section).title(&name).source(source);
    rendered.render(&mut text)?;
    write(&directory.join(format!("{name}.{section}")), &text)?;
    command.get_subcommands().try_for_each(|command| page(command, section, directory))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    std::fs::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_program_completions() {
        let directory = tempfile::tempdir().unwrap();
        for (section, command) in programs() {
            completions(&command, directory.path()).unwrap();
            pages(command, section, directory.path()).unwrap();
        }
        for file in [
            "man/man1/livepatch.1",
            "man/man1/livepatch-enable.1",
            "man/man1/livepatch-build-check.1",
            "man/man1/canonical-livepatch-config.1",
            "man/man8/livepatchd.8",
            "man/man8/livepatch-server-token-create.8",
            "bash-completion/completions/livepatch",
            "zsh/vendor-completions/_livepatch-server",
            "fish/vendor_completions.d/livepatchd.fish",
        ] {
            let text = std::fs::read_to_string(directory.path().join("usr/share").join(file)).unwrap();
            assert!(text.len() > 100, "{file}");
        }
        let page = directory.path().join("usr/share/man/man1/livepatch-enable.1");
        assert!(std::fs::read_to_string(page).unwrap().contains("token\\-file"));
    }
}
