use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use livepatch_types::{KernelIdentity, ModuleName};
use rustix::io::Errno;

use crate::{
    Kernel, KernelError, Livepatch, LoadError, LoadFacts, LoadRefusal, LoadedModule, OriginEvidence,
    SealedModule,
};

/// How transitions of a [`FakeKernel`] go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transitions {
    /// They end after so many looks at the list of livepatches.
    EndAfterLooks(u32),
    /// A transition to enabled never ends until it is turned around.
    NeverEnable,
    /// A transition to disabled never ends until it is turned around.
    NeverDisable,
}

/// A kernel in memory, for tests. It believes every module, as a real one does without Secure Boot.
#[derive(Debug)]
pub struct FakeKernel {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    identity: KernelIdentity,
    boots: u32,
    since_boot: Duration,
    transitions: Transitions,
    refusal: Option<LoadRefusal>,
    facts: LoadFacts,
    patches: Vec<Patch>,
    modules: Vec<ModuleName>,
    /// Other modules, with the build-id and the file of each.
    others: Vec<(LoadedModule, Option<String>)>,
    loads: Vec<ModuleName>,
}

#[derive(Debug)]
struct Patch {
    name: ModuleName,
    enabled: bool,
    /// Looks until the transition ends; none: not in transition.
    looks_left: Option<u32>,
    /// Whether the transition goes back to where the livepatch was.
    turned_around: bool,
}

impl FakeKernel {
    /// A freshly booted kernel whose transitions end at the second look.
    pub fn new(identity: KernelIdentity) -> Self {
        let facts = LoadFacts { livepatch_support: Some(true), ..LoadFacts::default() };
        Self {
            state: Mutex::new(State {
                identity,
                boots: 1,
                since_boot: Duration::ZERO,
                transitions: Transitions::EndAfterLooks(1),
                refusal: None,
                facts,
                patches: Vec::new(),
                modules: Vec::new(),
                others: Vec::new(),
                loads: Vec::new(),
            }),
        }
    }

    /// Boots again, perhaps into another kernel.
    pub fn reboot(&self, identity: KernelIdentity) {
        let mut state = self.lock();
        state.identity = identity;
        state.boots += 1;
        state.since_boot = Duration::ZERO;
        state.patches.clear();
        state.modules.clear();
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.lock().since_boot += time;
    }

    /// Says how transitions go from now on.
    pub fn set_transitions(&self, transitions: Transitions) {
        self.lock().transitions = transitions;
    }

    /// From now on every load is refused so; none: loads succeed again.
    pub fn refuse_loads(&self, refusal: Option<LoadRefusal>) {
        self.lock().refusal = refusal;
    }

    /// A livepatch that somebody else has loaded.
    pub fn add_livepatch(&self, name: ModuleName) {
        let mut state = self.lock();
        state.modules.push(name.clone());
        state.patches.push(Patch { name, enabled: true, looks_left: None, turned_around: false });
    }

    /// The other modules of this kernel: those that are loaded, and what modprobe would load.
    pub fn set_modules(&self, modules: Vec<(LoadedModule, Option<String>)>) {
        self.lock().others = modules;
    }

    /// The modules that were loaded through [`Kernel::load`] since the beginning, in order, across reboots.
    pub fn loads(&self) -> Vec<ModuleName> {
        self.lock().loads.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn looks(&self, enabled: bool) -> u32 {
        match (self.transitions, enabled) {
            (Transitions::EndAfterLooks(looks), _) => looks,
            (Transitions::NeverEnable, true) | (Transitions::NeverDisable, false) => u32::MAX,
            _ => 1,
        }
    }

    /// A look at the list: a transition comes closer to its end, and an ended one takes effect. What it has disabled is
    /// still in the list for a look, since the kernel drops that in its own time.
    fn look(&mut self) {
        self.patches.retain(|patch| patch.enabled || patch.looks_left.is_some());
        let Some(at) = self.patches.iter().position(|patch| patch.looks_left.is_some()) else { return };
        match self.patches[at].looks_left {
            Some(0) => {
                let patch = &mut self.patches[at];
                patch.looks_left = None;
                if patch.enabled && !patch.turned_around {
                    // replace=true: a new livepatch takes the place of all others.
                    for (index, patch) in self.patches.iter_mut().enumerate() {
                        patch.enabled = index == at;
                    }
                }
            }
            Some(u32::MAX) | None => {}
            Some(looks) => self.patches[at].looks_left = Some(looks - 1),
        }
    }
}

impl Kernel for FakeKernel {
    fn identity(&self) -> Result<KernelIdentity, KernelError> {
        Ok(self.lock().identity.clone())
    }

