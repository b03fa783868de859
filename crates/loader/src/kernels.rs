//! What is remembered of each kernel that ran here, so that what was healthy comes back on it whichever ran in between. Pure.
//!
//! [`State`]'s `applied`, `soaking` and `healthy_before` speak of one kernel. When another one runs they are laid aside as they
//! are, after the markers of the boot before were looked at, and what was laid aside of the running one takes their place. So
//! the plan and the crash guard know one kernel, and what they find on it is what the boot before on it left.

use livepatch_types::{BuildId, PatchVersion};
use serde::{Deserialize, Serialize};

use crate::state::{Applied, Soaking, State};

/// Of so many kernels beside the running one it is remembered what comes back: of those that ran last.
const MOST_OTHERS: usize = 4;
/// What is remembered of them fills no more of the file than this: two of the longest livepatches that documents can name take
/// 800 KiB.
pub(crate) const MAX_OTHERS_BYTES: u64 = 1 << 20;

/// What comes back on a kernel when it runs again. The members are those of [`State`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherKernel {
    /// The livepatch that was applied last, and the kernel.
    pub applied: Applied,
    /// That it is not known to be healthy.
    pub soaking: Option<Soaking>,
    /// The healthy one before it, until it is healthy itself.
    pub healthy_before: Option<Applied>,
}

/// A livepatch that a person reverted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// The livepatch.
    pub version: PatchVersion,
    /// The kernel.
    pub build_id: BuildId,
}

impl State {
    /// This kernel runs. Markers of another boot have been looked at: they are of the kernel that ran then.
    pub(crate) fn turn_to(&mut self, build_id: &BuildId) {
        let applied_to = self.applied.as_ref().map(|applied| applied.build_id.clone());
        // Left by an earlier version, which remembered one kernel and did not look whose this is.
        let strayed = self
            .healthy_before
            .take_if(|healthy| applied_to.as_ref().is_some_and(|of| healthy.build_id != *of));
        if let Some(applied) = strayed {
            self.lay_aside(OtherKernel { applied, soaking: None, healthy_before: None });
        }
        // Taken out first, so that it is not the oldest that has to go.
        let here = self.other_kernels.iter().position(|other| other.applied.build_id == *build_id);
        let here = here.map(|here| self.other_kernels.remove(here));
        if let Some(applied) = self.applied.take_if(|applied| applied.build_id != *build_id) {
            let (soaking, healthy_before) = (self.soaking.take(), self.healthy_before.take());
            self.lay_aside(OtherKernel { applied, soaking, healthy_before });
        }
        if let Some(OtherKernel { applied, soaking, healthy_before }) =
            here.filter(|_| self.applied.is_none())
        {
            (self.applied, self.soaking, self.healthy_before) = (Some(applied), soaking, healthy_before);
        }
    }

    /// The last one, before which the oldest are forgotten.
    fn lay_aside(&mut self, other: OtherKernel) {
        self.other_kernels.retain(|known| known.applied.build_id != other.applied.build_id);
        self.other_kernels.push(other);
        while self.other_kernels.len() > MOST_OTHERS || self.bytes_of_others() > MAX_OTHERS_BYTES {
            self.other_kernels.remove(0);
        }
    }

    /// How much of the file they fill.
    pub(crate) fn bytes_of_others(&self) -> u64 {
        let alone = |other_kernels| State { other_kernels, ..State::default() };
        let [with, without] = [self.other_kernels.clone(), Vec::new()].map(|others| {
            serde_json::to_vec_pretty(&alone(others)).map_or(u64::MAX, |bytes| bytes.len() as u64)
        });
        with.saturating_sub(without)
    }

    /// Every livepatch that may come back, on whichever kernel.
    pub(crate) fn may_come_back(&self) -> impl Iterator<Item = &Applied> {
        let others = self.other_kernels.iter();
        let others = others.flat_map(|other| std::iter::once(&other.applied).chain(&other.healthy_before));
        self.applied.iter().chain(&self.healthy_before).chain(others)
    }

    /// What a person reverted on a kernel: it does not come back there by itself.
    pub fn held_on(&self, build_id: &BuildId) -> Option<PatchVersion> {
        let here = self.holds.iter().find(|hold| hold.build_id == *build_id);
        here.map(|hold| hold.version).or(self.held)
    }

    /// A person reverts a livepatch on a kernel.
    pub(crate) fn hold(&mut self, version: PatchVersion, build_id: &BuildId) {
        self.holds.retain(|hold| hold.build_id != *build_id);
        self.holds.push(Hold { version, build_id: build_id.clone() });
    }

    /// Nothing is held back any more on a kernel.
    pub(crate) fn release(&mut self, build_id: &BuildId) {
        self.held = None;
        self.holds.retain(|hold| hold.build_id != *build_id);
    }
}

#[cfg(test)]
mod tests;
