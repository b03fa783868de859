//! What the server is told, and when: point by point, once each, also by a host that was offline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use livepatch_agent::Reach;
use livepatch_api::daemon::TelemetryStanding;
use livepatch_api::server::{Report, ReportPhase};
use livepatch_kernel::{Pause, Transitions};
use livepatch_types::PatchState;

use crate::support::*;

/// A site that offers 1.1, and a host of it that is not enrolled yet.
async fn offered() -> (Site, Host) {
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    (site, host)
}

fn phase(report: &Report) -> ReportPhase {
    report.event.as_ref().unwrap().phase
}

/// The words of what was told so far, once as many reports have come.
pub(crate) async fn told(site: &Site, count: usize) -> Vec<&'static str> {
    let come = async {
        while site.shelf.lock().unwrap().reports.len() < count {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(BOUND, come).await;
    let words: Vec<_> = site.shelf.lock().unwrap().reports.iter().map(|r| phase(r).word()).collect();
    assert!(in_time.is_ok(), "{words:?}");
    words
}

/// Waits until the daemon knows of all that was taken.
async fn nothing_waits(agent: &Daemons) {
    let noted = async {
        while agent.agent.telemetry().reports.iter().any(|r| r.standing == TelemetryStanding::Waiting) {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(BOUND, noted).await.is_ok());
}

const APPLIED: [&str; 4] = ["before-insert", "after-insert", "in-transition", "applied"];

#[tokio::test]
async fn an_application_is_told_point_by_point() {
    let (site, host) = offered().await;
    site.shelf.lock().unwrap().watched = Some(Arc::clone(&host.kernel));
    let agent = host.enabled().await;
    assert_eq!(told(&site, 4).await, APPLIED);
    let (loads, reports) = {
        let shelf = site.shelf.lock().unwrap();
        (shelf.loads.clone(), shelf.reports.clone())
    };
    assert_eq!(loads[0], 0, "the server hears of it before the kernel gets it");
    let states: Vec<_> = reports.iter().map(|report| report.patch_state).collect();
    let expected = [PatchState::Unapplied, PatchState::Applying, PatchState::Applying, PatchState::Applied];
    assert_eq!(states, expected);
    assert!(reports.iter().all(|report| report.patch_version == Some(version("1.1"))));
    let machine = reports[3].machine.as_ref().unwrap();
    assert_eq!(machine.last_check, Some(NOW.parse().unwrap()));

    host.kernel.pass(Duration::from_secs(1));
    // Neither another round nor a daemon that starts anew says any of it again.
    agent.refresh().await.unwrap();
    let agent = host.agent();
    agent.start().await.unwrap();
    agent.refresh().await.unwrap();
    agent.revert().await.unwrap();
    assert_eq!(told(&site, 5).await[4..], ["changed"]);

    // It comes back: another application. After a boot it is one more, of which the server hears later.
    agent.apply().await.unwrap();
    assert_eq!(told(&site, 8).await[5..], APPLIED[1..]);
    host.kernel.reboot(kernel(1));
    let agent = host.agent();
    agent.start().await.unwrap();
    assert_eq!(told(&site, 8).await.len(), 8);
    agent.refresh().await.unwrap();
    let words = told(&site, 12).await;
    assert_eq!(words[8..12], APPLIED);
}

/// Waits for the kernel until the server has heard of the transition.
struct UntilTold(Arc<std::sync::Mutex<Shelf>>);

impl Pause for UntilTold {
    fn pause(&self, _: Duration) {
        let begin = Instant::now();
        let heard = || {
            let shelf = self.0.lock().unwrap();
            shelf.reports.iter().any(|report| phase(report) == ReportPhase::InTransition)
        };
        while !heard() && begin.elapsed() < BOUND {
            std::thread::yield_now();
        }
    }
}

#[tokio::test]
async fn a_transition_is_told_while_it_lasts() {
    let (site, mut host) = offered().await;
    host.pause(Arc::new(UntilTold(Arc::clone(&site.shelf))));
    host.kernel.set_transitions(Transitions::EndAfterLooks(3));
    // The first contact must be there before.
    let agent = host.enabled().await;
    assert_eq!(agent.status().patch.state, PatchState::Applied);
    assert_eq!(told(&site, 4).await, APPLIED);
    let in_transition = &site.shelf.lock().unwrap().reports[2];
    assert_eq!(in_transition.patch_state, PatchState::Applying);
}

#[tokio::test]
async fn how_it_is_after_one_five_and_fifteen_minutes() {
    let (site, host) = offered().await;
    let agent = host.enabled().await;
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    assert_eq!(agent.agent.next_health(), Some(minutes(1)));
    let mut count = told(&site, 4).await.len();
    for (passes, expected, next) in
        [(1, "after-1m", Some(minutes(4))), (4, "after-5m", Some(minutes(10))), (10, "after-15m", None)]
    {
        host.kernel.pass(minutes(passes));
        agent.agent.tell_health().await;
        agent.agent.tell_health().await;
        count += 1;
        assert_eq!(told(&site, count).await[count - 1], expected);
        assert_eq!(agent.agent.next_health(), next);
    }
    let last = site.shelf.lock().unwrap().reports.last().cloned().unwrap();
    assert_eq!((last.patch_state, last.machine.unwrap().uptime_seconds), (PatchState::Applied, 15 * 60));
    assert_eq!(told(&site, count).await.len(), count);
}

#[tokio::test]
async fn what_was_missed_is_not_made_up_for() {
    let (site, host) = offered().await;
    host.enabled().await;
    told(&site, 4).await;
    // The daemon was away; somebody took the livepatch out meanwhile.
    host.kernel.pass(Duration::from_secs(6 * 60));
    let agent = host.agent();
    agent.agent.round(Reach::Server).await.unwrap();
    agent.agent.tell_health().await;
    assert!(!told(&site, 4).await.contains(&"after-1m"));
}

/// Before a check was tried nothing is told, and with this mode none ever is: what will not be told is not waited for.
#[tokio::test]
async fn a_host_that_asks_nobody_waits_for_no_report() {
    let (site, mut host) = offered().await;
    host.enabled().await;
    told(&site, 4).await;
    host.configure("", "livepatch_mode=no-refresh");
    host.kernel.reboot(kernel(1));
    let agent = host.agent();
    agent.start().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    for (passes, next) in [(1, minutes(4)), (4, minutes(10)), (10, None)] {
        host.kernel.pass(Duration::from_secs(60 * passes));
        agent.agent.tell_health().await;
        assert_eq!(agent.agent.next_health(), next);
    }
    assert_eq!(told(&site, 4).await.len(), 4);
}

#[tokio::test]
async fn a_server_that_takes_no_reports_of_this_host_is_in_the_status() {
    let (site, host) = offered().await;
    let agent = host.enabled().await;
    told(&site, 4).await;
    nothing_waits(&agent).await;
    site.shelf.lock().unwrap().report_trouble = Some((403, false));
    agent.revert().await.unwrap();
    let noted = |expected: &'static [&str]| {
        let agent = &agent;
        async move {
            let seen = async {
                let codes = || agent.status().notes.into_iter().map(|note| note.code).collect::<Vec<_>>();
                while codes() != expected {
                    tokio::task::yield_now().await;
                }
            };
            assert!(tokio::time::timeout(BOUND, seen).await.is_ok(), "{:?}", agent.status().notes);
        }
    };
    noted(&["reports-refused"]).await;
    assert_eq!(agent.status().problem, None, "checks and livepatches go on");
    site.shelf.lock().unwrap().report_trouble = None;
    agent.refresh().await.unwrap();
    noted(&[]).await;
}

#[tokio::test]
async fn reports_wait_while_the_host_is_offline() {
    let (site, host) = offered().await;
    let agent = host.enabled().await;
    told(&site, 4).await;
    nothing_waits(&agent).await;
    site.shelf.lock().unwrap().trouble = Some((503, None, ""));
    assert_eq!(code(agent.refresh().await), "server-failed");
    agent.revert().await.unwrap();
    let bodies = |agent: &Daemons, wanted| -> Vec<String> {
        let reports = agent.agent.telemetry().reports.into_iter();
        reports.filter(|report| report.standing == wanted).map(|report| report.body).collect()
    };
    let waiting = bodies(&agent, TelemetryStanding::Waiting);
    assert_eq!(waiting.len(), 2, "the check failed; then it was reverted");

    // They outlive the daemon, and nobody is asked before there is contact.
    let agent = host.agent();
    agent.start().await.unwrap();
    assert_eq!(bodies(&agent, TelemetryStanding::Waiting)[..2], waiting);
    assert_eq!(told(&site, 4).await.len(), 4);
    let waiting = bodies(&agent, TelemetryStanding::Waiting);

    // The first one is taken, and its answer lost: the same bytes come once more, and then the others in their order.
    (site.shelf.lock().unwrap().trouble, site.shelf.lock().unwrap().report_trouble) =
        (None, Some((500, true)));
    agent.refresh().await.unwrap();
    told(&site, 5).await;
    site.shelf.lock().unwrap().report_trouble = None;
    agent.refresh().await.unwrap();
    let count = 4 + waiting.len();
    told(&site, count).await;
    let sent = site.shelf.lock().unwrap().report_bodies.split_off(4);
    assert_eq!(sent[0], waiting[0]);
    assert_eq!(sent[1..=waiting.len()], waiting, "exactly what was shown");
}

#[tokio::test]
async fn a_failure_is_told_with_its_detail() {
    let (site, host) = offered().await;
    host.kernel.set_transitions(Transitions::NeverEnable);
    let agent = host.enabled().await;
    assert_eq!(agent.status().patch.state, PatchState::ApplyFailed);
    assert_eq!(told(&site, 4).await, ["before-insert", "after-insert", "in-transition", "failed"]);
    let failed = site.shelf.lock().unwrap().reports[3].clone();
    assert_eq!(failed.patch_state, PatchState::ApplyFailed);
    assert!(failed.error.unwrap().starts_with("transition-stalled: livepatch 1.1 was not in force"));
    let detail = failed.event.unwrap().detail;
    assert!(
        detail.iter().any(|line| line.starts_with("lock: stalled 1.1 since 2026-11-24T12:00:00Z: ")),
        "{detail:?}"
    );
    // It is the same failure with every check.
    agent.refresh().await.unwrap_err();
    assert_eq!(told(&site, 4).await.len(), 4);
}

#[tokio::test]
async fn what_a_server_takes_for_no_report_is_dropped_and_counted() {
    let (site, host) = offered().await;
    site.shelf.lock().unwrap().report_trouble = Some((400, false));
    let agent = host.enabled().await;
    let dropped = async {
        while agent.agent.telemetry().dropped < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, dropped).await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"], "no livepatch hangs on it");
    site.shelf.lock().unwrap().report_trouble = None;
    agent.revert().await.unwrap();
    told(&site, 1).await;
    assert_eq!(site.shelf.lock().unwrap().reports[0].event.as_ref().unwrap().dropped, 4);
}

#[tokio::test]
async fn switched_off_the_server_is_polled_and_told_nothing() {
    let (site, mut host) = offered().await;
    host.configure("telemetry = \"off\"", "");
    let agent = host.enabled().await;
    agent.revert().await.unwrap();
    agent.apply().await.unwrap();
    host.kernel.pass(Duration::from_secs(3600));
    agent.agent.tell_health().await;
    assert_eq!((agent.agent.next_health(), host.livepatches().len()), (None, 1));
    assert_eq!(site.shelf.lock().unwrap().report_bodies, [""; 0]);
    // Nor is what waited told when it is switched on again: it was switched off.
    host.configure("", "");
    let on = host.agent();
    on.refresh().await.unwrap();
    site.shelf.lock().unwrap().report_trouble = Some((503, false));
    on.revert().await.unwrap();
    let waits = |daemons: &Daemons| {
        let reports = daemons.agent.telemetry().reports;
        reports.iter().filter(|report| report.standing == TelemetryStanding::Waiting).count()
    };
    assert!(waits(&on) > 0);
    host.configure("telemetry = \"off\"", "");
    drop(host.agent());
    host.configure("", "");
    assert_eq!(waits(&host.agent()), 0);

    let telemetry = agent.agent.telemetry();
    assert!(!telemetry.on && telemetry.reports.is_empty() && telemetry.report_to.is_none());
    assert_eq!(telemetry.poll, Some(format!("{}/v1/kernels/stable/{}", site.url, kernel(1).build_id)));
}

#[tokio::test]
async fn a_host_that_leaves_forgets_what_waits() {
    let (site, host) = offered().await;
    let agent = host.enabled().await;
    told(&site, 4).await;
    site.shelf.lock().unwrap().report_trouble = Some((503, false));
    agent.revert().await.unwrap();
    agent.disable().await.unwrap();
    let reports = agent.agent.telemetry().reports;
    assert!(reports.iter().all(|report| report.standing == TelemetryStanding::Next), "{reports:?}");
}
