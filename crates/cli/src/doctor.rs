//! `livepatch doctor`: what keeps this host from being covered, and what to do about each. Changes nothing, and has an
//! answer for everybody: in containers, in WSL and without rights too.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use livepatch_api::daemon::{CoverageState, CoveredKernel, Reachability, Status};
use livepatch_kernel::{Kernel as _, KernelOrigin, LinuxKernel, LoadFacts, kernel_origin};
use livepatch_types::{CheckState, PatchState};
use serde::Serialize;

use crate::elsewhere::{Place, container};
use crate::explain::waiting_hint;
use crate::status::runs_livepatch;
use crate::text::plain;
use crate::{CliError, Exit};

/// The problem that is an answer: the server does not know this kernel.
const NOT_COVERED: &str = "kernel-not-covered";

/// What a diagnosis is made of.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// `uname -r`.
    pub release: String,
    /// What systemd, Docker or Podman say that this is a container of; none: it is not known to be one.
    pub container: Option<String>,
    /// Why the kernel cannot be recognised: message and hint.
    pub kernel_problem: Option<(String, String)>,
    /// Where the kernel seems to come from.
    pub origin: KernelOrigin,
    /// What refuses modules.
    pub load: LoadFacts,
    /// The day, in UTC.
    pub today: Date,
    /// The status, or why there is none: message and hints.
    pub status: Result<Status, (String, Vec<String>)>,
}

/// How a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Standing {
    Well,
    /// It will be wrong, or right: something is waited for.
    Soon,
    Wrong,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// `place`, `kernel`, `loading`, `daemon`, `enrolment`, `check`, `coverage`, `livepatch`, `next`, `problem`: stays
    /// the same.
    about: &'static str,
    standing: Standing,
    /// One line.
    message: String,
    /// What to do, one line each.
    hints: Vec<String>,
}

/// What is well and what is wrong, in the order in which one would mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Version of this format: 1.
    schema: u32,
    /// Whether nothing is wrong.
    well: bool,
    findings: Vec<Finding>,
}

/// Applies the rule.
pub fn doctor(facts: &HostFacts) -> Diagnosis {
    let findings = match elsewhere(facts) {
        // Nothing that is said of the kernel could be mended here.
        Some(finding) => vec![finding],
        None => [kernel(facts), loading(&facts.load)].into_iter().chain(daemon(facts)).collect(),
    };
    let well = findings.iter().all(|finding| finding.standing != Standing::Wrong);
    Diagnosis { schema: 1, well, findings }
}

fn well(about: &'static str, message: impl Into<String>) -> Finding {
    Finding { about, standing: Standing::Well, message: plain(&message.into()), hints: Vec::new() }
}

fn soon(about: &'static str, message: impl Into<String>, hints: &[&str]) -> Finding {
    Finding { standing: Standing::Soon, ..wrong(about, message, hints) }
}

fn wrong(about: &'static str, message: impl Into<String>, hints: &[&str]) -> Finding {
    let hints = hints.iter().filter(|hint| !hint.is_empty()).map(|hint| plain(hint)).collect();
    Finding { about, standing: Standing::Wrong, message: plain(&message.into()), hints }
}

/// A place in which nobody applies livepatches.
fn elsewhere(facts: &HostFacts) -> Option<Finding> {
    let place = Place::of(&facts.release, facts.container.as_deref())?;
    Some(wrong("place", place.message(&facts.release), &[place.hint()]))
}

fn kernel(facts: &HostFacts) -> Finding {
    let release = &facts.release;
    if let Some((message, hint)) = &facts.kernel_problem {
        return wrong("kernel", format!("{release} cannot be patched: {message}"), &[hint]);
    }
    match facts.origin {
        KernelOrigin::Distribution(name) => {
            well("kernel", format!("{release} looks like a kernel of {name}"))
        }
        origin => wrong("kernel", format!("{release}: {}", origin.explanation()), &[&origin.hint()]),
    }
}

