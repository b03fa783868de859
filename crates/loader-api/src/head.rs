//! The first five bytes of a request.

use livepatch_manifest::assignment::MAX_ASSIGNMENT_BYTES;
use livepatch_manifest::bundle::{MAX_BUNDLE_BYTES, MAX_MODULE_BYTES};
use livepatch_manifest::envelope::MAX_ENVELOPE_BYTES;
use livepatch_manifest::support::MAX_SUPPORT_BYTES;
use livepatch_trust::{MAX_ROOT_BYTES, MAX_TARGETS_BYTES};

/// Largest [`crate::Logged`], in bytes: a proof, and a hash for each level of a tree, as text.
pub const MAX_LOGGED_BYTES: usize = 256 << 10;
/// Kind (1 byte) and length of the body (4 bytes, big-endian).
pub const HEAD_BYTES: usize = 5;

/// What may be asked on one socket: a closed list.
pub trait Request: Copy + std::fmt::Debug + Send + 'static {
    /// The request of a kind; none: there is none.
    fn from_kind(kind: u8) -> Option<Self>;

    /// The kind of a request.
    fn kind(self) -> u8;

    /// Most bytes of its body.
    fn max_body_bytes(self) -> u32;
}

/// What the agent may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentRequest {
    /// How things are. No body.
    Status,
    /// Take note of the operator's document in the body, an envelope.
    Note,
    /// Do what is signed, with what is there. No body.
    Converge,
    /// The same with the module in the body, which the loader must want.
    Apply,
    /// Begin to take the vendor's newest metadata; the view says which file is wanted first. No body.
    Update,
    /// The file of the vendor's that is wanted; an empty body: it is not there.
    Metadata,
    /// Take the operator's assignment of this host in the body, an envelope.
    Assign,
    /// Take the next root of the operator's in the body.
    OperatorRoot,
    /// Take note that what the operator offers is in the transparency log: a [`crate::Logged`] in the body.
    Logged,
    /// Take note of which kernels the operator covers: an envelope in the body.
    Support,
}

/// What root may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootRequest {
    /// How things are. No body.
    Status,
    /// From now on take the operator's documents, in the channel that the operator assigns. No body.
    Enable,
    /// Disable and unload the livepatch, and hold it back. No body.
    Revert,
    /// Forget holds, crash guards and stalls. No body.
    Clear,
    /// Disable and unload the livepatch and take no more documents. No body.
    Disable,
    /// Set what is remembered of the vendor's repository aside, and begin anew from the pinned root. No body.
    ResetTrust,
    /// Apply the livepatch of the bundle in the body: root stands in for the operator, on a host that has no server.
    ApplyBundle,
    /// As [`RootRequest::Disable`], and forget all that is of this machine: its disk becomes an image. No body.
    PrepareImage,
}

impl Request for AgentRequest {
    fn from_kind(kind: u8) -> Option<Self> {
        let all = [
            Self::Status,
            Self::Note,
            Self::Converge,
            Self::Apply,
            Self::Update,
            Self::Metadata,
            Self::Assign,
            Self::OperatorRoot,
            Self::Logged,
            Self::Support,
        ];
        all.into_iter().find(|request| request.kind() == kind)
    }

    fn kind(self) -> u8 {
        match self {
            Self::Status => 1,
            Self::Note => 2,
            Self::Converge => 3,
            Self::Apply => 4,
            Self::Update => 5,
            Self::Metadata => 6,
            Self::Assign => 7,
            Self::OperatorRoot => 8,
            Self::Logged => 9,
            Self::Support => 10,
        }
    }

    fn max_body_bytes(self) -> u32 {
        match self {
            Self::Status | Self::Converge | Self::Update => 0,
            Self::Note => MAX_ENVELOPE_BYTES as u32,
            Self::Assign => MAX_ASSIGNMENT_BYTES as u32,
            Self::OperatorRoot => MAX_ROOT_BYTES as u32,
            Self::Logged => MAX_LOGGED_BYTES as u32,
            Self::Support => MAX_SUPPORT_BYTES as u32,
            Self::Apply => MAX_MODULE_BYTES as u32,
            // The largest kind of file; the loader reads no more than the one that it wants may have.
            Self::Metadata => MAX_TARGETS_BYTES as u32,
        }
    }
}

impl Request for RootRequest {
    fn from_kind(kind: u8) -> Option<Self> {
        let all = [
            Self::Status,
            Self::Enable,
            Self::Revert,
            Self::Clear,
            Self::Disable,
            Self::ResetTrust,
            Self::ApplyBundle,
            Self::PrepareImage,
        ];
        all.into_iter().find(|request| request.kind() == kind)
    }

    fn kind(self) -> u8 {
        match self {
            Self::Status => 1,
            Self::Enable => 17,
            Self::Revert => 18,
            Self::Clear => 19,
            Self::Disable => 20,
            Self::ResetTrust => 21,
            Self::ApplyBundle => 22,
            Self::PrepareImage => 23,
        }
    }

    fn max_body_bytes(self) -> u32 {
        match self {
            Self::ApplyBundle => MAX_BUNDLE_BYTES as u32,
            _ => 0,
        }
    }
}

/// A request and how long its body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<R> {
    /// What is asked.
    pub request: R,
    /// Bytes of the body, within the request's cap.
    pub body_bytes: u32,
}

/// Why a request is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// No request of this socket.
    #[error("there is no request of kind {0} on this socket")]
    Unknown(u8),
    /// A longer body than it may have.
    #[error("the body of the request has {actual} bytes where {allowed} are allowed")]
    TooLong {
        /// What the head says.
        actual: u32,
        /// The cap.
        allowed: u32,
    },
}

impl<R: Request> Head<R> {
    /// Reads a head.
    pub fn parse(bytes: [u8; HEAD_BYTES]) -> Result<Self, HeadError> {
        let [kind, length @ ..] = bytes;
        let request = R::from_kind(kind).ok_or(HeadError::Unknown(kind))?;
        let (actual, allowed) = (u32::from_be_bytes(length), request.max_body_bytes());
        if actual > allowed {
            return Err(HeadError::TooLong { actual, allowed });
        }
        Ok(Self { request, body_bytes: actual })
    }

    /// The bytes that [`Head::parse`] reads.
    pub fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let [a, b, c, d] = self.body_bytes.to_be_bytes();
        [self.request.kind(), a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<R: Request + PartialEq>(count: usize) {
        let mut known = 0;
        for kind in 0..=255 {
            let head = |length: u32| {
                let [a, b, c, d] = length.to_be_bytes();
                Head::<R>::parse([kind, a, b, c, d])
            };
            let Some(request) = R::from_kind(kind) else {
                assert_eq!(head(0), Err(HeadError::Unknown(kind)));
                continue;
            };
            known += 1;
            let most = request.max_body_bytes();
            for length in [0, most] {
                let read = head(length).unwrap();
                assert_eq!((read.request, read.body_bytes), (request, length));
                assert_eq!(Head::<R>::parse(read.to_bytes()), Ok(read));
            }
            for length in [most + 1, u32::MAX] {
                assert_eq!(head(length), Err(HeadError::TooLong { actual: length, allowed: most }));
            }
        }
        assert_eq!(known, count);
    }

    #[test]
    fn heads_are_read_as_written_and_nothing_else_is() {
        all::<AgentRequest>(10);
        all::<RootRequest>(8);
    }
}
