//! The guest's half of the demo: a kernel as Debian ships it, with the client in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use livepatch_vm::{BootSpec, Command, Firmware, Guest, Initramfs, KernelTree, USER};

use super::report::Verdict;
use super::session::Session;
use crate::config::Fix;
use crate::error::Error;

/// What systemd makes for the daemon.
const DIRECTORIES: &str = "/run/livepatch /var/lib/livepatch";
const EFIVARS: &str = "/sys/firmware/efi/efivars";
const STATUS: &str = "livepatch status --format json";
const SHORT: Duration = Duration::from_secs(60);
/// Download, verification and transition, under emulation.
const LONG: Duration = Duration::from_secs(180);

/// What goes into the guest besides the kernel.
pub(crate) struct Content<'a> {
    /// Directory with livepatchd, livepatch-loader, livepatch-observer and livepatch.
    pub(crate) programs: &'a Path,
    /// Directory with the check programs.
    pub(crate) checks: &'a Path,
    /// The daemon's configuration.
    pub(crate) files: &'a [GuestFile],
}

/// A small file for the guest.
pub(crate) struct GuestFile {
    pub(crate) path: &'static str,
    pub(crate) mode: u32,
    pub(crate) bytes: Vec<u8>,
}

/// The running guest.
pub(crate) struct Machine<'a> {
    guest: Guest,
    fixes: &'a [Fix],
    boot_id: String,
    transcript: PathBuf,
}

impl<'a> Machine<'a> {
    /// Boots and starts the daemon, which is then there but not enabled.
    pub(crate) fn boot(
        tree: &KernelTree,
        fixes: &'a [Fix],
        content: &Content,
        firmware: Firmware,
        transcript: &Path,
    ) -> Result<Self, Error> {
        let mut initramfs = Initramfs::with_network(tree)?;
        let has_variables = !matches!(firmware, Firmware::Bios);
        if has_variables {
            initramfs.kernel_modules(tree, &["efivarfs"])?;
        }
        for fix in fixes {
            let needs = fix.needs.iter().chain([&fix.object]).map(|word| word.as_str());
            let modules: Vec<&str> = needs.filter(|name| *name != "vmlinux").collect();
            initramfs.kernel_modules(tree, &modules)?;
            let name = program(fix);
            initramfs.file_from(&format!("/usr/bin/{name}"), 0o755, &content.checks.join(&name))?;
        }
        for (path, name) in [
            ("/usr/sbin/livepatchd", "livepatchd"),
            ("/usr/sbin/livepatch-loader", "livepatch-loader"),
            ("/usr/sbin/livepatch-observer", "livepatch-observer"),
            ("/usr/bin/livepatch", "livepatch"),
        ] {
            initramfs.program(path, &content.programs.join(name))?;
        }
        for file in content.files {
            initramfs.file(file.path, file.mode, file.bytes.clone())?;
        }
        let spec = BootSpec::new(tree.vmlinuz(), initramfs.build());
        let guest = Guest::boot(&BootSpec { transcript: Some(transcript.into()), firmware, ..spec })?;
        if has_variables {
            guest.check(&Command::new("mount").args(["-t", "efivarfs", "efivarfs", EFIVARS]), SHORT)?;
        }
        // As the package has it: observer and loader as root, the daemon as a user without rights.
        guest.spawn("livepatch-observer", &Command::new("livepatch-observer"))?;
        guest.wait_for(
            &Command::shell("test -S /run/livepatch-observer/observer.sock && echo there"),
            "there",
            SHORT,
        )?;
        guest.spawn("livepatch-loader", &Command::new("livepatch-loader").args(["--agent-user", USER]))?;
        guest.wait_for(
            &Command::shell("test -S /run/livepatch-loader/root.sock && echo there"),
            "there",
            SHORT,
        )?;
        guest
            .check(&Command::shell(format!("mkdir -p {DIRECTORIES} && chown {USER} {DIRECTORIES}")), SHORT)?;
        guest.spawn("livepatchd", &Command::new("livepatchd").as_user())?;
        // "Not enabled" has an exit code of its own.
        let answers = Command::shell("livepatch status >/dev/null 2>&1; echo $?");
        guest.wait_for(&answers, "3", SHORT)?;
        let boot_id = boot_id(&guest)?;
        Ok(Self { guest, fixes, boot_id, transcript: transcript.into() })
    }

