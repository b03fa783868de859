//! Modules that nobody asked for, that the vendor did not sign, or that are not for this kernel.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use livepatch_kernel::{Kernel as _, LoadRefusal, LoadedModule};
use livepatch_loader::step::{Step, Steps};
use livepatch_loader_api::{AgentRequest, RootRequest};
use livepatch_types::{BuildId, ModuleName};

use crate::signing::*;
use crate::stage::*;

/// A module that the operator asks for, as they may by mistake or malice: it is not the vendor's for this kernel. What is
/// said then.
fn refused(expected: &str, module: &[u8]) -> String {
    unattacked();
    let stage = Stage::running();
    let envelope = stage.document(2, "1.2", module);
    assert_eq!(stage.note(&envelope), "ok");
    let answer = agent(&stage.agents, AgentRequest::Apply, module);
    assert_eq!(code(&answer), expected);
    stage.insist(&envelope, module);
    stage.is_untouched();
    let kept = std::fs::read_dir(stage.directory.path().join("state/objects")).unwrap().count();
    assert_eq!(kept, 1, "what is refused is not kept");
    said(&answer)
}

fn with(key: &'static str, value: &str) -> Vec<u8> {
    let mut changed = info("1.2", &kernel(1));
    changed.insert(key, value.into());
    VENDOR.sign(&module(&changed))
}

#[test]
fn attack_module_unsigned() {
    refused("unsigned-module", &module(&info("1.2", &kernel(1))));
}

#[test]
fn attack_module_of_another_signer() {
    refused("wrong-signer", &STRANGER.sign(&module(&info("1.2", &kernel(1)))));
}

#[test]
fn attack_module_changed_after_signing() {
    let mut changed = good("1.2");
    let at = changed.windows(7).position(|bytes| bytes == b"preempt").unwrap();
    changed[at] ^= 1;
    refused("tampered-module", &changed);
}

#[test]
fn attack_module_of_another_kernel() {
    let said = [
        refused("wrong-kernel", &with("livepatch_kernel_build_id", &kernel(2).build_id.to_string())),
        refused("wrong-kernel", &with("livepatch_kernel_release", "6.1.0-51-cloud-amd64")),
        refused("wrong-kernel", &with("vermagic", "6.1.0-51-cloud-amd64 SMP ")),
    ];
    insta::assert_snapshot!(said.concat(), @"
    the signed module says livepatch_kernel_build_id=0202020202020202020202020202020202020202 where 0101010101010101010101010101010101010101 is expected (wrong-kernel)
    hint: the module was built for another kernel than this one runs; tell the server's operator
    the signed module says livepatch_kernel_release=6.1.0-51-cloud-amd64 where 6.1.0-50-cloud-amd64 is expected (wrong-kernel)
    hint: the module was built for another kernel than this one runs; tell the server's operator
    the signed module says vermagic=6.1.0-51-cloud-amd64 SMP where 6.1.0-50-cloud-amd64 runs (wrong-kernel)
    hint: the module was built for another kernel than this one runs; tell the server's operator
    ");
}

#[test]
fn attack_module_under_another_name() {
    let said = [
        refused("wrong-module", &with("livepatch_version", "1.3")),
        refused("wrong-module", &with("name", "livepatch_1_3")),
        refused("wrong-module", &with("livepatch_object", "cls_u32")),
    ];
    insta::assert_snapshot!(said.concat(), @"
    the signed module says livepatch_version=1.3 where 1.2 is expected (wrong-module)
    hint: the server offers something else than it says; tell its operator
    the signed module says name=livepatch_1_3 where livepatch_1_2 is expected (wrong-module)
    hint: the server offers something else than it says; tell its operator
    the signed module says livepatch_object=cls_u32, which is no module with a build-id (wrong-module)
    hint: the server offers something else than it says; tell its operator
    ");
}

#[test]
fn attack_module_that_nobody_asked_for() {
    unattacked();
    let stage = Stage::running();
    for module in [good("1.2"), good("9.9"), b"not a module".to_vec(), Vec::new()] {
        assert_eq!(stage.apply(&module), "module-not-wanted");
    }
    stage.is_untouched();
}

#[test]
fn attack_module_swapped_for_another() {
    unattacked();
    let (stage, next) = (Stage::running(), good("1.2"));
    assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "ok");
    // Of the same length, and good but for being another.
    let other = good("1.3");
    assert_eq!(other.len(), next.len());
    assert_eq!(stage.apply(&other), "tampered-module");
    let mut longer = next.clone();
    longer.push(0);
    assert_eq!(stage.apply(&longer), "module-not-wanted");
    stage.is_untouched();
    assert_eq!(stage.apply(&next), "ok");
}

#[test]
fn attack_module_cut_short_and_module_with_more_behind() {
    unattacked();
    let (stage, next) = (Stage::running(), good("1.2"));
    assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "ok");
    let head = [&[4u8][..], &(next.len() as u32).to_be_bytes()].concat();
    let half = [&head, &next[..next.len() / 2]].concat();
    assert_eq!(code(&exchange(&stage.agents, &half).unwrap()), "truncated-module");
    stage.is_untouched();
    // What comes behind the length is never read.
    let answer = exchange(&stage.agents, &[&head, &next[..], &good("1.3")].concat()).unwrap();
    assert_eq!(code(&answer), "ok");
    let names: Vec<_> = stage.kernel.loads().iter().map(|name| name.to_string()).collect();
    assert_eq!(names, ["livepatch_1_1", "livepatch_1_2"]);
}

