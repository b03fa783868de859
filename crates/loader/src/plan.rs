//! What to do, as a pure function of what is seen, wanted and remembered. `execute` does it.

use jiff::{SignedDuration, Timestamp};
use livepatch_kernel::Livepatch;
use livepatch_manifest::{KernelDocument, Place, Target};
use livepatch_types::{BuildId, ModuleName, PatchVersion, plural};

use crate::guard::{crash_problem, guard_of};
use crate::state::{Stalled, State};
use crate::{Problem, Verdict};
use livepatch_settings::{Asker, Policy};

/// How long a livepatch that stalled is left alone: the first time, and at most. In between it doubles.
const FIRST_WAIT: SignedDuration = SignedDuration::from_hours(1);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);
/// After so many times it is not tried again by itself in this boot.
const MOST_STALLS: u32 = 8;

/// What the kernel shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The running kernel.
    pub build_id: BuildId,
    /// This boot.
    pub boot_id: String,
    /// Its livepatches.
    pub livepatches: Vec<Livepatch>,
    /// Its loaded modules.
    pub modules: Vec<ModuleName>,
}

/// What the operator wants, and what the owner of this host allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desired<'a> {
    /// The newest document that was believed; none: none was seen for this kernel.
    pub document: Option<&'a KernelDocument>,
    /// Whether its module is here: the agent brought it, or it is in the cache.
    pub obtainable: bool,
    /// The settings of this host.
    pub policy: &'a Policy,
    /// Who asks.
    pub asker: Asker,
    /// What the vendor says.
    pub vendor: &'a Verdict,
}

/// One step, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do now.
    pub action: Action,
    /// Why, for the log.
    pub reason: String,
    /// What keeps the host from what the operator wants.
    pub problem: Option<Problem>,
    /// Modules of ours that no livepatch needs any more: to be unloaded.
    pub leftovers: Vec<ModuleName>,
}

/// What to do. After anything but `Nothing` there is a new plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Wait for a transition that an earlier daemon began.
    Settle(ModuleName),
    /// Apply a livepatch that is new here; it replaces what runs.
    Install(Target),
    /// Apply the last healthy one again after a boot, from the cache if it is there.
    Reapply(Target),
    /// Disable and unload what was withdrawn.
    Withdraw(PatchVersion),
}

impl Action {
    /// One word for the log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Settle(_) => "settle",
            Self::Install(_) => "install",
            Self::Reapply(_) => "reapply",
            Self::Withdraw(_) => "withdraw",
        }
    }
}

/// The livepatch of ours that runs or is being enabled.
pub(crate) fn running(observed: &Observed, state: &State) -> Option<PatchVersion> {
    let ours = state.loaded_in(&observed.boot_id);
    let mut enabled = observed.livepatches.iter().filter(|patch| patch.enabled && ours.contains(&patch.name));
    enabled.find_map(|patch| PatchVersion::of_module(&patch.name))
}

/// What somebody else replaces code of this kernel with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign<'a> {
    /// A livepatch, which ours would disable.
    Livepatch(&'a ModuleName),
    /// A module of a product that goes past the kernel's livepatches: nothing keeps two fixes of one function apart.
    Product(&'a ModuleName, &'static str),
}

/// Products that go past the kernel's livepatches, by the modules that they load. A name that ends with `_` is how those
/// names begin.
const PRODUCTS: [(&str, &str); 3] = [("ksplice_", "Ksplice"), ("kcare", "KernelCare"), ("kpatch", "kpatch")];
/// Who loads livepatches, by how their names begin.
const LOADERS: [(&str, &str); 2] = [("kpatch_", "kpatch"), ("lkp_", "canonical-livepatch")];

