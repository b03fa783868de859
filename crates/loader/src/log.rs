//! The transparency log: a host with the key of a log in a trust directory installs only what was proven to be in that
//! log, under a head that grew out of the one that it saw before. So nobody can offer a host what others do not see.

use livepatch_loader_api::{LogView, Logged};
use livepatch_manifest::{KernelDocument, Target};
use livepatch_transparency::{BundleEvent, Event, LogKey, LoggedProof, Proven, Refusal, verify_consistency};
use livepatch_types::{KernelIdentity, PatchVersion, Sha256Digest};

use crate::loader::not_enabled;
use crate::state::{Channel, LogSeen, State};
use crate::{Loader, Problem};

/// Name of the log's key in a trust directory.
const KEY_FILE: &str = "log.vkey";
/// So many modules are remembered as proven: what is offered, and what was offered before.
const MOST_PROVEN: usize = 16;

impl Loader {
    /// Takes note that a module is in the log.
    pub fn take_logged(&self, bytes: &[u8]) -> Result<(), Problem> {
        let keys = self.log_keys()?.ok_or_else(not_pinned)?;
        let Logged { proof, consistency } =
            serde_json::from_slice(bytes).map_err(|error| bad_proof(&error))?;
        let proof = LoggedProof::parse(proof.as_bytes()).map_err(of_the_log)?;
        let proven = verify(&proof, &keys).map_err(of_the_log)?;
        let kernel = self.kernel.identity()?;
        let module = module_of(&proven, &kernel)?;
        self.store.update_if(|state| {
            if state.channel == Channel::Closed {
                return Err(not_enabled());
            }
            state.log = Some(grown(state.log.as_ref(), &proven, &consistency, module).map_err(of_the_log)?);
            Ok(())
        })
    }

    /// Takes note that what a bundle brings is in the log, by the proof in it. A head of another size than the one that was
    /// seen says nothing of that one, for a bundle cannot know which it was: what is remembered stays.
    pub(crate) fn take_carried_proof(
        &self,
        proof: Option<&[u8]>,
        published: &BundleEvent,
    ) -> Result<(), Problem> {
        let Some(keys) = self.log_keys()? else { return Ok(()) };
        let proof = proof.ok_or_else(|| without_proof(published.version))?;
        let proof = LoggedProof::parse(proof).map_err(of_the_log)?;
        let proven = verify(&proof, &keys).map_err(of_the_log)?;
        proven.check_bundle(published).map_err(of_the_log)?;
        self.store.update_if(|state| {
            state.log =
                Some(carried(state.log.as_ref(), &proven, published.module_sha256).map_err(of_the_log)?);
            Ok(())
        })
    }

    /// What is wrong with the pinned key of the log, if it is.
    pub(crate) fn log_problem(&self) -> Option<Problem> {
        self.log_keys().err()
    }

    /// Why something that is offered is not installed as far as the log is concerned.
    pub(crate) fn not_in_the_log(&self, document: Option<&KernelDocument>) -> Option<Problem> {
        let target = document?.target.as_ref()?;
        let state = self.store.get();
        let keys = match self.log_keys() {
            Ok(keys) => keys?,
            Err(problem) => return Some(problem),
        };
        (!is_proven(&state, &keys, target)).then(|| not_proven(target.version))
    }

    /// How the log looks.
    pub(crate) fn log_view(&self, state: &State, target: Option<&Target>) -> Option<LogView> {
        let keys = self.log_keys().ok().flatten()?;
        let name = keys.first()?.name().to_owned();
        let size = state.log.as_ref().filter(|seen| seen.name == name).map_or(0, |seen| seen.size);
        let wants = target.filter(|target| !is_proven(state, &keys, target));
        let wants = wants.map(|target| target.module.sha256);
        Some(LogView { name, keys: keys.iter().map(LogKey::to_text).collect(), size, wants })
    }

    /// The keys that may sign the log's head: the pinned one; where the operator's root is known, those that sign
    /// documents today, under the log's name. None: no log is pinned. Once one was, taking its key away is no way back;
    /// root may put that of another log in its place.
    fn log_keys(&self) -> Result<Option<Vec<LogKey>>, Problem> {
        let known = self.store.get().log_pinned;
        let Some(file) = self.trust.optional(KEY_FILE)? else {
            return known.map_or(Ok(None), |name| Err(key_missing(&name)));
        };
        let pinned = LogKey::parse(&String::from_utf8_lossy(&file)).map_err(|error| bad_key(&error))?;
        if known.as_deref() != Some(pinned.name()) {
            self.store.update(|state| state.log_pinned = Some(pinned.name().to_owned()))?;
            tracing::info!(log = pinned.name(), "the transparency log is pinned");
        }
        if self.store.get().operator.is_none() {
            return Ok(Some(vec![pinned]));
        }
        let keys = self.operator()?.documents;
        let keys = keys.iter().map(|key| LogKey::new(pinned.name(), *key.as_bytes()));
        keys.collect::<Result<_, _>>().map(Some).map_err(|error| bad_key(&error))
    }
}

const OTHER_LOG: &str = "the server serves another log than the one that this host saw; tell its operator and those who watch the log";
const OTHER_KEY: &str = "compare log.vkey in the trust directory with that of the server's operator; if it is theirs, tell those who watch the log";
const FORGED: &str = "the server's proof does not hold; tell its operator and those who watch the log";

