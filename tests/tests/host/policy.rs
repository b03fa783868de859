//! What the owner of a host allows: when, how old, how far.

use livepatch_types::{PatchState, PatchVersion};

use crate::support::*;

/// An enrolled host with these settings that is offered 1.1, released at [`NOW`].
async fn offered(settings: &str, command_line: &str) -> (Site, Host) {
    let site = Site::new().await;
    let mut host = Host::new(&site);
    host.configure(settings, command_line);
    let target = site.target("1.1", &kernel(1));
    site.publish(&document(&kernel(1), 1, Some(target)));
    (site, host)
}

/// The state, and what it waits for until when.
async fn state(host: &Host) -> String {
    let agent = host.agent();
    agent.agent.look().await.unwrap();
    let patch = agent.status().patch;
    match patch.waiting {
        None => format!("{:?}", patch.state),
        Some(waiting) => {
            assert_eq!(waiting.version, PatchVersion::parse("1.1").unwrap());
            let until = waiting.until.map_or_else(|| "-".to_owned(), |at| at.to_string());
            format!("{:?} {} {until}", patch.state, waiting.code)
        }
    }
}

#[tokio::test]
async fn a_window_opens() {
    let (_site, host) = offered("maintenance-windows = [\"wed 02:00-04:00 UTC\"]", "").await;
    let agent = host.enabled().await;
    assert_eq!(host.livepatches(), [""; 0]);
    assert_eq!(state(&host).await, "Unapplied maintenance-window 2026-11-25T02:00:00Z");
    agent.refresh().await.unwrap();
    assert_eq!(host.livepatches(), [""; 0]);

    host.at("2026-11-25T02:00:01Z");
    agent.refresh().await.unwrap();
    assert_eq!(state(&host).await, "Applied");

    // What was healthy does not wait for the next one after a boot.
    host.at("2026-11-26T12:00:00Z");
    host.kernel.reboot(kernel(1));
    host.agent().start().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}

#[tokio::test]
async fn root_does_not_wait() {
    for settings in ["maintenance-windows = [\"wed 02:00-04:00 UTC\"]", "patch-delay = \"1w\""] {
        let (_site, host) = offered(settings, "").await;
        let agent = host.enabled().await;
        assert_eq!(host.livepatches(), [""; 0]);
        agent.apply().await.unwrap();
        assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    }
}

#[tokio::test]
async fn what_is_too_young_grows_old() {
    let (_site, host) = offered("patch-delay = \"3d\"", "").await;
    let agent = host.enabled().await;
    assert_eq!(state(&host).await, "Unapplied patch-delay 2026-11-27T12:00:00Z");
    host.at("2026-11-27T12:00:00Z");
    agent.refresh().await.unwrap();
    assert_eq!(state(&host).await, "Applied");
}

#[tokio::test]
async fn a_cutoff_holds_for_root_too() {
    let (_site, host) = offered("cutoff-date = \"2026-11-01T00:00:00Z\"", "").await;
    let agent = host.enabled().await;
    agent.apply().await.unwrap();
    assert_eq!(host.livepatches(), [""; 0]);
    assert_eq!(state(&host).await, "Unapplied after-cutoff -");
}

#[tokio::test]
async fn a_held_notice_holds_for_root_too_and_says_what_stays_open() {
    let (site, mut host) = offered("held-notices = [\"LSN-0002-1\"]", "").await;
    let agent = host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"], "an earlier notice is not held");
    site.publish(&document(&kernel(1), 2, Some(site.target("2.1", &kernel(1)))));
    agent.refresh().await.unwrap();
    agent.apply().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    let waiting = agent.status().patch.waiting.unwrap();
    assert_eq!((waiting.code.as_str(), waiting.until), ("held-notice", None));
    assert_eq!(waiting.notice.unwrap().to_string(), "LSN-0002-1");
    assert_eq!(waiting.open_cves, [], "1.1 fixes the same");

    // Whoever runs nothing has them open.
    agent.revert().await.unwrap();
    let patch = agent.status().patch;
    assert!(!patch.waiting.unwrap().open_cves.is_empty());
    assert!(!patch.held, "what was reverted is not what is offered");
    host.configure("", "");
    host.agent().refresh().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_2_1"]);
}

#[tokio::test]
async fn a_mode_that_applies_nothing() {
    let (site, mut host) = offered("", "quiet livepatch_mode=no-apply").await;
    let agent = host.enabled().await;
    assert_eq!(state(&host).await, "Unapplied mode -");
    assert!(!site.asked().is_empty());

    // The owner changes that, and the host comes up patched; with the switch on the next boot it does not.
    host.configure("", "quiet");
    drop(agent);
    host.agent().refresh().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    host.configure("", "livepatch_mode=no-apply");
    host.kernel.reboot(kernel(1));
    host.agent().start().await.unwrap();
    assert_eq!(host.livepatches(), [""; 0]);
}

#[tokio::test]
async fn no_apply_still_lets_go_what_was_withdrawn() {
    let (site, mut host) = offered("", "").await;
    host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    host.configure("", "livepatch_mode=no-apply");
    let mut withdrawn = document(&kernel(1), 2, None);
    withdrawn.withdrawn = vec![version("1.1")];
    site.publish(&withdrawn);
    host.agent().refresh().await.unwrap();
    assert_eq!(host.livepatches(), [""; 0]);
}

/// Who waits for a check must know whether one comes.
#[tokio::test]
async fn the_status_says_whether_the_server_is_asked_by_itself() {
    let (_site, mut host) = offered("", "").await;
    host.enabled().await;
    for (settings, command_line, expected) in [
        ("", "", true),
        ("", "livepatch_mode=no-apply", true),
        ("", "livepatch_mode=no-refresh", false),
        ("", "livepatch_mode=stop", false),
        ("check-interval = \"0s\"", "", false),
    ] {
        host.configure(settings, command_line);
        let asks = host.agent().status().check.by_itself;
        assert_eq!(asks, expected, "{settings} {command_line}");
    }
}

#[tokio::test]
async fn a_stopped_daemon_asks_nobody_and_tells() {
    let (site, mut host) = offered("", "").await;
    host.enabled().await;
    site.asked();
    host.configure("", "livepatch_mode=stop");
    let agent = host.agent();
    for result in [agent.refresh().await, agent.apply().await] {
        assert_eq!(code(result), "stopped");
    }
    assert_eq!(site.asked(), [""; 0]);
    // What runs is the kernel's, and root can still take it away.
    assert_eq!(agent.status().patch.state, PatchState::Applied);
    agent.revert().await.unwrap();
    assert_eq!(host.livepatches(), [""; 0]);
}

#[tokio::test]
async fn under_a_configuration_that_is_wrong_the_last_one_comes_back_and_nothing_new() {
    let (site, mut host) = offered("", "").await;
    drop(host.enabled().await);
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    host.configure_wrongly();
    host.kernel.reboot(kernel(1));
    host.agent().start().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);

    site.publish(&document(&kernel(1), 2, Some(site.target("2.1", &kernel(1)))));
    let agent = host.agent();
    agent.refresh().await.unwrap();
    agent.apply().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}
