//! What a host that is not covered, or not for long, is told to install: by the operator's signed matrix alone.

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_api::daemon::CoverageState;
use livepatch_manifest::envelope::{assemble, signing_input};
use livepatch_manifest::{Coverage, SupportFlavour, SupportMatrix, SupportRow, support};
use livepatch_types::Architecture;

use crate::support::*;

/// A matrix of this version by which one package is covered on Debian 12.
fn matrix(version: u64, package: &str) -> SupportMatrix {
    let flavour = |name: &str, package: &str| SupportFlavour { name: name.into(), package: package.into() };
    SupportMatrix {
        schema: 1,
        critical: vec![],
        version,
        issued: NOW.parse().unwrap(),
        rows: vec![SupportRow {
            distribution: "debian".into(),
            release: "12".into(),
            name: "Debian 12".into(),
            architecture: Architecture::Amd64,
            series: "6.1".into(),
            line: "stable".into(),
            window_months: Some(13),
            until: Some("2028-06-30".parse().unwrap()),
            flavours: vec![flavour("amd64", "other"), flavour("cloud-amd64", package)],
        }],
    }
}

fn signed(matrix: &SupportMatrix, key: &Ed25519KeyPair) -> Vec<u8> {
    let payload = matrix.to_payload();
    let signature = key.sign(&signing_input(support::PAYLOAD_TYPE, &payload)).as_ref().to_vec();
    assemble(support::PAYLOAD_TYPE, &payload, &[(public(key).key_id(), signature)])
}

async fn on_debian_12() -> (Site, Host) {
    let site = Site::new().await;
    let host = Host::new(&site);
    std::fs::write(host.path().join("os-release"), "ID=debian\nVERSION_ID=\"12\"\n").unwrap();
    (site, host)
}

fn say(site: &Site, matrix: &SupportMatrix) {
    site.shelf.lock().unwrap().support = Some(signed(matrix, &site.operator));
}

fn packages(daemons: &Daemons) -> Vec<String> {
    daemons.status().coverage.install.into_iter().map(|kernel| kernel.package).collect()
}

fn asked(site: &Site) -> usize {
    site.asked().iter().filter(|asked| *asked == "support").count()
}

#[tokio::test]
async fn who_is_not_covered_is_told_what_to_install() {
    let (site, host) = on_debian_12().await;
    say(&site, &matrix(1, "linux-image-cloud-amd64"));
    let daemons = host.enabled().await;
    assert_eq!(daemons.status().coverage.state, CoverageState::NotCovered);
    assert_eq!(packages(&daemons), ["linux-image-cloud-amd64"]);
    assert_eq!(asked(&site), 1);
    // Once a day, and after a restart from what is remembered, without the network.
    daemons.refresh().await.unwrap();
    assert_eq!(asked(&site), 0);
    say(&site, &matrix(2, "newer"));
    host.at("2026-11-25T12:00:00Z");
    daemons.refresh().await.unwrap();
    assert_eq!((packages(&daemons), asked(&site)), (vec!["newer".to_owned()], 1));
}

#[tokio::test]
async fn who_is_covered_asks_only_when_that_ends_soon() {
    let (site, host) = on_debian_12().await;
    say(&site, &matrix(1, "linux-image-cloud-amd64"));
    let cover = |number, series_until: &str| {
        let mut document = document(&kernel(1), number, None);
        let series_until = Some(series_until.parse().unwrap());
        document.coverage = Some(Coverage { series_until, ..Coverage::default() });
        site.publish(&document);
    };
    cover(1, "2027-11-24");
    let daemons = host.enabled().await;
    daemons.refresh().await.unwrap();
    assert_eq!((packages(&daemons).len(), asked(&site)), (0, 0), "a poll is one request");
    cover(2, "2027-01-31");
    daemons.refresh().await.unwrap();
    assert_eq!((packages(&daemons).len(), asked(&site)), (1, 1));
    cover(3, "2027-11-24");
    daemons.refresh().await.unwrap();
    assert_eq!(packages(&daemons).len(), 0, "nothing needs to be installed any more");
    cover(4, "2026-11-01");
    daemons.refresh().await.unwrap();
    assert_eq!(daemons.status().coverage.state, CoverageState::SeriesEnded);
    assert_eq!(packages(&daemons).len(), 1);
}

/// Nothing comes of a matrix that the operator did not sign, of an older one, of none, or of another system.
#[tokio::test]
async fn only_the_operators_word_counts() {
    let (site, host) = on_debian_12().await;
    let stranger = Ed25519KeyPair::generate().unwrap();
    let by_stranger = signed(&matrix(9, "evil"), &stranger);
    let not_printable = signed(&matrix(9, "x; reboot"), &site.operator);
    let daemons = host.enabled().await;
    site.asked();
    let mut day = 25;
    let mut ask = async |support: Option<Vec<u8>>| {
        site.shelf.lock().unwrap().support = support;
        host.at(&format!("2026-11-{day}T12:00:00Z"));
        day += 1;
        daemons.refresh().await.unwrap();
        assert_eq!(asked(&site), 1);
        packages(&daemons)
    };
    assert_eq!(ask(Some(by_stranger)).await, [""; 0]);
    assert_eq!(ask(Some(not_printable)).await, [""; 0]);
    assert_eq!(ask(Some(b"{}".to_vec())).await, [""; 0]);
    assert_eq!(ask(Some(signed(&matrix(5, "good"), &site.operator))).await, ["good"]);
    assert_eq!(ask(Some(signed(&matrix(4, "old"), &site.operator))).await, ["good"], "not the older one");
    std::fs::write(host.path().join("os-release"), "ID=linuxmint\nVERSION_ID=22\n").unwrap();
    assert_eq!(packages(&daemons), [""; 0], "another system");
}