    /// Runs every check as an ordinary user; each must say what is expected of it.
    pub(crate) fn check(
        &self,
        expected: impl Fn(&Fix) -> Verdict,
        session: &mut Session,
    ) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = Vec::new();
        for fix in self.fixes {
            let expected = expected(fix);
            let program = program(fix);
            let (output, _) = session.step(&format!("guest$ {program}"), |_| {
                Ok(self.guest.run(&Command::new(&program).as_user(), SHORT)?)
            })?;
            let seen = Verdict::from_status(output.status);
            if seen != Some(expected) {
                return Err(Error::Check {
                    what: format!("{} in the guest", fix.cve),
                    seen: seen
                        .map_or_else(|| format!("unknown ({})", output.error_text()), |v| v.word().into()),
                    expected: expected.word().into(),
                    transcript: self.transcript.clone(),
                });
            }
            session.say(&output.text());
            verdicts.push(expected);
        }
        Ok(verdicts)
    }

    /// Runs `livepatch` and waits until the status says that this version is applied, or none; gives the seconds of both.
    pub(crate) fn livepatch(
        &self,
        arguments: &str,
        applied: Option<&str>,
        session: &mut Session,
    ) -> Result<f64, Error> {
        let ((), seconds) = session.step(&format!("guest# livepatch {arguments}"), |_| {
            self.guest.check(&Command::new("livepatch").args(arguments.split(' ')), LONG)?;
            let seen = match applied {
                Some(version) => is_applied(version),
                None => format!("{STATUS} | grep -q '\"state\": \"unapplied\"'"),
            };
            Ok(self.guest.wait_for(&Command::shell(format!("{seen} && echo so")), "so", LONG)?)
        })?;
        Ok(seconds)
    }

    /// Asks the server; what it offers must be refused for this reason, and what runs must stay.
    pub(crate) fn refuses(&self, code: &str, applied: &str, session: &mut Session) -> Result<(), Error> {
        let (status, _) = session.step("guest# livepatch refresh", |_| {
            self.guest.run(&Command::new("livepatch").arg("refresh"), LONG)?;
            let refused = format!("{STATUS} | grep -q '\"code\": \"{code}\"'");
            let seen = format!("{refused} && {} && echo so", is_applied(applied));
            self.guest.wait_for(&Command::shell(seen), "so", LONG)?;
            Ok(self.guest.check(&Command::shell("livepatch status | grep -A 1 ^problem:"), SHORT)?)
        })?;
        session.say(&status);
        Ok(())
    }

    /// Runs `livepatch`, which must refuse in these words.
    pub(crate) fn says_no(&self, arguments: &str, words: &str, session: &mut Session) -> Result<(), Error> {
        let (output, _) = session.step(&format!("guest# livepatch {arguments}"), |_| {
            Ok(self.guest.run(&Command::new("livepatch").args(arguments.split(' ')), LONG)?)
        })?;
        let said = format!("{}{}", output.text(), output.error_text());
        session.say(&said);
        if !output.success() && said.contains(words) {
            return Ok(());
        }
        Err(Error::Check {
            what: format!("livepatch {arguments}"),
            seen: if output.success() { "done".into() } else { "another refusal".into() },
            expected: format!("refused: {words}"),
            transcript: self.transcript.clone(),
        })
    }

    /// Shows what the machine takes modules of.
    pub(crate) fn secure_boot(&self, session: &mut Session) -> Result<(), Error> {
        let (output, _) = session.step("guest# livepatch secure-boot status", |_| {
            Ok(self.guest.run(&Command::new("livepatch").args(["secure-boot", "status"]), SHORT)?)
        })?;
        session.say(&output.text());
        Ok(())
    }

    /// The host leaves its server and has no livepatch any more.
    pub(crate) fn leave(&self, session: &mut Session) -> Result<(), Error> {
        session.step("guest# livepatch disable", |_| {
            self.guest.check(&Command::new("livepatch").arg("disable"), LONG)?;
            // "Not enabled" has an exit code of its own.
            let answers = Command::shell("livepatch status >/dev/null 2>&1; echo $?");
            Ok(self.guest.wait_for(&answers, "3", SHORT)?)
        })?;
        Ok(())
    }

    /// Root brings a file.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.guest.write_file(path, 0o600, bytes)?)
    }

    /// Shows `livepatch status`.
    pub(crate) fn status(&self, session: &mut Session) -> Result<(), Error> {
        let (text, _) = session.step("guest# livepatch status", |_| {
            // It gives up after a second, which a machine under emulation may need.
            let kept = Command::shell("livepatch status >/run/status 2>&1; echo $?");
            self.guest.wait_for(&kept, "0", SHORT)?;
            Ok(self.guest.check(&Command::new("cat").arg("/run/status"), SHORT)?)
        })?;
        session.say(&text);
        Ok(())
    }

    /// Shows what root sees of both repositories; nothing is wrong with them.
    pub(crate) fn trust(&self, session: &mut Session) -> Result<(), Error> {
        let (text, _) = session.step("guest# livepatch trust", |_| {
            // It gives up after 700 ms, which a machine under emulation may need.
            let kept = Command::shell("livepatch trust >/run/trust 2>&1; echo $?");
            self.guest.wait_for(&kept, "0", SHORT)?;
            Ok(self.guest.check(&Command::new("cat").arg("/run/trust"), SHORT)?)
        })?;
        session.say(&text);
        Ok(())
    }

    /// The kernel is the one that was booted, and has complained of nothing.
    pub(crate) fn is_well(&self, session: &mut Session) -> Result<(), Error> {
        let wrong = |what: &str, seen: String, expected: &str| Error::Check {
            what: what.into(),
            seen,
            expected: expected.into(),
            transcript: self.transcript.clone(),
        };
        let boot_id = boot_id(&self.guest)?;
        if boot_id != self.boot_id {
            return Err(wrong("the guest's boot id", boot_id, &self.boot_id));
        }
        if let Some(problem) = self.guest.kernel_problems()?.first() {
            return Err(wrong("the kernel's log", format!("not clean: {}", problem.line), "clean"));
        }
        let uptime = self.guest.check(&Command::shell("cut -d. -f1 /proc/uptime"), SHORT)?;
        session.say(&format!(
            "no reboot: the same boot id, up {uptime} s; no BUG or WARNING in the kernel's log"
        ));
        Ok(())
    }

    /// Puts the daemon's log into the transcript: something went wrong.
    pub(crate) fn keep_log(&self) {
        let _ = self.guest.read_file("/run/log/livepatchd");
    }

    /// Shuts the guest down.
    pub(crate) fn shutdown(self) -> Result<(), Error> {
        Ok(self.guest.shutdown()?)
    }
}

/// A script that ends with 0 when this livepatch is applied. State and version are neighbours in what the status has of it.
fn is_applied(version: &str) -> String {
    format!("{STATUS} | grep -A 1 '\"state\": \"applied\"' | grep -q '\"version\": \"{version}\"'")
}

/// Name of the check program: that of its source.
fn program(fix: &Fix) -> String {
    let path = Path::new(fix.check.as_str());
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn boot_id(guest: &Guest) -> Result<String, Error> {
    Ok(guest.check(&Command::new("cat").arg("/proc/sys/kernel/random/boot_id"), SHORT)?)
}
