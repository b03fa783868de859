use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::Timestamp;
use livepatch_manifest::{
    HostAssignment, KernelDocument, SupportMatrix, VerifyingKey, assignment, document, envelope, support,
};
use livepatch_transparency::{Checkpoint, LogKey};
use livepatch_types::{Cohort, HostId, Redacted, Tier};
use rcgen::{KeyPair, PKCS_ED25519};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

/// The operator's online key: it signs kernel documents, what is covered, assignments of hosts and the log's head.
#[derive(Debug)]
pub struct OperatorKey {
    pair: Ed25519KeyPair,
    public: VerifyingKey,
}

impl OperatorKey {
    /// Makes a key, and the PKCS#8 PEM text that [`OperatorKey::read`] reads. It is version 1 of PKCS#8, which
    /// OpenSSL reads too.
    pub fn generate() -> anyhow::Result<(Self, Redacted<String>)> {
        let der =
            Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).context("the system has no randomness")?;
        let pem = KeyPair::from_pkcs8_der_and_sign_algo(&der.as_ref().into(), &PKCS_ED25519)?.serialize_pem();
        Ok((Self::from_pkcs8(der.as_ref())?, Redacted::new(pem)))
    }

    /// Reads a PKCS#8 key from a PEM file that only its owner can read.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let mode = std::fs::metadata(path)?.mode();
        anyhow::ensure!(
            mode & 0o077 == 0,
            "the signing key can be read by others (mode {:03o})",
            mode & 0o777
        );
        let der =
            PrivatePkcs8KeyDer::from_pem_file(path).context("the signing key is not a PKCS#8 PEM file")?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// Takes a PKCS#8 key.
    pub fn from_pkcs8(der: &[u8]) -> anyhow::Result<Self> {
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).context("the signing key is not Ed25519")?;
        let public =
            <[u8; 32]>::try_from(pair.public_key().as_ref()).context("the public key has another length")?;
        Ok(Self { pair, public: VerifyingKey::from_bytes(public) })
    }

    /// What hosts pin.
    pub fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// The signed note of the log's head. `log` is this key under the log's name.
    pub fn sign_head(&self, head: &Checkpoint, log: &LogKey) -> String {
        head.to_note(log, self.pair.sign(head.to_text().as_bytes()).as_ref())
    }

    /// The signed envelope of a document.
    pub fn sign(&self, kernel_document: &KernelDocument) -> Vec<u8> {
        self.envelope(document::PAYLOAD_TYPE, &kernel_document.to_payload())
    }

    /// The signed envelope of what is covered.
    pub fn sign_support(&self, matrix: &SupportMatrix) -> Vec<u8> {
        self.envelope(support::PAYLOAD_TYPE, &matrix.to_payload())
    }

    /// The signed envelope of a host's assignment to a tier, and the cohort that it asked for. Its version is the time, in whole seconds: of two
    /// assignments of a host the later one counts, and nothing needs to be remembered for that.
    pub fn assign(&self, host: HostId, tier: &Tier, cohort: Option<Cohort>, now: Timestamp) -> Vec<u8> {
        let issued = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let version = u64::try_from(issued.as_second()).unwrap_or(0);
        let tier = tier.clone();
        let assignment = HostAssignment { schema: 1, critical: vec![], host, tier, cohort, version, issued };
        self.envelope(assignment::PAYLOAD_TYPE, &assignment.to_payload())
    }

    fn envelope(&self, payload_type: &str, payload: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&envelope::signing_input(payload_type, payload));
        envelope::assemble(payload_type, payload, &[(self.public.key_id(), signature.as_ref().to_vec())])
    }
}
