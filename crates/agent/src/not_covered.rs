//! What is said of a kernel for which the server has nothing.

use livepatch_api::server::PublishedKernel;
use livepatch_kernel::{OriginEvidence, kernel_origin};
use livepatch_types::KernelIdentity;

use crate::Problem;

/// The word for it, which is an answer more than a failure.
pub(crate) const NOT_COVERED: &str = "kernel-not-covered";

/// Says where the kernel was published, if the server knows its build-id, or else what it seems to be by what the machine
/// shows; and what to do about that.
pub(crate) fn not_covered(
    kernel: &KernelIdentity,
    evidence: &OriginEvidence,
    published: &[PublishedKernel],
) -> Problem {
    let (explanation, hint) = match published.first() {
        Some(place) => (publication(place), advice(place)),
        None => {
            let origin = kernel_origin(evidence);
            (origin.explanation().to_string(), origin.hint().to_string())
        }
    };
    let message = format!(
        "the server has no livepatches for {} with build-id {}: {explanation}",
        kernel.release, kernel.build_id
    );
    let mut problem = Problem::new(NOT_COVERED, message, &hint);
    problem
        .hints
        .push("if this kernel should be covered, tell the server's operator its release and build-id".into());
    problem
}

fn publication(place: &PublishedKernel) -> String {
    let PublishedKernel { distribution, suite, pocket, version, official } = place;
    let standing = if *official { "released" } else { "not released" };
    format!(
        "it is version {} of {}, {standing} (suite {}, pocket {})",
        short(version),
        short(distribution),
        short(suite),
        short(pocket)
    )
}

fn advice(place: &PublishedKernel) -> String {
    if place.official {
        return "boot the newest released kernel, or wait until the server has livepatches for this one"
            .into();
    }
    format!(
        "boot a released kernel of {}; this one gets livepatches when it is released",
        short(&place.distribution)
    )
}

/// A server's word in a line that people read.
fn short(text: &str) -> String {
    text.chars().filter(|letter| letter.is_ascii_graphic() || *letter == ' ').take(64).collect()
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
        let problem = not_covered(&kernel, &OriginEvidence::default(), &[]);
        let said = |Problem { message, hints, .. }| [vec![message], hints].concat().join("\n");
        let place = |official| PublishedKernel {
            distribution: "Debian".into(),
            suite: "bookworm-proposed-updates".into(),
            pocket: "proposed-updates".into(),
            version: "6.1.192-1\u{1b}[2J\n".into(),
            official,
        };
        let placed = |official| not_covered(&kernel, &OriginEvidence::default(), &[place(official)]);
        let all = [problem, placed(true), placed(false)].map(said);
        insta::assert_snapshot!(all.join("\n---\n"), @"
        the server has no livepatches for 6.1.0-50-amd64 with build-id abababababababababababababababababababab: no distribution that is known here built it
        livepatches for a kernel of your own are built with `livepatch-build --vmlinux`, and published by your server
        if this kernel should be covered, tell the server's operator its release and build-id
        ---
        the server has no livepatches for 6.1.0-50-amd64 with build-id abababababababababababababababababababab: it is version 6.1.192-1[2J of Debian, released (suite bookworm-proposed-updates, pocket proposed-updates)
        boot the newest released kernel, or wait until the server has livepatches for this one
        if this kernel should be covered, tell the server's operator its release and build-id
        ---
        the server has no livepatches for 6.1.0-50-amd64 with build-id abababababababababababababababababababab: it is version 6.1.192-1[2J of Debian, not released (suite bookworm-proposed-updates, pocket proposed-updates)
        boot a released kernel of Debian; this one gets livepatches when it is released
        if this kernel should be covered, tell the server's operator its release and build-id
        ");
    }
}
