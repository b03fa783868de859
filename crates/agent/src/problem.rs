//! What can go wrong, each with a word for programs, a line for people, and what to do.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use livepatch_api::daemon::Failure;
use livepatch_kernel::KernelError;
use livepatch_loader_api::AskError;
use livepatch_manifest::ObjectError;
use livepatch_types::ForbiddenTransition;

/// A failure on its way to status, reports and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A word that stays the same.
    pub code: Cow<'static, str>,
    /// One line in lower case.
    pub message: String,
    /// What to do, one line each.
    pub hints: Vec<String>,
    /// When the server wants to be asked again, if it says so.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem with one hint; an empty hint is none.
    pub fn new(code: &'static str, message: impl Display, hint: &str) -> Self {
        let Failure { message, hints, .. } = Failure::new(code, message, hint);
        Self { code: code.into(), message, hints, retry_after: None }
    }

    /// What keeps a livepatch back, as a problem.
    pub(crate) fn of_lock(code: &'static str, lock: &livepatch_loader_api::Lock) -> Self {
        let (message, hints) = (lock.message.clone(), lock.hints.clone());
        Self { code: code.into(), message, hints, retry_after: None }
    }

    /// The wire form.
    pub fn to_failure(&self) -> Failure {
        Failure {
            code: self.code.clone().into_owned(),
            message: self.message.clone(),
            hints: self.hints.clone(),
        }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl From<ForbiddenTransition> for Problem {
    fn from(forbidden: ForbiddenTransition) -> Self {
        Self::new("stage-transition", forbidden, "tell the developers; `livepatch status` shows where it is")
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let Failure { code, message, hints } = failure;
        Self { code: code.into(), message, hints, retry_after: None }
    }
}

impl From<KernelError> for Problem {
    fn from(error: KernelError) -> Self {
        Self::new(error.code(), &error, error.hint())
    }
}

impl From<ObjectError> for Problem {
    fn from(error: ObjectError) -> Self {
        Self::new(error.code(), &error, error.hint())
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        let hint = "`systemctl status livepatch-loader` says whether it runs; a livepatch that is applied stays applied";
        match &error {
            AskError::Unreachable(_) => {
                Self::new("loader-unreachable", format!("the loader cannot be reached: {error}"), hint)
            }
            AskError::Answer(_) => {
                Self::new("loader-unreachable", error, "agent and loader may differ in version: restart both")
            }
        }
    }
}

#[cfg(test)]
mod tests;