/// The agent is told where each livepatch is; nothing that it brings skips a stage.
#[test]
fn the_stages_of_livepatches() {
    let stages = |stage: &Stage| -> Vec<String> {
        stage
            .view()
            .stages
            .iter()
            .map(|staged| format!("{} {}", staged.version, staged.stage.words()))
            .collect()
    };
    let mut stage = Stage::new();
    assert_eq!(stages(&stage), [""; 0]);
    stage.enable();
    let first = good("1.1");
    assert_eq!(stage.note(&stage.document(1, "1.1", &first)), "ok");
    assert_eq!(stages(&stage), ["1.1 absent"]);
    // The kernel says no.
    stage.kernel.refuse_loads(Some(LoadRefusal::NotAModule));
    assert_ne!(stage.apply(&first), "ok");
    assert_eq!(stages(&stage), ["1.1 failed"]);
    // What is in memory alone is forgotten with the loader that knew it.
    stage.kernel.refuse_loads(None);
    stage.restart();
    assert_eq!(stages(&stage), ["1.1 healthy"], "it is tried again, from the cache");
    // What is no module of the vendor's fails, and what runs stays where it is.
    let forged = module(&info("1.2", &kernel(1)));
    assert_eq!(stage.note(&stage.document(2, "1.2", &forged)), "ok");
    assert_eq!(stages(&stage), ["1.1 healthy", "1.2 absent"]);
    assert_ne!(stage.apply(&forged), "ok");
    assert_eq!(stages(&stage), ["1.1 healthy", "1.2 failed"]);
    assert_eq!(code(&root(&stage.roots, RootRequest::Clear)), "ok");
    assert_eq!(stages(&stage), ["1.1 healthy", "1.2 absent"]);
    // Another one takes the place of both.
    let next = good("1.3");
    assert_eq!(stage.note(&stage.document(3, "1.3", &next)), "ok");
    assert_eq!(stage.apply(&next), "ok");
    assert_eq!(stages(&stage), ["1.3 healthy"]);
    // Somebody else takes it away.
    stage.kernel.set_enabled(&"livepatch_1_3".parse().unwrap(), false).unwrap();
    assert_eq!(stages(&stage), ["1.3 absent"]);
    assert_eq!((stage.converge(), stages(&stage)), ("ok".into(), vec!["1.3 healthy".into()]));
    assert_eq!(code(&root(&stage.roots, RootRequest::Revert)), "ok");
    assert_eq!(stages(&stage), ["1.3 absent"]);
}

