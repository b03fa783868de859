//! What is said of a kernel for which the server has nothing.

use livepatch_kernel::{OriginEvidence, kernel_origin};
use livepatch_types::KernelIdentity;

use crate::Problem;

/// The word for it, which is an answer more than a failure.
pub(crate) const NOT_COVERED: &str = "kernel-not-covered";

/// Says what the kernel seems to be, and what to do about that.
pub(crate) fn not_covered(kernel: &KernelIdentity, evidence: &OriginEvidence) -> Problem {
    let origin = kernel_origin(evidence);
    let message = format!(
        "the server has no livepatches for {} with build-id {}: {}",
        kernel.release,
        kernel.build_id,
        origin.explanation()
    );
    let mut problem = Problem::new(NOT_COVERED, message, &origin.hint());
    problem
        .hints
        .push("if this kernel should be covered, tell the server's operator its release and build-id".into());
    problem
}

#[cfg(test)]
mod tests {
    use livepatch_types::{Architecture, BuildId, KernelRelease};

    use super::*;

    #[test]
    fn an_own_kernel_is_explained() {
        let kernel = KernelIdentity {
            architecture: Architecture::Amd64,
            release: KernelRelease::parse("6.1.0-50-amd64").unwrap(),
            build_id: BuildId::from_bytes(&[0xab; 20]).unwrap(),
        };
        let problem = not_covered(&kernel, &OriginEvidence::default());
        assert_eq!(
            problem.message,
            format!(
                "the server has no livepatches for 6.1.0-50-amd64 with build-id {}: no distribution that is known here built it",
                "ab".repeat(20)
            )
        );
        assert_eq!(problem.hints.len(), 2);
        assert!(problem.hints[0].contains("--vmlinux"), "{problem:?}");
    }
}
