//! A host that has the vendor's root: the agent fetches what the operator's document says is newer, the loader decides.

use livepatch_types::{CheckState, PatchState};

use crate::repository::Repository;
use crate::support::*;

/// A site whose operator names the vendor's repository, and a host that has its root.
pub(crate) async fn with_vendor() -> (Site, Host, Repository) {
    let site = Site::new().await;
    let host = Host::new(&site);
    let repository = Repository::new();
    std::fs::write(host.path().join("vendor-root.json"), repository.root_file()).unwrap();
    (site, host, repository)
}

/// Publishes a document that names the repository as it is now, and serves that.
pub(crate) fn publish(site: &Site, number: u64, of: &str, repository: &Repository) {
    let mut document = document(&kernel(1), number, Some(site.target(of, &kernel(1))));
    document.vendor = Some(repository.named());
    site.publish(&document);
    site.shelf.lock().unwrap().vendor = repository.files();
}

pub(crate) fn module_of(of: &str) -> Vec<u8> {
    VENDOR.sign(&module(&info(of, &kernel(1))))
}

#[tokio::test]
async fn metadata_is_fetched_when_it_moved_and_only_then() {
    let (site, host, mut repository) = with_vendor().await;
    publish(&site, 1, "1.1", repository.allow("1.1", &module_of("1.1")));
    let agent = host.enabled().await;
    assert_eq!(agent.status().patch.state, PatchState::Applied);
    let asked: Vec<_> = site.asked().into_iter().filter(|asked| asked.starts_with("vendor")).collect();
    let metadata = ["2.root", "timestamp", "2.snapshot", "2.targets"];
    for (asked, file) in asked.iter().zip(metadata) {
        assert_eq!(*asked, format!("vendor debian-12-6.1 metadata/{file}.json"));
    }
    assert_eq!(asked.len(), 5, "and what is allowed for the kernel: {asked:?}");

    // A poll asks for nothing of it.
    agent.refresh().await.unwrap();
    assert!(!site.asked().iter().any(|asked| asked.starts_with("vendor")));

    // A withdrawal by the vendor alone: the operator's document only says that there is news.
    repository.allowance.withdrawn.push(version("1.1"));
    publish(&site, 2, "1.1", repository.release());
    assert_eq!(code(agent.refresh().await), "withdrawn-livepatch");
    assert_eq!(host.livepatches(), [""; 0]);
}

#[tokio::test]
async fn a_mirror_that_is_behind_installs_nothing_and_takes_nothing_away() {
    let (site, host, mut repository) = with_vendor().await;
    publish(&site, 1, "1.1", repository.allow("1.1", &module_of("1.1")));
    let agent = host.enabled().await;
    let before = repository.files();
    publish(&site, 2, "1.2", repository.allow("1.2", &module_of("1.2")));
    site.shelf.lock().unwrap().vendor = before;
    assert_eq!(code(agent.refresh().await), "vendor-behind");
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);

    // Files that are missing, or of another make.
    site.shelf.lock().unwrap().vendor.clear();
    assert_eq!(code(agent.refresh().await), "vendor-not-served");
    let status = agent.status();
    assert_eq!((status.check.state, status.patch.state), (CheckState::CheckFailed, PatchState::Applied));
    site.shelf.lock().unwrap().vendor = [("metadata/timestamp.json".into(), vec![b'x'; 100_000])].into();
    assert_eq!(code(agent.refresh().await), "server-unexpected-answer");
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);

    // The mirror is mended.
    site.shelf.lock().unwrap().vendor = repository.files();
    agent.refresh().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_2"]);
}

#[tokio::test]
async fn metadata_that_the_server_does_not_have_comes_from_a_mirror() {
    let (site, mut host, mut repository) = with_vendor().await;
    publish(&site, 1, "1.1", repository.allow("1.1", &module_of("1.1")));
    let mirror = site.mirror().await;
    host.mirrors(&[&mirror]);
    site.shelf.lock().unwrap().vendor.clear();
    let agent = host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    assert_eq!(agent.status().check.mirror, Some(mirror.url.clone()));
    assert!(mirror.asked().iter().any(|asked| asked.starts_with("vendor debian-12-6.1 metadata/")));
}

#[tokio::test]
async fn a_reset_begins_anew_with_the_next_check() {
    let (site, host, mut repository) = with_vendor().await;
    publish(&site, 1, "1.1", repository.allow("1.1", &module_of("1.1")));
    host.enabled().await;
    std::fs::write(host.path().join("loader/vendor.json"), "{").unwrap();
    let agent = host.agent();
    publish(&site, 2, "1.2", repository.allow("1.2", &module_of("1.2")));
    assert_eq!(code(agent.refresh().await), "trust-state-unreadable");
    assert_eq!(agent.status().problem.unwrap().code, "trust-state-unreadable");
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    agent.reset_trust().await.unwrap();
    agent.refresh().await.unwrap();
    assert_eq!(host.livepatches(), ["livepatch_1_2"]);
    assert_eq!(agent.status().problem, None);
}
