//! The file with what is remembered, and the update that is under way. A file that cannot be read is left alone: nothing
//! new is installed until root resets it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use livepatch_trust::{KernelAllowance, Refusal, RepositoryName, Role, TargetFile, Update, Vendor, Wanted};
use livepatch_types::KernelIdentity;

use super::{Kept, problems};
use crate::Problem;
use crate::state::{VENDOR_FILE, not_written, set_aside, write_capped};
use crate::step::Steps;

const MAX_FILE_BYTES: u64 = 4 << 20;

/// What is remembered, in memory and in its file.
pub(crate) struct Vendors {
    path: PathBuf,
    steps: Arc<dyn Steps>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    kept: Option<Kept>,
    /// Why the file is not touched.
    unreadable: Option<Problem>,
    update: Option<Step>,
}

/// How far an update is. It lives in memory alone: what was not taken to its end changes nothing but the root.
#[derive(Debug)]
enum Step {
    Metadata { from: Kept, update: Box<Update> },
    Allowance { from: Kept, vendor: Box<Vendor>, kernel: KernelIdentity, file: TargetFile },
}

/// Whether the vendor's repository counts on this host, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    /// What is remembered. Its withdrawals count whatever is wrong.
    pub(crate) kept: Option<Kept>,
    /// Why nothing new is installed. Without it and without anything kept, the vendor's certificate is what counts.
    pub(crate) problem: Option<Problem>,
}

impl Vendors {
    /// Reads what is remembered.
    pub(crate) fn open(state_directory: &Path, steps: Arc<dyn Steps>) -> Self {
        let path = state_directory.join(VENDOR_FILE);
        let (kept, unreadable) = match read(&path) {
            Ok(kept) => (kept, None),
            Err(why) => (None, Some(problems::state_unreadable(&path, &why))),
        };
        Self { path, steps, inner: Mutex::new(Inner { kept, unreadable, update: None }) }
    }

    /// What is to be held to, from the pinned root as it is now and from whether one was ever seen.
    pub(super) fn gate(
        &self,
        pinned: Result<Option<Vec<u8>>, Problem>,
        known: Option<&RepositoryName>,
    ) -> Gate {
        let mut inner = self.lock();
        if inner.unreadable.is_some() {
            return Gate { kept: None, problem: inner.unreadable.clone() };
        }
        let pinned = match pinned.and_then(|root| root.map(|root| pin(&root)).transpose()) {
            Ok(pinned) => pinned,
            Err(problem) => return Gate { kept: inner.kept.clone(), problem: Some(problem) },
        };
        let problem = match (&inner.kept, pinned, known) {
            (None, None, None) => None,
            (None, Some(_), Some(known)) => Some(problems::state_missing(known)),
            (None, Some(new), None) => match self.write(&new) {
                Ok(()) => {
                    tracing::info!(repository = %new.repository(), "the vendor's root is pinned");
                    inner.kept = Some(new);
                    None
                }
                Err(problem) => Some(problem),
            },
            (Some(kept), None, _) => Some(problems::root_missing(kept.repository())),
            (None, None, Some(known)) => Some(problems::root_missing(known)),
            (Some(kept), Some(pinned), _) if kept.repository() != pinned.repository() => {
                Some(problems::other_root(kept.repository(), pinned.repository()))
            }
            // A newer root of the same repository may have come with a package: the chain of roots counts.
            (Some(kept), Some(pinned), _) if pinned.state.is_newer_than(&kept.state) => {
                match kept.followed_by(&pinned) {
                    Ok(next) => match self.write(&next) {
                        Ok(()) => {
                            tracing::info!(repository = %next.repository(), "the vendor's next root is pinned");
                            // One that is under way has come to it, or would have.
                            inner.update = inner.update.take().and_then(|_| Step::begin(next.clone()).ok());
                            inner.kept = Some(next);
                            None
                        }
                        Err(problem) => Some(problem),
                    },
                    Err(_) => {
                        let [seen, pinned] = [kept, &pinned].map(|kept| kept.state.seen(Role::Root));
                        Some(problems::newer_root_pinned(kept.repository(), seen, pinned))
                    }
                }
            }
            (Some(_), Some(_), _) => None,
        };
        Gate { kept: inner.kept.clone(), problem }
    }

    /// Begins an update; one that was under way is forgotten.
    pub(super) fn begin(&self, from: Kept) -> Result<(), Problem> {
        self.lock().update = Some(Step::begin(from)?);
        Ok(())
    }

