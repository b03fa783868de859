//! Whom of the operator's this host believes: its one key, or the keys that its root names today.
//!
//! A host with an `operator-root.json` in a trust directory goes by that root and its successors. Once there was one, there
//! is no way back to the one key but by root.

use jiff::Timestamp;
use livepatch_loader_api::OperatorView;
use livepatch_manifest::VerifyingKey;
use livepatch_trust::{Kind, PublicKey, Refusal, RepositoryName, Role, Root, State as RootState};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::loader::not_enabled;
use crate::state::{Channel, State};
use crate::{Loader, Problem};

/// Name of the pinned root in a trust directory.
const ROOT_FILE: &str = "operator-root.json";
const RESET: &str =
    "`livepatch trust reset` begins anew from the pinned root (docs/trust.md); what runs stays";

pub(crate) const ONE_SIGNATURE: &str = "one signature must do, for envelopes have one";

/// Who speaks for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operator {
    /// What documents that were seen are remembered under: it stays the same while keys are exchanged.
    pub(crate) name: String,
    /// Who signs documents.
    pub(crate) documents: Vec<VerifyingKey>,
    /// Who signs assignments.
    pub(crate) assignments: Vec<VerifyingKey>,
}

/// The operator's newest root that was believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRoot(RootState);

impl Serialize for OperatorRoot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: serde_json::Value =
            serde_json::from_slice(&self.0.to_bytes()).map_err(ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for OperatorRoot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let state = RootState::parse(value.to_string().as_bytes()).map_err(de::Error::custom)?;
        check(state.root()).map_err(de::Error::custom)?;
        Ok(Self(state))
    }
}

impl OperatorRoot {
    fn pin(bytes: &[u8]) -> Result<Self, Refusal> {
        let state = RootState::pin(bytes)?;
        check(state.root())?;
        Ok(Self(state))
    }

    fn repository(&self) -> &RepositoryName {
        &self.0.root().repository
    }

    /// Whether that one is the next, as its signatures say.
    fn is_followed_by(&self, next: &Self) -> bool {
        next.0.is_newer_than(&self.0) && self.0.clone().take_root(&next.0.root_bytes()).is_ok()
    }

    fn name(&self) -> String {
        format!("root {}", self.repository())
    }

    fn keys(&self, role: Role) -> Vec<VerifyingKey> {
        self.0.root().keys_of(role).filter_map(|(_, key)| envelope_key(key)).collect()
    }

    fn operator(&self) -> Operator {
        let [documents, assignments] = [Role::Documents, Role::Assignments].map(|role| self.keys(role));
        Operator { name: self.name(), documents, assignments }
    }
}

/// Envelopes have Ed25519 signatures.
fn envelope_key(key: &PublicKey) -> Option<VerifyingKey> {
    match key {
        PublicKey::Ed25519(bytes) => Some(VerifyingKey::from_bytes(*bytes)),
        PublicKey::EcdsaP256(_) => None,
    }
}

/// Whether it is a root by which documents can be believed: an envelope needs one signature.
fn check(root: &Root) -> Result<(), Refusal> {
    if root.kind() != Kind::Operator {
        return Err(Refusal::WrongKind(Kind::Operator));
    }
    for role in [Role::Documents, Role::Assignments] {
        if root.threshold(role) != 1 {
            return Err(Refusal::BadRole { role, why: ONE_SIGNATURE });
        }
    }
    Ok(())
}

