//! Restarts, reboots, stalls, holds: what happens to a host over time.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use livepatch_agent::Agent;
use livepatch_api::daemon::Status;
use livepatch_kernel::{LoadRefusal, Pause, Transitions};
use livepatch_types::{ModuleName, PatchState, Redacted, Stage};

use crate::support::*;

async fn with_patch() -> (Site, Host) {
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let agent = host.enabled().await;
    assert_eq!(agent.status().patch.state, PatchState::Applied);
    (site, host)
}

#[tokio::test]
async fn a_restarted_daemon_loads_nothing_twice() {
    let (_site, host) = with_patch().await;
    let agent = host.agent();
    agent.start().await.unwrap();
    let status = agent.status();
    assert_eq!((status.patch.state, status.patch.version), (PatchState::Applied, Some(version("1.1"))));
    agent.refresh().await.unwrap();
    assert_eq!(host.kernel.loads().len(), 1);
}

#[tokio::test]
async fn a_reboot_brings_it_back_without_network_or_clock() {
    let (site, host) = with_patch().await;
    site.asked();
    host.kernel.reboot(kernel(1));
    host.at("1970-01-01T00:00:30Z");
    let agent = host.agent();
    agent.start().await.unwrap();
    assert_eq!(agent.status().patch.state, PatchState::Applied);
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    assert_eq!(site.asked(), [""; 0]);

    // Another kernel: nothing of the old one's is loaded into it.
    host.kernel.reboot(kernel(2));
    host.agent().start().await.unwrap();
    assert_eq!(host.livepatches(), [""; 0]);
}

/// Each of two kernels is patched again from what is on the disk, and the status says with what.
#[tokio::test]
async fn each_kernel_gets_back_its_own_without_network_or_clock() {
    let (site, host) = with_patch().await;
    host.kernel.reboot(kernel(2));
    site.publish(&document(&kernel(2), 1, Some(site.target("2.1", &kernel(2)))));
    let agent = host.agent();
    agent.start().await.unwrap();
    agent.refresh().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_2_1"]);
    drop(agent);
    site.asked();
    host.at("1970-01-01T00:00:30Z");
    for (byte, of) in [(1, "1.1"), (2, "2.1"), (1, "1.1")] {
        host.kernel.reboot(kernel(byte));
        let agent = host.agent();
        agent.start().await.unwrap();
        let patch = agent.status().patch;
        assert_eq!((patch.state, patch.version), (PatchState::Applied, Some(version(of))));
        assert!(patch.cves.iter().any(|cve| cve.patched), "{patch:?}");
    }
    assert_eq!(site.asked(), [""; 0]);
}

/// The status has the stage as the loader says it: of what runs, or else of what is offered.
#[tokio::test]
async fn the_stage_of_the_livepatch_is_told() {
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    host.kernel.refuse_loads(Some(LoadRefusal::NotAModule));
    let agent = host.enabled().await;
    let told = |agent: &Daemons| (agent.status().patch.version.unwrap(), agent.status().patch.stage.unwrap());
    assert_eq!(told(&agent), (version("1.1"), Stage::Failed));
    host.kernel.refuse_loads(None);
    agent.refresh().await.unwrap();
    let (of, stage) = told(&agent);
    assert!(of == version("1.1") && stage.is_in_force(), "{stage:?}");
    assert!(agent.status().enabled_at.is_some());
}

#[tokio::test]
async fn a_damaged_cache_is_noticed_and_mended() {
    let (_site, host) = with_patch().await;
    host.kernel.reboot(kernel(1));
    let cached =
        std::fs::read_dir(host.path().join("loader/objects")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&cached).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&cached, bytes).unwrap();
    let agent = host.agent();
    assert_eq!(code(agent.start().await), "tampered-module");
    assert_eq!(host.livepatches(), [""; 0]);
    agent.refresh().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
}

#[tokio::test]
async fn a_stalled_transition_is_cancelled() {
    let (site, host) = with_patch().await;
    let agent = host.agent();
    agent.start().await.unwrap();
    host.kernel.set_transitions(Transitions::NeverEnable);
    site.publish(&document(&kernel(1), 2, Some(site.target("1.2", &kernel(1)))));
    assert_eq!(code(agent.refresh().await), "transition-stalled");
    let status = agent.status();
    assert_eq!((status.patch.state, status.patch.version), (PatchState::Applied, Some(version("1.1"))));
    assert_eq!(host.modules(), ["livepatch_1_1"], "nothing is left of the attempt");
    host.kernel.set_transitions(Transitions::EndAfterLooks(3));

    // It is left alone for a while, a new daemon knows that, and the status says until when.
    let agent = host.agent();
    assert_eq!(code(agent.start().await), "transition-stalled");
    host.at("2026-11-24T12:59:00Z");
    assert_eq!(code(agent.refresh().await), "transition-stalled");
    let problem = agent.status().problem.unwrap();
    assert!(
        problem.message.contains("1 time so far") && problem.hints[0].contains("2026-11-24 13:00 UTC"),
        "{problem:?}"
    );
    host.at("2026-11-24T13:00:00Z");
    agent.refresh().await.unwrap();
    assert_eq!(host.modules(), ["livepatch_1_2"]);
    assert_eq!(agent.status().problem, None);
}