/// What this kernel would refuse, whoever asks.
fn loading(load: &LoadFacts) -> Finding {
    if load.livepatch_support == Some(false) {
        let hint = "boot a kernel of the distribution, built with CONFIG_LIVEPATCH=y";
        wrong("loading", "this kernel has no livepatching", &[hint])
    } else if load.modules_disabled == Some(true) {
        let hint = "unset kernel.modules_disabled in sysctl.d, and reboot";
        wrong("loading", "this kernel loads no modules until the next boot", &[hint])
    } else if load.ftrace_enabled == Some(false) {
        let hint = "sysctl kernel.ftrace_enabled=1";
        wrong("loading", "ftrace is switched off, through which livepatches work", &[hint])
    } else {
        let message = "nothing seen forbids livepatches; `livepatch secure-boot status` says whose are taken";
        well("loading", message)
    }
}

fn daemon(facts: &HostFacts) -> Vec<Finding> {
    let status = match &facts.status {
        Ok(status) => status,
        Err((message, hints)) => {
            let hints: Vec<&str> = hints.iter().map(String::as_str).collect();
            return vec![wrong("daemon", message, &hints)];
        }
    };
    // The livepatch of a bundle needs no server.
    let alone = !status.enabled && runs_livepatch(status);
    let mut findings = vec![match &status.server {
        Some(server) => well("daemon", format!("the daemon asks {server}")),
        None if alone => well("daemon", "no server is configured, and the livepatch of a bundle needs none"),
        None => {
            let hint = "set server = \"https://…\" in /etc/livepatch/livepatch.toml, then `systemctl restart livepatchd`";
            wrong("daemon", "no server is configured", &[hint])
        }
    }];
    if alone {
        findings.push(well("enrolment", "this host is not enrolled: it has the livepatch of a bundle"));
    } else if !status.enabled {
        let hint = "`livepatch enable --token-file FILE` with a token of the server's operator";
        findings.push(wrong(
            "enrolment",
            "this host is not enrolled: it asks nobody and applies nothing by itself",
            &[hint],
        ));
        return findings;
    } else {
        findings.push(well("enrolment", "this host is enrolled"));
        findings.push(check(status));
        findings.extend(coverage(status, facts.today));
    }
    findings.push(livepatch(status));
    findings.extend(next(status));
    // What is not covered was said, with the package to install.
    let said = |code: &str| code == NOT_COVERED && status.coverage.state == CoverageState::NotCovered;
    if let Some(problem) = status.problem.as_ref().filter(|problem| !said(&problem.code)) {
        let hints: Vec<&str> = problem.hints.iter().map(String::as_str).collect();
        findings.push(wrong("problem", &problem.message, &hints));
    }
    findings
}

/// How the last check ended. That there is no network yet is nobody's fault.
fn check(status: &Status) -> Finding {
    match status.check.state {
        CheckState::Checked => well("check", "the last check succeeded"),
        CheckState::NeedsCheck if status.check.reachability == Reachability::Pending => soon(
            "check",
            "the check is pending: the network is not up, it has no default route",
            &["bring the network up (`ip route`); the check is then repeated by itself"],
        ),
        CheckState::NeedsCheck => wrong(
            "check",
            "the server was not asked since the daemon started",
            &["`livepatch refresh` asks now"],
        ),
        CheckState::CheckFailed => {
            wrong("check", "the last check failed", &["`livepatch refresh` asks again"])
        }
    }
}

/// Whether this kernel gets livepatches, for how long, and what to install otherwise; none: nothing is known yet.
fn coverage(status: &Status, today: Date) -> Option<Finding> {
    let coverage = &status.coverage;
    let ended = |message: &str| (Standing::Wrong, message.to_owned());
    let (standing, message) = match coverage.state {
        CoverageState::Unknown => return None,
        CoverageState::NotCovered => {
            let message = "the server has no livepatches for this kernel".to_owned();
            let problem = status.problem.as_ref().filter(|problem| problem.code == NOT_COVERED);
            (Standing::Wrong, problem.map_or(message, |problem| problem.message.clone()))
        }
        CoverageState::Ended => ended("livepatches for this kernel ended"),
        CoverageState::SeriesEnded => ended("livepatches for this series of kernels ended"),
        CoverageState::UpgradeNeeded => ended("this kernel needs a fix that no livepatch can have"),
        CoverageState::Covered => match coverage.ends_soon(today) {
            Some((end, on)) => (Standing::Soon, end.message(on)),
            None => {
                let until = coverage.last_day().map(|day| format!(" until {day}")).unwrap_or_default();
                return Some(well("coverage", format!("this kernel gets livepatches{until}")));
            }
        },
    };
    let mut hints: Vec<String> = coverage.install.iter().map(install).collect();
    // Where the kernel came from, and whom to tell.
    let problem = status.problem.as_ref().filter(|problem| problem.code == NOT_COVERED);
    hints.extend(problem.into_iter().flat_map(|problem| problem.hints.clone()));
    if hints.is_empty() {
        hints.push("install a newer kernel of the distribution, and reboot".into());
    }
    let hints: Vec<&str> = hints.iter().map(String::as_str).collect();
    Some(Finding { standing, ..wrong("coverage", message, &hints) })
}

