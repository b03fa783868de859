//! Which kernels the operator covers: verified here, because here is known who the operator is. It is for people: nothing
//! that this does depends on it.

use livepatch_manifest::{EnvelopeError, SupportError, SupportMatrix, VerifyingKey};

use crate::loader::not_enabled;
use crate::problem::OPERATOR_HINT;
use crate::state::{Channel, State};
use crate::{Loader, Problem};

impl Loader {
    /// Takes note of it, if the operator signed it and it is as new as the one that is known.
    pub fn take_support(&self, envelope: &[u8]) -> Result<(), Problem> {
        let operator = self.operator()?;
        self.store.note_if(|state| {
            if state.channel == Channel::Closed {
                return Err(not_enabled());
            }
            // One that is not believed any more is as good as none: what a stolen key said is forgotten with the key.
            let seen = known(state, &operator.documents).map_or(0, |known| known.version);
            SupportMatrix::open(envelope, &operator.documents, seen)?;
            state.support = Some(String::from_utf8_lossy(envelope).into_owned());
            Ok(())
        })
    }

    /// What is known of it.
    pub(crate) fn support(&self, state: &State) -> Option<SupportMatrix> {
        state.support.as_ref()?;
        known(state, &self.operator().ok()?.documents)
    }
}

fn known(state: &State, keys: &[VerifyingKey]) -> Option<SupportMatrix> {
    SupportMatrix::open(state.support.as_ref()?.as_bytes(), keys, 0).ok()
}

impl From<SupportError> for Problem {
    fn from(error: SupportError) -> Self {
        const OPERATOR: &str = "tell the server's operator";
        let (code, hint) = match &error {
            SupportError::Envelope(EnvelopeError::UntrustedSigner(_)) => {
                ("support-wrong-signer", OPERATOR_HINT)
            }
            SupportError::Envelope(EnvelopeError::BadSignature(_)) => (
                "support-tampered",
                "somebody changes what the server sends; look at proxies and mirrors in between",
            ),
            SupportError::Schema(_) | SupportError::Critical(_) => ("support-too-new", "upgrade the client"),
            SupportError::Rollback { .. } => ("support-rollback", OPERATOR),
            SupportError::Envelope(_) | SupportError::Malformed(_) => ("support-malformed", OPERATOR),
        };
        Self::new(code, error, hint)
    }
}
