//! What every [`Kernel`] does, told once: against the fake here, against a real kernel inside a guest
//! (`LIVEPATCH_GUEST_MODULES` names a directory with `first.ko` and `second.ko`, two livepatches with replace).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use livepatch_kernel::*;
use livepatch_types::{Architecture, BuildId, KernelIdentity, KernelRelease, ModuleName};

const BOUND: Duration = Duration::from_secs(60);

struct NoPause;

impl Pause for NoPause {
    fn pause(&self, _: Duration) {}
}

struct Modules {
    first: SealedModule,
    second: SealedModule,
    garbage: SealedModule,
}

fn sealed(bytes: &[u8]) -> SealedModule {
    SealedModule::from_reader(bytes, 32 << 20).unwrap()
}

fn fake() -> FakeKernel {
    FakeKernel::new(KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
        build_id: BuildId::from_bytes(&[7; 20]).unwrap(),
    })
}

fn fake_modules() -> Modules {
    Modules {
        first: sealed(b"\x7fELF\0name=livepatch_1_1\0livepatch=Y\0"),
        second: sealed(b"\x7fELF\0name=livepatch_1_2\0livepatch=Y\0"),
        garbage: sealed(b"not a module"),
    }
}

/// The parts that change nothing: any kernel, any host.
fn reading(kernel: &dyn Kernel) {
    let identity = kernel.identity().unwrap();
    assert_eq!(kernel.identity().unwrap(), identity);
    assert!(!kernel.boot_id().unwrap().is_empty());
    assert!(kernel.since_boot().unwrap() <= kernel.since_boot().unwrap());
    let modules = kernel.modules().unwrap();
    assert!(modules.is_sorted_by(|a, b| a.name < b.name));
    match (kernel.livepatches(), kernel.facts().livepatch_support) {
        (Ok(_), Some(true)) | (Err(KernelError::NoLivepatching), Some(false)) => {}
        other => panic!("list and facts disagree: {other:?}"),
    }
    let absent = ModuleName::parse("livepatch_no_such_thing").unwrap();
    assert!(matches!(kernel.set_enabled(&absent, false), Err(KernelError::NoSuchLivepatch(_))));
}

/// From no livepatch to one, to another that replaces it, to none.
fn life_of_a_livepatch(kernel: &dyn Kernel, pause: &dyn Pause, modules: &Modules, names: [&ModuleName; 2]) {
    let [first, second] = names;
    let loaded = |name: &ModuleName| kernel.modules().unwrap().iter().any(|module| module.name == *name);
    let refused = |module: &SealedModule| match kernel.load(module) {
        Err(LoadError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let settle = |name: &ModuleName| wait_for_transition(kernel, pause, name, BOUND).unwrap();
    let unload = |name: &ModuleName| {
        let gone = wait_until(pause, BOUND, || match kernel.unload(name) {
            Ok(()) => Ok(true),
            Err(KernelError::ModuleInUse(_)) => Ok(false),
            Err(error) => Err(error),
        });
        assert!(gone.unwrap());
    };

    assert_eq!(kernel.livepatches().unwrap(), []);
    assert_eq!(refused(&modules.garbage), LoadRefusal::NotAModule);

    kernel.load(&modules.first).unwrap();
    let state = settle(first).unwrap();
    assert!(state.enabled && !state.in_transition);
    assert_eq!(refused(&modules.first), LoadRefusal::AlreadyLoaded);
    assert!(matches!(kernel.unload(first), Err(KernelError::ModuleInUse(_))));
    assert!(
        matches!(kernel.set_enabled(first, true), Err(KernelError::LivepatchBusy { .. })),
        "it is enabled"
    );

    kernel.load(&modules.second).unwrap();
    assert!(settle(second).unwrap().enabled);
    let replaced = wait_until(pause, BOUND, || kernel.livepatches().map(|patches| patches.len() == 1));
    assert!(replaced.unwrap(), "the replaced livepatch leaves the list");
    assert!(loaded(first), "its module stays until it is unloaded");
    unload(first);
    assert!(!loaded(first));

    kernel.set_enabled(second, false).unwrap();
    assert_eq!(settle(second), None);
    unload(second);
    assert!(matches!(kernel.unload(second), Err(KernelError::NoSuchModule(_))));
    assert_eq!(kernel.livepatches().unwrap(), []);
    assert!(!loaded(second));
}

#[test]
fn the_fake_reads() {
    reading(&fake());
}

#[test]
fn the_fake_lives() {
    let names = ["livepatch_1_1", "livepatch_1_2"].map(|name| ModuleName::parse(name).unwrap());
    life_of_a_livepatch(&fake(), &NoPause, &fake_modules(), [&names[0], &names[1]]);
}

#[test]
fn this_machine_reads() {
    // Only reading: the machine that runs the tests is never changed.
    let kernel = LinuxKernel::default();
    if kernel.identity().is_ok() {
        reading(&kernel);
    }
}

/// Changes the running kernel: for a guest alone, which says so by the variable (tests/tests/client/behaviour.rs).
#[test]
fn the_guest_lives() {
    let Some(directory) = std::env::var_os("LIVEPATCH_GUEST_MODULES") else {
        // Past the test harness, which would hide it.
        let text =
            "SKIPPED: the_guest_lives: this is no guest; tests/tests/client/behaviour.rs runs it in one\n";
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    };
    let read = |file: &str| sealed(&std::fs::read(Path::new(&directory).join(file)).unwrap());
    let modules =
        Modules { first: read("first.ko"), second: read("second.ko"), garbage: sealed(b"not a module") };
    let names = ["first", "second"].map(|file| {
        let text = std::fs::read_to_string(Path::new(&directory).join(file).with_extension("name")).unwrap();
        ModuleName::parse(text.trim()).unwrap()
    });
    let kernel = LinuxKernel::default();
    reading(&kernel);
    life_of_a_livepatch(&kernel, &ThreadPause, &modules, [&names[0], &names[1]]);
}

#[test]
fn a_stalled_transition_is_turned_around() {
    let kernel = fake();
    let modules = fake_modules();
    let [first, second] = ["livepatch_1_1", "livepatch_1_2"].map(|name| ModuleName::parse(name).unwrap());
    kernel.load(&modules.first).unwrap();
    wait_for_transition(&kernel, &NoPause, &first, BOUND).unwrap();
    kernel.set_transitions(Transitions::NeverEnable);
    kernel.load(&modules.second).unwrap();
    assert!(wait_for_transition(&kernel, &NoPause, &second, BOUND).unwrap().unwrap().in_transition);
    assert!(matches!(kernel.set_enabled(&first, false), Err(KernelError::LivepatchBusy { .. })));
    kernel.set_enabled(&second, false).unwrap();
    assert_eq!(wait_for_transition(&kernel, &NoPause, &second, BOUND).unwrap(), None);
    let left = kernel.livepatches().unwrap();
    assert_eq!(left, [Livepatch { name: first.clone(), enabled: true, in_transition: false }]);

    kernel.set_transitions(Transitions::NeverDisable);
    kernel.set_enabled(&first, false).unwrap();
    assert!(wait_for_transition(&kernel, &NoPause, &first, BOUND).unwrap().unwrap().in_transition);
    kernel.set_enabled(&first, true).unwrap();
    assert!(wait_for_transition(&kernel, &NoPause, &first, BOUND).unwrap().unwrap().enabled);
}
