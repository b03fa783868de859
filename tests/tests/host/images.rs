//! A disk that becomes an image: its clones are hosts of their own, prepared or not.

use std::fs::read_to_string;

use livepatch_kernel::Transitions;
use livepatch_manifest::sha256;
use livepatch_types::{PatchState, Redacted};

use crate::support::*;

/// A host on a machine of its own, with a livepatch in force.
async fn patched() -> (Site, Host, Daemons) {
    let site = Site::new().await;
    let host = Host::new(&site);
    *host.machine.lock().unwrap() = Some(sha256(b"the first"));
    let mut document = document(&kernel(1), 1, Some(site.target("1.1", &kernel(1))));
    document.withdrawn = vec![version("1.0")];
    site.publish(&document);
    let daemons = host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    (site, host, daemons)
}

/// Its disk, in another machine: the daemons boot there.
async fn clone(host: &Host) -> Daemons {
    *host.machine.lock().unwrap() = Some(sha256(b"the second"));
    host.kernel.reboot(kernel(1));
    let daemons = host.agent();
    let _ = daemons.start().await;
    daemons
}

#[tokio::test]
async fn nothing_of_the_machine_is_in_a_prepared_image() {
    let (_site, host, daemons) = patched().await;
    let id = |host: &Host| -> serde_json::Value {
        let state: serde_json::Value =
            serde_json::from_str(&read_to_string(host.state_file()).unwrap()).unwrap();
        state["host"]["id"].clone()
    };
    let first = id(&host);
    std::fs::write(host.path().join("loader/state.json.unreadable"), first.to_string()).unwrap();
    daemons.prepare_image().await.unwrap();
    assert_eq!((host.livepatches(), host.modules()), (vec![], vec![]));
    assert!(!daemons.status().enabled && daemons.status().problem.is_none());
    for directory in ["loader", "loader/objects", "state"] {
        for entry in std::fs::read_dir(host.path().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let text = read_to_string(&path).unwrap_or_default();
            for secret in [first.as_str().unwrap(), "machine-token", &sha256(b"the first").to_string()] {
                assert!(!text.contains(secret), "{secret} is in {}", path.display());
            }
            assert!(directory != "loader/objects", "{} is left", path.display());
        }
    }
    // What was seen of others stays: a clone does not go back. What is pinned and set is not touched.
    let state: serde_json::Value = serde_json::from_str(&read_to_string(host.state_file()).unwrap()).unwrap();
    assert_eq!(state["seen"][0]["withdrawn"], serde_json::json!(["1.0"]));
    assert!(host.path().join("operator.pub").exists());

    let daemons = clone(&host).await;
    assert_eq!(host.livepatches(), [""; 0], "it does nothing before it enrols");
    daemons.enable(Redacted::new(TOKEN.into())).await.unwrap();
    assert_eq!(daemons.status().patch.state, PatchState::Applied);
    assert_ne!(id(&host), first, "a host of its own");
}

#[tokio::test]
async fn a_clone_of_an_image_that_was_not_prepared_says_so_and_enrols_anew() {
    let (site, host, _) = patched().await;
    let daemons = clone(&host).await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"], "what was healthy comes back");
    site.asked();
    assert_eq!(code(daemons.refresh().await), "host-copied");
    let problem = daemons.status().problem.unwrap();
    assert_eq!(problem.code, "host-copied");
    assert!(problem.hints.iter().any(|hint| hint.contains("livepatch enable")), "{problem:?}");
    assert!(!site.asked().iter().any(|asked| asked.starts_with("document")), "it polls for nobody else");
    daemons.disable().await.unwrap();
    daemons.enable(Redacted::new(TOKEN.into())).await.unwrap();
    assert_eq!((daemons.status().problem, host.livepatches()), (None, vec!["livepatch_1_1".into()]));
}

/// A livepatch that does not go: nothing is forgotten. A host that is not enrolled is prepared as well.
#[tokio::test]
async fn preparing_is_whole_or_not_at_all() {
    let (_site, host, daemons) = patched().await;
    host.kernel.set_transitions(Transitions::NeverDisable);
    assert_eq!(code(daemons.prepare_image().await), "transition-stalled");
    assert!(daemons.status().enabled);
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    host.kernel.set_transitions(Transitions::EndAfterLooks(1));
    daemons.prepare_image().await.unwrap();
    daemons.prepare_image().await.unwrap();
    std::fs::write(host.state_file(), "{").unwrap();
    std::fs::write(host.path().join("state/state.json"), "{").unwrap();
    let daemons = host.agent();
    daemons.prepare_image().await.unwrap();
    assert!(!host.path().join("loader/state.json.unreadable").exists());
    assert!(!host.path().join("state/state.json.unreadable").exists());
}