    fn boot_id(&self) -> Result<String, KernelError> {
        Ok(format!("00000000-0000-4000-8000-{:012}", self.lock().boots))
    }

    fn since_boot(&self) -> Result<Duration, KernelError> {
        Ok(self.lock().since_boot)
    }

    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError> {
        let mut state = self.lock();
        state.look();
        let patches = state.patches.iter().map(|patch| Livepatch {
            name: patch.name.clone(),
            enabled: patch.enabled,
            in_transition: patch.looks_left.is_some(),
        });
        let mut patches: Vec<_> = patches.collect();
        patches.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(patches)
    }

    fn modules(&self) -> Result<Vec<LoadedModule>, KernelError> {
        let state = self.lock();
        let own = state.modules.iter().cloned().map(|name| LoadedModule { name, build_id: None });
        let others = state.others.iter().filter(|(module, _)| module.build_id.is_some());
        let mut modules: Vec<_> = own.chain(others.map(|(module, _)| module.clone())).collect();
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(modules)
    }

    fn module_file(&self, name: &ModuleName) -> Option<String> {
        let state = self.lock();
        state.others.iter().find(|(module, _)| module.name == *name)?.1.clone()
    }

    fn facts(&self) -> LoadFacts {
        self.lock().facts.clone()
    }

    fn origin_evidence(&self) -> OriginEvidence {
        OriginEvidence::default()
    }

    fn load(&self, module: &SealedModule) -> Result<(), LoadError> {
        let name = modinfo(module.bytes(), "name").ok_or(LoadRefusal::NotAModule)?;
        let name = ModuleName::parse(&name).map_err(|_| LoadRefusal::NotAModule)?;
        let mut state = self.lock();
        if let Some(refusal) = state.refusal {
            return Err(refusal.into());
        }
        if state.modules.contains(&name) {
            return Err(LoadRefusal::AlreadyLoaded.into());
        }
        if modinfo(module.bytes(), "livepatch").is_some() {
            if state.patches.iter().any(|patch| patch.looks_left.is_some()) {
                return Err(LoadRefusal::Busy.into());
            }
            let looks_left = Some(state.looks(true));
            state.patches.push(Patch { name: name.clone(), enabled: true, looks_left, turned_around: false });
        }
        state.modules.push(name.clone());
        state.loads.push(name);
        Ok(())
    }

    fn set_enabled(&self, name: &ModuleName, enabled: bool) -> Result<(), KernelError> {
        let mut state = self.lock();
        let looks = state.looks(enabled);
        let other_in_transition =
            state.patches.iter().any(|patch| patch.looks_left.is_some() && patch.name != *name);
        let Some(patch) = state.patches.iter_mut().find(|patch| patch.name == *name) else {
            return Err(KernelError::NoSuchLivepatch(name.clone()));
        };
        let action = if enabled { "enable" } else { "disable" };
        let busy = |errno| Err(KernelError::LivepatchBusy { action, name: name.clone(), errno });
        let leaving = !patch.enabled && patch.looks_left.is_none();
        if patch.enabled == enabled || leaving {
            return busy(Errno::INVAL);
        }
        if other_in_transition {
            return busy(Errno::BUSY);
        }
        patch.turned_around = patch.looks_left.is_some();
        patch.enabled = enabled;
        // Tasks that have not moved need not move back: turning around always ends.
        patch.looks_left = Some(if patch.turned_around { 1 } else { looks });
        Ok(())
    }

    fn unload(&self, name: &ModuleName) -> Result<(), KernelError> {
        let mut state = self.lock();
        if state.patches.iter().any(|patch| patch.name == *name) {
            return Err(KernelError::ModuleInUse(name.clone()));
        }
        let Some(at) = state.modules.iter().position(|module| module == name) else {
            return Err(KernelError::NoSuchModule(name.clone()));
        };
        state.modules.remove(at);
        Ok(())
    }
}

/// The value of a `.modinfo` key, found without parsing the file: NUL, `key=value`, NUL.
fn modinfo(bytes: &[u8], key: &str) -> Option<String> {
    let prefix = format!("{key}=");
    bytes.split(|byte| *byte == 0).find_map(|word| {
        let value = word.strip_prefix(prefix.as_bytes())?;
        String::from_utf8(value.to_vec()).ok()
    })
}
