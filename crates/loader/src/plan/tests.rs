use livepatch_manifest::ModuleObject;
use livepatch_types::{Architecture, KernelIdentity, KernelRelease, Sha256Digest, Tier};

use super::*;
use crate::kernels::Hold;
use crate::state::{Applied, Blocked, Loaded, Phase, Retry, Seen};
use livepatch_settings::{Asker, Mode, Policy};

const BOOT: &str = "boot-2";

/// One situation, in few words. Versions are `1.MINOR`.
#[derive(Default)]
struct Case {
    /// The target of the document; `Some(None)`: a document without one.
    document: Option<Option<u32>>,
    expired: bool,
    obtainable: bool,
    running: Option<u32>,
    in_transition: bool,
    foreign: bool,
    /// Their livepatch has the name of one of ours.
    namesake: bool,
    /// The clock is so many seconds behind the newest time of signing.
    behind: Option<i64>,
    /// A module that is loaded besides.
    module: Option<&'static str>,
    applied: Option<u32>,
    applied_elsewhere: bool,
    held: Option<u32>,
    /// Reverted on the kernel of this number; the first one runs.
    held_on: Option<(u32, u8)>,
    blocked: Option<u32>,
    /// Version, how often, hours since.
    stalled: Option<(u32, u32, i64)>,
    withdrawn: Vec<u32>,
    leftover: Option<u32>,
    /// A cutoff-date before every release.
    cutoff: bool,
    mode: Mode,
    vendor_refuses: bool,
    vendor_withdrew: Option<u32>,
    /// The document names another module than was applied.
    other_module: bool,
}

fn version(minor: u32) -> PatchVersion {
    PatchVersion::parse(&format!("1.{minor}")).unwrap()
}

fn build_id(byte: u8) -> BuildId {
    BuildId::from_bytes(&[byte; 20]).unwrap()
}

fn target(minor: u32) -> Target {
    Target {
        version: version(minor),
        module: ModuleObject { sha256: Sha256Digest::from_bytes([minor as u8; 32]), size_bytes: 1 },
        cves: vec![],
        released: Timestamp::UNIX_EPOCH,
    }
}

impl Case {
    fn plan(&self) -> Plan {
        let tier = Tier::parse("stable").unwrap();
        let now: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
        let document = self.document.map(|minor| KernelDocument {
            schema: 1,
            critical: vec![],
            kernel: KernelIdentity {
                architecture: Architecture::Amd64,
                release: KernelRelease::parse("6.1.0").unwrap(),
                build_id: build_id(1),
            },
            channel: tier.clone(),
            version: 1,
            issued: Timestamp::UNIX_EPOCH,
            expires: if self.expired { now } else { Timestamp::MAX },
            poll_hint_seconds: None,
            target: minor.map(|minor| {
                let mut target = target(minor);
                target.module.size_bytes += u64::from(self.other_module);
                target
            }),
            vendor: None,
            coverage: None,
            withdrawn: vec![],
        });
        let name = |minor| version(minor).module_name();
        let mut livepatches: Vec<_> = self
            .running
            .map(|minor| Livepatch { name: name(minor), enabled: true, in_transition: self.in_transition })
            .into_iter()
            .collect();
        let ours: Vec<_> = self.running.into_iter().chain(self.leftover).map(name).collect();
        let module = self.module.map(|name| ModuleName::parse(name).unwrap());
        let modules = ours.iter().cloned().chain(module).collect();
        if self.foreign {
            let name = ModuleName::parse(if self.namesake { "livepatch_1_1" } else { "theirs" }).unwrap();
            livepatches.push(Livepatch { name, enabled: true, in_transition: false });
        }
        let state = State {
            applied: self.applied.map(|minor| Applied {
                target: target(minor),
                build_id: build_id(if self.applied_elsewhere { 2 } else { 1 }),
                at: now,
            }),
            held: self.held.map(version),
            holds: self
                .held_on
                .map(|(minor, kernel)| Hold { version: version(minor), build_id: build_id(kernel) })
                .into_iter()
                .collect(),
            blocked: self
                .blocked
                .map(|minor| Blocked {
                    version: version(minor),
                    build_id: build_id(1),
                    phase: Phase::Inserting,
                    at: None,
                    record: None,
                    retry: Retry::Never,
                    complaint: None,
                })
                .into_iter()
                .collect(),
            stalled: self.stalled.map(|(minor, times, hours)| Stalled {
                version: version(minor),
                build_id: build_id(1),
                boot_id: BOOT.into(),
                times,
                at: now - SignedDuration::from_hours(hours),
                holders: Vec::new(),
            }),
            seen: vec![Seen {
                operator: String::new(),
                build_id: build_id(1),
                channel: tier,
                version: 1,
                withdrawn: self.withdrawn.iter().copied().map(version).collect(),
            }],
            loaded: Loaded { boot_id: BOOT.into(), names: ours },
            latest_issued: self.behind.map(|seconds| now + SignedDuration::from_secs(seconds)),
            ..State::default()
        };
        let observed = Observed { build_id: build_id(1), boot_id: BOOT.into(), livepatches, modules };
        let desired = Desired {
            document: document.as_ref(),
            obtainable: self.obtainable,
            policy: &Policy {
                cutoff: self.cutoff.then_some(Timestamp::MIN),
                mode: self.mode,
                ..Policy::default()
            },
            asker: Asker::Timer,
            vendor: &Verdict {
                withdrawn: self.vendor_withdrew.into_iter().map(version).collect(),
                install: match self.vendor_refuses {
                    true => Err(Problem::new("vendor-expired", "expired", "")),
                    false => Ok(None),
                },
            },
        };
        plan(&observed, desired, &state, now)
    }
}

