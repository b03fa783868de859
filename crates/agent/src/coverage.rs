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

    /// Of two kernels, the one that needrestart 3.6 expects to run after a boot: `nr_kernel_vcmp` of its NeedRestart::Kernel.
    /// Runs of digits are compared as numbers, all else by character, where the tags of unfinished kernels come first.
    fn as_needrestart_does(one: &str, other: &str) -> std::cmp::Ordering {
        let order = |c: char| match c {
            '~' => -1,
            '0'..='9' => i64::from(u32::from(c) - u32::from('0') + 1),
            c if c.is_ascii_alphabetic() => i64::from(u32::from(c)),
            c => i64::from(u32::from(c)) + 256,
        };
        let parts = |release: &str| {
            let mut text = release.to_owned();
            for tag in ["pre", "rc", "test", "git", "old", "trunk"] {
                for before in ['.', '_', '-'] {
                    text = text.replace(&format!("{before}{tag}"), &format!("~{tag}"));
                }
            }
            let mut parts: Vec<String> = Vec::new();
            for c in text.chars() {
                match parts
                    .last_mut()
                    .filter(|part| part.ends_with(|l: char| l.is_ascii_digit() == c.is_ascii_digit()))
                {
                    Some(part) => part.push(c),
                    None => parts.push(c.to_string()),
                }
            }
            parts
        };
        let (one, other) = (parts(one), parts(other));
        let none = String::new();
        for at in 0..one.len().max(other.len()) {
            let (a, b) = (one.get(at).unwrap_or(&none), other.get(at).unwrap_or(&none));
            let cmp = match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                _ => {
                    let (mut a, mut b) = (a.chars().map(order), b.chars().map(order));
                    let mut cmp = std::cmp::Ordering::Equal;
                    loop {
                        let (x, y) = (a.next(), b.next());
                        if cmp.is_ne() || (x, y) == (None, None) {
                            break cmp;
                        }
                        cmp = x.unwrap_or_default().cmp(&y.unwrap_or_default());
                    }
                }
            };
            if cmp.is_ne() {
                return cmp;
            }
        }
        std::cmp::Ordering::Equal
    }

    /// A contract: where the kernels of one flavour are installed, needrestart asks for a boot (`NEEDRESTART-KSTA: 3`) exactly
    /// when the status has a newer kernel, and it is the one that it expects (`NEEDRESTART-KEXP`). It looks at `/boot` and uname
    /// alone: no livepatch changes what it says.
    #[test]
    fn needrestart_expects_the_same_kernel() {
        for flavour in [
            &["6.1.0-9-amd64", "6.1.0-49-amd64", "6.1.0-50-amd64", "6.1.0-100-amd64"][..],
            &["6.1.0-50-cloud-amd64", "6.12.9-cloud-amd64", "6.2.0-1-cloud-amd64"],
            &["6.12.9+deb12-amd64", "6.12.90+deb12-amd64", "6.12.117+deb12-amd64"],
            &["5.15.0-25-generic", "5.15.0-107-generic", "6.8.0-31-generic", "6.8.0-9-generic"],
        ] {
            let files: Vec<String> = flavour.iter().map(|release| format!("vmlinuz-{release}")).collect();
            let expected = flavour.iter().copied().max_by(|a, b| as_needrestart_does(a, b)).unwrap();
            for running in flavour {
                let ours = newer_kernel(running, &files);
                assert_eq!(ours.as_deref(), (*running != expected).then_some(expected), "{running}");
            }
        }
        assert!(as_needrestart_does("6.13-rc7-amd64", "6.13-amd64").is_lt());
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
