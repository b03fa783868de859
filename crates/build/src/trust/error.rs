//! What can go wrong with repositories.

use std::path::PathBuf;

use livepatch_kbuild::KbuildError;
use livepatch_trust::{KeyId, Refusal, Role};
use openssl::error::ErrorStack;

use crate::keygen::KeygenError;
use crate::token::TokenError;

/// Why a repository is not changed, or not right.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] KbuildError),
    /// The metadata is not right.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// One file of it is not right.
    #[error("{path}: {source}")]
    RefusedFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Refusal,
    },
    /// The directory is there already, or not at all.
    #[error("{path} {what}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The private key's file is open to others.
    #[error("others may read the private key {path}: its mode is {mode:o} where 600 is expected")]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The private key cannot be used.
    #[error("cannot use the private key: {0}")]
    Key(#[from] ErrorStack),
    /// What was signed does not verify.
    #[error("the public key is not that of the private key")]
    Mismatch,
    /// A token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A new key cannot be made.
    #[error(transparent)]
    Keygen(#[from] KeygenError),
    /// There is no such key.
    #[error("the role {role} has no key {id}")]
    NoSuchKey {
        /// The role.
        role: Role,
        /// The key.
        id: KeyId,
    },
    /// A key that was taken away must not come back: what it signed before would be valid again.
    #[error("the key {0} was taken away by an earlier root")]
    Revoked(KeyId),
    /// The key does not sign releases.
    #[error("the key {id} is not one of the role {role}")]
    NotAReleaseKey {
        /// The key.
        id: KeyId,
        /// The role.
        role: Role,
    },
    /// Whoever runs it asks for what makes no sense.
    #[error("{0}")]
    Asked(String),
}

impl TrustError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::File(error) => error.hint().into_owned(),
            Self::Refused(refusal) | Self::RefusedFile { source: refusal, .. } => refusal.hint().into(),
            Self::Directory { .. } => "`livepatch-build trust init DIR` makes a new one".into(),
            Self::KeyMode { .. } => "chmod 600 it, and exchange the key if others may have read it".into(),
            Self::Key(_) => "give a key of Ed25519 or of ECDSA on P-256, PEM, not encrypted".into(),
            Self::Mismatch => "give the public key that belongs to the private one".into(),
            Self::Token(error) => error.hint().into(),
            Self::Keygen(_) => "choose another directory or name; keys are never overwritten".into(),
            Self::NoSuchKey { .. } | Self::NotAReleaseKey { .. } => {
                "`livepatch-build trust show DIR` lists the keys of each role".into()
            }
            Self::Revoked(_) => "make a new key: `livepatch-build trust keygen`".into(),
            Self::Asked(_) => "`livepatch-build trust --help` says what there is".into(),
        }
    }
}