/// The action in words, and the code of the problem.
fn words(plan: &Plan) -> String {
    let action = match &plan.action {
        Action::Nothing => "nothing".into(),
        Action::Settle(name) => format!("settle {name}"),
        Action::Install(target) => format!("install {}", target.version),
        Action::Reapply(target) => format!("reapply {}", target.version),
        Action::Withdraw(version) => format!("withdraw {version}"),
    };
    match &plan.problem {
        Some(problem) => format!("{action}, {}", problem.code),
        None => action,
    }
}

#[test]
fn the_table() {
    let none = Case::default;
    let offers = |minor| Case { document: Some(Some(minor)), obtainable: true, ..Case::default() };
    let table = [
        // Nothing known.
        (none(), "nothing"),
        (Case { applied: Some(1), ..none() }, "reapply 1.1"),
        (Case { applied: Some(1), applied_elsewhere: true, ..none() }, "nothing"),
        (Case { applied: Some(1), running: Some(1), ..none() }, "nothing"),
        (Case { applied: Some(1), held: Some(1), ..none() }, "nothing"),
        (Case { applied: Some(1), blocked: Some(1), ..none() }, "nothing, crash-guard"),
        (Case { applied: Some(1), withdrawn: vec![1], ..none() }, "nothing"),
        (Case { applied: Some(1), foreign: true, ..none() }, "nothing, foreign-livepatch"),
        (Case { foreign: true, ..none() }, "nothing"),
        // A document without a target.
        (Case { document: Some(None), ..none() }, "nothing"),
        (Case { document: Some(None), running: Some(1), ..none() }, "nothing"),
        (Case { document: Some(None), running: Some(1), withdrawn: vec![1], ..none() }, "withdraw 1.1"),
        (
            Case { document: Some(None), expired: true, running: Some(1), withdrawn: vec![1], ..none() },
            "withdraw 1.1",
        ),
        (Case { document: Some(None), applied: Some(1), ..none() }, "reapply 1.1"),
        // A target.
        (offers(1), "install 1.1"),
        (Case { running: Some(1), ..offers(1) }, "nothing"),
        (Case { running: Some(1), ..offers(2) }, "install 1.2"),
        (Case { running: Some(2), ..offers(1) }, "install 1.1"),
        (Case { obtainable: false, ..offers(1) }, "nothing"),
        (Case { expired: true, ..offers(1) }, "nothing, document-expired"),
        (Case { expired: true, running: Some(1), ..offers(1) }, "nothing"),
        (Case { expired: true, running: Some(1), ..offers(2) }, "nothing, document-expired"),
        (Case { foreign: true, ..offers(1) }, "nothing, foreign-livepatch"),
        (Case { foreign: true, running: Some(1), ..offers(1) }, "nothing"),
        (Case { foreign: true, namesake: true, ..offers(1) }, "nothing, foreign-livepatch"),
        // Five minutes are let pass.
        (Case { behind: Some(300), ..offers(1) }, "install 1.1"),
        (Case { behind: Some(301), ..offers(1) }, "nothing, clock-behind"),
        (Case { behind: Some(301), running: Some(1), ..offers(1) }, "nothing"),
        (Case { module: Some("kcare"), ..offers(1) }, "nothing, foreign-livepatch"),
        (Case { module: Some("ksplice_4h3l2k1j_vmlinux_new"), ..offers(1) }, "nothing, foreign-livepatch"),
        (Case { module: Some("kpatch"), ..offers(1) }, "nothing, foreign-livepatch"),
        (Case { module: Some("kcare"), applied: Some(1), ..none() }, "nothing, foreign-livepatch"),
        (Case { module: Some("kcare"), running: Some(1), ..offers(1) }, "nothing"),
        (Case { module: Some("kcarefree"), ..offers(1) }, "install 1.1"),
        (Case { module: Some("ksplice"), ..offers(1) }, "install 1.1"),
        (Case { held: Some(1), ..offers(1) }, "nothing"),
        (Case { held: Some(1), ..offers(2) }, "install 1.2"),
        (Case { held_on: Some((1, 1)), ..offers(1) }, "nothing"),
        (Case { held_on: Some((1, 1)), ..offers(2) }, "install 1.2"),
        (Case { held_on: Some((1, 1)), applied: Some(1), ..none() }, "nothing"),
        // What was reverted on another kernel says nothing of this one.
        (Case { held_on: Some((1, 2)), ..offers(1) }, "install 1.1"),
        (Case { held_on: Some((1, 2)), applied: Some(1), ..none() }, "reapply 1.1"),
        (Case { blocked: Some(1), ..offers(1) }, "nothing, crash-guard"),
        (Case { blocked: Some(1), ..offers(2) }, "install 1.2"),
        (Case { withdrawn: vec![1], ..offers(1) }, "nothing, withdrawn-livepatch"),
        (Case { withdrawn: vec![1], running: Some(1), ..offers(2) }, "install 1.2"),
        (Case { withdrawn: vec![1], running: Some(1), obtainable: false, ..offers(2) }, "withdraw 1.1"),
        (
            Case { withdrawn: vec![1], running: Some(1), expired: true, ..offers(2) },
            "withdraw 1.1, document-expired",
        ),
        (
            Case { withdrawn: vec![1], running: Some(1), foreign: true, ..offers(2) },
            "withdraw 1.1, foreign-livepatch",
        ),
        // After a boot: what was healthy comes back whatever becomes of the target.
        (Case { applied: Some(1), expired: true, obtainable: false, ..offers(1) }, "reapply 1.1"),
        (Case { applied: Some(1), obtainable: false, ..offers(2) }, "reapply 1.1"),
        (Case { applied: Some(1), expired: true, ..offers(2) }, "reapply 1.1, document-expired"),
        (Case { applied: Some(1), blocked: Some(2), ..offers(2) }, "reapply 1.1, crash-guard"),
        (Case { applied: Some(1), ..offers(2) }, "install 1.2"),
        // What stalled waits one hour, two, four and so on, at most a day, and after eight times for a person.
        (Case { stalled: Some((1, 1, 0)), ..offers(1) }, "nothing, transition-stalled"),
        (Case { stalled: Some((1, 1, 1)), ..offers(1) }, "install 1.1"),
        (Case { stalled: Some((1, 2, 1)), ..offers(1) }, "nothing, transition-stalled"),
        (Case { stalled: Some((1, 2, 2)), ..offers(1) }, "install 1.1"),
        (Case { stalled: Some((1, 7, 23)), ..offers(1) }, "nothing, transition-stalled"),
        (Case { stalled: Some((1, 7, 24)), ..offers(1) }, "install 1.1"),
        (Case { stalled: Some((1, 8, 999)), ..offers(1) }, "nothing, stalled-too-often"),
        (Case { stalled: Some((1, 1, -1)), ..offers(1) }, "install 1.1"),
        (Case { stalled: Some((1, 1, 0)), ..offers(2) }, "install 1.2"),
        (Case { stalled: Some((2, 1, 0)), running: Some(1), ..offers(2) }, "nothing, transition-stalled"),
        (Case { stalled: Some((1, 1, 0)), running: Some(1), ..offers(1) }, "nothing"),
        (Case { stalled: Some((1, 1, 0)), applied: Some(1), ..none() }, "nothing, transition-stalled"),
        (Case { stalled: Some((2, 1, 0)), applied: Some(1), ..offers(2) }, "reapply 1.1, transition-stalled"),
        // What the owner of the host allows: about what is new, unless the mode says nothing at all.
        (Case { cutoff: true, ..offers(1) }, "nothing"),
        (Case { cutoff: true, applied: Some(1), ..offers(1) }, "reapply 1.1"),
        (Case { cutoff: true, applied: Some(1), ..offers(2) }, "reapply 1.1"),
        (Case { cutoff: true, running: Some(1), withdrawn: vec![1], ..offers(2) }, "withdraw 1.1"),
        (Case { mode: Mode::NoRefresh, ..offers(1) }, "install 1.1"),
        (Case { mode: Mode::NoApply, ..offers(1) }, "nothing"),
        (Case { mode: Mode::NoApply, applied: Some(1), ..offers(1) }, "nothing"),
        (Case { mode: Mode::NoApply, running: Some(1), withdrawn: vec![1], ..none() }, "withdraw 1.1"),
        // What the vendor says: it keeps new ones away and takes withdrawn ones back, and nothing else.
        (Case { vendor_refuses: true, ..offers(1) }, "nothing, vendor-expired"),
        (Case { vendor_refuses: true, running: Some(1), ..offers(1) }, "nothing"),
        (Case { vendor_refuses: true, running: Some(1), ..offers(2) }, "nothing, vendor-expired"),
        (Case { vendor_refuses: true, applied: Some(1), ..offers(1) }, "reapply 1.1"),
        (Case { vendor_refuses: true, applied: Some(1), ..offers(2) }, "reapply 1.1, vendor-expired"),
        (
            Case { vendor_refuses: true, vendor_withdrew: Some(1), running: Some(1), ..offers(1) },
            "withdraw 1.1",
        ),
        (Case { vendor_withdrew: Some(1), applied: Some(1), ..none() }, "nothing"),
        (Case { vendor_withdrew: Some(1), ..offers(1) }, "nothing, withdrawn-livepatch"),
        // Other bytes under the version that was healthy are new.
        (Case { applied: Some(1), other_module: true, ..offers(1) }, "install 1.1"),
        (
            Case { applied: Some(1), other_module: true, vendor_refuses: true, ..offers(1) },
            "reapply 1.1, vendor-expired",
        ),
        // A transition is brought to its end first.
        (Case { running: Some(1), in_transition: true, ..offers(2) }, "settle livepatch_1_1"),
        (
            Case { running: Some(1), in_transition: true, withdrawn: vec![1], ..none() },
            "settle livepatch_1_1",
        ),
    ];
    let mut reasons = std::collections::BTreeSet::new();
    for (index, (case, expected)) in table.iter().enumerate() {
        let plan = case.plan();
        assert_eq!(words(&plan), *expected, "row {index}: {}", plan.reason);
        assert!(!plan.reason.is_empty());
        reasons.insert(plan.reason);
    }
    insta::assert_snapshot!(reasons.into_iter().collect::<Vec<_>>().join("\n"), @"
    1.1 comes back after the boot
    1.1 is applied
    1.1 is held back by a person
    1.1 is new
    1.1 waits for its module
    1.1 was withdrawn
    1.2 is new
    1.2 replaces 1.1
    1.2 waits for its module; the last healthy livepatch comes back
    expired
    expired; the last healthy livepatch comes back
    livepatch 1.1 was not in force everywhere in time, 1 time so far; it was cancelled and unloaded
    livepatch 1.1 was not in force everywhere in time, 2 times so far; it was cancelled and unloaded
    livepatch 1.1 was not in force everywhere in time, 7 times so far; it was cancelled and unloaded
    livepatch 1.1 was not in force everywhere in time, 8 times so far; it was cancelled and unloaded
    livepatch 1.1 was released 1970-01-01 00:00 UTC, after the cutoff-date -9999-01-02 01:59 UTC
    livepatch 1.2 was not in force everywhere in time, 1 time so far; it was cancelled and unloaded
    livepatch 1.2 was not in force everywhere in time, 1 time so far; it was cancelled and unloaded; the last healthy livepatch comes back
    livepatch 1.2 was released 1970-01-01 00:00 UTC, after the cutoff-date -9999-01-02 01:59 UTC; the last healthy livepatch comes back
    livepatch livepatch_1_1 was loaded by somebody else, and applying ours would disable it
    livepatch theirs was loaded by somebody else, and applying ours would disable it
    livepatch_1_1 is in transition
    no document was seen for this kernel
    nothing is applied in mode no-apply, set by the default
    the clock here says 2026-11-24T00:00:00Z, but a document was believed that was issued at 2026-11-24T00:05:01Z
    the document expired at 2026-11-24T00:00:00Z
    the document expired at 2026-11-24T00:00:00Z; the last healthy livepatch comes back
    the document names no livepatch; what runs was not withdrawn and stays
    the last healthy livepatch comes back
    the operator goes back from 1.2 to 1.1
    the server offers livepatch 1.1, which was withdrawn before
    there is no livepatch for this kernel
    this host went down while livepatch 1.1 was being inserted; it is not applied again by itself
    this host went down while livepatch 1.2 was being inserted; it is not applied again by itself; the last healthy livepatch comes back
    this kernel is patched by KernelCare (module kcare), and one function cannot have two fixes
    this kernel is patched by Ksplice (module ksplice_4h3l2k1j_vmlinux_new), and one function cannot have two fixes
    this kernel is patched by kpatch (module kpatch), and one function cannot have two fixes
    ");
}

#[test]
fn actions_in_the_log() {
    let name = ModuleName::parse("livepatch_1_1").unwrap();
    let actions = [
        Action::Nothing,
        Action::Settle(name),
        Action::Install(target(1)),
        Action::Reapply(target(1)),
        Action::Withdraw(version(1)),
    ];
    assert_eq!(actions.map(|action| action.word()), ["nothing", "settle", "install", "reapply", "withdraw"]);
}

#[test]
fn leftovers_are_modules_of_ours_without_a_livepatch() {
    let case = Case { running: Some(2), leftover: Some(1), document: Some(Some(2)), ..Case::default() };
    assert_eq!(case.plan().leftovers, [version(1).module_name()]);
    assert_eq!(Case { leftover: None, ..case }.plan().leftovers, []);
}

#[test]
fn names_and_versions() {
    assert_eq!(PatchVersion::of_module(&version(7).module_name()), Some(version(7)));
    for name in ["livepatch_1", "livepatch_a_b", "kpatch_1_1", "livepatch_1_1_1", "livepatch_0_1"] {
        assert_eq!(PatchVersion::of_module(&ModuleName::parse(name).unwrap()), None, "{name}");
    }
}