fn named(name: &ModuleName, table: &[(&str, &'static str)]) -> Option<&'static str> {
    let name = name.as_str();
    let is = |known: &str| name == known || (known.ends_with('_') && name.starts_with(known));
    table.iter().find(|(known, _)| is(known)).map(|(_, product)| *product)
}

/// What somebody else loaded, if it and a livepatch of ours cannot be in force at once.
pub(crate) fn foreign<'a>(
    livepatches: &'a [Livepatch],
    modules: impl IntoIterator<Item = &'a ModuleName>,
    ours: &[ModuleName],
) -> Option<Foreign<'a>> {
    let livepatch = livepatches.iter().map(|patch| &patch.name).find(|name| !ours.contains(name));
    let product = |name| named(name, &PRODUCTS).map(|product| Foreign::Product(name, product));
    livepatch.map(Foreign::Livepatch).or_else(|| modules.into_iter().find_map(product))
}

pub(crate) fn foreign_problem(foreign: Foreign<'_>) -> Problem {
    let (message, who) = match foreign {
        Foreign::Livepatch(name) => (
            format!("livepatch {name} was loaded by somebody else, and applying ours would disable it"),
            named(name, &LOADERS),
        ),
        Foreign::Product(name, product) => (
            format!(
                "this kernel is patched by {product} (module {name}), and one function cannot have two fixes"
            ),
            Some(product),
        ),
    };
    let hint = match who {
        Some(product) => {
            format!("one of the two: remove {product} and its patches, then `livepatch apply` goes on")
        }
        None => "find out who loads it (kpatch, another client); after its removal `livepatch apply` goes on"
            .into(),
    };
    Problem::new("foreign-livepatch", message, &hint)
}

/// When a livepatch that stalled is tried again; none: not by itself.
pub(crate) fn next_try(stalled: &Stalled) -> Option<Timestamp> {
    if stalled.times >= MOST_STALLS {
        return None;
    }
    let wait = (FIRST_WAIT * 2i32.pow(stalled.times.saturating_sub(1))).min(LONGEST_WAIT);
    Some(stalled.at.checked_add(wait).unwrap_or(Timestamp::MAX))
}

/// Whether a livepatch that stalled has to wait. A clock that was set back must not make it wait for ever.
fn must_wait(stalled: &Stalled, now: Timestamp) -> bool {
    next_try(stalled).is_none_or(|next| stalled.at <= now && now < next)
}

pub(crate) fn stalled_problem(stalled: &Stalled) -> Problem {
    let times = plural(stalled.times as usize, "time", "times");
    let message = format!(
        "livepatch {} was not in force everywhere in time, {times} so far; it was cancelled and unloaded",
        stalled.version
    );
    let (code, when) = match next_try(stalled) {
        Some(next) => {
            let next = next.strftime("%Y-%m-%d %H:%M UTC");
            ("transition-stalled", format!("it is tried again with the first check after {next}"))
        }
        None => ("stalled-too-often", "it is not tried again by itself until the next boot".into()),
    };
    let mut problem = Problem::new(code, message, &format!("{when}; `livepatch apply` tries at once"));
    problem.hints.extend(holder_hints(&stalled.holders));
    problem
}

/// Who held up a transition, one line each.
pub(crate) fn holder_hints(holders: &[String]) -> Vec<String> {
    if holders.is_empty() {
        return vec![
            "a task sleeps in a function that is replaced: see /proc/*/patch_state during the next try"
                .into(),
        ];
    }
    holders.iter().map(|holder| format!("it was held up by {holder}")).collect()
}

/// Makes the plan.
pub fn plan(observed: &Observed, desired: Desired<'_>, state: &State, now: Timestamp) -> Plan {
    let ours = state.loaded_in(&observed.boot_id);
    let shown = |name: &ModuleName| observed.livepatches.iter().any(|patch| patch.name == *name);
    let leftovers =
        ours.iter().filter(|name| observed.modules.contains(name) && !shown(name)).cloned().collect();
    let done = |action, reason: String, problem| Plan { action, reason, problem, leftovers };

    if let Some(patch) =
        observed.livepatches.iter().find(|patch| patch.in_transition && ours.contains(&patch.name))
    {
        return done(Action::Settle(patch.name.clone()), format!("{} is in transition", patch.name), None);
    }
    let running = running(observed, state);
    let mut withdrawn = state.withdrawn(&observed.build_id);
    withdrawn.extend(&desired.vendor.withdrawn);
    let (action, reason, problem) = choose(observed, desired, state, now, running, &withdrawn);
    let applies = matches!(action, Action::Install(_) | Action::Reapply(_));
    let (action, reason, problem) = match foreign(&observed.livepatches, &observed.modules, ours) {
        Some(foreign) if applies => {
            let problem = foreign_problem(foreign);
            (Action::Nothing, problem.message.clone(), Some(problem))
        }
        _ => (action, reason, problem),
    };
    match (running, &action) {
        (Some(version), Action::Nothing) if withdrawn.contains(&version) => {
            done(Action::Withdraw(version), format!("{version} was withdrawn"), problem)
        }
        _ => done(action, reason, problem),
    }
}

/// What to apply, as if nothing stood in the way.
fn choose(
    observed: &Observed,
    desired: Desired<'_>,
    state: &State,
    now: Timestamp,
    running: Option<PatchVersion>,
    withdrawn: &[PatchVersion],
) -> (Action, String, Option<Problem>) {
    let blocked = |version| guard_of(&state.blocked, version, &observed.build_id, desired.document);
    let held = state.held_on(&observed.build_id);
    let unwanted = |version| withdrawn.contains(&version) || held == Some(version);

    let waits = |version| {
        let stalled = state.stalled(version, &observed.build_id, &observed.boot_id);
        stalled.filter(|stalled| must_wait(stalled, now)).map(stalled_problem)
    };

    // After a boot: what was healthy comes back, whatever else the operator wants and whether or not that can be had.
    let healthy = state.applied.as_ref().filter(|applied| applied.build_id == observed.build_id);
    let reapply = healthy
        .map(|applied| &applied.target)
        .filter(|target| running.is_none() && !unwanted(target.version) && blocked(target.version).is_none());
    let guarded = healthy.filter(|_| running.is_none());
    let guarded = guarded.filter(|applied| !unwanted(applied.target.version));
    let guarded = guarded.and_then(|applied| blocked(applied.target.version)).map(crash_problem);
    let waiting = reapply.and_then(|target| waits(target.version)).or(guarded);
    let reapply = reapply.filter(|_| waiting.is_none());

    let nothing = |reason: String, problem| (Action::Nothing, reason, problem);
    if let Err(waiting) = desired.policy.permits_applying() {
        return nothing(waiting.message, None);
    }
    let target =
        desired.document.and_then(|document| document.target.as_ref().map(|target| (document, target)));
    let Some((document, target)) = target else {
        let reason = match (desired.document, running) {
            (None, _) => "no document was seen for this kernel",
            (Some(_), None) => "there is no livepatch for this kernel",
            (Some(_), Some(_)) => "the document names no livepatch; what runs was not withdrawn and stays",
        };
        return match reapply {
            Some(target) => {
                (Action::Reapply(target.clone()), "the last healthy livepatch comes back".into(), None)
            }
            None => nothing(reason.into(), waiting),
        };
    };
    let version = target.version;
    let fallback = |problem: Option<Problem>, reason: String| match reapply {
        Some(healthy) => (
            Action::Reapply(healthy.clone()),
            format!("{reason}; the last healthy livepatch comes back"),
            problem,
        ),
        None => nothing(reason, problem),
    };
    if running == Some(version) {
        return nothing(format!("{version} is applied"), None);
    }
    if withdrawn.contains(&version) {
        let problem = withdrawn_problem(version);
        return fallback(Some(problem.clone()), problem.message);
    }
    if held == Some(version) {
        return fallback(None, format!("{version} is held back by a person"));
    }
    if let Some(blocked) = blocked(version) {
        let problem = crash_problem(blocked);
        return fallback(Some(problem.clone()), problem.message);
    }
    if let Some(problem) = waits(version) {
        return fallback(Some(problem.clone()), problem.message);
    }
    // The same bytes: another module under the same version is a new one.
    if reapply.is_some_and(|healthy| healthy.version == version && healthy.module == target.module) {
        return (Action::Reapply(target.clone()), format!("{version} comes back after the boot"), None);
    }
    if let Some(problem) = time_problem(document, state, now) {
        return fallback(Some(problem.clone()), problem.message);
    }
    if let Err(problem) = &desired.vendor.install {
        return fallback(Some(problem.clone()), problem.message.clone());
    }
    let place = state.host.as_ref().map(|host| Place::of(&host.id, host.cohort.as_ref(), version));
    if let Err(waiting) = desired.policy.permits(target, place, desired.asker, now) {
        return fallback(None, waiting.message);
    }
    if !desired.obtainable {
        return fallback(None, format!("{version} waits for its module"));
    }
    let reason = match running {
        Some(from) if from > version => format!("the operator goes back from {from} to {version}"),
        Some(from) => format!("{version} replaces {from}"),
        None => format!("{version} is new"),
    };
    (Action::Install(target.clone()), reason, None)
}

/// How far this clock may be behind the newest signing time that was believed.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(300);

/// Why the document installs nothing new at this time, if so.
pub(crate) fn time_problem(document: &KernelDocument, state: &State, now: Timestamp) -> Option<Problem> {
    if let Err(error) = document.check_time(now) {
        return Some(error.into());
    }
    let latest = state.latest_issued?;
    (latest.duration_since(now) > CLOCK_SKEW).then(|| clock_problem(now, latest))
}

pub(crate) fn clock_problem(now: Timestamp, latest: Timestamp) -> Problem {
    let message =
        format!("the clock here says {now:.0}, but a document was believed that was issued at {latest}");
    let mut problem =
        Problem::new("clock-behind", message, "set this host's clock (`date -u`), then `livepatch refresh`");
    problem.hints.push(
        "if that time is wrong and the clock right, tell the server's operator: their key may be stolen (docs/trust-reset.md)".into(),
    );
    problem
}

pub(crate) fn withdrawn_problem(version: PatchVersion) -> Problem {
    let message = format!("the server offers livepatch {version}, which was withdrawn before");
    Problem::new("withdrawn-livepatch", message, "withdrawals are final; tell the server's operator")
}

#[cfg(test)]
mod tests;