/// By the first of the keys that it is signed with.
fn verify(proof: &LoggedProof, keys: &[LogKey]) -> Result<Proven, Refusal> {
    let mut refusal = Refusal::KeyName;
    for key in keys {
        match proof.verify(key) {
            Err(error @ Refusal::OtherSigner { .. }) => refusal = error,
            other => return other,
        }
    }
    Err(refusal)
}

/// The module of a bundle for this kernel.
fn module_of(proven: &Proven, kernel: &KernelIdentity) -> Result<Sha256Digest, Problem> {
    match &proven.entry.event {
        Event::Bundle(BundleEvent { kernel: of, module_sha256, .. }) if of.build_id == kernel.build_id => {
            Ok(*module_sha256)
        }
        Event::Bundle(bundle) => Err(other_bundle(&bundle.kernel)),
        _ => Err(of_the_log(Refusal::NotABundle(proven.index))),
    }
}

/// What is remembered after a proof: its head must have grown out of the one before.
fn grown(
    seen: Option<&LogSeen>,
    proven: &Proven,
    consistency: &[Sha256Digest],
    module: Sha256Digest,
) -> Result<LogSeen, Refusal> {
    let head = &proven.checkpoint;
    let proven = match seen {
        Some(seen) if seen.name == head.origin => {
            verify_consistency((seen.size, &seen.root), (head.size, &head.root), consistency)?;
            seen.proven.as_slice()
        }
        // The first head, or root has pinned another log.
        _ => &[],
    };
    let proven = with_module(proven, module);
    Ok(LogSeen { name: head.origin.clone(), size: head.size, root: head.root, proven })
}

/// What is remembered after a proof that came with a bundle.
fn carried(seen: Option<&LogSeen>, proven: &Proven, module: Sha256Digest) -> Result<LogSeen, Refusal> {
    let head = &proven.checkpoint;
    match seen.filter(|seen| seen.name == head.origin) {
        Some(seen) if seen.size == head.size && seen.root != head.root => Err(Refusal::SplitView(head.size)),
        Some(seen) => Ok(LogSeen { proven: with_module(&seen.proven, module), ..seen.clone() }),
        None => grown(None, proven, &[], module),
    }
}

/// The last modules that were proven, and this one.
fn with_module(proven: &[Sha256Digest], module: Sha256Digest) -> Vec<Sha256Digest> {
    let mut modules: Vec<_> = proven.iter().copied().filter(|known| *known != module).collect();
    modules.push(module);
    let too_many = modules.len().saturating_sub(MOST_PROVEN);
    modules.drain(..too_many);
    modules
}

fn is_proven(state: &State, keys: &[LogKey], target: &Target) -> bool {
    let seen = state.log.as_ref().filter(|seen| keys.iter().any(|key| key.name() == seen.name));
    seen.is_some_and(|seen| seen.proven.contains(&target.module.sha256))
}

pub(crate) fn not_pinned() -> Problem {
    let message = "no key of a transparency log is pinned on this host";
    Problem::new("log-not-pinned", message, "nothing is to be done; proofs are not asked for")
}

pub(crate) fn key_missing(name: &str) -> Problem {
    let message = format!("{KEY_FILE} is gone, and this host is held to the transparency log {name}");
    let mut problem = Problem::new("log-key-missing", message, "put the file back into the trust directory");
    problem.hints.push("or `livepatch trust reset`: from then on no log is asked".into());
    problem
}

pub(crate) fn without_proof(version: PatchVersion) -> Problem {
    let message =
        format!("the bundle does not carry the proof that livepatch {version} is in the transparency log");
    let hint = "get the bundle with its proof: `livepatch-build trust attach --logged` adds it";
    Problem::new("bundle-without-proof", message, hint)
}

pub(crate) fn bad_key(error: &Refusal) -> Problem {
    let message = format!("{KEY_FILE} in the trust directory: {error}");
    Problem::new("trust-unreadable", message, "put the log.vkey of the server's operator there")
}

pub(crate) fn bad_proof(error: &serde_json::Error) -> Problem {
    Problem::new("log-bad-proof", format!("the proof: {error}"), FORGED)
}

pub(crate) fn not_proven(version: PatchVersion) -> Problem {
    let message = format!("livepatch {version} was not proven to be in the transparency log");
    let hint = "`livepatch refresh` asks for the proof; if the server has none, tell its operator and those who watch the log";
    Problem::new("log-not-proven", message, hint)
}

pub(crate) fn other_bundle(of: &KernelIdentity) -> Problem {
    let message = format!("the proof is for a livepatch for {} (build-id {})", of.release, of.build_id);
    Problem::new("log-other-bundle", message, FORGED)
}

pub(crate) fn of_the_log(refusal: Refusal) -> Problem {
    let (code, hint) = match &refusal {
        Refusal::OtherSigner { .. } => ("log-wrong-signer", OTHER_KEY),
        Refusal::WrongOrigin { .. } => ("log-other", OTHER_KEY),
        Refusal::BadSignature(_) => ("log-wrong-signer", FORGED),
        Refusal::Shrunk { .. } => ("log-shrunk", OTHER_LOG),
        Refusal::SplitView(_) => ("log-split-view", OTHER_LOG),
        Refusal::Inconsistent { .. } | Refusal::ProofLength { .. } => ("log-inconsistent", OTHER_LOG),
        Refusal::OtherBundle { .. } => ("log-other-bundle", FORGED),
        Refusal::NotIncluded { .. } | Refusal::NotInTree { .. } => ("log-not-included", FORGED),
        _ => ("log-bad-proof", FORGED),
    };
    Problem::new(code, format!("the transparency log: {refusal}"), hint)
}
