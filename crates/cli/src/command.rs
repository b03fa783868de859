use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::Timestamp;
use livepatch_api::daemon::Status;
use livepatch_types::CveId;
use serde::Serialize;

use crate::act::{Daemons, Done};
use crate::cves::cves;
use crate::explain::explain;
use crate::file::replace_file;
use crate::hold::{Change, Holdable};
use crate::locks::Locks;
use crate::secure_boot::SecureBoot;
use crate::settings::CONFIGURATION;
use crate::status::{Source, read, read_left, takes_part};
use crate::text::open_text;
use crate::trust::Trust;
use crate::verdict::{Ages, Level, motd, plugin_line, unknown_line, verdict};
use crate::wait::{Ended, Until, wait};
use crate::{
    CliError, Exit, bug_report, bundle, doctor, hold, import, reboot_required, status_text, telemetry, token,
};

/// Livepatches for the running kernel.
#[derive(Debug, Parser)]
#[command(
    name = "livepatch",
    version,
    after_help = "Exit codes: 0 done, 1 failed or no, 2 usage, 3 not enabled, 4 the daemon cannot be reached, 5 only root may do this, 6 nothing is known of it, 7 it does not come by itself; `check` has its own."
)]
pub struct Arguments {
    /// Directory of the daemon's sockets
    #[arg(long, global = true, default_value = "/run/livepatch")]
    runtime_dir: PathBuf,
    /// Directory of the loader's sockets
    #[arg(long, global = true, default_value = livepatch_loader_api::RUNTIME_DIRECTORY)]
    loader_dir: PathBuf,
    /// Where /proc, /sys and /run are looked at, to tell a container and what its kernel has
    #[arg(long, global = true, hide = true, default_value = "/")]
    system_root: PathBuf,
    /// Print nothing but errors; the exit code tells
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrol this host and apply what its server offers
    Enable(Enable),
    /// Revert the livepatch, unload it and leave the fleet; asks nothing
    Disable,
    /// Revert the livepatch and forget all that is of this machine, before its disk becomes an image; clones enrol by themselves
    PrepareImage,
    /// Show the state of this host; answers within a second
    Status {
        /// Also the CVEs that stay open because the settings of this host hold a livepatch back, with notice and date
        #[arg(long)]
        verbose: bool,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Say why this host has the livepatch that it has, and what the next one waits for
    Explain {
        /// Show what the server is told instead, byte for byte: sent, waiting and next
        #[arg(long)]
        telemetry: bool,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Say which CVEs are fixed in the running kernel: exit code 0 all, 1 not all, 6 nothing is known of one
    Cves {
        /// Which; none: all that the livepatch of this kernel speaks of
        #[arg(value_name = "CVE")]
        cves: Vec<CveId>,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Wait until this host is in a state, and show the status: exit code 0 if it is, 1 if not in time, 7 at once if somebody must act first
    Wait {
        /// What to wait for
        #[arg(long = "for", value_enum, default_value_t = Until::Settled)]
        until: Until,
        /// How long at most, as 30s, 10m or 1h
        #[arg(long, value_name = "TIME", value_parser = age, default_value = "10m")]
        timeout: Duration,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Hold back livepatches with a fix for a CVE or from a notice on, by the daemon's configuration; none: show what is held
    Hold(Held),
    /// Hold them back no longer
    Unhold(Held),
    /// The settings of this host: those of the original client are imported once
    #[command(subcommand)]
    Config(Settings),
    /// Ask the server now, and wait until what it offers is applied
    Refresh,
    /// Disable and unload the livepatch; it is held back until `apply` or another version
    Revert {
        /// The same: livepatches are cumulative, so that there is one, and all fixes go with it
        #[arg(long)]
        all: bool,
    },
    /// Apply what is offered: at once, and even if it was reverted here or a host went down with it
    Apply {
        /// Apply the livepatch of this bundle, on a host without a server: `livepatch-build trust attach` makes such
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
    },
    /// Show all that a bundle holds: kernel, build-ids, CVEs, sources, report, proof, sizes, licence; verifies no signature
    Inspect {
        /// The bundle
        bundle: PathBuf,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// What keeps livepatches from this kernel: held back, blocked after a crash, stalled
    #[command(subcommand)]
    Locks(Locks),
    /// Say whether a newer kernel must be booted to be safe: exit code 0 if so, 1 if not
    KernelUpgradeRequired,
    /// Write /run/reboot-required if a newer kernel must be booted, and take our own away if not: exit code 0 if so, 1 if not
    RebootRequired {
        /// Where the file is
        #[arg(long, value_name = "DIR", default_value = "/run")]
        directory: PathBuf,
    },
    /// Say in one line how this host is, for monitoring: exit code 0 ok, 1 warning, 2 critical, 3 unknown
    Check {
        /// Age of the last check that is a warning, as 30m, 24h or 3d
        #[arg(long, value_name = "AGE", value_parser = age, default_value = "24h")]
        warning: Duration,
        /// Age of the last check that is critical
        #[arg(long, value_name = "AGE", value_parser = age, default_value = "72h")]
        critical: Duration,
    },
    /// Print the status as metrics in the text format of Prometheus
    Metrics {
        /// File to replace instead, for the node exporter's textfile collector
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Say what needs a look, for the message at login; asks nobody, and says nothing when all is well
    Motd,
    /// Say what keeps this host from being covered and what to do: exit code 0 nothing, 1 something; changes nothing
    Doctor {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show what those who help need to know of this host, with names, addresses and secrets taken out
    BugReport {
        /// File to write it to after it was shown and you said yes; it must not be there yet
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Write it without asking
        #[arg(long, requires = "output")]
        yes: bool,
        /// Configuration of the daemon
        #[arg(long, default_value = CONFIGURATION)]
        config: PathBuf,
    },
    /// Whose modules this machine's kernel takes, and how it comes to take livepatches under Secure Boot
    SecureBoot(SecureBoot),
    /// Show which vendor's repository and operator's root this host is held to, what was seen, what is allowed here; for root
    Trust(Trust),
    /// Print what makes a shell complete these commands; the package has it for bash, zsh and fish
    Completions {
        /// Of which shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
enum Settings {
    /// Take over what `canonical-livepatch config` of the original printed: all of it, or nothing and why
    Import {
        /// The file, or - for standard input
        file: PathBuf,
        /// Only say what would become of each setting
        #[arg(long)]
        dry_run: bool,
        /// Configuration of the daemon
        #[arg(long, default_value = CONFIGURATION)]
        config: PathBuf,
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Debug, clap::Args)]
struct Held {
    /// Which CVEs and notices
    #[arg(value_name = "CVE|LSN")]
    what: Vec<Holdable>,
    /// Configuration of the daemon
    #[arg(long, default_value = CONFIGURATION)]
    config: PathBuf,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Enable {
    /// The token. Others can see it in the process list and it stays in the shell's history: prefer --token-file
    token: Option<String>,
    /// File with the token, or - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// A table
    #[default]
    Text,
    /// A versioned schema
    Json,
}

impl Arguments {
    /// Reads a command line, the program's name first. Help, the version and what is wrong are printed; what the program then ends
    /// with is the error.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, Exit> {
        let words: Vec<OsString> = words.into_iter().collect();
        Self::try_parse_from(&words).map_err(|error| {
            // Nobody is there to be told that nobody can be told.
            let _ = error.print();
            if error.exit_code() == 0 {
                Exit::Ok
            } else if is_check(&words) {
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default().trim_start_matches("error: ");
                let _ = std::io::stdout().write_all(unknown_line(why).as_bytes());
                Exit::Check(Level::Unknown)
            } else {
                Exit::Usage
            }
        })
    }

    /// What the program ends with after an error: for monitoring, 1 and 2 are levels, which are not known then.
    pub fn exit_after(&self, error: &CliError) -> Exit {
        match self.command {
            Command::Check { .. } => Exit::Check(Level::Unknown),
            _ => error.exit(),
        }
    }
}

/// Whether the command is `check`, in a command line that is wrong: the first word that is neither an option nor the value of one.
fn is_check(words: &[OsString]) -> bool {
    let command = Arguments::command();
    let takes_value = |word: &str| {
        let named = |argument: &&clap::Arg| {
            argument.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long))
        };
        command.get_arguments().filter(named).any(|argument| argument.get_action().takes_values())
    };
    let mut words = words.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        if takes_value(&word) {
            words.next();
        } else if !word.starts_with('-') {
            return word == "check";
        }
    }
    false
}

/// Runs a command; its output goes to `out`, what is worth knowing besides to `err`. `now` is the wall-clock time.
pub fn run(
    arguments: &Arguments,
    now: Timestamp,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, CliError> {
    let (mut nowhere, mut nowhere_else) = (std::io::sink(), std::io::sink());
    let (out, err): (&mut dyn Write, &mut dyn Write) =
        if arguments.quiet { (&mut nowhere, &mut nowhere_else) } else { (out, err) };
    let runtime_dir = &arguments.runtime_dir;
    let root = &arguments.system_root;
    let daemons = Daemons { agent: runtime_dir, loader: &arguments.loader_dir };
    match &arguments.command {
        Command::Status { verbose, format } => {
            let (status, source) = read(runtime_dir, root)?;
            show(&status, now, *format, out)?;
            if let (true, Format::Text) = (*verbose, *format) {
                out.write_all(open_text(&status).as_bytes())?;
            }
            Ok(whose(source, &status))
        }
        Command::Explain { telemetry: true, format } => {
            let telemetry = telemetry::ask_daemon(runtime_dir)?;
            let text = match format {
                Format::Text => telemetry::text(&telemetry),
                Format::Json => pretty(&telemetry)?,
            };
            out.write_all(text.as_bytes())?;
            Ok(Exit::Ok)
        }
        Command::Explain { telemetry: false, format } => {
            let (status, _) = read(runtime_dir, root)?;
            let explanation = explain(&status);
            let text = match format {
                Format::Text => explanation.text(),
                Format::Json => explanation.json().map_err(|error| CliError::Answer(error.to_string()))?,
            };
            out.write_all(text.as_bytes())?;
            Ok(Exit::Ok)
        }
        Command::Enable(Enable { token, token_file }) => {
            let token = match (token, token_file) {
                (_, Some(path)) => token::read(path)?,
                (token, None) => token::check(token.as_deref().unwrap_or_default())?,
            };
            // It is enrolled, whatever came of the first check.
            show_done(&Done::of(daemons.enable(token)?), now, out, err)
        }
        Command::Disable => {
            daemons.disable()?;
            writeln!(out, "This host is not enrolled, and no livepatch of it is applied.")?;
            Ok(Exit::Ok)
        }
        Command::PrepareImage => {
            daemons.prepare_image()?;
            writeln!(
                out,
                "Nothing of this machine is remembered, and no livepatch of it is applied: shut it down and take the image."
            )?;
            writeln!(out, "On each clone: `livepatch enable --token-file FILE`.")?;
            Ok(Exit::Ok)
        }
        Command::Cves { cves: asked, format } => {
            let (status, source) = read(runtime_dir, root)?;
            let list = cves(&status, asked);
            let text = match format {
                Format::Text => list.text(),
                Format::Json => pretty(&list)?,
            };
            out.write_all(text.as_bytes())?;
            Ok(match whose(source, &status) {
                Exit::Ok => list.exit(),
                other => other,
            })
        }
        Command::Wait { until, timeout, format } => {
            let (status, ended) = wait(runtime_dir, root, *until, *timeout, err)?;
            show(&status, now, *format, out)?;
            match ended {
                Ended::Reached => Ok(Exit::Ok),
                Ended::NotInTime => Ok(Exit::Failed),
                Ended::NotByItself(why) => Err(CliError::NotByItself(why)),
            }
        }
        Command::Hold(Held { what, config, format }) => hold::run(config, what, Change::Hold, *format, out),
        Command::Unhold(Held { what, config, format }) => {
            hold::run(config, what, Change::Unhold, *format, out)
        }
        Command::Config(Settings::Import { file, dry_run, config, format }) => {
            import::run(file, config, import::Asked { dry_run: *dry_run, format: *format }, now, out)
        }
        Command::Refresh => show_done(&Done::of(daemons.refresh()?), now, out, err),
        Command::Revert { all: _ } => show_done(&daemons.revert()?, now, out, err),
        Command::KernelUpgradeRequired => {
            let (status, _) = read(runtime_dir, root)?;
            if !status.enabled {
                return Err(CliError::not_enabled());
            }
            Ok(if status.upgrade_required() { Exit::Ok } else { Exit::Failed })
        }
        Command::RebootRequired { directory } => {
            let (status, _) = read(runtime_dir, root)?;
            Ok(if reboot_required::update(&status, directory)? { Exit::Ok } else { Exit::Failed })
        }
        Command::Check { warning, critical } => {
            let ages = Ages { warning: *warning, critical: *critical };
            let (level, line) = match read(runtime_dir, root) {
                Ok((status, _)) => {
                    let verdict = verdict(&status, ages, now);
                    (verdict.level, plugin_line(&status, &verdict, ages, now))
                }
                Err(error) => (Level::Unknown, unknown_line(&error.to_string())),
            };
            out.write_all(line.as_bytes())?;
            Ok(Exit::Check(level))
        }
        Command::Metrics { output } => {
            let (status, _) = read(runtime_dir, root)?;
            match output {
                Some(path) => replace_file(path, &livepatch_api::metrics(&status))?,
                None => out.write_all(livepatch_api::metrics(&status).as_bytes())?,
            }
            Ok(Exit::Ok)
        }
        Command::Motd => {
            if let Some(status) = read_left(runtime_dir) {
                out.write_all(motd(&verdict(&status, Ages::default(), now)).as_bytes())?;
            }
            Ok(Exit::Ok)
        }
        Command::Doctor { format } => {
            let diagnosis =
                doctor(&doctor::facts(root, read(runtime_dir, root).map(|(status, _)| status), now));
            let text = match format {
                Format::Text => diagnosis.text(),
                Format::Json => pretty(&diagnosis)?,
            };
            out.write_all(text.as_bytes())?;
            Ok(diagnosis.exit())
        }
        Command::BugReport { output, yes, config } => {
            let output = output.as_deref().map(|file| bug_report::Output { file, yes: *yes });
            // What is not shown cannot be read before it is written.
            if arguments.quiet && output.as_ref().is_some_and(|output| !output.yes) {
                return Err(CliError::NotConfirmed);
            }
            bug_report::run(runtime_dir, root, config, output.as_ref(), out)?;
            Ok(Exit::Ok)
        }
        Command::Locks(locks) => locks.run(&daemons, out),
        Command::Apply { bundle: None } => show_done(&daemons.apply()?, now, out, err),
        Command::Apply { bundle: Some(path) } => bundle::apply(&daemons, path, out),
        Command::Inspect { bundle, format } => bundle::inspect(bundle, *format, out),
        Command::SecureBoot(secure_boot) => secure_boot.run(out),
        Command::Trust(trust) => trust.run(&daemons, out),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "livepatch", &mut text);
            out.write_all(&text)?;
            Ok(Exit::Ok)
        }
    }
}

fn show(status: &Status, now: Timestamp, format: Format, out: &mut dyn Write) -> Result<(), CliError> {
    let text = match format {
        Format::Text => status_text(status, now),
        Format::Json => pretty(status)?,
    };
    Ok(out.write_all(text.as_bytes())?)
}

fn pretty(value: &impl Serialize) -> Result<String, CliError> {
    let json = serde_json::to_string_pretty(value);
    Ok(json.map_err(|error| CliError::Answer(error.to_string()))? + "\n")
}

/// What the exit code says of a status before what is in it.
fn whose(source: Source, status: &Status) -> Exit {
    match source {
        Source::File => Exit::DaemonUnreachable,
        Source::Daemon if takes_part(status) => Exit::Ok,
        // A livepatch that is seen in a container is that of its host.
        Source::Daemon | Source::Kernel => Exit::NotEnabled,
    }
}

/// What is shown of a command that did what it was asked for.
fn show_done(
    done: &Done,
    now: Timestamp,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, CliError> {
    match &done.status {
        Some(status) => out.write_all(status_text(status, now).as_bytes())?,
        None => writeln!(
            out,
            "The livepatch is reverted, and held back until `livepatch apply` or another version."
        )?,
    }
    // A note that cannot be written undoes nothing.
    let _ = err.write_all(done.note.as_deref().unwrap_or_default().as_bytes());
    Ok(Exit::Ok)
}

/// A number with s, m, h or d.
fn age(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let seconds = units.into_iter().find_map(|(unit, seconds)| {
        let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
        Some(u64::from(number) * seconds)
    });
    seconds.map(Duration::from_secs).ok_or_else(|| "it is not a number with s, m, h or d".into())
}
