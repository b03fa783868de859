//! A server that cannot be reached, and why.

use crate::Problem;

/// A server that did not answer.
#[expect(clippy::needless_pass_by_value, reason = "its callers map errors with it")]
pub(super) fn unreachable(error: reqwest::Error) -> Problem {
    problem(&error)
}

fn problem(error: &(dyn std::error::Error + 'static)) -> Problem {
    let hint = if is_about_time(error) {
        "is this host's clock right (`date -u`)? then the server's certificate must be renewed; the check is repeated by itself"
    } else {
        "check the network, the server URL and ca-file; the check is repeated by itself"
    };
    Problem::new("server-unreachable", format!("the server cannot be reached: {}", chain(error)), hint)
}

/// Whether the server's certificate is not valid at the time that this host's clock says.
fn is_about_time(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let mut next = Some(error);
    while let Some(cause) = next {
        // The source of an I/O error is not what it wraps, but the source of that.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(wrapped) = wrapped
            && is_about_time(wrapped)
        {
            return true;
        }
        if let Some(rustls::Error::InvalidCertificate(invalid)) = cause.downcast_ref() {
            return matches!(
                invalid,
                Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
            );
        }
        next = cause.source();
    }
    false
}

/// An error with its causes in one line, without the URL.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        parts.push(cause.to_string());
        next = cause.source();
    }
    parts.dedup();
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use rustls::CertificateError;

    use super::*;

    #[test]
    fn the_clock_is_asked_for_where_it_may_be_the_reason() {
        let certificate = |invalid| Error::other(rustls::Error::InvalidCertificate(invalid));
        for (error, expected) in [
            (certificate(CertificateError::NotValidYet), true),
            // Wrapped as often as the layers in between like.
            (Error::other(Error::other(certificate(CertificateError::Expired))), true),
            (certificate(CertificateError::UnknownIssuer), false),
            (Error::other("refused"), false),
        ] {
            assert_eq!(is_about_time(&error), expected, "{error:?}");
        }
        let problems = [certificate(CertificateError::NotValidYet), Error::other("refused")];
        let said = problems.map(|error| {
            let Problem { message, hints, .. } = problem(&error);
            [vec![message], hints].concat().join("\n")
        });
        insta::assert_snapshot!(said.join("\n"), @"
        the server cannot be reached: invalid peer certificate: NotValidYet
        is this host's clock right (`date -u`)? then the server's certificate must be renewed; the check is repeated by itself
        the server cannot be reached: refused
        check the network, the server URL and ca-file; the check is repeated by itself
        ");
    }
}
