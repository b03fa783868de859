//! Bundles that root brings to a host without a server. Root may be misled: what the vendor does not allow today for this
//! kernel is not loaded, whoever asks.

use livepatch_loader_api::RootRequest;
use livepatch_manifest::{Bundle, ModuleObject, PatchManifest, VendorFiles, sha256};
use livepatch_trust::RoleKeys;
use livepatch_types::KernelIdentity;

use crate::repository::*;
use crate::signing::*;
use crate::stage::*;
use crate::vendor::after_the_theft;

/// A host with the vendor's certificate and root, and neither a server nor an operator.
pub(crate) fn host() -> (Stage, Repository) {
    let (stage, repository) = (Stage::new(), Repository::new());
    std::fs::remove_file(stage.directory.path().join("operator.pub")).unwrap();
    std::fs::write(stage.directory.path().join("vendor-root.json"), repository.root_file()).unwrap();
    (stage, repository)
}

fn manifest(of: &str, kernel: &KernelIdentity, module: &[u8]) -> PatchManifest {
    PatchManifest {
        schema: 1,
        version: version(of),
        kernel: kernel.clone(),
        module: ModuleObject { sha256: sha256(module), size_bytes: module.len() as u64 },
        objects: vec![],
        cves: target_of(of, module).cves,
        built: NOW.parse().unwrap(),
        compiler: "gcc-12".into(),
        sections: Default::default(),
    }
}

fn bundle(manifest: PatchManifest, module: Vec<u8>, signer: &Vendor, files: Files) -> Bundle {
    let mut bundle = Bundle::new(manifest, module, None).unwrap();
    bundle.signature = Some(signer.signature(&bundle.manifest_bytes));
    bundle.with_vendor(&VendorFiles::new(files).unwrap()).unwrap()
}

/// What the vendor hands out for 1.1 and the like.
pub(crate) fn good_bundle(of: &str, files: Files) -> Bundle {
    bundle(manifest(of, &kernel(1), &good(of)), good(of), &VENDOR, files)
}

pub(crate) fn apply(stage: &Stage, bundle: &Bundle) -> String {
    code(&apply_bundle(&stage.roots, &bundle.to_bytes()))
}

/// A host that runs 1.1 from a bundle, and the repository that allows it.
pub(crate) fn running() -> (Stage, Repository) {
    let (stage, mut repository) = host();
    repository.allow("1.1", &good("1.1"));
    assert_eq!(apply(&stage, &good_bundle("1.1", repository.files())), "ok");
    stage.is_untouched();
    (stage, repository)
}

/// What a bundle of 1.2 comes to on such a host when nobody attacks.
fn unattacked() {
    let (stage, mut repository) = running();
    repository.allow("1.2", &good("1.2"));
    assert_eq!(apply(&stage, &good_bundle("1.2", repository.files())), "ok");
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
}

/// A bundle that is so attacked is refused so.
fn refused(expected: &str, attack: impl FnOnce(&mut Repository, Bundle) -> Vec<u8>) {
    unattacked();
    let (stage, mut repository) = running();
    repository.allow("1.2", &good("1.2"));
    let bundle = good_bundle("1.2", repository.files());
    let answer = apply_bundle(&stage.roots, &attack(&mut repository, bundle));
    assert_eq!(code(&answer), expected, "{:?}", answer.failure);
    // There is no server here to do anything about.
    let hints = answer.failure.unwrap().hints;
    assert!(!hints.is_empty() && hints.iter().all(|hint| !hint.contains("server")), "{hints:?}");
    assert_eq!(hints.iter().any(|hint| hint.contains("vendor.pem")), expected == "wrong-signer", "{hints:?}");
    stage.is_untouched();
}

