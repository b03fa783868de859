//! Who this host is to its operator, and in which channel. Root enables the host, and the loader draws a random id for it;
//! the operator signs which tier that id is in; the agent carries one to the other and can change neither.

use aws_lc_rs::rand;
use livepatch_manifest::{AssignmentError, EnvelopeError, HostAssignment, KernelDocument};
use livepatch_types::{Cohort, HostId};

use crate::loader::not_enabled;
use crate::problem::OPERATOR_HINT;
use crate::state::{Channel, Host, State};
use crate::{Loader, Problem};

impl Loader {
    /// Takes the operator's assignment of this host: from then on documents of its tier are taken, and no others. Its cohort
    /// must be the one that root's settings ask for: else whoever carries the assignment could choose the host's place.
    pub fn take_assignment(&self, envelope: &[u8]) -> Result<(), Problem> {
        if let Some(problem) = self.store.problem() {
            return Err(problem);
        }
        let operator = self.operator()?;
        self.store.update_if(|state| {
            if let Some(problem) = self.copied(state) {
                return Err(problem);
            }
            // Drawn when root enabled the host, forgotten when root disables it; one that an earlier version enabled has its
            // channel already.
            let host = state.host.as_mut().ok_or_else(not_enabled)?;
            let assignment =
                HostAssignment::open(envelope, &operator.assignments, &host.id, host.assignment)?;
            if self.policy.unusable {
                return Err(cohort_unknown());
            }
            if assignment.cohort != self.policy.cohort {
                return Err(other_cohort(assignment.cohort.as_ref(), self.policy.cohort.as_ref()));
            }
            (host.assignment, host.cohort) = (assignment.version, assignment.cohort);
            if state.channel != Channel::Pinned(assignment.tier.clone()) {
                tracing::info!(channel = %assignment.tier, "the operator assigned this host");
                (state.channel, state.document) = (Channel::Pinned(assignment.tier), None);
            }
            Ok(())
        })
    }

    /// Whether a document is one of this host's channel.
    pub(crate) fn check_channel(&self, state: &State, document: &KernelDocument) -> Result<(), Problem> {
        match &state.channel {
            Channel::Closed => Err(not_enabled()),
            Channel::Open => Err(not_assigned()),
            Channel::Pinned(channel) => match self.copied(state) {
                Some(problem) => Err(problem),
                None => Ok(document.check_channel(channel)?),
            },
        }
    }

    /// What is wrong when the state was made on another machine: this host is a clone, or was restored elsewhere.
    pub(crate) fn copied(&self, state: &State) -> Option<Problem> {
        state.host.as_ref().filter(|host| self.is_elsewhere(host)).map(|_| host_copied())
    }

    fn is_elsewhere(&self, host: &Host) -> bool {
        host.machine.zip(self.machine).is_some_and(|(then, now)| then != now)
    }

    /// A host with an id of its own.
    pub(crate) fn new_host(&self) -> Result<Host, Problem> {
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(|_| no_randomness())?;
        Ok(Host { id: HostId::from_bytes(id), machine: self.machine, assignment: 0, cohort: None })
    }
}

/// Root enables a host. One that is enabled stays as it is; only an earlier version left one without an id.
pub(crate) fn enable(state: &mut State, host: Host) {
    if state.channel == Channel::Closed {
        (state.channel, state.host) = (Channel::Open, None);
    }
    state.host.get_or_insert(host);
}

pub(crate) fn not_assigned() -> Problem {
    let message = "the operator has not said in which channel this host is";
    let hint =
        "`livepatch disable`, then `livepatch enable` enrols it anew; the server must issue assignments";
    Problem::new("not-assigned", message, hint)
}

pub(crate) fn other_cohort(assigned: Option<&Cohort>, wanted: Option<&Cohort>) -> Problem {
    let word = |cohort: Option<&Cohort>| cohort.map_or_else(|| "no cohort".into(), |c| format!("cohort {c}"));
    let message = format!(
        "the operator assigned this host to {}, but its configuration asks for {}",
        word(assigned),
        word(wanted)
    );
    let hint = "restart the daemons if `cohort` in /etc/livepatch/livepatch.toml was just changed; else tell the server's operator";
    Problem::new("assignment-wrong-cohort", message, hint)
}

pub(crate) fn cohort_unknown() -> Problem {
    let message = "the operator's assignment is not taken while the configuration cannot be used";
    Problem::new("configuration", message, "`journalctl -u livepatch-loader` says what is wrong in it")
}

pub(crate) fn host_copied() -> Problem {
    let message = "this host was enrolled as another machine: its disk was cloned or moved";
    let hint = "`livepatch disable`, then `livepatch enable` with a token enrols it by itself";
    Problem::new("host-copied", message, hint)
}

pub(crate) fn no_randomness() -> Problem {
    Problem::new("no-randomness", "the kernel gives no random bytes", "see the kernel's log (`dmesg`)")
}

impl From<AssignmentError> for Problem {
    fn from(error: AssignmentError) -> Self {
        let (code, hint) = match &error {
            AssignmentError::Envelope(EnvelopeError::UntrustedSigner(_)) => {
                ("assignment-wrong-signer", OPERATOR_HINT)
            }
            AssignmentError::Envelope(EnvelopeError::BadSignature(_)) => (
                "assignment-tampered",
                "somebody changes what the server sends; look at proxies and mirrors in between",
            ),
            AssignmentError::Envelope(_) | AssignmentError::Malformed(_) => {
                ("assignment-malformed", "check that the server URL is that of a livepatch server")
            }
            AssignmentError::Schema(_) | AssignmentError::Critical(_) => {
                ("assignment-too-new", "upgrade the client")
            }
            AssignmentError::WrongHost { .. } => (
                "assignment-wrong-host",
                "the server or somebody in between mixes up hosts; tell its operator",
            ),
            AssignmentError::Rollback { .. } => (
                "assignment-rollback",
                "the server serves an old state, or its clock is behind; tell its operator",
            ),
        };
        Self::new(code, error, hint)
    }
}