/// Looks at the status while the loader waits for the kernel.
#[derive(Default)]
struct Looks {
    agent: OnceLock<Arc<Agent>>,
    seen: Mutex<Vec<Status>>,
}

impl Pause for Looks {
    fn pause(&self, _: Duration) {
        self.seen.lock().unwrap().extend(self.agent.get().map(|agent| agent.status()));
    }
}

#[tokio::test]
async fn what_is_fixed_stays_so_while_the_next_one_takes_over() {
    let (site, mut host) = with_patch().await;
    let looks = Arc::new(Looks::default());
    host.pause(Arc::clone(&looks) as Arc<dyn Pause>);
    host.kernel.set_transitions(Transitions::EndAfterLooks(3));
    let daemons = host.agent();
    daemons.start().await.unwrap();
    looks.agent.set(Arc::clone(&daemons.agent)).ok().unwrap();
    site.publish(&document(&kernel(1), 2, Some(site.target("1.2", &kernel(1)))));
    daemons.refresh().await.unwrap();
    let seen = std::mem::take(&mut *looks.seen.lock().unwrap());
    let applying: Vec<_> = seen.iter().filter(|status| status.patch.state == PatchState::Applying).collect();
    assert!(!applying.is_empty());
    for status in applying {
        assert_eq!(status.patch.version, Some(version("1.2")));
        assert!(status.patch.cves.iter().any(|cve| cve.patched), "1.1 fixes it: {:?}", status.patch.cves);
    }
}

#[tokio::test]
async fn apply_tries_at_once_what_stalled() {
    let (site, host) = with_patch().await;
    let agent = host.agent();
    agent.start().await.unwrap();
    host.kernel.set_transitions(Transitions::NeverEnable);
    site.publish(&document(&kernel(1), 2, Some(site.target("1.2", &kernel(1)))));
    let loads = host.kernel.loads().len();
    for _ in 0..3 {
        assert_eq!(code(agent.refresh().await), "transition-stalled");
    }
    assert_eq!(host.kernel.loads().len(), loads + 1, "one try, however often the server is asked");
    host.kernel.set_transitions(Transitions::EndAfterLooks(3));
    agent.apply().await.unwrap();
    assert_eq!(host.modules(), ["livepatch_1_2"]);
}

#[tokio::test]
async fn the_status_is_left_in_a_file_for_all() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_site, host) = with_patch().await;
    let agent = host.agent();
    let path = host.path().join("status.json");
    let read =
        || serde_json::from_slice::<livepatch_api::daemon::Status>(&std::fs::read(&path).unwrap()).unwrap();
    agent.start().await.unwrap();
    assert_eq!((read(), read().patch.state), (agent.status(), PatchState::Applied));
    let enabled = path.with_file_name("enabled");
    for file in [&path, &enabled] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o644);
    }
    assert_eq!(std::fs::read(&enabled).unwrap(), b"");
    agent.revert().await.unwrap();
    assert_eq!((read(), read().patch.held), (agent.status(), true));
    agent.refresh().await.unwrap();
    assert_eq!(read(), agent.status());
    agent.disable().await.unwrap();
    assert_eq!((read(), read().enabled, enabled.exists()), (agent.status(), false, false));
}

#[tokio::test]
async fn a_foreign_livepatch_is_not_replaced() {
    let site = Site::new().await;
    let host = Host::new(&site);
    host.kernel.add_livepatch(ModuleName::parse("kpatch_theirs").unwrap());
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let agent = host.enabled().await;
    assert_eq!(code(agent.refresh().await), "foreign-livepatch");
    assert_eq!(host.livepatches(), ["kpatch_theirs"]);
    assert_eq!(host.kernel.loads(), []);
}

#[tokio::test]
async fn a_refused_load_says_why() {
    let site = Site::new().await;
    let host = Host::new(&site);
    host.kernel.refuse_loads(Some(LoadRefusal::LockedDown));
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let agent = host.enabled().await;
    let problem = agent.status().problem.unwrap();
    assert_eq!(problem.code, "kernel-locked-down");
    assert!(problem.hints[0].contains("livepatch secure-boot enroll"));
    host.kernel.refuse_loads(None);
    agent.refresh().await.unwrap();
    assert_eq!(agent.status().patch.state, PatchState::Applied);
}

