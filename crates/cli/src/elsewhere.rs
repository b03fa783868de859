//! Places in which nobody applies livepatches: a container has the kernel of its host, WSL that of Windows. There is no daemon
//! to ask there, and the kernel itself can still be looked at.

use std::path::Path;

use livepatch_api::daemon::{Check, Coverage, Failure, Patch, Reachability, Status};
use livepatch_kernel::{Kernel as _, LinuxKernel, Livepatch};
use livepatch_types::{CheckState, KernelIdentity, PatchState, PatchVersion};

use crate::text::plain;

/// Such a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// By what systemd, Docker or Podman say.
    Container(String),
    /// The Windows Subsystem for Linux.
    Wsl,
}

impl Place {
    /// Whether a kernel of this release, with what is said of a container, is such a place.
    pub(crate) fn of(release: &str, container: Option<&str>) -> Option<Self> {
        if release.to_lowercase().contains("microsoft") {
            return Some(Self::Wsl);
        }
        container.map(|name| Self::Container(name.to_owned()))
    }

    /// What it is, on one line.
    pub(crate) fn message(&self, release: &str) -> String {
        match self {
            Self::Container(name) => {
                format!("this is a container ({name}): the kernel {release} is that of its host")
            }
            Self::Wsl => format!("this is WSL: its kernel {release} gets no livepatches"),
        }
    }

    /// Where to go.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Container(_) => {
                "install and ask livepatch on the host; all its containers are covered with it"
            }
            Self::Wsl => "Windows updates this kernel: `wsl --update` in Windows, then `wsl --shutdown`",
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Container(_) => "container",
            Self::Wsl => "wsl",
        }
    }
}

/// Where container managers say what they are (<https://systemd.io/CONTAINER_INTERFACE/>; the files of Docker and Podman).
pub(crate) fn container(root: &Path) -> Option<String> {
    let said = std::fs::read_to_string(root.join("run/systemd/container"));
    let said = said.ok().map(|text| text.trim().to_owned());
    let marked = |path: &str, name: &str| std::fs::metadata(root.join(path)).is_ok().then(|| name.to_owned());
    said.filter(|text| !text.is_empty())
        .or_else(|| marked("run/.containerenv", "podman"))
        .or_else(|| marked(".dockerenv", "docker"))
}

/// A status of what can be seen of the kernel, if this is such a place; `root` is where /proc, /sys and /run are.
pub(crate) fn status(root: &Path) -> Option<Status> {
    let kernel = LinuxKernel::at(root);
    let release = std::fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    let place = Place::of(&release, container(root).as_deref())?;
    Some(seen(&place, release.trim(), kernel.identity().ok(), kernel.livepatches().ok().as_deref()))
}

fn seen(
    place: &Place,
    release: &str,
    kernel: Option<KernelIdentity>,
    livepatches: Option<&[Livepatch]>,
) -> Status {
    let enabled: Vec<&Livepatch> =
        livepatches.into_iter().flatten().filter(|livepatch| livepatch.enabled).collect();
    let names: Vec<&str> = enabled.iter().map(|livepatch| livepatch.name.as_str()).collect();
    let shown = match livepatches {
        None => "its livepatches are not shown here".to_owned(),
        Some(_) if names.is_empty() => "no livepatch is enabled".to_owned(),
        Some(_) => format!("enabled: {}", names.join(", ")),
    };
    let ours = enabled
        .iter()
        .find_map(|livepatch| Some((PatchVersion::of_module(&livepatch.name)?, livepatch.in_transition)));
    let state = match (livepatches, ours) {
        (_, Some((_, true))) => PatchState::Applying,
        (_, Some((_, false))) => PatchState::Applied,
        (Some(_), None) if names.is_empty() => PatchState::Unapplied,
        _ => PatchState::Unknown,
    };
    let message = plain(&format!("{}; {shown}", place.message(release)));
    Status {
        schema: 1,
        client_version: env!("CARGO_PKG_VERSION").into(),
        enabled: false,
        enabled_at: None,
        tier: None,
        cohort: None,
        server: None,
        kernel,
        check: Check {
            state: CheckState::NeedsCheck,
            at: None,
            attempted_at: None,
            reachability: Reachability::default(),
            // There is no daemon.
            by_itself: false,
            mirror: None,
            document_version: None,
            document_expires: None,
        },
        coverage: Coverage::default(),
        reboot: None,
        patch: Patch {
            state,
            version: ours.map(|(version, _)| version),
            stage: None,
            applied_at: None,
            held: false,
            waiting: None,
            cutoff_date: None,
            place: None,
            cves: Vec::new(),
        },
        problem: Some(Failure { code: place.code().into(), message, hints: vec![place.hint().into()] }),
        notes: Vec::new(),
    }
}