impl Loader {
    /// Who speaks for the operator now. The root is pinned when it is seen for the first time.
    pub(crate) fn operator(&self) -> Result<Operator, Problem> {
        match (self.store.get().operator, self.pinned_operator()?) {
            (None, None) => {
                let key = self.trust.operator()?;
                let keys = vec![key.clone()];
                Ok(Operator { name: key.key_id(), documents: keys.clone(), assignments: keys })
            }
            (Some(known), None) => Err(root_missing(known.repository())),
            (None, Some(pinned)) => {
                self.store.update(|state| adopt(state, pinned.clone()))?;
                tracing::info!(repository = %pinned.repository(), "the operator's root is pinned");
                Ok(pinned.operator())
            }
            (Some(known), Some(pinned)) if known.repository() != pinned.repository() => {
                Err(other_root(known.repository(), pinned.repository()))
            }
            // The next one came with a package, or from root: the server need not bring it. The chain of roots counts.
            (Some(known), Some(pinned)) if known.is_followed_by(&pinned) => {
                self.store.update_if(|state| follow(state, &pinned.0.root_bytes()))?;
                Ok(pinned.operator())
            }
            (Some(known), Some(_)) => Ok(known.operator()),
        }
    }

    /// The root in a trust directory; an error: it is none.
    pub(crate) fn pinned_operator(&self) -> Result<Option<OperatorRoot>, Problem> {
        let pinned = self.trust.optional(ROOT_FILE)?.map(|bytes| OperatorRoot::pin(&bytes)).transpose();
        pinned.map_err(|refusal| root_unreadable(&refusal))
    }

    /// Takes the next root of the operator's: signed as the one that is known says, and as itself says.
    pub fn take_operator_root(&self, bytes: &[u8]) -> Result<(), Problem> {
        // Pins it, if that was not done yet.
        self.operator()?;
        self.store.update_if(|state| {
            if state.channel == Channel::Closed {
                return Err(not_enabled());
            }
            follow(state, bytes)
        })
    }

    /// Why the operator's root installs nothing new any more, if so: there is a newer one, or its time is over.
    pub(crate) fn operator_stale(&self) -> Option<Problem> {
        if self.store.get().channel == Channel::Closed {
            return None;
        }
        // Follows the pinned one, if it can; why it cannot is said elsewhere.
        let _ = self.operator();
        let OperatorRoot(known) = self.store.get().operator?;
        if let Ok(Some(OperatorRoot(pinned))) = self.pinned_operator()
            && pinned.is_newer_than(&known)
        {
            let [seen, pinned] = [&known, &pinned].map(|root| root.seen(Role::Root));
            return Some(newer_root_pinned(&known.root().repository, seen, pinned));
        }
        known.check_time(self.clock.now()).err().map(of_the_operator)
    }

    /// How the operator's root looks.
    pub(crate) fn operator_view(&self) -> Option<OperatorView> {
        let OperatorRoot(known) = self.store.get().operator?;
        let root = known.root();
        let (repository, expires) = (root.repository.clone(), root.header.expires);
        Some(OperatorView { repository, root: root.header.version, expires })
    }
}

/// From one key to a root that names it: what was seen of its documents stays seen.
fn adopt(state: &mut State, root: OperatorRoot) {
    let (name, keys) = (root.name(), root.keys(Role::Documents));
    for seen in &mut state.seen {
        if keys.iter().any(|key| key.key_id() == seen.operator) {
            seen.operator.clone_from(&name);
        }
    }
    if let Some(by) = state.latest_issued_by.as_mut().filter(|by| keys.iter().any(|key| key.key_id() == **by))
    {
        by.clone_from(&name);
    }
    state.operator = Some(root);
}

/// The next root takes the place of the one that is known: signed as that one says, and as itself says.
fn follow(state: &mut State, bytes: &[u8]) -> Result<(), Problem> {
    let Some(OperatorRoot(known)) = &state.operator else {
        return Err(root_not_pinned());
    };
    let before = known.root().clone();
    let mut known = known.clone();
    known.take_root(bytes).and_then(|()| check(known.root())).map_err(of_the_operator)?;
    forget_renounced(state, &before, known.root());
    tracing::info!(version = known.seen(Role::Root), "the operator's next root is believed");
    state.operator = Some(OperatorRoot(known));
    Ok(())
}

