use serde::Serialize;

use super::model::{check_word, patch_word, time};
use super::{Excluded, LegacyStatus};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Top<'a> {
    #[serde(rename = "Client-Version")]
    client_version: String,
    #[serde(rename = "Machine-Id")]
    machine_id: &'a str,
    architecture: &'a str,
    #[serde(rename = "CPU-Model")]
    cpu_model: &'a str,
    #[serde(rename = "Last-Check")]
    last_check: String,
    #[serde(rename = "Boot-Time")]
    boot_time: String,
    uptime: String,
    status: [Kernel<'a>; 1],
    #[serde(rename = "tier")]
    tier: String,
    #[serde(rename = "Fixed-CVEs")]
    fixed_cves: FixedCves<'a>,
    #[serde(flatten)]
    blocked: Option<Blocked>,
}

/// What a cutoff date, a delay or a hold keeps back.
#[derive(Serialize)]
struct Blocked {
    #[serde(rename = "Excluded-LSNs")]
    excluded_lsns: Vec<ExcludedNotice>,
    #[serde(rename = "Blocking-Options")]
    blocking_options: Vec<&'static str>,
    #[serde(rename = "Using-Cutoff-Date")]
    using_cutoff_date: String,
}

#[derive(Serialize)]
struct ExcludedNotice {
    #[serde(rename = "LSN")]
    lsn: String,
    #[serde(rename = "Published")]
    published: String,
    #[serde(rename = "CVEs")]
    cves: Vec<String>,
}

impl Blocked {
    fn of(status: &LegacyStatus) -> Option<Self> {
        if status.excluded.is_none() && status.cutoff.is_none() {
            return None;
        }
        let notice = |excluded: &Excluded| ExcludedNotice {
            lsn: excluded.notice.to_string(),
            published: time(excluded.released),
            cves: excluded.cves.iter().map(ToString::to_string).collect(),
        };
        Some(Self {
            excluded_lsns: status.excluded.iter().map(notice).collect(),
            blocking_options: status.excluded.iter().map(|excluded| excluded.option).collect(),
            using_cutoff_date: status.cutoff.map(time).unwrap_or_default(),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kernel<'a> {
    kernel: &'a str,
    running: bool,
    livepatch: Livepatch<'a>,
    supported: &'static str,
    upgrade_required_date: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Livepatch<'a> {
    check_state: &'static str,
    state: &'static str,
    version: &'a str,
    fixes: Vec<Fix<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Fix<'a> {
    name: String,
    description: &'a str,
    bug: &'static str,
    patched: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FixedCves<'a> {
    #[serde(rename = "Timestamp")]
    timestamp: String,
    #[serde(rename = "Kernel-Package-Fixes")]
    kernel_package_fixes: Vec<PackageFixes<'a>>,
    #[serde(rename = "Installed-Kernels")]
    installed_kernels: &'a [String],
    #[serde(rename = "Patched-CVEs")]
    patched_cves: Vec<String>,
    #[serde(rename = "Digest")]
    digest: &'static str,
}

/// What a kernel's package fixes: that is for its changelog to say, and not known here.
#[derive(Serialize)]
struct PackageFixes<'a> {
    #[serde(rename = "Package")]
    package: &'a str,
    #[serde(rename = "Fixed-CVEs")]
    fixed_cves: [(); 0],
}

/// The form of client 11.0, in one line. `Excluded-LSNs`, `Blocking-Options` and `Using-Cutoff-Date` are there only when a
/// cutoff date is in use or something is kept back: an output without one has none of them.
pub fn json(status: &LegacyStatus) -> String {
    let fixes = status.fixes.iter().map(|fix| Fix {
        name: fix.cve.to_string().to_ascii_lowercase(),
        description: &fix.title,
        bug: "",
        patched: fix.patched,
    });
    let patched = status.fixes.iter().filter(|fix| fix.patched).map(|fix| format!("UBUNTU-{}", fix.cve));
    let packages = status.installed_kernels.iter().map(|package| PackageFixes { package, fixed_cves: [] });
    let top = Top {
        client_version: format!("v{}", status.client_version),
        machine_id: &status.machine_id,
        architecture: &status.architecture,
        cpu_model: &status.cpu_model,
        last_check: time(status.last_check),
        boot_time: time(status.boot_time),
        uptime: status.uptime_seconds.to_string(),
        status: [Kernel {
            kernel: &status.kernel,
            running: true,
            livepatch: Livepatch {
                check_state: check_word(status.check),
                state: patch_word(status.patch),
                version: &status.version,
                fixes: fixes.collect(),
            },
            supported: status.support.word(),
            upgrade_required_date: &status.upgrade_required_date,
        }],
        tier: status.tier.to_ascii_lowercase(),
        fixed_cves: FixedCves {
            timestamp: time(status.last_check),
            kernel_package_fixes: packages.collect(),
            installed_kernels: &status.installed_kernels,
            patched_cves: patched.collect(),
            digest: "",
        },
        blocked: Blocked::of(status),
    };
    // Texts, booleans and lists of them always serialise.
    serde_json::to_string(&top).unwrap_or_default() + "\n"
}