/// What to type to be covered by a kernel.
fn install(kernel: &CoveredKernel) -> String {
    let CoveredKernel { system, series, line, package, until } = kernel;
    let until = until.map(|until| format!(", until {until}")).unwrap_or_default();
    format!("`apt install {package}`, and reboot: {series} ({line}) of {system} gets livepatches{until}")
}

fn livepatch(status: &Status) -> Finding {
    let version = status.patch.version.map(|version| format!(" {version}")).unwrap_or_default();
    let explain = "`livepatch explain` says why";
    // Its owner wants it so. What was reverted here is not waited for.
    let waiting = status.patch.waiting.as_ref().filter(|_| !status.patch.held);
    if let (PatchState::Unapplied, Some(waiting)) = (status.patch.state, waiting) {
        return soon("livepatch", &waiting.message, &[waiting_hint(waiting)]);
    }
    match status.patch.state {
        PatchState::Applied => well("livepatch", format!("livepatch{version} is applied")),
        PatchState::Applying => well("livepatch", format!("livepatch{version} is being applied")),
        PatchState::NothingToApply => well("livepatch", "the server has no livepatch for this kernel"),
        PatchState::KernelUpgradeRequired => wrong(
            "livepatch",
            "this kernel gets no livepatches any more",
            &["install a newer kernel, and reboot"],
        ),
        PatchState::Unapplied if status.patch.held => wrong(
            "livepatch",
            format!("livepatch{version} is held back since it was reverted here"),
            &["`livepatch apply` applies it"],
        ),
        PatchState::AppliedWithBug => {
            wrong("livepatch", format!("the kernel complained about livepatch{version}"), &[explain])
        }
        PatchState::Unapplied | PatchState::ApplyFailed => {
            wrong("livepatch", format!("livepatch{version} is not applied"), &[explain])
        }
        PatchState::Unknown => {
            wrong("livepatch", "what is applied is not known yet", &["`livepatch refresh` asks now"])
        }
    }
}

/// A newer livepatch that waits for the settings of this host, beside one that is there; where none is, it was said.
fn next(status: &Status) -> Option<Finding> {
    let waiting = status.patch.waiting.as_ref().filter(|_| status.patch.state != PatchState::Unapplied)?;
    Some(soon("next", &waiting.message, &[waiting_hint(waiting)]))
}

impl Diagnosis {
    /// 0 when nothing is wrong, otherwise 1.
    pub fn exit(&self) -> Exit {
        if self.well { Exit::Ok } else { Exit::Failed }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { about, standing, message, hints } in &self.findings {
            let word = match standing {
                Standing::Well => "well",
                Standing::Soon => "soon",
                Standing::Wrong => "wrong",
            };
            text.push_str(&format!("{word:<7}{about:<11}{message}\n"));
            for hint in hints {
                text.push_str(&format!("{:<18}hint: {hint}\n", ""));
            }
        }
        text
    }
}

/// The facts of the host whose /proc, /sys and /run are under `root`; a status comes from who asked for it.
pub(crate) fn facts(root: &Path, status: Result<Status, CliError>, now: Timestamp) -> HostFacts {
    let kernel = LinuxKernel::at(root);
    let evidence = kernel.origin_evidence();
    let problem = kernel.identity().err().map(|error| (error.to_string(), error.hint().to_owned()));
    HostFacts {
        release: evidence.release.clone(),
        container: container(root),
        kernel_problem: problem,
        origin: kernel_origin(&evidence),
        load: kernel.facts(),
        today: now.to_zoned_datetime(TimeZone::UTC).date(),
        status: status.map_err(|error| (error.to_string(), error.hints())),
    }
}