    /// The file that is wanted next.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        self.lock().update.as_ref().and_then(Step::wanted)
    }

    /// Whether a body of so many bytes may be read at all.
    pub(super) fn admit(&self, bytes: u64) -> Result<(), Problem> {
        let mut inner = self.lock();
        let wanted = inner.update.as_ref().and_then(Step::wanted).ok_or_else(problems::not_wanted)?;
        if bytes <= wanted.limit_bytes {
            return Ok(());
        }
        inner.update = None;
        Err(Refusal::TooLong { what: wanted.path, limit: wanted.limit_bytes }.into())
    }

    /// Takes the wanted file. A refusal ends the update. A new root is kept at once, and all else at the end, as a whole.
    pub(super) fn take(&self, bytes: &[u8], kernel: &KernelIdentity) -> Result<(), Problem> {
        let mut inner = self.lock();
        let step = inner.update.take().ok_or_else(problems::not_wanted)?;
        let (from, vendor, kernel, allowance) = match step {
            Step::Metadata { mut from, mut update } => {
                if bytes.is_empty() {
                    update.absent()?
                } else {
                    update.take(bytes)?
                }
                if update.state().is_newer_than(&from.state) {
                    let kept = from.with_root_of(update.state().clone());
                    self.exchange(&mut inner, &from, kept.clone())?;
                    from = kept;
                }
                if update.wanted().is_some() {
                    inner.update = Some(Step::Metadata { from, update });
                    return Ok(());
                }
                let vendor = Box::new(update.finish()?);
                match vendor.kernel_file(kernel) {
                    Ok(file) => {
                        inner.update = Some(Step::Allowance { from, vendor, kernel: kernel.clone(), file });
                        return Ok(());
                    }
                    Err(Refusal::UnknownKernel(_)) => (from, vendor, kernel.clone(), None),
                    Err(refusal) => return Err(refusal.into()),
                }
            }
            Step::Allowance { from, vendor, kernel, .. } => {
                let allowance = vendor.allowance(&kernel, bytes)?;
                (from, vendor, kernel, Some(allowance))
            }
        };
        self.end(&mut inner, &from, &vendor, &kernel, allowance)
    }

    /// An update from files that are all at hand: it counts as a whole, or not at all.
    pub(super) fn take_all(
        &self,
        from: &Kept,
        kernel: &KernelIdentity,
        read: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<(), Problem> {
        let vendor = Update::run(from.state.clone(), |wanted| read(&wanted.path))?;
        let allowance = match vendor.kernel_file(kernel) {
            Ok(file) => {
                let bytes = read(&file.path).ok_or(Refusal::Missing(file.path))?;
                Some(vendor.allowance(kernel, &bytes)?)
            }
            Err(Refusal::UnknownKernel(_)) => None,
            Err(refusal) => return Err(refusal.into()),
        };
        self.end(&mut self.lock(), from, &vendor, kernel, allowance)
    }

    fn end(
        &self,
        inner: &mut Inner,
        from: &Kept,
        vendor: &Vendor,
        kernel: &KernelIdentity,
        allowance: Option<KernelAllowance>,
    ) -> Result<(), Problem> {
        self.exchange(inner, from, from.updated(vendor, kernel, allowance))?;
        tracing::info!(repository = %from.repository(), "the vendor's metadata is up to date");
        Ok(())
    }

    fn exchange(&self, inner: &mut Inner, from: &Kept, to: Kept) -> Result<(), Problem> {
        // Root may have reset it meanwhile: what began before does not come back.
        if inner.kept.as_ref() != Some(from) {
            return Err(problems::not_wanted());
        }
        self.write(&to)?;
        inner.kept = Some(to);
        Ok(())
    }

    /// Begins anew from the pinned root, unless what is kept came from it: then that stays, which is the answer. What is set
    /// aside is renamed. Withdrawals are final: those of the same repository are kept.
    pub(super) fn reset(
        &self,
        pinned: Option<&[u8]>,
        known: Option<&RepositoryName>,
    ) -> Result<bool, Problem> {
        let pinned = pinned.map(pin).transpose()?;
        let mut inner = self.lock();
        if let (Some(kept), Some(pinned)) = (&inner.kept, &pinned)
            && known.is_none_or(|known| kept.repository() == known)
            && kept.state.continues(&pinned.state)
        {
            return Ok(true);
        }
        set_aside(&self.path, "json.set-aside", self.steps.as_ref())
            .map_err(|error| not_written(&self.path, &error))?;
        let before = std::mem::replace(&mut *inner, Inner { kept: None, unreadable: None, update: None });
        if let (Some(before), Some(pinned)) = (before.kept, pinned)
            && before.repository() == pinned.repository()
        {
            let new = pinned.with_withdrawals_of(&before);
            self.write(&new)?;
            inner.kept = Some(new);
        }
        Ok(false)
    }

    fn write(&self, kept: &Kept) -> Result<(), Problem> {
        let bytes = kept.to_bytes().map_err(std::io::Error::from);
        bytes
            .and_then(|bytes| write_capped(&self.path, &bytes, MAX_FILE_BYTES, self.steps.as_ref()))
            .map_err(|e| not_written(&self.path, &e))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Step {
    fn begin(from: Kept) -> Result<Self, Refusal> {
        let update = Box::new(Update::new(from.state.clone())?);
        Ok(Self::Metadata { from, update })
    }

    fn wanted(&self) -> Option<Wanted> {
        match self {
            Self::Metadata { update, .. } => update.wanted(),
            Self::Allowance { file, .. } => Some(Wanted {
                path: file.path.clone(),
                limit_bytes: file.meta.length,
                may_be_absent: false,
                immutable: true,
            }),
        }
    }
}

fn read(path: &Path) -> Result<Option<Kept>, String> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => return Err("it is too large".into()),
        _ => {}
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    Kept::parse(&bytes).map(Some)
}

fn pin(root: &[u8]) -> Result<Kept, Problem> {
    Kept::pin(root).map_err(|refusal| problems::root_unreadable(&refusal))
}

#[cfg(test)]
mod tests;