/// Root: begins anew from the pinned root, unless the one that is known is that or came after it.
pub(crate) fn begin_anew(state: &mut State, pinned: Option<&OperatorRoot>) {
    let Some(OperatorRoot(known)) = state.operator.take() else { return };
    match pinned {
        Some(OperatorRoot(pinned)) if known.continues(pinned) => state.operator = Some(OperatorRoot(known)),
        Some(OperatorRoot(pinned)) if known.root().repository == pinned.root().repository => {
            forget_renounced(state, known.root(), pinned.root());
        }
        _ => {}
    }
}

/// Recovery from a stolen key: it may have signed the highest version there is, a time far ahead, and the withdrawal of
/// everything that will ever come. What it could say is forgotten when the next root leaves none of the keys that could have
/// signed it. What the operator withdrew itself stands in every document of the next key, without which nothing new is
/// installed; final is what the vendor withdraws.
fn forget_renounced(state: &mut State, before: &Root, next: &Root) {
    if before.is_renounced_by(next, Role::Documents) {
        let name = format!("root {}", before.repository);
        state.seen.retain(|seen| seen.operator != name);
        state.latest_issued = Some::<Timestamp>(next.header.issued);
        state.latest_issued_by = Some(name);
        state.document = None;
    }
    if before.is_renounced_by(next, Role::Assignments)
        && let Some(host) = &mut state.host
    {
        host.assignment = 0;
    }
}

pub(crate) fn root_unreadable(refusal: &Refusal) -> Problem {
    let message = format!("{ROOT_FILE} in the trust directory: {refusal}");
    Problem::new("trust-unreadable", message, "put the operator's metadata/1.root.json there")
}

pub(crate) fn root_missing(repository: &RepositoryName) -> Problem {
    let message = format!("{ROOT_FILE} is gone, and this host is held to {repository}");
    let mut problem =
        Problem::new("operator-root-missing", message, "put the file back into the trust directory");
    problem
        .hints
        .push("or `livepatch trust reset`: from then on the key in operator.pub alone counts".into());
    problem
}

pub(crate) fn other_root(was: &RepositoryName, is: &RepositoryName) -> Problem {
    let message = format!("{ROOT_FILE} is that of {is}, and this host is held to {was}");
    Problem::new("operator-other-root", message, RESET)
}

pub(crate) fn newer_root_pinned(repository: &RepositoryName, seen: u64, pinned: u64) -> Problem {
    let message = format!(
        "{ROOT_FILE} is version {pinned} of {repository}, which does not follow from version {seen}, the last that was seen"
    );
    let hint = "`livepatch refresh` fetches those in between; if it stays so, the server holds them back: tell its operator";
    let mut problem = Problem::new("operator-root-newer-pinned", message, hint);
    problem.hints.push(format!("or {RESET}"));
    problem
}

pub(crate) fn root_not_pinned() -> Problem {
    let message = "no root of the operator's is pinned on this host";
    let hint = "nothing is to be done; the key in operator.pub counts";
    Problem::new("operator-root-not-pinned", message, hint)
}

pub(crate) fn of_the_operator(refusal: Refusal) -> Problem {
    const SERVER: &str = "the server serves another root than the operator signed; tell its operator";
    let (code, hint) = match &refusal {
        Refusal::Expired { .. } => (
            "operator-expired",
            "the operator must sign a new root (`livepatch-build trust renew`); check this host's clock too (`date -u`)",
        ),
        Refusal::ClockBehind { .. } => {
            ("clock-behind", "set this host's clock (`date -u`), then `livepatch refresh`")
        }
        Refusal::Rollback { .. } => ("operator-rollback", "the server serves an old root; tell its operator"),
        Refusal::WrongVersion { .. } => {
            ("operator-root-gap", "the server leaves out a root in between; tell its operator")
        }
        Refusal::Threshold { .. } => ("operator-threshold", SERVER),
        Refusal::WrongRepository { .. } => ("operator-other-root", SERVER),
        Refusal::Format(_) | Refusal::Critical(_) => ("operator-too-new", "upgrade the client"),
        _ => ("operator-bad-root", SERVER),
    };
    Problem::new(code, format!("the operator's root: {refusal}"), hint)
}
