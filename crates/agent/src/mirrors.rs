//! Where documents, modules and metadata are fetched when the server fails: its mirrors, one after the other. A mirror is
//! believed as little as the server: what it serves is verified in the same way. It is told nothing.

use std::time::Duration;

use crate::Problem;

/// How long a mirror that failed is left alone: the first time, and at most. In between it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The mirrors of the settings, in their order.
#[derive(Debug, Clone)]
pub(crate) struct Mirrors(Vec<Mirror>);

#[derive(Debug, Clone)]
struct Mirror {
    url: String,
    failures: u32,
    /// Until when it is left alone, since the boot: no clock that is set makes that longer.
    until: Duration,
}

impl Mirrors {
    pub(crate) fn new(urls: &[String]) -> Self {
        let mirror = |url: &String| Mirror { url: url.clone(), failures: 0, until: Duration::ZERO };
        Self(urls.iter().map(mirror).collect())
    }

    /// Whom to ask, in this order: `first`, which is the server or whoever answered last, then the mirrors that are not
    /// left alone.
    pub(crate) fn in_turn(&self, first: &str, since_boot: Duration) -> Vec<String> {
        let others = self.0.iter().filter(|mirror| mirror.url != first && mirror.until <= since_boot);
        std::iter::once(first.to_owned()).chain(others.map(|mirror| mirror.url.clone())).collect()
    }

    /// Notes what came of asking somebody, if it is a mirror.
    pub(crate) fn note(&mut self, url: &str, asked: Result<(), &Problem>, since_boot: Duration) {
        for mirror in self.0.iter_mut().filter(|mirror| mirror.url == url) {
            match asked {
                Ok(()) => (mirror.failures, mirror.until) = (0, Duration::ZERO),
                Err(problem) => {
                    let wait = (FIRST_WAIT * 2u32.pow(mirror.failures.min(16))).min(LONGEST_WAIT);
                    mirror.failures = mirror.failures.saturating_add(1);
                    mirror.until = since_boot + wait.max(problem.retry_after.unwrap_or_default());
                }
            }
        }
    }
}

/// Whether somebody else may have what is wanted: the one that was asked does not answer, or serves what is not believed.
pub(crate) fn is_the_servers_fault(problem: &Problem) -> bool {
    let code = problem.code.as_ref();
    let module = ["truncated-module", "oversized-module", "tampered-module"].contains(&code);
    module
        || ["server-", "document-", "vendor-", "operator-", "log-"].iter().any(|kind| code.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_ask_and_when() {
        let seconds = Duration::from_secs;
        let mut mirrors = Mirrors::new(&["a".into(), "b".into()]);
        let failed = Problem::new("server-unreachable", "x", "");
        let in_turn = |mirrors: &Mirrors, now| mirrors.in_turn("s", seconds(now)).join(" ");
        assert_eq!(in_turn(&mirrors, 0), "s a b");
        assert_eq!(mirrors.in_turn("b", seconds(0)), ["b", "a"]);
        mirrors.note("a", Err(&failed), seconds(10));
        assert_eq!((in_turn(&mirrors, 69), in_turn(&mirrors, 70)), ("s b".into(), "s a b".into()));
        mirrors.note("a", Err(&failed), seconds(70));
        assert_eq!((in_turn(&mirrors, 189), in_turn(&mirrors, 190)), ("s b".into(), "s a b".into()));
        mirrors.note("a", Ok(()), seconds(190));
        assert_eq!(in_turn(&mirrors, 190), "s a b");
        let later = Problem { retry_after: Some(seconds(3600)), ..failed.clone() };
        mirrors.note("a", Err(&later), seconds(0));
        assert_eq!((in_turn(&mirrors, 3599), in_turn(&mirrors, 3600)), ("s b".into(), "s a b".into()));
        for _ in 0..100 {
            mirrors.note("b", Err(&failed), seconds(0));
        }
        assert_eq!(in_turn(&mirrors, 24 * 3600), "s a b", "a day at most");
        // The server is asked whenever there is a check: its waits are those between checks.
        mirrors.note("s", Err(&failed), seconds(0));
        assert_eq!(in_turn(&mirrors, 0), "s");
    }

    #[test]
    fn whose_fault_it_is() {
        for (code, expected) in [
            ("server-unreachable", true),
            ("server-unexpected-answer", true),
            ("document-rollback", true),
            ("vendor-not-served", true),
            ("operator-rollback", true),
            ("log-not-proven", true),
            ("tampered-module", true),
            ("kernel-not-covered", false),
            ("loader-unreachable", false),
            ("trust-missing", false),
            ("state-not-written", false),
        ] {
            assert_eq!(is_the_servers_fault(&Problem::new(code, "x", "")), expected, "{code}");
        }
    }
}
