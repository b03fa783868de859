//! `target/demo/report.json`: what the demo found, for programs.

use std::path::Path;

use livepatch_types::CveId;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What a check program says of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Vulnerable,
    Fixed,
}

impl Verdict {
    /// From a check program's exit status; another status tells nothing.
    pub(crate) fn from_status(status: i32) -> Option<Self> {
        match status {
            0 => Some(Self::Fixed),
            1 => Some(Self::Vulnerable),
            _ => None,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Vulnerable => "vulnerable",
            Self::Fixed => "fixed",
        }
    }
}

/// The whole report. At its top stands the first fix again, for simple readers. `patch_version` is the livepatch that is
/// applied at the end, `upgraded_from` the one whose place it took.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Version of this format: 1.
    pub(crate) schema: u32,
    pub(crate) kernel: KernelId,
    pub(crate) patch_version: String,
    /// Of the signed module.
    pub(crate) module_sha256: String,
    pub(crate) upgraded_from: Livepatch,
    /// All that the livepatch fixes; only some have a check.
    pub(crate) cves: Vec<CveId>,
    /// Whether whoever signed could read nothing of whoever built; else it was the same user (only root can be another).
    pub(crate) signed_by_another_user: bool,
    #[serde(flatten)]
    pub(crate) first: Option<FixReport>,
    /// The fixes that have a check.
    pub(crate) fixes: Vec<FixReport>,
    pub(crate) seconds: Seconds,
}

/// A livepatch before.
#[derive(Debug, Serialize)]
pub(crate) struct Livepatch {
    pub(crate) patch_version: String,
    /// Of the signed module.
    pub(crate) module_sha256: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KernelId {
    pub(crate) release: String,
    pub(crate) build_id: String,
}

/// One fix, and what its check said each time. All but the second and the third are of `patch_version`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FixReport {
    pub(crate) cve: CveId,
    pub(crate) check_before: Verdict,
    /// With the livepatch of `upgraded_from`, which lacks the last fix.
    pub(crate) check_before_upgrade: Verdict,
    /// While the server offers `patch_version`, and the vendor has not allowed it.
    pub(crate) check_while_vendor_refuses: Verdict,
    pub(crate) check_after_apply: Verdict,
    pub(crate) check_after_revert: Verdict,
    pub(crate) check_after_reapply: Verdict,
    /// When the host has left its server.
    pub(crate) check_after_disable: Verdict,
    /// Without a server, from the bundle that root carried to the host.
    pub(crate) check_after_bundle: Verdict,
    /// The same on a machine with Secure Boot that does not know the vendor's certificate, and on one that does.
    pub(crate) check_with_secure_boot_and_unknown_key: Verdict,
    pub(crate) check_with_secure_boot_and_enrolled_key: Verdict,
}

/// What took how long, for both livepatches together.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Seconds {
    pub(crate) fetch: f64,
    pub(crate) prepare: f64,
    pub(crate) compile: f64,
    pub(crate) diff: f64,
    pub(crate) link: f64,
    pub(crate) prove: f64,
    pub(crate) sign: f64,
    pub(crate) publish: f64,
    pub(crate) boot: f64,
    /// Enrolling, and applying the first livepatch.
    pub(crate) apply: f64,
    /// From the host's question for something new until the next livepatch is applied.
    pub(crate) upgrade: f64,
    /// All of the demo, also what has no name of its own here.
    pub(crate) total: f64,
}

impl Report {
    /// The file's text.
    pub(crate) fn to_json(&self) -> Result<String, Error> {
        let json = serde_json::to_string_pretty(self);
        json.map(|json| json + "\n").map_err(|e| Error::io("make the report", e.into()))
    }
}

impl Seconds {
    /// All of them as people read them.
    pub(crate) fn rounded(self) -> Self {
        Self {
            fetch: rounded(self.fetch),
            prepare: rounded(self.prepare),
            compile: rounded(self.compile),
            diff: rounded(self.diff),
            link: rounded(self.link),
            prove: rounded(self.prove),
            sign: rounded(self.sign),
            publish: rounded(self.publish),
            boot: rounded(self.boot),
            apply: rounded(self.apply),
            upgrade: rounded(self.upgrade),
            total: rounded(self.total),
        }
    }
}

/// Seconds as people read them.
fn rounded(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

/// Writes a file whole or not at all.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|e| Error::io(format!("write {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_others_read() {
        let fix = FixReport {
            cve: CveId::parse("CVE-2026-93146").unwrap(),
            check_before: Verdict::Vulnerable,
            check_before_upgrade: Verdict::Fixed,
            check_while_vendor_refuses: Verdict::Fixed,
            check_after_apply: Verdict::Fixed,
            check_after_revert: Verdict::Vulnerable,
            check_after_reapply: Verdict::Fixed,
            check_after_disable: Verdict::Vulnerable,
            check_after_bundle: Verdict::Fixed,
            check_with_secure_boot_and_unknown_key: Verdict::Vulnerable,
            check_with_secure_boot_and_enrolled_key: Verdict::Fixed,
        };
        let report = Report {
            schema: 1,
            kernel: KernelId { release: "6.1.0".into(), build_id: "ab".into() },
            patch_version: "1.1".into(),
            module_sha256: "00".into(),
            upgraded_from: Livepatch { patch_version: "1.0".into(), module_sha256: "01".into() },
            cves: vec![fix.cve],
            signed_by_another_user: true,
            first: Some(fix.clone()),
            fixes: vec![fix],
            seconds: Seconds::default(),
        };
        let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
        for (field, value) in [
            ("cve", "CVE-2026-93146"),
            ("check_before", "vulnerable"),
            ("check_before_upgrade", "fixed"),
            ("check_after_apply", "fixed"),
            ("check_after_revert", "vulnerable"),
            ("check_while_vendor_refuses", "fixed"),
            ("check_after_reapply", "fixed"),
            ("check_after_bundle", "fixed"),
            ("check_with_secure_boot_and_unknown_key", "vulnerable"),
            ("check_with_secure_boot_and_enrolled_key", "fixed"),
        ] {
            assert_eq!(json[field], value);
            assert_eq!(json["fixes"][0][field], value);
        }
        for field in ["kernel", "patch_version", "module_sha256", "upgraded_from", "cves", "seconds"] {
            assert!(!json[field].is_null(), "{field}");
        }
    }
}
