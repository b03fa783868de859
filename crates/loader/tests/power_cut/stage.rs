//! A loader whose power is cut at a step: what was on the disk then is all that the next one has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_kernel::{FakeKernel, Kernel as _};
use livepatch_loader::guard::SOAK;
use livepatch_loader::observer::Observer;
use livepatch_loader::step::{Step, Steps, Unwatched};
use livepatch_loader::{Loader, Parts, Problem, TrustDirectories};
use livepatch_observer_api::{AskError, Holder, Seen, Stall};
use livepatch_settings::Policy;

use livepatch_types::KernelIdentity;

use crate::signing::*;

/// What the disk did with what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// None of it survives, and temporary files are empty.
    Loses,
    /// All of it survives.
    Keeps,
}

/// A step as tests name it: a file by the end of its path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    Written(&'static str),
    Synced(&'static str),
    Renamed(&'static str),
    Kept(&'static str),
    Kernel(Step<'static>),
}

impl At {
    fn is(self, step: Step<'_>) -> bool {
        let ends = |path: &Path, end: &str| path.to_string_lossy().ends_with(end);
        match (self, step) {
            (Self::Written(end), Step::Written(path))
            | (Self::Synced(end), Step::Synced(path))
            | (Self::Renamed(end), Step::Renamed(path))
            | (Self::Kept(end), Step::Kept(path)) => ends(path, end),
            (Self::Kernel(step), reached) => step == reached,
            _ => false,
        }
    }
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Follows what is on the disk, and takes it down at the step where the power is cut.
struct Cut {
    root: PathBuf,
    disk: Disk,
    at: At,
    inner: Mutex<Following>,
}

#[derive(Default)]
struct Following {
    /// Steps of this kind that are still let pass; none: not armed.
    left: Option<u32>,
    durable: Files,
    survived: Option<Files>,
}

impl Steps for Cut {
    fn reached(&self, step: Step<'_>) {
        let mut inner = self.inner.lock().unwrap();
        if let Step::Kept(path) = step {
            let bytes = std::fs::read(path).unwrap();
            inner.durable.insert(path.to_owned(), bytes);
        }
        let Some(left) = inner.left.filter(|_| self.at.is(step)) else { return };
        inner.left = left.checked_sub(1);
        if left > 0 {
            return;
        }
        let there = files(&self.root);
        inner.survived = Some(match self.disk {
            Disk::Keeps => there,
            Disk::Loses => {
                let temporary = there.into_keys().filter(|path| !inner.durable.contains_key(path));
                let empty: Vec<_> = temporary.map(|path| (path, Vec::new())).collect();
                inner.durable.clone().into_iter().chain(empty).collect()
            }
        });
    }
}

fn files(root: &Path) -> Files {
    let mut all = Files::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(files(&entry.path()));
        } else {
            all.insert(entry.path(), std::fs::read(entry.path()).unwrap());
        }
    }
    all
}

/// An observer that saw this in the log, and always the same task.
#[derive(Default)]
pub(crate) struct Told(pub(crate) Mutex<Seen>);

impl Observer for Told {
    fn seen(&self, from: u64) -> Result<Seen, AskError> {
        let mut seen = self.0.lock().unwrap().clone();
        seen.complaints.retain(|complaint| complaint.sequence >= from);
        seen.refused.retain(|refused| refused.sequence >= from);
        Ok(seen)
    }

    fn wait(&self, from: u64) -> Result<Seen, AskError> {
        self.seen(from)
    }

    fn stall(&self) -> Result<Stall, AskError> {
        let stack = ["hrtimer_nanosleep", "do_nanosleep"].map(str::to_owned).into();
        let holder = Holder { process: 20, thread: 21, name: "sleeper".into(), stack };
        Ok(Stall { livepatches: Vec::new(), holders: vec![holder; 6], more: 3 })
    }
}

pub(crate) struct Stage {
    directory: tempfile::TempDir,
    pub(crate) kernel: Arc<FakeKernel>,
    clock: Arc<SetClock>,
    operator: Ed25519KeyPair,
    cut: Option<Arc<Cut>>,
    /// What its observer says.
    pub(crate) told: Arc<Told>,
    pub(crate) loader: Arc<Loader>,
}

/// A module that the vendor signed for this kernel.
pub(crate) fn good(version: &str, kernel: &KernelIdentity) -> Vec<u8> {
    VENDOR.sign(&module(&info(version, kernel)))
}

fn code(done: Result<(), Problem>) -> &'static str {
    done.err().map_or("ok", |problem| problem.code)
}

impl Stage {
    /// A loader that root has enabled, whose power is cut the `nth` time that it is at this step once [`Self::arm`] was
    /// called.
    pub(crate) fn new(at: At, disk: Disk) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let operator = Ed25519KeyPair::generate().unwrap();
        std::fs::write(directory.path().join("operator.pub"), public(&operator).to_text()).unwrap();
        std::fs::write(directory.path().join("vendor.pem"), VENDOR.x509.to_pem().unwrap()).unwrap();
        let kernel = Arc::new(FakeKernel::new(kernel(1)));
        let clock = Arc::new(SetClock(Mutex::new(NOW.parse().unwrap())));
        let root = directory.path().join("state");
        let cut = Arc::new(Cut { root, disk, at, inner: Mutex::default() });
        let told = Arc::default();
        let loader = loader(directory.path(), &kernel, &clock, Arc::clone(&cut) as _, &told);
        loader.enable().unwrap();
        let host = loader.view().host.unwrap();
        loader.take_assignment(&assign(host, "stable", 1, &operator)).unwrap();
        Self { directory, kernel, clock, operator, cut: Some(cut), told, loader }
    }

    /// The step counts from now on.
    pub(crate) fn arm(&self, nth: u32) {
        self.cut.as_ref().unwrap().inner.lock().unwrap().left = Some(nth - 1);
    }

    /// The loader after the power cut, in the next boot, and how its start ended.
    pub(crate) fn boot_after_the_cut(&mut self) -> &'static str {
        let cut = self.cut.take().unwrap();
        let survived = cut.inner.lock().unwrap().survived.take().expect("the step was not reached");
        std::fs::remove_dir_all(&cut.root).unwrap();
        for (path, bytes) in survived {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        self.boot()
    }

    /// The power is cut now, while nothing happens.
    pub(crate) fn power_cut(&mut self) -> &'static str {
        self.boot()
    }

    /// A shutdown in good order, and the next boot.
    pub(crate) fn reboot(&mut self) -> &'static str {
        self.loader.close();
        self.boot()
    }

    fn boot(&mut self) -> &'static str {
        let running = self.kernel.identity().unwrap();
        self.kernel.reboot(running);
        self.restart()
    }

    /// A shutdown in good order, and the next boot of this kernel.
    pub(crate) fn reboot_into(&mut self, kernel: &KernelIdentity) -> &'static str {
        self.loader.close();
        self.crash_into(kernel)
    }

    /// The host goes down now, and this kernel is booted.
    pub(crate) fn crash_into(&mut self, kernel: &KernelIdentity) -> &'static str {
        self.kernel.reboot(kernel.clone());
        self.restart()
    }

    /// The same after a shutdown in good order, with a loader whose power is cut at the step that was armed.
    pub(crate) fn reboot_into_the_cut(&mut self, kernel: &KernelIdentity) -> &'static str {
        self.loader.close();
        self.kernel.reboot(kernel.clone());
        let steps = Arc::clone(self.cut.as_ref().unwrap()) as _;
        self.loader = loader(self.directory.path(), &self.kernel, &self.clock, steps, &self.told);
        self.arm(1);
        code(self.loader.start())
    }

    /// The kernel of the next boot after the cut.
    pub(crate) fn choose(&self, kernel: &KernelIdentity) {
        self.kernel.reboot(kernel.clone());
    }

    /// The loader is started anew in the same boot.
    pub(crate) fn restart(&mut self) -> &'static str {
        let steps = Arc::new(Unwatched);
        self.loader = loader(self.directory.path(), &self.kernel, &self.clock, steps, &self.told);
        code(self.loader.start())
    }

    /// The operator offers a version, in this document; the agent brings the module when it is wanted.
    pub(crate) fn offer(&self, number: u64, version: &str) -> &'static str {
        self.offer_issued(number, version, "2026-11-24T00:00:00Z")
    }

    pub(crate) fn offer_issued(&self, number: u64, version: &str, issued: &str) -> &'static str {
        let running = self.kernel.identity().unwrap();
        let module = good(version, &running);
        let mut document = document(&running, number, Some(target_of(version, &module)));
        document.issued = issued.parse().unwrap();
        self.loader.note(&sign_document(&document, &self.operator)).unwrap();
        match self.loader.view().wants {
            Some(_) => code(self.loader.apply(module.len() as u64, module.as_slice())),
            None => code(self.loader.converge()),
        }
    }

    /// What runs becomes healthy.
    pub(crate) fn soak(&self) {
        self.kernel.pass(SOAK);
        self.loader.end_soak().unwrap();
        assert_eq!(self.loader.soak_left(), None);
    }

    /// The next boot, of this kernel, while nothing can be written; then it can.
    pub(crate) fn reboot_into_without_a_disk(&mut self, kernel: &KernelIdentity) -> &'static str {
        self.loader.close();
        self.kernel.reboot(kernel.clone());
        let steps = Arc::new(Unwatched);
        self.loader = loader(self.directory.path(), &self.kernel, &self.clock, steps, &self.told);
        let (there, away) = (self.directory.path().join("state"), self.directory.path().join("away"));
        std::fs::rename(&there, &away).unwrap();
        let started = code(self.loader.start());
        std::fs::rename(&away, &there).unwrap();
        started
    }

    /// How many modules are on the disk.
    pub(crate) fn modules_kept(&self) -> usize {
        files(&self.directory.path().join("state/objects")).len()
    }

    pub(crate) fn panic_record(&self) {
        std::fs::create_dir_all(self.directory.path().join("pstore")).unwrap();
        std::fs::write(self.directory.path().join("pstore/dmesg-efi-1"), "Panic#1").unwrap();
    }

    /// Puts other bytes in the place of each module on the disk.
    pub(crate) fn replace_modules(&self, bytes: &[u8]) {
        for path in files(&self.directory.path().join("state/objects")).into_keys() {
            std::fs::write(path, bytes).unwrap();
        }
    }

    pub(crate) fn at(&self, time: &str) {
        *self.clock.0.lock().unwrap() = time.parse().unwrap();
    }

    pub(crate) fn livepatches(&self) -> Vec<String> {
        self.kernel.livepatches().unwrap().into_iter().map(|patch| patch.name.to_string()).collect()
    }

    pub(crate) fn locks(&self) -> Vec<String> {
        let locks = self.loader.view().locks;
        locks.iter().map(|lock| format!("{} {}", lock.kind.word(), lock.version)).collect()
    }
}

fn loader(
    directory: &Path,
    kernel: &Arc<FakeKernel>,
    clock: &Arc<SetClock>,
    steps: Arc<dyn Steps>,
    told: &Arc<Told>,
) -> Arc<Loader> {
    Loader::new(Parts {
        kernel: Arc::clone(kernel) as _,
        pause: Arc::new(NoPause),
        clock: Arc::clone(clock) as _,
        trust: TrustDirectories { administrator: directory.to_owned(), package: directory.join("none") },
        machine: None,
        state_directory: directory.join("state"),
        policy: Policy::default(),
        transition_timeout: Duration::from_secs(5),
        soak: SOAK,
        panic_directories: vec![directory.join("pstore")],
        steps,
        observer: Arc::clone(told) as _,
    })
}
