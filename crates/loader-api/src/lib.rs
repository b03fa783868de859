//! Floor 2: what is said to the loader, by the agent and by root. Agent, loader and CLI meet here.
//!
//! A connection carries one request: a [`Head`] of five bytes and a body of as many bytes as it says. The answer is an
//! [`Answer`] in JSON, up to the end of the stream. What may be asked on each of the two sockets is a closed enum, and
//! no request has a member that says what to do with the kernel: the loader decides that from what is signed.
//!
//! Invariant: parsing a request looks at five bytes and nothing else; a body is cut off at its cap before it is read.

mod client;
mod head;
mod locks;
mod log;
mod passed;
mod vendor;

pub use client::{AskError, ask};
pub use head::{AgentRequest, HEAD_BYTES, Head, HeadError, MAX_LOGGED_BYTES, Request, RootRequest};
pub use locks::{Lock, LockKind};
pub use log::{LogView, Logged};
pub use passed::{MOST_PASSED, Passed, Point};
pub use vendor::{OperatorView, RoleSeen, VendorView, WantedFile};

use jiff::Timestamp;
use livepatch_api::daemon::Failure;
use livepatch_manifest::{KernelDocument, ModuleObject, SupportMatrix, Target};
use livepatch_types::{Cohort, HostId, ModuleName, PatchVersion, Stage, Tier};
use serde::{Deserialize, Serialize};

/// Where the loader's sockets are.
pub const RUNTIME_DIRECTORY: &str = "/run/livepatch-loader";
/// Name of the agent's socket in it: for the user that the agent runs as, and uid 0.
pub const AGENT_SOCKET: &str = "agent.sock";
/// Name of root's socket in it: for uid 0 alone.
pub const ROOT_SOCKET: &str = "root.sock";

/// What every request is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why the request was refused or failed; none: it was done.
    pub failure: Option<Failure>,
    /// How things are now; none when the peer may not know.
    pub view: Option<View>,
}

/// How the loader sees this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Whether root has enabled the host: documents are taken.
    #[serde(default)]
    pub enabled: bool,
    /// Who this host is to its operator: drawn when root enabled it. None: it was not, or by an earlier version.
    #[serde(default)]
    pub host: Option<HostId>,
    /// The cohort that the operator assigned it to; none: none.
    #[serde(default)]
    pub cohort: Option<Cohort>,
    /// The channel that the host is held to; none: the operator has not assigned it to one.
    pub channel: Option<Tier>,
    /// The document that is believed for the running kernel.
    pub document: Option<KernelDocument>,
    /// Why that document installs nothing new, if its time is over or has not come.
    pub document_problem: Option<Failure>,
    /// The last livepatch that was applied in good health to this kernel.
    pub applied: Option<Applied>,
    /// What is being applied in this boot.
    pub in_progress: Option<Target>,
    /// Whether a livepatch comes back by itself when this kernel or another one that ran here is booted. An earlier loader does
    /// not tell.
    #[serde(default)]
    pub comes_back: bool,
    /// What applications passed while this loader ran, the oldest first.
    #[serde(default)]
    pub passed: Vec<Passed>,
    /// Where livepatches are on the running kernel: those of which something is remembered, and the one that is offered.
    #[serde(default)]
    pub stages: Vec<Staged>,
    /// What root reverted on the running kernel, and holds back there.
    pub held: Option<PatchVersion>,
    /// What keeps livepatches from the running kernel.
    #[serde(default)]
    pub locks: Vec<Lock>,
    /// The modules that the loader loaded in this boot.
    pub loaded: Vec<ModuleName>,
    /// The module that it would take now, and does not have.
    pub wants: Option<ModuleObject>,
    /// What is wrong with the loader itself: keys or state that cannot be read.
    pub problem: Option<Failure>,
    /// Why nobody tells what the kernel's log says; none: somebody does, or was not asked yet.
    #[serde(default)]
    pub observer_problem: Option<Failure>,
    /// Modules that the kernel keeps out because of a livepatch of this loader's, and what to do. An earlier loader does not tell.
    #[serde(default)]
    pub refused_modules: Vec<Failure>,
    /// What is known of the vendor's repository; none: no root of the vendor's is pinned here, or it cannot be used.
    #[serde(default)]
    pub vendor: Option<VendorView>,
    /// Why nothing new is installed as far as the vendor is concerned, whatever it would be.
    #[serde(default)]
    pub vendor_problem: Option<Failure>,
    /// What is known of the operator's root; none: its one key is pinned here, or the root cannot be used.
    #[serde(default)]
    pub operator: Option<OperatorView>,
    /// Why nothing new is installed as far as the operator's root, or the key of the transparency log, is concerned.
    #[serde(default)]
    pub operator_problem: Option<Failure>,
    /// What is known of the transparency log; none: no key of a log is pinned here, or it cannot be used.
    #[serde(default)]
    pub log: Option<LogView>,
    /// Which kernels the operator covers; none: nobody brought it, which is so while this kernel is covered.
    #[serde(default)]
    pub support: Option<SupportMatrix>,
}

impl View {
    /// Where a livepatch is; none: this loader says nothing of it.
    pub fn stage(&self, version: PatchVersion) -> Option<Stage> {
        self.stages.iter().find(|staged| staged.version == version).map(|staged| staged.stage)
    }
}

/// Where a livepatch is on the running kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// The livepatch.
    pub version: PatchVersion,
    /// Where it is.
    pub stage: Stage,
}

/// A livepatch that was applied in good health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The livepatch.
    pub target: Target,
    /// When, by this host's clock.
    pub at: Timestamp,
}