#[tokio::test]
async fn revert_holds_until_apply_or_another_version() {
    let (site, host) = with_patch().await;
    let agent = host.agent();
    agent.start().await.unwrap();
    agent.revert().await.unwrap();
    assert_eq!((host.livepatches(), host.modules()), (vec![], vec![]));
    let status = agent.status();
    assert!(status.patch.held && status.patch.state == PatchState::Unapplied && status.problem.is_none());
    assert!(status.patch.cves.iter().all(|cve| !cve.patched));
    assert_eq!(
        code(agent.revert().await.map_err(|mut problem| {
            problem.hints.push("none".into());
            problem
        })),
        "nothing-to-revert"
    );
    agent.refresh().await.unwrap();
    host.kernel.reboot(kernel(1));
    let agent = host.agent();
    agent.start().await.unwrap();
    agent.refresh().await.unwrap();
    assert_eq!(host.livepatches(), [""; 0], "held, also after a reboot");
    agent.apply().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    assert!(!agent.status().patch.held);

    agent.revert().await.unwrap();
    site.publish(&document(&kernel(1), 2, Some(site.target("1.2", &kernel(1)))));
    agent.refresh().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_2"], "another version is not held");
}

#[tokio::test]
async fn a_revert_that_stalls_leaves_it_applied() {
    let (_site, host) = with_patch().await;
    let agent = host.agent();
    agent.start().await.unwrap();
    host.kernel.set_transitions(Transitions::NeverDisable);
    assert_eq!(code(agent.revert().await), "transition-stalled");
    let status = agent.status();
    assert_eq!((status.patch.state, status.patch.held), (PatchState::Applied, false));
    assert_eq!(code(agent.disable().await), "transition-stalled");
    assert!(agent.status().enabled);
    host.kernel.set_transitions(Transitions::EndAfterLooks(1));
    agent.disable().await.unwrap();
    assert_eq!((host.livepatches(), host.modules()), (vec![], vec![]));
}

/// Makes the state file say that an application of 1.1 was under way in another boot.
fn interrupt(host: &Host, phase: &str, closed: bool) {
    let mut state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(host.state_file()).unwrap()).unwrap();
    state["in_progress"] = serde_json::json!({
        "target": state["applied"]["target"], "build_id": state["applied"]["build_id"],
        "boot_id": state["loaded"]["boot_id"], "phase": phase, "closed": closed,
    });
    std::fs::write(host.state_file(), serde_json::to_vec(&state).unwrap()).unwrap();
}

#[tokio::test]
async fn a_host_that_went_down_with_a_livepatch_does_not_load_it_again() {
    for phase in ["inserting", "transition"] {
        let (_site, host) = with_patch().await;
        interrupt(&host, phase, false);
        host.kernel.reboot(kernel(1));
        let agent = host.agent();
        assert_eq!(code(agent.start().await), "crash-guard");
        assert_eq!(code(agent.refresh().await), "crash-guard");
        assert_eq!(agent.status().problem.unwrap().code, "crash-guard");
        let agent = host.agent();
        assert_eq!(code(agent.start().await), "crash-guard", "also after a restart");
        assert_eq!(host.livepatches(), [""; 0]);
        agent.apply().await.unwrap();
        assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    }
}

#[tokio::test]
async fn an_orderly_end_or_the_same_boot_blames_nothing() {
    let (_site, host) = with_patch().await;
    interrupt(&host, "transition", true);
    host.kernel.reboot(kernel(1));
    host.agent().start().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);

    // A daemon that was killed in the middle: the next one sees it to its end.
    let (_site, host) = with_patch().await;
    interrupt(&host, "transition", false);
    let agent = host.agent();
    agent.agent.look().await.unwrap();
    assert_eq!(agent.status().patch.state, PatchState::Applying);
    agent.start().await.unwrap();
    assert_eq!(agent.status().patch.state, PatchState::Applied);
    assert_eq!(host.kernel.loads().len(), 1);
}

#[tokio::test]
async fn an_unreadable_state_refuses_the_new_and_keeps_the_old() {
    let (_site, host) = with_patch().await;
    std::fs::write(host.state_file(), "{").unwrap();
    let agent = host.agent();
    assert_eq!(code(agent.start().await), "state-unreadable");
    assert_eq!(code(agent.refresh().await), "state-unreadable");
    assert_eq!(agent.status().problem.unwrap().code, "state-unreadable");
    assert_eq!(host.livepatches(), ["livepatch_1_1"], "it keeps running");
    assert_eq!(std::fs::read_to_string(host.state_file()).unwrap(), "{");

    agent.disable().await.unwrap();
    agent.enable(Redacted::new(TOKEN.into())).await.unwrap();
    assert_eq!(agent.status().problem.unwrap().code, "foreign-livepatch", "until the next boot");
    host.kernel.reboot(kernel(1));
    let agent = host.agent();
    agent.start().await.unwrap();
    agent.refresh().await.unwrap();
    assert_eq!(agent.status().patch.state, PatchState::Applied);
}