#[test]
fn a_bundle_is_applied_without_any_server() {
    let (mut stage, mut repository) = running();
    let view = stage.view();
    assert_eq!((view.enabled, view.channel, view.problem), (false, None, None));
    assert_eq!(view.applied.unwrap().target, target_of("1.1", &good("1.1")));
    // After a reboot it is back, with the clock at 1970 and nobody's help.
    stage.kernel.reboot(kernel(1));
    stage.at("1970-01-01T00:00:30Z");
    stage.restart();
    assert_eq!(stage.livepatches(), ["livepatch_1_1"]);
    stage.at(NOW);
    // The same once more changes nothing.
    assert_eq!(apply(&stage, &good_bundle("1.1", repository.files())), "ok");
    assert_eq!(stage.kernel.loads().len(), 2);
    // Nothing is asked for of an agent, not even what is missing after the next one.
    std::fs::remove_dir_all(stage.directory.path().join("state/objects")).unwrap();
    stage.kernel.reboot(kernel(1));
    stage.restart();
    assert_eq!((stage.view().wants, stage.apply(&good("1.1"))), (None, "module-not-wanted".into()));
    assert_eq!(apply(&stage, &good_bundle("1.1", repository.files())), "ok");
    stage.kernel.reboot(kernel(1));
    stage.restart();
    assert_eq!((stage.kernel.loads().len(), stage.livepatches()), (4, vec!["livepatch_1_1".into()]));
    // Root reverts it; from then on it is held, until root brings it again.
    assert_eq!(code(&root(&stage.roots, RootRequest::Revert)), "ok");
    assert_eq!((stage.livepatches(), stage.view().held), (vec![], Some(version("1.1"))));
    stage.kernel.reboot(kernel(1));
    stage.restart();
    assert_eq!(stage.livepatches(), [""; 0]);
    assert_eq!(apply(&stage, &good_bundle("1.1", repository.files())), "ok");
    assert_eq!((stage.livepatches(), stage.view().held), (vec!["livepatch_1_1".to_owned()], None));
    // Another one replaces it, and a host that gets a server goes on from there.
    repository.allow("1.2", &good("1.2"));
    assert_eq!(apply(&stage, &good_bundle("1.2", repository.files())), "ok");
    std::fs::write(stage.directory.path().join("operator.pub"), public(&stage.operator).to_text()).unwrap();
    assert_eq!(code(&root(&stage.roots, RootRequest::Enable)), "ok");
    assert_eq!(stage.livepatches(), ["livepatch_1_2"]);
    assert_eq!(apply(&stage, &good_bundle("1.2", repository.files())), "host-enabled");
    assert_eq!(code(&root(&stage.roots, RootRequest::Disable)), "ok");
    assert_eq!(stage.livepatches(), [""; 0]);
    assert_eq!(code(&root(&stage.roots, RootRequest::Revert)), "not-enabled");
}

