//! A host with the key of the operator's transparency log: the agent fetches proofs and tiles, the loader decides.

use livepatch_transparency::{Tile, leaf_hash};

use crate::log::{Log, log_key};
use crate::support::*;

/// Publishes a document and puts the module into the log, if that is wanted.
fn publish(site: &Site, log: &mut Log, number: u64, of: &str, logged: bool) {
    let module = VENDOR.sign(&module(&info(of, &kernel(1))));
    site.publish(&document(&kernel(1), number, Some(site.target_of(of, &module))));
    if !logged {
        return;
    }
    let place = log.publish(of, &kernel(1), &module);
    let digest = livepatch_manifest::sha256(&module);
    serve(site, log);
    let proof = log.proof(place, &site.operator).to_text().into_bytes();
    site.shelf.lock().unwrap().log.insert(format!("v1/log/proofs/{digest}"), proof);
}

/// The one tile that a log of less than 256 entries has.
fn serve(site: &Site, log: &Log) {
    let tile = Tile::new(0, 0, log.size() as u16).unwrap();
    let hashes = log.entries.iter().flat_map(|entry| *leaf_hash(entry).as_bytes()).collect();
    site.shelf.lock().unwrap().log.insert(tile.to_string(), hashes);
}

#[tokio::test]
async fn what_is_installed_is_in_the_log() {
    let (site, mut log) = (Site::new().await, Log::default());
    let host = Host::new(&site);
    std::fs::write(host.path().join("log.vkey"), log_key(&site.operator).to_text()).unwrap();
    for other in ["9.1", "9.2", "9.3"] {
        log.publish(other, &kernel(2), other.as_bytes());
    }
    publish(&site, &mut log, 1, "1.1", true);
    let agent = host.enabled().await;
    assert_eq!((agent.status().problem, host.livepatches()), (None, vec!["livepatch_1_1".into()]));
    let asked = |site: &Site| site.asked().into_iter().filter(|asked| asked.starts_with("log")).count();
    assert_eq!(asked(&site), 1, "the first head is believed as it is");
    // A poll asks for nothing of it.
    agent.refresh().await.unwrap();
    assert_eq!(asked(&site), 0);

    // The server offers what is in no log.
    publish(&site, &mut log, 2, "1.2", false);
    assert_eq!(code(agent.refresh().await), "log-not-proven");
    // It is logged; and the log grew out of the one before, as the tile shows.
    log.publish("9.4", &kernel(2), b"9.4");
    publish(&site, &mut log, 2, "1.2", true);
    agent.refresh().await.unwrap();
    assert_eq!((asked(&site), host.livepatches()), (3, vec!["livepatch_1_2".into()]));

    // A log in which something else stands where the host has seen an entry.
    log.entries[0] = log.entries[1].clone();
    publish(&site, &mut log, 3, "1.3", true);
    assert_eq!(code(agent.refresh().await), "log-inconsistent");
    // One whose tile is not served, or is cut off.
    let path = Tile::new(0, 0, log.size() as u16).unwrap().to_string();
    site.shelf.lock().unwrap().log.insert(path.clone(), vec![0; 31]);
    assert_eq!(code(agent.refresh().await), "log-inconsistent");
    site.shelf.lock().unwrap().log.remove(&path);
    assert_eq!(code(agent.refresh().await), "log-not-served");
    assert_eq!(host.livepatches(), ["livepatch_1_2"]);
}
