//! Whether this kernel gets livepatches and until when, and whether a reboot is needed: pure.

use jiff::civil::Date;
use livepatch_api::daemon::{Coverage, CoverageState, Reboot};
use livepatch_manifest::{KernelDocument, Standing};

/// The cover of the running kernel, by the document that is believed.
pub(crate) fn coverage(document: Option<&KernelDocument>, not_covered: bool, today: Date) -> Coverage {
    let Some(document) = document.filter(|_| !not_covered) else {
        let state = if not_covered { CoverageState::NotCovered } else { CoverageState::Unknown };
        return Coverage { state, ..Coverage::default() };
    };
    let signed = document.coverage.clone().unwrap_or_default();
    let state = match signed.standing(today) {
        Standing::Covered => CoverageState::Covered,
        Standing::UpgradeNeeded => CoverageState::UpgradeNeeded,
        Standing::WindowEnded => CoverageState::Ended,
        Standing::SeriesEnded => CoverageState::SeriesEnded,
    };
    Coverage { state, until: signed.until, series_until: signed.series_until, install: Vec::new() }
}

/// Why a reboot into a newer kernel is needed, or would be of use.
pub(crate) fn reboot(
    coverage: &Coverage,
    document: Option<&KernelDocument>,
    newer_kernel: Option<String>,
) -> Option<Reboot> {
    let upgrade = document.and_then(|document| document.coverage.as_ref()?.upgrade.as_ref());
    let on = |date: Option<Date>| date.map(|date| format!(" on {date}")).unwrap_or_default();
    let (code, message) = match (coverage.state, &newer_kernel) {
        (CoverageState::UpgradeNeeded, _) => {
            let what = upgrade.map(|upgrade| upgrade.cve.to_string()).unwrap_or_default();
            let notice = upgrade.and_then(|upgrade| upgrade.notice).map(|notice| format!(" ({notice})"));
            let notice = notice.unwrap_or_default();
            ("unpatchable-cve", format!("no livepatch can fix {what}{notice}: a newer kernel is needed"))
        }
        (CoverageState::SeriesEnded, _) => {
            let on = on(coverage.series_until);
            ("series-ended", format!("livepatches for this series of kernels ended{on}"))
        }
        (CoverageState::Ended, _) => {
            ("window-ended", format!("livepatches for this kernel ended{}", on(coverage.until)))
        }
        (_, Some(newer)) => {
            ("newer-kernel-installed", format!("kernel {newer} is installed, and not booted"))
        }
        _ => return None,
    };
    let upgrade = upgrade.filter(|_| code == "unpatchable-cve");
    Some(Reboot {
        code: code.to_owned(),
        message,
        cve: upgrade.map(|upgrade| upgrade.cve),
        notice: upgrade.and_then(|upgrade| upgrade.notice),
        kernel: newer_kernel,
    })
}

/// The newest installed kernel of the same flavour that is newer than the running one. `files` are names in `/boot`.
pub(crate) fn newer_kernel(running: &str, files: &[String]) -> Option<String> {
    let (version, flavour) = split(running);
    let installed = files.iter().filter_map(|name| name.strip_prefix("vmlinuz-"));
    let newer = installed.filter(|release| {
        let (other, of) = split(release);
        of == flavour && other > version
    });
    newer.max_by_key(|release| split(release).0).map(str::to_owned)
}

/// The numbers that a release begins with, and the flavour behind them: 6, 1, 0, 50 and `cloud-amd64`. What has other parts
/// in between is its own flavour, and is compared with none.
fn split(release: &str) -> (Vec<u64>, &str) {
    let mut numbers = Vec::new();
    let mut rest = release;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let Ok(number) = rest[..end].parse() else { return (numbers, rest) };
        numbers.push(number);
        rest = rest[end..].strip_prefix(['.', '-']).unwrap_or(&rest[end..]);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use livepatch_manifest::Upgrade;
    use livepatch_types::{Architecture, BuildId, CveId, KernelIdentity, KernelRelease, NoticeId, Tier};

    use super::*;

    #[test]
    fn kernels_that_are_newer_and_of_the_same_flavour() {
        let files = [
            "vmlinuz-6.1.0-9-cloud-amd64",
            "vmlinuz-6.1.0-50-cloud-amd64",
            "vmlinuz-6.1.0-51-amd64",
            "vmlinuz-6.12.9+bpo-cloud-amd64",
            "config-6.1.0-99-cloud-amd64",
            "vmlinuz",
            "vmlinuz-5.15.0-107-generic",
            "vmlinuz-5.15.0-110-generic",
        ]
        .map(str::to_owned);
        for (running, expected) in [
            ("6.1.0-49-cloud-amd64", "6.1.0-50-cloud-amd64"),
            ("6.1.0-50-cloud-amd64", ""),
            ("6.1.0-50-amd64", "6.1.0-51-amd64"),
            ("6.1.0-50-rt-amd64", ""),
            ("5.15.0-99-generic", "5.15.0-110-generic"),
            ("own", ""),
        ] {
            assert_eq!(newer_kernel(running, &files).unwrap_or_default(), expected, "{running}");
        }
    }

    #[test]
    fn why_a_reboot_is_needed_or_of_use() {
        let upgrade = Upgrade {
            cve: CveId::parse("CVE-2026-0009").unwrap(),
            notice: Some(NoticeId::parse("LSN-0114-1").unwrap()),
        };
        let signed = livepatch_manifest::Coverage { upgrade: Some(upgrade), ..Default::default() };
        let document = KernelDocument {
            schema: 1,
            critical: vec![],
            kernel: KernelIdentity {
                architecture: Architecture::Amd64,
                release: KernelRelease::parse("6.1.0").unwrap(),
                build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
            },
            channel: Tier::parse("stable").unwrap(),
            version: 1,
            issued: Timestamp::UNIX_EPOCH,
            expires: Timestamp::MAX,
            poll_hint_seconds: None,
            target: None,
            vendor: None,
            coverage: Some(signed),
            withdrawn: vec![],
        };
        let ends = "2026-11-24".parse().ok();
        let cover = |state| Coverage { state, until: ends, series_until: ends, install: vec![] };
        let said = |coverage: Coverage, newer: Option<&str>| {
            reboot(&coverage, Some(&document), newer.map(str::to_owned)).unwrap().message
        };
        let all = [
            said(cover(CoverageState::UpgradeNeeded), None),
            said(cover(CoverageState::SeriesEnded), None),
            said(cover(CoverageState::Ended), None),
            said(Coverage { state: CoverageState::Ended, ..Coverage::default() }, None),
            said(cover(CoverageState::Covered), Some("6.1.0-51-amd64")),
        ];
        insta::assert_snapshot!(all.join("\n"), @"
        no livepatch can fix CVE-2026-0009 (LSN-0114-1): a newer kernel is needed
        livepatches for this series of kernels ended on 2026-11-24
        livepatches for this kernel ended on 2026-11-24
        livepatches for this kernel ended
        kernel 6.1.0-51-amd64 is installed, and not booted
        ");
    }
}