#[test]
fn the_settings_of_the_host_count_and_a_refusal_clears_no_hold() {
    let (mut stage, mut repository) = running();
    repository.allow("1.2", &good("1.2"));
    let next = good_bundle("1.2", repository.files());
    let hold = |stage: &mut Stage, id: Option<&str>| {
        stage.policy.held_cves = id.map(|id| id.parse().unwrap()).into_iter().collect();
        stage.restart();
    };
    hold(&mut stage, Some("CVE-2026-0001"));
    assert_eq!(apply(&stage, &next), "held-by-policy");
    stage.is_untouched();
    // Windows do not count: root asks now.
    stage.policy.windows = vec!["daily 02:00-03:00 UTC".parse().unwrap()];
    hold(&mut stage, None);
    assert_eq!(code(&root(&stage.roots, RootRequest::Revert)), "ok");
    hold(&mut stage, Some("CVE-2026-0001"));
    assert_eq!(apply(&stage, &next), "held-by-policy");
    assert_eq!((stage.view().held, stage.livepatches()), (Some(version("1.1")), vec![]));
    hold(&mut stage, None);
    // What is there of locks can be cleared without any server.
    assert_eq!(code(&root(&stage.roots, RootRequest::Clear)), "ok");
    assert_eq!(code(&root(&stage.roots, RootRequest::Clear)), "not-enabled");
    assert_eq!((apply(&stage, &next), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}

/// Whatever keeps a livepatch back, root can clear it where there is no server.
#[test]
fn every_lock_is_cleared_without_any_server() {
    let build_id = kernel(1).build_id;
    let stalled = serde_json::json!({
        "version": "1.2", "build_id": build_id, "boot_id": "00000000-0000-4000-8000-000000000001",
        "times": 1, "at": NOW,
    });
    let blocked = serde_json::json!([{ "version": "1.2", "build_id": build_id, "phase": "transition" }]);
    for (member, lock) in [("held", "1.2".into()), ("stalled", stalled), ("blocked", blocked)] {
        let (mut stage, _) = running();
        assert_eq!(code(&root(&stage.roots, RootRequest::Clear)), "not-enabled", "there is nothing to clear");
        let path = stage.directory.path().join("state/state.json");
        let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        state[member] = lock;
        std::fs::write(&path, state.to_string()).unwrap();
        stage.restart();
        assert_eq!(stage.view().locks.len(), 1, "{member}");
        assert_eq!(code(&root(&stage.roots, RootRequest::Clear)), "ok", "{member}");
        assert_eq!(stage.view().locks, [], "{member}");
        stage.is_untouched();
    }
}

#[test]
fn attack_bundle_on_the_agents_socket() {
    unattacked();
    let (stage, mut repository) = running();
    repository.allow("1.2", &good("1.2"));
    let bundle = good_bundle("1.2", repository.files()).to_bytes();
    let head = [&[22][..], &(bundle.len() as u32).to_be_bytes()].concat();
    assert_eq!(code(&exchange(&stage.agents, &[head, bundle].concat()).unwrap()), "bad-request");
    // Nor is there anything else for a hostile agent on a host without a server, not even the update.
    let next = good("1.2");
    let envelope = stage.document(1, "1.2", &next);
    assert_eq!(
        (stage.note(&envelope), stage.apply(&next)),
        ("trust-missing".into(), "module-not-wanted".into())
    );
    std::fs::write(stage.directory.path().join("operator.pub"), public(&stage.operator).to_text()).unwrap();
    assert_eq!((stage.note(&envelope), stage.converge()), ("not-enabled".into(), "ok".into()));
    assert_eq!(stage.update(&repository.files()), "not-enabled");
    stage.insist(&envelope, &next);
    stage.is_untouched();
}

#[test]
fn attack_bundle_of_another_kernel() {
    refused("wrong-kernel", |repository, _| {
        (repository.kernel, repository.allowance.kernel) = (kernel(2), kernel(2));
        let module = VENDOR.sign(&module(&info("1.2", &kernel(2))));
        bundle(manifest("1.2", &kernel(2), &module), module, &VENDOR, repository.files()).to_bytes()
    });
    // A module for another kernel in a bundle for this one, allowed by a vendor who errs.
    refused("wrong-kernel", |repository, _| {
        let module = VENDOR.sign(&module(&info("1.2", &kernel(2))));
        repository.allowance.allowed.pop();
        repository.allow("1.2", &module);
        bundle(manifest("1.2", &kernel(1), &module), module, &VENDOR, repository.files()).to_bytes()
    });
}

#[test]
fn attack_bundle_of_another_architecture() {
    refused("bad-bundle", |_, mut bundle| {
        let text = String::from_utf8(bundle.manifest_bytes.clone()).unwrap();
        bundle.manifest_bytes = text.replace("\"amd64\"", "\"arm64\"").into_bytes();
        bundle.signature = Some(VENDOR.signature(&bundle.manifest_bytes));
        bundle.to_bytes()
    });
}

#[test]
fn attack_bundle_of_a_withdrawn_livepatch() {
    refused("withdrawn-livepatch", |repository, _| {
        repository.allowance.withdrawn.push(version("1.2"));
        good_bundle("1.2", repository.release().files()).to_bytes()
    });
    // What a refused bundle withdraws is withdrawn all the same, for good.
    let (mut stage, mut repository) = running();
    let old = good_bundle("1.1", repository.files());
    repository.allowance.withdrawn = vec![version("1.1"), version("1.2")];
    let next = good_bundle("1.2", repository.release().files());
    assert_eq!((apply(&stage, &next), stage.livepatches()), ("withdrawn-livepatch".into(), vec![]));
    assert_eq!(apply(&stage, &old), "vendor-rollback");
    repository.allowance.withdrawn.clear();
    let again = good_bundle("1.1", repository.release().files());
    assert_eq!(apply(&stage, &again), "withdrawn-livepatch");
    stage.kernel.reboot(kernel(1));
    stage.restart();
    assert_eq!(stage.livepatches(), [""; 0]);
}

#[test]
fn attack_bundle_below_the_lowest() {
    refused("vendor-not-allowed", |repository, _| {
        repository.allowance.lowest = Some(version("1.3"));
        good_bundle("1.2", repository.release().files()).to_bytes()
    });
}

#[test]
fn attack_bundle_that_the_vendor_does_not_allow() {
    refused("vendor-not-allowed", |repository, _| {
        repository.allowance.allowed.pop();
        good_bundle("1.2", repository.release().files()).to_bytes()
    });
    // Nor with other bytes than the vendor allows.
    refused("vendor-mismatch", |repository, _| {
        let other = VENDOR.sign(&module(&info("1.2", &kernel(1))).repeat(2));
        bundle(manifest("1.2", &kernel(1), &other), other, &VENDOR, repository.files()).to_bytes()
    });
    // Nor when the vendor says nothing of this kernel.
    refused("vendor-unknown-kernel", |repository, _| {
        (repository.kernel, repository.allowance.kernel) = (kernel(2), kernel(2));
        good_bundle("1.2", repository.release().files()).to_bytes()
    });
}

#[test]
fn attack_bundle_changed_after_signing() {
    refused("bundle-tampered", |_, mut bundle| {
        let text = String::from_utf8(bundle.manifest_bytes.clone()).unwrap();
        bundle.manifest_bytes = text.replace("CVE-2026-0001", "CVE-2026-0009").into_bytes();
        bundle.to_bytes()
    });
    refused("tampered-module", |_, mut bundle| {
        bundle.module[100] ^= 1;
        bundle.to_bytes()
    });
    refused("bundle-unsigned", |_, bundle| Bundle { signature: None, ..bundle }.to_bytes());
    refused("wrong-signer", |repository, _| {
        let module = STRANGER.sign(&module(&info("1.2", &kernel(1))));
        bundle(manifest("1.2", &kernel(1), &module), module, &STRANGER, repository.files()).to_bytes()
    });
    // The vendor's manifest around a module that another one signed.
    refused("wrong-signer", |repository, _| {
        let module = STRANGER.sign(&module(&info("1.2", &kernel(1))));
        repository.allowance.allowed.pop();
        repository.allow("1.2", &module);
        bundle(manifest("1.2", &kernel(1), &module), module, &VENDOR, repository.files()).to_bytes()
    });
}

#[test]
fn attack_bundle_with_metadata_of_another_vendor() {
    refused("vendor-threshold", |repository, _| {
        let files = repository.files().into_iter().map(|(path, bytes)| {
            let file: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let signed = file.get("signed").map(|content| sign(content, &[20, 21]));
            (path, signed.unwrap_or(bytes))
        });
        good_bundle("1.2", files.collect()).to_bytes()
    });
}

#[test]
fn attack_bundle_with_old_or_incomplete_metadata() {
    for role in 0..3 {
        refused("vendor-rollback", |repository, _| {
            let versions = &mut repository.versions;
            *[&mut versions.0, &mut versions.1, &mut versions.2][role] = 1;
            good_bundle("1.2", repository.files()).to_bytes()
        });
    }
    refused("vendor-expired", |repository, _| {
        repository.expires = "2026-11-24T11:59:59Z".parse().unwrap();
        good_bundle("1.2", repository.release().files()).to_bytes()
    });
    refused("clock-behind", |repository, _| {
        repository.issued = "2026-11-24T13:00:00Z".parse().unwrap();
        good_bundle("1.2", repository.release().files()).to_bytes()
    });
    refused("bundle-without-metadata", |_, bundle| Bundle { vendor: None, ..bundle }.to_bytes());
    for left_out in ["timestamp", "snapshot", "targets.json", "kernels/"] {
        refused("vendor-mismatch", |repository, _| {
            let mut files = repository.files();
            files.retain(|path, _| !path.contains(left_out));
            good_bundle("1.2", files).to_bytes()
        });
    }
    refused("vendor-mismatch", |repository, _| {
        let mut files = repository.files();
        repository.allowance.lowest = Some(version("1.1"));
        let other = repository.files();
        files.extend(other.into_iter().filter(|(path, _)| path.ends_with(".targets.json")));
        good_bundle("1.2", files).to_bytes()
    });
}

#[test]
fn attack_bundle_cut_short_or_of_any_bytes() {
    unattacked();
    let (stage, mut repository) = running();
    repository.allow("1.2", &good("1.2"));
    let bytes = good_bundle("1.2", repository.files()).to_bytes();
    for length in (0..bytes.len()).step_by(97) {
        assert_eq!(code(&apply_bundle(&stage.roots, &bytes[..length])), "bad-bundle", "{length}");
    }
    assert_eq!(code(&apply_bundle(&stage.roots, &[&bytes[..], b"more"].concat())), "bad-bundle");
    assert_eq!(code(&apply_bundle(&stage.roots, &[0xff; 4096])), "bad-bundle");
    let later = [&bytes[..8], &[2], &bytes[9..]].concat();
    assert_eq!(code(&apply_bundle(&stage.roots, &later)), "bundle-too-new");
    // Fewer bytes than the head says, and a head that says too many.
    let head = [&[22][..], &(bytes.len() as u32 + 1).to_be_bytes()].concat();
    assert_eq!(code(&exchange(&stage.roots, &[head, bytes].concat()).unwrap()), "bad-request");
    assert_eq!(code(&exchange(&stage.roots, &[22, 0xff, 0xff, 0xff, 0xff]).unwrap()), "bad-request");
    stage.is_untouched();
}

#[test]
fn attack_bundle_without_the_vendors_root() {
    unattacked();
    let (stage, mut repository) = host();
    let path = stage.directory.path().join("vendor-root.json");
    let pinned = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    repository.allow("1.1", &good("1.1"));
    let bundle = good_bundle("1.1", repository.files());
    assert_eq!(apply(&stage, &bundle), "vendor-not-pinned");
    // It is the root on the host that counts, not the one in the bundle.
    let mut strangers = Repository::new();
    strangers.root.keys = [20, 21].into_iter().map(|seed| (key(seed).id(), key(seed))).collect();
    for keys in strangers.root.roles.values_mut() {
        *keys = RoleKeys { keyids: vec![key(20).id(), key(21).id()], threshold: 2 };
    }
    std::fs::write(&path, sign(&strangers.root, &[20, 21])).unwrap();
    assert_eq!(apply(&stage, &bundle), "vendor-threshold");
    // With the root, and without the certificate.
    assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok");
    std::fs::write(&path, pinned).unwrap();
    let certificate = stage.directory.path().join("vendor.pem");
    std::fs::rename(&certificate, certificate.with_extension("away")).unwrap();
    assert_eq!(apply(&stage, &bundle), "trust-missing");
    assert_eq!(stage.kernel.loads().len(), 0);
    std::fs::rename(certificate.with_extension("away"), &certificate).unwrap();
    assert_eq!(code(&root(&stage.roots, RootRequest::ResetTrust)), "ok");
    assert_eq!(apply(&stage, &bundle), "ok");
}

/// What is wrong with the vendor's root on the host counts, whatever a bundle has; but for roots in between, which it may
/// bring.
#[test]
fn attack_bundle_where_the_vendors_root_is_wrong() {
    unattacked();
    let (stage, mut repository) = running();
    let path = stage.directory.path().join("vendor-root.json");
    let seen = || stage.view().vendor.unwrap().seen;
    let before = seen();
    repository.allow("1.2", &good("1.2"));
    let next = good_bundle("1.2", repository.files());
    std::fs::remove_file(&path).unwrap();
    assert_eq!((apply(&stage, &next), seen()), ("vendor-root-missing".into(), before.clone()));
    std::fs::write(&path, "{").unwrap();
    assert_eq!((apply(&stage, &next), seen()), ("trust-unreadable".into(), before));
    // A later root is pinned: what the former ones allow installs nothing new.
    let (second, mut third) = (after_the_theft(&repository, 2), after_the_theft(&repository, 3));
    std::fs::write(&path, third.root_file()).unwrap();
    assert_eq!(apply(&stage, &next), "vendor-root-newer-pinned");
    stage.is_untouched();
    let mut files = third.release().files();
    files.extend(second.files().into_iter().filter(|(path, _)| path.ends_with("2.root.json")));
    assert_eq!(apply(&stage, &good_bundle("1.2", files)), "ok");
    assert_eq!((stage.livepatches(), stage.view().vendor_problem), (vec!["livepatch_1_2".into()], None));
}

/// Nobody's help is needed on any of the kernels for which root brought a bundle.
#[test]
fn a_host_without_a_server_gets_back_what_it_had_on_each_kernel() {
    let (mut stage, repository) = running();
    let there = VENDOR.sign(&module(&info("2.1", &kernel(2))));
    let mut other = repository.clone();
    (other.kernel, other.allowance.kernel) = (kernel(2), kernel(2));
    other.allowance.allowed = vec![allowed("2.1", &there)];
    other.release();
    let bundle = bundle(manifest("2.1", &kernel(2), &there), there, &VENDOR, other.files());
    assert_eq!(apply(&stage, &bundle), "wrong-kernel");
    let boot = |stage: &mut Stage, byte| {
        stage.kernel.reboot(kernel(byte));
        stage.restart();
    };
    boot(&mut stage, 2);
    // Nothing runs here, and it is no host that has nothing to do: no operator is missed.
    assert_eq!((stage.livepatches(), stage.view().problem), (vec![], None));
    assert_eq!((apply(&stage, &bundle), stage.livepatches()), ("ok".into(), vec!["livepatch_2_1".into()]));
    for (byte, back) in [(1, "livepatch_1_1"), (2, "livepatch_2_1"), (1, "livepatch_1_1")] {
        boot(&mut stage, byte);
        assert_eq!(stage.livepatches(), [back]);
    }
    assert_eq!(code(&root(&stage.roots, RootRequest::Disable)), "ok");
    for byte in [2, 1] {
        boot(&mut stage, byte);
        assert_eq!(stage.livepatches(), [""; 0]);
    }
}
