//! The vendor's repository: what of it is remembered, how newer metadata comes in, and what it allows.
//!
//! A host with a `vendor-root.json` in a trust directory installs only what the vendor's signed metadata allows for
//! exactly its kernel. Without one it goes by the vendor's certificate alone. Once there was one, there is no way back
//! but by root.

mod kept;
pub(crate) mod problems;
mod store;
mod verdict;

use std::io::Read;

use livepatch_loader_api::{VendorView, WantedFile};
use livepatch_manifest::{KernelDocument, VendorFiles};
use livepatch_types::KernelIdentity;

use crate::loader::not_enabled;
use crate::operator::begin_anew;
use crate::requests::read_exactly;
use crate::state::{Channel, state_set_aside};
use crate::{Loader, Problem};

pub(crate) use kept::Kept;
pub(crate) use store::{Gate, Vendors};
pub use verdict::Verdict;

/// Name of the pinned root in a trust directory.
const ROOT_FILE: &str = "vendor-root.json";

impl Loader {
    /// Begins an update anew; the view says which file is wanted first.
    pub fn begin_update(&self) -> Result<(), Problem> {
        if self.store.get().channel == Channel::Closed {
            return Err(not_enabled());
        }
        let gate = self.vendor();
        // What stands in the way of new livepatches must not keep withdrawals away.
        let kept = gate.kept.ok_or_else(|| gate.problem.unwrap_or_else(problems::not_pinned))?;
        self.vendors.begin(kept)
    }

    /// Takes the wanted file: so many bytes that are still to be read; none of them: it is not there.
    pub fn take_metadata(&self, bytes: u32, source: &mut dyn Read) -> Result<(), Problem> {
        self.vendors.admit(bytes.into())?;
        let bytes = read_exactly(source, bytes)?;
        self.vendors.take(&bytes, &self.kernel.identity()?)
    }

    /// Takes the files that came with a bundle. A host that goes by the certificate alone has nobody who says that its
    /// livepatch was not withdrawn, since no operator does: it takes none.
    pub(crate) fn take_carried(&self, files: &VendorFiles, kernel: &KernelIdentity) -> Result<(), Problem> {
        let Gate { kept, problem } = self.vendor();
        // A bundle has all roots, also those that are missing here.
        if let Some(problem) = problem.filter(|problem| problem.code != problems::NEWER_ROOT_PINNED) {
            return Err(problem);
        }
        let kept = kept.ok_or_else(problems::not_pinned_but_needed)?;
        self.vendors.take_all(&kept, kernel, |path| files.get(path).map(<[u8]>::to_vec))
    }

    /// Root: begins anew from the pinned roots where what is remembered is wrong; the rest stays. The head of the log and
    /// the time of the last document are forgotten in any case, for nothing here tells when they are wrong. A state that
    /// cannot be read, or is gone, is set aside: then the host is not enrolled, which is the error.
    pub fn reset_trust(&self) -> Result<(), Problem> {
        let _work = self.lock_for_root();
        // Looked at first: a reset is whole, or nothing is set aside.
        let operator = self.pinned_operator()?;
        let pinned = self.trust.optional(ROOT_FILE)?;
        let vendor_stays = self.vendors.reset(pinned.as_deref(), self.store.get().vendor.as_ref())?;
        let lost = self.store.problem();
        self.store.set_aside()?;
        self.store.update(|state| {
            begin_anew(state, operator.as_ref());
            if !vendor_stays {
                state.vendor = None;
            }
            (state.log, state.log_pinned) = (None, None);
            (state.latest_issued, state.latest_issued_by) = (None, None);
        })?;
        let gate = self.vendor();
        let standing = gate.problem.filter(|_| gate.kept.is_none());
        standing.or_else(|| lost.map(|lost| state_set_aside(&lost))).map_or(Ok(()), Err)
    }

    /// What is remembered, and what is wrong with it. The root is pinned when it is seen for the first time.
    pub(crate) fn vendor(&self) -> Gate {
        let pinned = self.trust.optional(ROOT_FILE);
        let known = self.store.get().vendor;
        // Before there is anything beside it: else a power cut in between would look as if it was lost.
        if known.is_none()
            && let Err(problem) = self.store.begin()
        {
            tracing::warn!(code = problem.code, "the state cannot be begun: {problem}");
        }
        let mut gate = self.vendors.gate(pinned, known.as_ref());
        if let (None, Some(kept)) = (&known, &gate.kept) {
            let repository = kept.repository().clone();
            let noted = self.store.update(|state| state.vendor = Some(repository));
            gate.problem = gate.problem.or(noted.err());
        }
        gate
    }

    /// What the vendor says of a document for a kernel, at this time; and what the operator's root and the log
    /// have against it.
    pub(crate) fn verdict(&self, kernel: &KernelIdentity, document: Option<&KernelDocument>) -> Verdict {
        let verdict = Verdict::of(&self.vendor(), kernel, document, self.clock.now());
        match self.operator_stale().or_else(|| self.not_in_the_log(document)) {
            Some(problem) => Verdict { install: Err(problem), ..verdict },
            None => verdict,
        }
    }

    /// How the vendor's repository looks, and what is wrong with it whatever is offered.
    pub(crate) fn vendor_view(
        &self,
        kernel: Option<&KernelIdentity>,
        document: Option<&KernelDocument>,
    ) -> (Option<VendorView>, Option<Problem>) {
        let gate = self.vendor();
        let stale = || gate.kept.as_ref().and_then(|kept| kept.stale(self.clock.now()));
        let problem = gate.problem.clone().or_else(stale);
        let newer_pinned =
            gate.problem.as_ref().is_some_and(|problem| problem.code == problems::NEWER_ROOT_PINNED);
        let view = gate.kept.map(|kept| {
            let wants = self.vendors.wanted().map(|wanted| WantedFile {
                path: wanted.path,
                limit_bytes: wanted.limit_bytes,
                may_be_absent: wanted.may_be_absent,
            });
            let named = document.and_then(|document| document.vendor.as_ref());
            let newest = kernel.and_then(|kernel| kept.newest(kernel));
            VendorView {
                repository: kept.repository().clone(),
                seen: kept.roles(),
                knows_this_kernel: newest.is_some(),
                allowed: newest.map(kept::OfKernel::installable).unwrap_or_default(),
                withdrawn: kernel.map(|kernel| kept.withdrawn(kernel)).unwrap_or_default(),
                behind: newer_pinned
                    || kernel.zip(named).is_some_and(|(kernel, named)| kept.is_behind(kernel, named)),
                wants,
            }
        });
        (view, problem)
    }
}