#[test]
fn attack_namesake_of_a_patched_module() {
    let (ours, other) = (BuildId::from_bytes(&[2; 20]).unwrap(), BuildId::from_bytes(&[3; 20]).unwrap());
    let next = with("livepatch_object", &format!("cls_u32 {ours}"));
    let (shipped, built) = ("kernel/net/sched/cls_u32.ko", "updates/dkms/cls_u32.ko");
    let mut all = String::new();
    for (loaded, file, expected, livepatch) in [
        (Some(&ours), None, "ok", "livepatch_1_2"),
        (Some(&other), None, "foreign-module", "livepatch_1_1"),
        // Not loaded: what modprobe would load.
        (None, Some(shipped), "ok", "livepatch_1_2"),
        (None, Some(built), "foreign-module", "livepatch_1_1"),
    ] {
        let stage = Stage::running();
        let loaded = LoadedModule { name: ModuleName::parse("cls_u32").unwrap(), build_id: loaded.cloned() };
        stage.kernel.set_modules(vec![(loaded, file.map(str::to_owned))]);
        let envelope = stage.document(2, "1.2", &next);
        assert_eq!(stage.note(&envelope), "ok");
        let answer = agent(&stage.agents, AgentRequest::Apply, &next);
        assert_eq!(code(&answer), expected);
        if expected != "ok" {
            all += &said(&answer);
        }
        stage.insist(&envelope, &next);
        assert_eq!(stage.livepatches(), [livepatch]);
    }
    insta::assert_snapshot!(all, @"
    the livepatch is for module cls_u32, but another one is loaded (build-id 0303030303030303030303030303030303030303) (foreign-module)
    hint: the module is not the one of the kernel's package (dkms, a driver of somebody else): this livepatch cannot go with it; remove the module, or install the fixed kernel and reboot
    the livepatch is for module cls_u32, but modprobe would load updates/dkms/cls_u32.ko (foreign-module)
    hint: the module is not the one of the kernel's package (dkms, a driver of somebody else): this livepatch cannot go with it; remove the module, or install the fixed kernel and reboot
    ");
}

/// What is here is not asked for again: the next round takes it from the cache.
#[test]
fn a_module_that_the_kernel_did_not_take_is_kept() {
    let (stage, next) = (Stage::running(), good("1.2"));
    assert_eq!(stage.note(&stage.document(2, "1.2", &next)), "ok");
    assert_eq!(stage.converge(), "ok", "it waits for the module");
    stage.kernel.refuse_loads(Some(LoadRefusal::Busy));
    assert_ne!(stage.apply(&next), "ok");
    assert_eq!((stage.view().wants, stage.apply(&next)), (None, "module-not-wanted".into()));
    stage.is_untouched();
    stage.kernel.refuse_loads(None);
    assert_eq!((stage.converge(), stage.livepatches()), ("ok".into(), vec!["livepatch_1_2".into()]));
}

#[test]
fn attack_somebody_elses_livepatch_is_let_alone() {
    unattacked();
    let (stage, next) = (Stage::running(), good("1.2"));
    stage.kernel.add_livepatch(ModuleName::parse("kpatch_theirs").unwrap());
    let envelope = stage.document(2, "1.2", &next);
    assert_eq!((stage.note(&envelope), stage.apply(&next)), ("ok".into(), "module-not-wanted".into()));
    assert_eq!(stage.converge(), "foreign-livepatch");
    stage.insist(&envelope, &next);
    assert_eq!(stage.livepatches(), ["kpatch_theirs", "livepatch_1_1"]);
    assert_eq!(stage.kernel.loads().len(), 1);
}

#[test]
fn attack_crash_guard_is_not_the_agents_to_clear() {
    let mut stage = Stage::running();
    let path = stage.directory.path().join("state/state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    state["in_progress"] = serde_json::json!({
        "target": state["applied"]["target"], "build_id": state["applied"]["build_id"],
        "boot_id": state["loaded"]["boot_id"], "phase": "transition", "closed": false,
    });
    std::fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
    stage.kernel.reboot(kernel(1));
    stage.restart();
    let module = good("1.1");
    assert_eq!(stage.converge(), "crash-guard");
    stage.insist(&stage.document(2, "1.1", &module), &module);
    assert_eq!((stage.kernel.loads().len(), stage.livepatches()), (1, vec![]));
    assert_eq!(code(&root(&stage.roots, RootRequest::Clear)), "ok");
    assert_eq!((stage.converge(), stage.livepatches()), ("ok".into(), vec!["livepatch_1_1".into()]));
    assert_eq!(code(&agent(&stage.agents, AgentRequest::Status, &[])), "ok");
}

