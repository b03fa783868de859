//! How long a kernel gets livepatches, as the operator signs it, and when a reboot is needed.

use livepatch_api::daemon::CoverageState;
use livepatch_manifest::{Coverage, Upgrade};
use livepatch_types::{CveId, NoticeId, PatchState};

use crate::support::*;

/// A document with this cover.
fn publish(site: &Site, number: u64, of: Option<&str>, coverage: Option<Coverage>) {
    let target = of.map(|of| site.target(of, &kernel(1)));
    let mut document = document(&kernel(1), number, target);
    document.coverage = coverage;
    site.publish(&document);
}

/// The cover, the reason for a reboot, and the state of the livepatch.
fn said(agent: &Daemons) -> (CoverageState, Option<String>, PatchState) {
    let status = agent.status();
    (status.coverage.state, status.reboot.map(|reboot| reboot.code), status.patch.state)
}

#[tokio::test]
async fn the_cover_ends_on_its_day() {
    let site = Site::new().await;
    let host = Host::new(&site);
    let until = Some("2026-11-25".parse().unwrap());
    publish(&site, 1, Some("1.1"), Some(Coverage { until, ..Coverage::default() }));
    assert_eq!(said(&host.agent()).0, CoverageState::Unknown);
    let agent = host.enabled().await;
    assert_eq!(said(&agent), (CoverageState::Covered, None, PatchState::Applied));
    assert_eq!(agent.status().coverage.until, until);
    host.at("2026-11-25T23:59:59Z");
    assert_eq!(said(&agent).1, None);
    // Nobody needs to be asked for it; what is applied stays.
    host.at("2026-11-26T00:00:00Z");
    assert_eq!(said(&agent), (CoverageState::Ended, Some("window-ended".into()), PatchState::Applied));
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}

#[tokio::test]
async fn reasons_in_the_order_in_which_they_matter() {
    let site = Site::new().await;
    let host = Host::new(&site);
    std::fs::create_dir(host.path().join("boot")).unwrap();
    publish(&site, 1, None, None);
    let agent = host.enabled().await;
    assert_eq!(said(&agent), (CoverageState::Covered, None, PatchState::NothingToApply));

    let newer = "6.1.0-51-cloud-amd64";
    std::fs::write(host.path().join(format!("boot/vmlinuz-{newer}")), "").unwrap();
    let reboot = agent.status().reboot.unwrap();
    assert_eq!((reboot.code.as_str(), reboot.kernel.as_deref()), ("newer-kernel-installed", Some(newer)));
    assert!(!agent.status().upgrade_required());

    let past = Some("2026-11-01".parse().unwrap());
    let upgrade = Upgrade {
        cve: CveId::parse("CVE-2026-1001").unwrap(),
        notice: Some(NoticeId::parse("LSN-0113-1").unwrap()),
    };
    let window = Coverage { until: past, ..Coverage::default() };
    let series = Coverage { series_until: past, ..window.clone() };
    let needed = Coverage { upgrade: Some(upgrade.clone()), ..series.clone() };
    for (number, coverage, state, code) in [
        (2, window, CoverageState::Ended, "window-ended"),
        (3, series, CoverageState::SeriesEnded, "series-ended"),
        (4, needed, CoverageState::UpgradeNeeded, "unpatchable-cve"),
    ] {
        publish(&site, number, None, Some(coverage));
        agent.refresh().await.unwrap();
        assert_eq!(said(&agent), (state, Some(code.into()), PatchState::KernelUpgradeRequired));
        assert!(agent.status().upgrade_required());
        assert_eq!(agent.status().reboot.unwrap().kernel.as_deref(), Some(newer));
    }
    let reboot = agent.status().reboot.unwrap();
    assert_eq!((reboot.cve, reboot.notice), (Some(upgrade.cve), upgrade.notice));
    assert_eq!(reboot.message, "no livepatch can fix CVE-2026-1001 (LSN-0113-1): a newer kernel is needed");
}

#[tokio::test]
async fn a_kernel_that_the_server_does_not_know_is_not_covered() {
    let site = Site::new().await;
    let host = Host::new(&site);
    let agent = host.enabled().await;
    assert_eq!(said(&agent).0, CoverageState::NotCovered);
}