/// Right before the kernel gets the module, that is after it was verified, somebody puts another one in its place: in the
/// cache, and in every open file of this process that holds its bytes.
#[derive(Default)]
struct Swapper {
    swap: Mutex<Option<Swap>>,
    /// How each attempt on an open file ended.
    ended: Mutex<Vec<io::ErrorKind>>,
}

/// The one that was verified, the one in its place, and where modules are kept.
struct Swap {
    verified: Vec<u8>,
    other: Vec<u8>,
    objects: PathBuf,
}

impl Steps for Swapper {
    fn reached(&self, step: Step<'_>) {
        let swap = self.swap.lock().unwrap();
        let (Step::Insert, Some(Swap { verified, other, objects })) = (step, swap.as_ref()) else { return };
        for entry in std::fs::read_dir(objects).into_iter().flatten().flatten() {
            std::fs::write(entry.path(), other).unwrap();
        }
        for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
            // Those of other tests may be gone by now.
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            let is_memory = target.to_string_lossy().starts_with("/memfd:");
            if !is_memory || std::fs::read(entry.path()).ok().as_ref() != Some(verified) {
                continue;
            }
            let open = || std::fs::OpenOptions::new().write(true).open(entry.path());
            let written = open().and_then(|file| file.write_all_at(other, 0));
            let cut = open().and_then(|file| file.set_len(0));
            let ended = [written, cut].map(|result| result.unwrap_err().kind());
            self.ended.lock().unwrap().extend(ended);
        }
    }
}

#[test]
fn attack_module_swapped_after_verification() {
    unattacked();
    // Versions that no other test has in memory.
    let [first, next, other] = ["7.1", "7.2", "7.3"].map(good);
    assert_eq!(next.len(), other.len());
    let swapper = Arc::new(Swapper::default());
    let mut stage = Stage::new();
    stage.steps = Arc::clone(&swapper) as _;
    stage.restart();
    stage.enable();
    let objects = stage.directory.path().join("state/objects");
    assert_eq!(stage.note(&stage.document(1, "7.1", &first)), "ok");
    assert_eq!((stage.apply(&first), stage.livepatches()), ("ok".into(), vec!["livepatch_7_1".into()]));
    // What was verified is what the kernel gets, whatever is done meanwhile.
    *swapper.swap.lock().unwrap() = Some(Swap { verified: next.clone(), other, objects });
    assert_eq!(stage.note(&stage.document(2, "7.2", &next)), "ok");
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_7_2".into()]));
    let ended = std::mem::take(&mut *swapper.ended.lock().unwrap());
    assert_eq!(ended, [io::ErrorKind::PermissionDenied; 2], "the memory was found, and is sealed");

    // The cache has the other one now: what runs stays, also when the loader starts anew.
    stage.restart();
    assert_eq!((stage.converge(), stage.livepatches()), ("ok".into(), vec!["livepatch_7_2".into()]));
    // After a boot it is refused for not being what was applied, it is thrown away, and nothing is loaded.
    stage.kernel.reboot(kernel(1));
    for refusal in ["tampered-module", "module-not-cached"] {
        assert_eq!((stage.converge(), stage.livepatches()), (refusal.into(), vec![]));
    }
    // Brought once more: what is loaded is what was read and verified.
    assert_eq!((stage.apply(&next), stage.livepatches()), ("ok".into(), vec!["livepatch_7_2".into()]));
    assert_eq!(*swapper.ended.lock().unwrap(), [io::ErrorKind::PermissionDenied; 2]);
    let loads: Vec<_> = stage.kernel.loads().iter().map(|name| name.to_string()).collect();
    assert_eq!(loads, ["livepatch_7_1", "livepatch_7_2", "livepatch_7_2"]);
}
